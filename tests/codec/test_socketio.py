"""The Socket.IO codec against version 5 of the protocol."""

import json
import math
from enum import IntEnum

import attrs
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_rt import reasons
from trio_rt.codec import socketio
from trio_rt.codec.socketio import (
    ACK,
    CONNECT,
    CONNECT_ERROR,
    DISCONNECT,
    EVENT,
    RESERVED_EVENTS,
    Packet,
    decode,
    decode_main_event,
)
from trio_rt.errors import RemoteProtocolError

from .payloads import any_text, ids, json_values, namespaces, texts

PLACEHOLDER = {"_placeholder": True, "num": 0}
PLACEHOLDER_JSON = '{"_placeholder":true,"num":0}'


def encode(packet):
    """The packet's text, by the function for its type."""
    namespace, data = packet.namespace, packet.data
    if packet.type == EVENT:
        counted = {"id": packet.id, "attachments": packet.attachments}
        return socketio.encode_event(namespace, data, **counted).decode()
    if packet.type == ACK:
        return socketio.encode_ack(
            namespace, packet.id, data, attachments=packet.attachments
        ).decode()
    if packet.type == CONNECT:
        return socketio.encode_connect(namespace, data).decode()
    if packet.type == CONNECT_ERROR:
        return socketio.encode_connect_error(namespace, **data).decode()
    return socketio.encode_disconnect(namespace).decode()


def assert_refused(text):
    with pytest.raises(RemoteProtocolError) as caught:
        decode(text)
    assert caught.value.reason.code == reasons.PARSE_ERROR.code
    assert caught.value.reason.text == str(caught.value)


# --- The protocol's examples

EXAMPLES = {
    "connection to the main namespace": ("0", Packet(CONNECT, "/", None, None)),
    "connection with a payload": ('0{"token":"1"}', Packet(CONNECT, "/", None, {"token": "1"})),
    "connection to another namespace": (
        '0/admin,{"sid":"oSO0OpakMV_3jnilAAAA"}',
        Packet(CONNECT, "/admin", None, {"sid": "oSO0OpakMV_3jnilAAAA"}),
    ),
    "disconnection": ("1", Packet(DISCONNECT, "/", None, None)),
    "disconnection from another namespace": ("1/admin,", Packet(DISCONNECT, "/admin", None, None)),
    "event": ('2["foo"]', Packet(EVENT, "/", None, ["foo"])),
    "event with an id": ('212["foo"]', Packet(EVENT, "/", 12, ["foo"])),
    "event in another namespace": ('2/admin,["bar"]', Packet(EVENT, "/admin", None, ["bar"])),
    "event with everything": ('2/admin,13["foo",1]', Packet(EVENT, "/admin", 13, ["foo", 1])),
    "event with id 0": ('20["foo"]', Packet(EVENT, "/", 0, ["foo"])),
    "event with a number as name": ('2[1,"x"]', Packet(EVENT, "/", None, [1, "x"])),
    "event named error": ('2["error"]', Packet(EVENT, "/", None, ["error"])),
    "acknowledgement": ('313["bar"]', Packet(ACK, "/", 13, ["bar"])),
    "empty acknowledgement": ("3/admin,13[]", Packet(ACK, "/admin", 13, [])),
    "connection error": (
        '4/random,{"message":"Invalid namespace"}',
        Packet(CONNECT_ERROR, "/random", None, {"message": "Invalid namespace"}),
    ),
    "connection error with data": (
        '4{"message":"no","data":{"code":1}}',
        Packet(CONNECT_ERROR, "/", None, {"message": "no", "data": {"code": 1}}),
    ),
    "binary event": (
        f'51-["baz",{PLACEHOLDER_JSON}]',
        Packet(EVENT, "/", None, ["baz", PLACEHOLDER], 1),
    ),
    "binary event with everything": (
        f'51-/admin,456["baz",{PLACEHOLDER_JSON}]',
        Packet(EVENT, "/admin", 456, ["baz", PLACEHOLDER], 1),
    ),
    "binary acknowledgement": (
        f'61-15["bar",{PLACEHOLDER_JSON}]',
        Packet(ACK, "/", 15, ["bar", PLACEHOLDER], 1),
    ),
    "binary acknowledgement in another namespace": (
        f"62-/admin,0[{PLACEHOLDER_JSON}]",
        Packet(ACK, "/admin", 0, [PLACEHOLDER], 2),
    ),
}


@pytest.mark.parametrize(("text", "packet"), EXAMPLES.values(), ids=EXAMPLES)
def test_examples(text, packet):
    """Each example of the protocol is read and written as it says."""
    assert decode(text) == packet
    assert encode(packet) == text


