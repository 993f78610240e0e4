"""What changed between two JSON states: a JSON merge patch (RFC 7396).

    target      patch       result
    ----------  ----------  ----------------------------------------------------
    anything    no object   the patch
    no object   an object   the patch, without its members that are null
    an object   an object   member by member: null takes it out, others are merged

So a patch cannot say that an object's member is null. `diff` takes such a member for one that is
not there, on both sides, and whoever applies the patch has none. Within arrays, which are replaced
whole, nulls are values like others.
"""

from typing import Any, TypeGuard

_SCALARS = frozenset({str, int, float, bool})
"""Types of which most values are; asked first, because a room compares its state at each tick."""


def diff(before: Any, after: Any) -> Any:
    """The smallest merge patch that makes `after` of `before`, both JSON values.

    Returns:
        The patch, `{}` between equal objects. It shares parts with `after`: encode it, or apply it,
        before `after` is changed.
    """
    if not _is_object(before) or not _is_object(after):
        return after
    patch: dict[str, Any] = {}
    for name, value in after.items():
        was = before.get(name)
        if type(value) in _SCALARS:
            if was != value or type(was) is not type(value):
                patch[name] = value
        elif _is_object(was) and _is_object(value):
            inner = diff(was, value)
            if inner:
                patch[name] = inner
        elif value is not None and not is_same(was, value):
            patch[name] = value
    for name, was in before.items():
        if was is not None and after.get(name) is None:
            patch[name] = None
    return patch


def apply(state: Any, patch: Any) -> Any:
    """The state with a merge patch applied, as RFC 7396, section 2 says.

    Returns:
        A new value. What the patch did not touch is shared with `state`, and nothing that can be
        changed is shared with the patch.
    """
    if not _is_object(patch):
        return _copy(patch)
    result = dict(state) if _is_object(state) else {}
    for name, value in patch.items():
        if type(value) in _SCALARS:
            result[name] = value
        elif value is None:
            result.pop(name, None)
        else:
            result[name] = apply(result.get(name), value)
    return result


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_array(value: Any) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    return isinstance(value, (list, tuple))


def is_same(left: Any, right: Any) -> bool:
    """Equality as JSON has it: to Python, true is 1 and an array that holds it equals one of 1."""
    if type(left) is not type(right):
        return False
    if _is_object(left):
        return left.keys() == right.keys() and all(is_same(left[key], right[key]) for key in left)
    if _is_array(left):
        return len(left) == len(right) and all(map(is_same, left, right))
    return bool(left == right)


def _copy(value: Any) -> Any:
    if _is_object(value):
        return {name: _copy(member) for name, member in value.items()}
    if _is_array(value):
        return [_copy(item) for item in value]
    return value
