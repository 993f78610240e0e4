"""Binary attachments against version 5 of the protocol."""

from contextlib import suppress
from dataclasses import dataclass

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_rt import reasons
from trio_rt.codec.attachments import Assembly, contains_binary, extract, insert, to_builtins
from trio_rt.codec.socketio import ACK, EVENT, Packet
from trio_rt.errors import RemoteProtocolError

from .payloads import json_values, values_with_bytes


@attrs.frozen
class Point:
    name: str
    blob: object


@dataclass
class Pair:
    left: object
    right: object


class Shape(msgspec.Struct):
    points: list[Point]


def place(number):
    return {"_placeholder": True, "num": number}


def nest(value, depth):
    for _ in range(depth):
        value = [value]
    return value


def bytes_in(value):
    """Every piece of bytes in plain values, in order: the slow and obvious way."""
    if isinstance(value, bytes):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [piece for item in value for piece in bytes_in(item)] if type(value) is list else []


def assert_refused(value, *buffers):
    with pytest.raises(RemoteProtocolError) as caught:
        insert(value, list(buffers))
    assert caught.value.reason.code == reasons.PARSE_ERROR.code


# --- Taking out

BINARY = {
    "bytes": (b"a", place(0), (b"a",)),
    "empty bytes": (b"", place(0), (b"",)),
    "a bytearray": (bytearray(b"a"), place(0), (b"a",)),
    "a memoryview": (memoryview(b"abc")[1:], place(0), (b"bc",)),
    "the protocol's example": (["baz", b"\x01\x02"], ["baz", place(0)], (b"\x01\x02",)),
    "several, in order": (
        {"b": b"1", "a": [b"2", {"c": b"3"}]},
        {"b": place(0), "a": [place(1), {"c": place(2)}]},
        (b"1", b"2", b"3"),
    ),
    "the same twice": ([b"x", b"x"], [place(0), place(1)], (b"x", b"x")),
    "in a tuple": ((1, (b"x",)), [1, [place(0)]], (b"x",)),
    "in a set": ({b"x"}, [place(0)], (b"x",)),
    "in an attrs class": (Point("p", b"x"), {"name": "p", "blob": place(0)}, (b"x",)),
    "in a dataclass": (Pair(b"x", [b"y"]), {"left": place(0), "right": [place(1)]}, (b"x", b"y")),
    "deep in a struct": (
        [Shape([Point("p", b"x")])],
        [{"points": [{"name": "p", "blob": place(0)}]}],
        (b"x",),
    ),
    "in a class inside a dict": (
        {"a": Point("p", b"x")},
        {"a": {"name": "p", "blob": place(0)}},
        (b"x",),
    ),
}


@pytest.mark.parametrize(("value", "rest", "buffers"), BINARY.values(), ids=BINARY)
def test_extract(value, rest, buffers):
    """Bytes are found anywhere, and placeholders with their numbers stand for them."""
    assert contains_binary(value)
    assert extract(value) == (rest, buffers)


@pytest.mark.parametrize(
    "value",
    [None, 1, 1.5, True, "x", [], {}, (), [1, ["x"]], {"a": {"b": None}}, {1}, Pair(1, "x")],
    ids=repr,
)
def test_extract_nothing(value):
    """Where there are no bytes nothing is taken out."""
    assert not contains_binary(value)
    assert extract(value)[1] == ()


def test_extract_copies():
    """What is sent later is what was given, whatever the program does with its buffer."""
    buffer = bytearray(b"before")
    _, extracted = extract([buffer])
    buffer[:] = b"after!"
    assert extracted == (b"before",)


def test_extract_leaves_its_argument_alone():
    """The program's own value is not changed."""
    value = {"a": [b"x"]}
    extract(value)
    assert value == {"a": [b"x"]}


@pytest.mark.parametrize("value", [object(), 1j, {"a": [object()]}], ids=["object", "1j", "inside"])
def test_extract_what_cannot_be_sent(value):
    """What JSON cannot say is told, not guessed at."""
    with pytest.raises(TypeError):
        contains_binary(value)
    with pytest.raises(TypeError):
        extract(value)


def test_to_builtins_leaves_bytes_alone():
    """Classes become dicts, and their bytes stay bytes."""
    assert to_builtins(Point("p", b"x")) == {"name": "p", "blob": b"x"}


