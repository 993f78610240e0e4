"""Merge patches: the RFC's examples by name, and what holds for any two states."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_rt.machine.delta import apply, diff

# RFC 7396, appendix A: original, patch, result.
RFC_7396 = {
    "a member is replaced": ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    "a member is added": ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    "the only member is removed": ('{"a":"b"}', '{"a":null}', "{}"),
    "one of two members is removed": ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    "an array is replaced by a text": ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    "a text is replaced by an array": ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    "a member of a member": (
        '{"a":{"b":"c"}}',
        '{"a":{"b":"d","c":null}}',
        '{"a":{"b":"d"}}',
    ),
    "an array of objects is replaced": ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    "an array as the whole": ('["a","b"]', '["c","d"]', '["c","d"]'),
    "an object becomes an array": ('{"a":"b"}', '["c"]', '["c"]'),
    "an object becomes null": ('{"a":"foo"}', "null", "null"),
    "an object becomes a text": ('{"a":"foo"}', '"bar"', '"bar"'),
    "a null that was there stays": ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    "an array becomes an object": ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
    "nulls deep in nothing": ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
}


@pytest.mark.parametrize(("state", "patch", "result"), RFC_7396.values(), ids=RFC_7396)
def test_rfc_7396(state: str, patch: str, result: str) -> None:
    """The examples of RFC 7396, appendix A."""
    assert apply(json.loads(state), json.loads(patch)) == json.loads(result)


def test_rfc_7396_example_document() -> None:
    """The longer example of RFC 7396, section 3, both ways."""
    before = {
        "title": "Goodbye!",
        "author": {"givenName": "John", "familyName": "Doe"},
        "tags": ["example", "sample"],
        "content": "This will be unchanged",
    }
    after = {
        "title": "Hello!",
        "author": {"givenName": "John"},
        "tags": ["example"],
        "content": "This will be unchanged",
        "phoneNumber": "+01-123-456-7890",
    }
    patch = {
        "title": "Hello!",
        "phoneNumber": "+01-123-456-7890",
        "author": {"familyName": None},
        "tags": ["example"],
    }
    assert apply(before, patch) == after
    assert diff(before, after) == patch


# --- Any two states

SCALARS = st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 0.5, 1.0]) | st.text("ab")
NAMES = st.sampled_from(["a", "b", "c"])


def states(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=10,
    )


WITHOUT_NULLS = states(SCALARS)
WITH_NULLS = states(SCALARS | st.none())


def shown(value: Any) -> str:
    """A value as JSON, in which `True` and `1` are two things."""
    return json.dumps(value, sort_keys=True)


def without_null_members(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        name: without_null_members(member) for name, member in value.items() if member is not None
    }


@given(before=WITHOUT_NULLS, after=WITHOUT_NULLS)
def test_diff_then_apply(before: Any, after: Any) -> None:
    """A patch makes the later state of the earlier one."""
    assert shown(apply(before, diff(before, after))) == shown(after)


@given(before=WITHOUT_NULLS, after=WITH_NULLS)
def test_nulls(before: Any, after: Any) -> None:
    """A member that becomes null is gone for whoever applies the patch; in arrays nulls stay."""
    assert shown(apply(before, diff(before, after))) == shown(without_null_members(after))


@given(before=WITH_NULLS, after=WITHOUT_NULLS)
def test_nulls_before(before: Any, after: Any) -> None:
    """A null that somebody still has does no harm."""
    assert shown(apply(before, diff(before, after))) == shown(after)


@given(state=st.dictionaries(NAMES, WITHOUT_NULLS))
def test_no_change(state: dict[str, Any]) -> None:
    """Between equal objects there is nothing to say."""
    assert diff(state, copy.deepcopy(state)) == {}


@given(before=st.dictionaries(NAMES, WITHOUT_NULLS), after=st.dictionaries(NAMES, WITHOUT_NULLS))
def test_patch_names_only_what_changed(before: dict[str, Any], after: dict[str, Any]) -> None:
    """The patch has a member for each one that changed, and for no other."""
    changed = {
        name
        for name in before.keys() | after.keys()
        if shown(before.get(name)) != shown(after.get(name)) or (name in before) != (name in after)
    }
    assert diff(before, after).keys() == changed


@given(before=WITH_NULLS, patch=WITH_NULLS)
def test_apply_changes_nothing_else(before: Any, patch: Any) -> None:
    """Neither the state nor the patch is changed, and applying twice is applying once."""
    kept = copy.deepcopy((before, patch))
    result = apply(before, patch)
    assert (before, patch) == kept
    assert shown(apply(result, patch)) == shown(result)


def test_true_is_not_one() -> None:
    """What Python takes for equal and JSON does not is a change, however deep."""
    assert diff({"a": 1}, {"a": True}) == {"a": True}
    assert diff({"a": [{"b": 1}]}, {"a": [{"b": True}]}) == {"a": [{"b": True}]}


def test_apply_shares_nothing_with_the_patch() -> None:
    """A state that is kept does not change with the state that the patch was made of."""
    state = {"a": {"b": [{"c": 1}]}}
    kept = apply({}, diff({}, state))
    state["a"]["b"][0]["c"] = 2
    state["a"]["b"].append({})
    assert kept == {"a": {"b": [{"c": 1}]}}