@pytest.mark.parametrize(
    ("text", "packet"),
    [
        ("0/custom", Packet(CONNECT, "/custom", None, None)),
        ("1/custom", Packet(DISCONNECT, "/custom", None, None)),
        ("0/custom,", Packet(CONNECT, "/custom", None, None)),
        ("0{}", Packet(CONNECT, "/", None, {})),
        ('2[ "x" ] ', Packet(EVENT, "/", None, ["x"])),
        ('2/a-b[1],["x"]', Packet(EVENT, "/a-b[1]", None, ["x"])),
        ('2["x","/a,b"]', Packet(EVENT, "/", None, ["x", "/a,b"])),
        ('51-/a-b,["x"]', Packet(EVENT, "/a-b", None, ["x"], 1)),
        ('2["\\ud83d\\ude00"]', Packet(EVENT, "/", None, ["\U0001f600"])),
    ],
    ids=ascii,
)
def test_decode_other_spellings(text, packet):
    """What clients may spell otherwise than we do is read all the same."""
    assert decode(text) == packet


# --- Bad input

REFUSED = {
    "nothing": "",
    "an unknown type": "7",
    "a type that is a letter": 'a["x"]',
    "a type that is another script's digit": '\u0662["x"]',
    "CONNECT with an array": "0[]",
    "CONNECT with a string": '0"x"',
    "CONNECT with null": "0null",
    "CONNECT with a number": "0/a,1",
    "CONNECT with bad JSON": "0{",
    "DISCONNECT with an object": "1{}",
    "DISCONNECT with an array": "1/a,[]",
    "CONNECT_ERROR with a string": '4"no"',
    "EVENT with an object": "2{}",
    "EVENT with an object that has a list": '2{"a":["x"]}',
    "EVENT with an empty array": "2[]",
    "EVENT with null as name": "2[null]",
    "EVENT with a bool as name": "2[true]",
    "EVENT with a float as name": "2[1.5]",
    "EVENT with a list as name": '2[["x"]]',
    "EVENT without a payload": "2",
    "EVENT with an id and no payload": "212",
    "EVENT in a namespace without a payload": "2/a",
    "EVENT in a namespace with a comma and no payload": "2/a,",
    "EVENT with a payload and no comma": '2/a["x"]',
    "EVENT with bad JSON": '2["x"',
    "EVENT with something behind it": '2["x"]]',
    "EVENT with single quotes": "2['x']",
    "EVENT with a bad id": '2abc["x"]',
    "EVENT with a space for an id": '2 ["x"]',
    "EVENT with a negative id": '2-1["x"]',
    "EVENT with a signed id": '2+1["x"]',
    "EVENT with a grouped id": '21_0["x"]',
    "EVENT with an id in another script": '2\u0661["x"]',
    "EVENT with a superscript id": '2\u00b2["x"]',
    "EVENT with an id of 16 digits": '21000000000000000["x"]',
    "EVENT with a huge id": "2" + "9" * 5_000 + '["x"]',
    "EVENT with NaN": '2["x",NaN]',
    "EVENT with Infinity": '2["x",Infinity]',
    "EVENT with -Infinity": '2["x",-Infinity]',
    "EVENT with a float that is infinite": '2["x",1e999]',
    "EVENT with an endless integer": '2["x",' + "9" * 5_000 + "]",
    "EVENT with a lone surrogate": '2["\ud800"]',
    "EVENT in a namespace with a lone surrogate": '2/\udfff,1["x\ud800"]',
    "EVENT nested without end": '2["x",' + "[" * 100_000,
    "EVENT nested too deep": '2["x",' + "[" * 50_000 + "]" * 50_001,
    "EVENT with objects nested without end": '2["x",' + '{"a":' * 100_000,
    "ACK without an id": '3["x"]',
    "ACK in a namespace without an id": "3/a,[]",
    "ACK without a payload": "312",
    "ACK with an object": "312{}",
    "ACK with a bad id": "3x[]",
    "BINARY_EVENT without a count": f'5["x",{PLACEHOLDER_JSON}]',
    "BINARY_EVENT with only a dash": '5-["x"]',
    "BINARY_EVENT with no attachments": '50-["x"]',
    "BINARY_EVENT with many zeros of attachments": '5000-["x"]',
    "BINARY_EVENT with a negative count": '5-1-["x"]',
    "BINARY_EVENT with a bad count": '5a-["x"]',
    "BINARY_EVENT with a fraction": '51.5-["x"]',
    "BINARY_EVENT with a huge count": "5" + "9" * 5_000 + '-["x"]',
    "BINARY_EVENT with a dash only in its namespace": '51/a-b,["x"]',
    "BINARY_EVENT without a payload": "51-",
    "BINARY_EVENT with an empty array": "51-[]",
    "BINARY_EVENT with a reserved name": '51-["disconnect"]',
    "BINARY_ACK without an id": "61-[]",
    "BINARY_ACK without a count": "615[]",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_decode_refuses(text):
    """What breaks the protocol is the peer's fault, and ends with a parse error."""
    assert_refused(text)


@pytest.mark.parametrize("name", sorted(RESERVED_EVENTS))
def test_reserved_events(name):
    """Nobody may send the names that clients keep for themselves."""
    assert_refused(f'2["{name}"]')


def test_reserved_events_are_the_protocols():
    """The reserved names are those of the official clients."""
    names = "connect connect_error disconnect disconnecting newListener removeListener"
    assert set(names.split()) == RESERVED_EVENTS


tokens = st.sampled_from(
    [*'0123456-,/[]{}":_ x\ud800\u0661', '["x"', "null", "NaN", '"num"', PLACEHOLDER_JSON, "/a,"]
)


@given(any_text | st.lists(tokens).map("".join))
@example("5" + "9" * 15 + "-[1]")
@example("2" + "9" * 15 + "[1]")
def test_decode_any_text(text):
    """Any text is a packet that keeps the protocol's rules, or the peer's fault: nothing else."""
    try:
        packet = decode(text)
    except RemoteProtocolError:
        return
    assert packet.namespace.startswith("/")
    if packet.type in (EVENT, ACK):
        assert type(packet.data) is list
        assert packet.id is None or 0 <= packet.id < 10**15
        assert packet.attachments == 0 or text[0] in "56"
    if packet.type == EVENT:
        assert type(packet.data[0]) in (str, int)
        assert packet.data[0] not in RESERVED_EVENTS
    elif packet.type == ACK:
        assert packet.id is not None
    else:
        assert packet.type in (CONNECT, DISCONNECT, CONNECT_ERROR)
        assert packet.id is None
        assert packet.data is None or type(packet.data) is dict
        assert packet.attachments == 0


# --- There and back

counts = st.integers(0, 10**15 - 1)
names = texts.filter(lambda name: name not in RESERVED_EVENTS) | st.integers(-(2**53), 2**53)
objects = st.dictionaries(texts, json_values)
packets = st.one_of(
    st.builds(
        Packet,
        st.just(EVENT),
        namespaces,
        st.none() | ids,
        st.tuples(names, st.lists(json_values)).map(lambda pair: [pair[0], *pair[1]]),
        counts,
    ),
    st.builds(Packet, st.just(ACK), namespaces, ids, st.lists(json_values), counts),
    st.builds(Packet, st.just(CONNECT), namespaces, st.none(), st.none() | objects),
    st.builds(Packet, st.just(DISCONNECT), namespaces, st.none(), st.none()),
    st.builds(
        Packet,
        st.just(CONNECT_ERROR),
        namespaces,
        st.none(),
        st.fixed_dictionaries({"message": texts})
        | st.fixed_dictionaries({"message": texts, "data": json_values.filter(bool)}),
    ),
)


@given(packets)
def test_round_trip(packet):
    """Whatever was encoded is decoded again."""
    assert decode(encode(packet)) == packet


@given(namespaces, st.lists(json_values))
def test_encoded_json_is_read_by_others(namespace, arguments):
    """What we write is JSON to the standard library too."""
    text = socketio.encode_ack(namespace, 7, arguments).decode()
    prefix = "37" if namespace == "/" else f"3{namespace},7"
    assert json.loads(text.removeprefix(prefix)) == arguments


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_encode_no_number(number):
    """NaN and Infinity leave as null, as they do in JavaScript."""
    assert socketio.encode_event("/", ["x", number]) == b'2["x",null]'


def test_encode_json_of_rich_values():
    """Attrs classes, structs and enums are written as the plain values that they stand for."""

    @attrs.frozen
    class Point:
        x: int

    class Line(msgspec.Struct):
        ends: tuple[Point, ...]

    class Colour(IntEnum):
        RED = 3

    value = [Line((Point(1), Point(2))), Colour.RED]
    assert socketio.encode_json(value) == b'[{"ends":[{"x":1},{"x":2}]},3]'


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (r'2["\ud800"]', "\ufffd"),
        (r'2["x\uDC00y"]', "x\ufffdy"),
        (r'2["\ud83d\ude00"]', "\U0001f600"),
        (r'2["\ud83d\ud83d\ude00\ud83d"]', "\ufffd\U0001f600\ufffd"),
        (r'2["\\ud800\ud800"]', "\\ud800\ufffd"),
    ],
)
def test_half_an_emoji(sent: str, received: str) -> None:
    """A surrogate that is alone, as JavaScript sends it, is replaced; pairs are left alone."""
    assert decode(sent).data == [received]


@given(st.text() | st.text('[]{},:0123456789"\\ud8a').map(lambda text: f"[{text}"))
@example('["e",' + "[" * 100_000)
@example('["\ud800"]')
@example("")
@example("7")
def test_main_event_never_raises(rest: str) -> None:
    """Whatever it is, it is an event of the main namespace, as `decode` reads it, or none."""
    packet = decode_main_event(f"42{rest}", 2)
    assert packet is None or packet == decode(f"2{rest}")


@given(
    st.text(max_size=9),
    st.sampled_from(['2["e"]', "3/n,7[1]", '51-["e",{}]', '0/n,{"a":1}', "1", "x"]),
)
def test_start(before: str, text: str) -> None:
    """A packet is the same wherever in a text it begins."""
    try:
        expected = decode(text)
    except RemoteProtocolError:
        with pytest.raises(RemoteProtocolError):
            decode(before + text, len(before))
    else:
        assert decode(before + text, len(before)) == expected