@given(values_with_bytes)
def test_contains_binary_agrees_with_extract(value):
    """The quick question has the answer that taking them out would give."""
    assert contains_binary(value) == bool(bytes_in(value))
    assert list(extract(value)[1]) == bytes_in(value)


# --- Putting back


@given(values_with_bytes)
def test_round_trip(value):
    """What was taken out is put back where it was."""
    rest, buffers = extract(value)
    assert not contains_binary(rest)
    assert insert(rest, list(buffers)) == value


REFUSED = {
    "a number out of range": (place(1), b"a"),
    "a number far out of range": (place(10**30), b"a"),
    "a negative number": (place(-1), b"a"),
    "a text for a number": (place("0"), b"a"),
    "a float for a number": (place(0.0), b"a"),
    "a bool for a number": (place(False), b"a"),
    "null for a number": (place(None), b"a"),
    "a list for a number": (place([0]), b"a"),
    "no number": ({"_placeholder": True}, b"a"),
    "one used twice": ([place(0), place(0)], b"a"),
    "one used twice, another never": ([place(0), place(0)], b"a", b"b"),
    "none used": (["x"], b"a"),
    "one of two used": ([place(1)], b"a", b"b"),
    "more placeholders than attachments": ([place(0), place(1)], b"a"),
    "a false placeholder": ({"_placeholder": False, "num": 0}, b"a"),
    "a placeholder that is 1": ({"_placeholder": 1, "num": 0}, b"a"),
    "a placeholder in a key": ({"num": 0}, b"a"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_insert_refuses(case):
    """Placeholders and attachments that do not fit each other are the peer's fault."""
    assert_refused(*case)


@pytest.mark.parametrize("depth", [300, 900, 5_000])
def test_insert_into_depth(depth):
    """Nesting deeper than Python can follow is the peer's fault, never a crash."""
    with suppress(RemoteProtocolError):
        whole = insert(nest(place(0), depth), [b"a"])
        for _ in range(depth):
            [whole] = whole
        assert whole == b"a"


def test_insert_far_too_deep():
    """At some depth it is refused."""
    assert_refused(nest(place(0), 50_000), b"a")


def test_insert_leaves_lookalikes_alone():
    """Only an object that says so with `true` is a placeholder."""
    value = [{"_placeholder": False, "num": 7}, {"_placeholder": "yes"}, place(0)]
    assert insert(value, [b"a"]) == [*value[:2], b"a"]


placeholders = st.builds(place, st.integers(-2, 4) | json_values)


@given(
    st.lists(placeholders | json_values | st.lists(placeholders)),
    st.lists(st.binary(), max_size=3),
)
def test_insert_anything(value, buffers):
    """Any payload takes each attachment exactly once, or is the peer's fault: nothing else."""
    try:
        whole = insert(value, buffers)
    except RemoteProtocolError:
        return
    assert sorted(bytes_in(whole)) == sorted(buffers)


# --- While they arrive


def test_assembly():
    """The packet is there with its last attachment, and not before."""
    assembly = Assembly(Packet(EVENT, "/a", 7, ["x", place(1), place(0)], 2))
    assert assembly.add(b"first") is None
    assert assembly.add(b"second") == Packet(EVENT, "/a", 7, ["x", b"second", b"first"], 0)


def test_assembly_of_an_acknowledgement():
    """A binary acknowledgement keeps its type and its id."""
    assembly = Assembly(Packet(ACK, "/", 0, [place(0)], 1))
    assert assembly.add(b"") == Packet(ACK, "/", 0, [b""], 0)


def test_assembly_refuses():
    """Placeholders are checked when the last attachment is there."""
    assembly = Assembly(Packet(EVENT, "/", None, ["x", place(0), place(2)], 2))
    assert assembly.add(b"a") is None
    with pytest.raises(RemoteProtocolError):
        assembly.add(b"b")


@given(st.lists(values_with_bytes).filter(contains_binary))
def test_assembly_round_trip(arguments):
    """Any payload arrives as it was sent, attachment by attachment."""
    data, buffers = extract(["x", *arguments])
    assembly = Assembly(Packet(EVENT, "/", None, data, len(buffers)))
    arrived = [assembly.add(buffer) for buffer in buffers]
    assert arrived[:-1] == [None] * (len(buffers) - 1)
    assert arrived[-1].data == ["x", *arguments]
