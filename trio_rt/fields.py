"""Settings are checked where they are given: a class of settings says `field_transformer=checked`.

A text for a number would otherwise be found out by the first client, far from its cause.
"""

import difflib
from typing import Any, TypeAlias, TypeVar

import attrs
import msgspec

from trio_rt.errors import MisuseError

S = TypeVar("S", bound=attrs.AttrsInstance)
Field: TypeAlias = "attrs.Attribute[Any]"


def checked(cls: type, fields: list[Field]) -> list[Field]:
    """Checks each field's value against its annotation, and then by its own validator."""
    return [field.evolve(validator=_Check(cls.__name__, field)) for field in fields]


def change(settings: S, changes: dict[str, Any]) -> S:
    """A copy of settings with some fields changed.

    Raises:
        MisuseError: if there is no such field, or a value will not do.
    """
    kind = type(settings)
    names = [field.name for field in attrs.fields(kind)]
    for name in changes:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1) or [n for n in names if n in name]
            hint = f"Did you mean {close[0]}=? " if close else ""
            raise MisuseError(f"{name}= is no setting. {hint}All are fields of {kind.__name__}")
    return attrs.evolve(settings, **changes)  # type: ignore[misc]  # its plugin knows no TypeVar


class _Check:
    """The validator of one field: raises MisuseError, with a call that would be right."""

    __slots__ = ("_field", "_owner")

    def __init__(self, owner: str, field: Field) -> None:
        self._owner = owner
        self._field = field

    def __call__(self, settings: Any, attribute: Field, value: Any) -> None:
        field = self._field
        try:
            _check_type(field.type, value)
            if field.validator is not None:
                field.validator(settings, attribute, value)
        except (msgspec.ValidationError, ValueError) as error:
            raise MisuseError(
                f"{field.name}={value!r} will not do: {error}. {_right(self._owner, field)}"
            ) from error


def _right(owner: str, field: Field) -> str:
    """A call that would do: with the field's `example`, else with its default."""
    example: object = field.metadata.get("example")
    if example is not None:
        return f"Write: {owner}({field.name}={example!r})"
    factory = getattr(field.default, "factory", None)
    default = repr(field.default) if factory is None else f"{factory.__name__}(...)"
    return f"The default is {owner}({field.name}={default})"


def _check_type(wanted: Any, value: Any) -> None:
    if isinstance(wanted, type) and wanted not in (bool, int, float, str):
        if not isinstance(value, wanted):
            kind = wanted.__name__
            raise ValueError(f"it is no {kind}")
    else:
        msgspec.convert(value, wanted)
