"""The wire of Socket.IO's classic Redis adapter, against bytes that its servers have sent."""

import json
import math
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_rt.codec import node_cluster, socketio
from trio_rt.codec.attachments import extract
from trio_rt.codec.envelope import Envelope
from trio_rt.codec.node_cluster import (
    Options,
    Packet,
    Request,
    Response,
    decode_broadcast,
    decode_request,
    decode_response,
    encode_broadcast,
    encode_request,
    encode_response,
    read_sockets,
)
from trio_rt.codec.questions import SocketInfo
from trio_rt.codec.socketio import Encoded
from trio_rt.errors import RemoteProtocolError

from .payloads import any_text, json_values, texts

FROM_SERVER = bytes.fromhex(
    "93a648466870654683a47479706502a46461746192a3686579a2c3a9a36e7370a12f"
    "83a5726f6f6d7391a5726f6f6d31a665786365707490a5666c61677380"
)
FROM_EMITTER = bytes.fromhex(
    "93a7656d697474657283a47479706502a46461746192a2656d01a36e7370a12f"
    "83a5726f6f6d7390a5666c61677380a665786365707490"
)


def packed(
    *data: Any, uid: Any = "u", type: int = 2, nsp: str = "/", opts: Any = None, ext: Any = None
) -> bytes:
    """A broadcast as any server might send it."""
    packet = {"type": type, "data": list(data), "nsp": nsp}
    return msgspec.msgpack.encode([uid, packet, {} if opts is None else opts])


def text_of(data: bytes) -> str:
    """What our clients get of a broadcast."""
    return decode_broadcast(data)[1].packet.text.decode()


# --- Broadcasts


def test_event_for_one_room() -> None:
    """The adapter's broadcast to `room1`."""
    event = Encoded('2["hey","é"]'.encode())
    assert decode_broadcast(FROM_SERVER) == ("HFhpeF", Envelope("/", ("room1",), (), event))


def test_event_of_the_emitter() -> None:
    """The emitter's uid is none of a server, and its fields come in another order."""
    assert decode_broadcast(FROM_EMITTER) == (
        "emitter",
        Envelope("/", (), (), Encoded(b'2["em",1]')),
    )


def test_our_event_is_theirs() -> None:
    """Ours is the same to msgpack as what their server sends."""
    ours = encode_broadcast(
        "HFhpeF", Envelope("/", ("room1",), (), Encoded('2["hey","é"]'.encode()))
    )
    assert msgspec.msgpack.decode(ours) == msgspec.msgpack.decode(FROM_SERVER)


def test_volatile_event() -> None:
    """The flag is kept in both directions."""
    envelope = Envelope("/a", (), ("x", "y"), Encoded(b'2/a,["n"]'), is_volatile=True)
    assert decode_broadcast(encode_broadcast("u", envelope)) == ("u", envelope)


def test_bytes() -> None:
    """Bytes are msgpack's own there, and attachments here."""
    data = packed("n", b"\x01", {"a": [b""]})
    packet = decode_broadcast(data)[1].packet
    assert packet.attachments == (b"\x01", b"")
    assert packet.text.startswith(b'52-["n",{"_placeholder":true,"num":0},')
    again = encode_broadcast("u", decode_broadcast(data)[1])
    assert msgspec.msgpack.decode(again)[1]["data"] == ["n", b"\x01", {"a": [b""]}]


@pytest.mark.parametrize(
    ("hex", "text"),
    [
        pytest.param("d6ff00000000", '"1970-01-01T00:00:00.000Z"', id="Date"),
        pytest.param("d7ff" + "5b8d8000" + "00000001", None, id="Date with milliseconds"),
        pytest.param("d40000", "null", id="undefined"),
        pytest.param("cb7ff8000000000000", "null", id="NaN"),
        pytest.param("cb7ff0000000000000", "null", id="Infinity"),
        pytest.param("cfffffffffffffffff", "18446744073709551615", id="BigInt"),
        pytest.param("8101a178", '{"1":"x"}', id="a key that is a number"),
    ],
)
def test_values_of_javascript(hex: str, text: str | None) -> None:
    """What JSON does not have becomes what JavaScript writes for it."""
    data = packed("n", "VALUE").replace(b"\xa5VALUE", bytes.fromhex(hex))
    expected = '2["n","1970-01-01T00:00:01.384Z"]' if text is None else f'2["n",{text}]'
    assert text_of(data) == expected


def test_numbers_as_rooms() -> None:
    """JavaScript's rooms may be numbers."""
    envelope = decode_broadcast(packed("n", opts={"rooms": [1, "a", 2.5], "except": [7]}))[1]
    assert (envelope.rooms, envelope.excepted) == (("1", "a", "2.5"), ("7",))


def test_options_that_are_missing() -> None:
    """A packet without a namespace is for `/`, and options may be left out."""
    data = msgspec.msgpack.encode(["u", {"type": 2, "data": ["n"]}, {"flags": None}])
    assert decode_broadcast(data)[1] == Envelope("/", (), (), Encoded(b'2["n"]'))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b'["u",{},{}]', id="JSON"),
        pytest.param(packed(), id="no name"),
        pytest.param(packed([1]), id="a list as a name"),
        pytest.param(packed("connect"), id="a reserved name"),
        pytest.param(packed("n", type=3), id="an acknowledgement"),
        pytest.param(packed("n", nsp="games"), id="no namespace"),
        pytest.param(packed("n", nsp="/a,b"), id="a namespace that no packet can name"),
        pytest.param(packed("n", uid=7), id="a uid that is a number"),
        pytest.param(packed("n", *[b""] * 11), id="eleven attachments"),
        pytest.param(packed("n", opts={"rooms": [None]}), id="a room that is nothing"),
        pytest.param(packed("n", opts={"rooms": ["a", ""]}), id="a room without a name"),
        pytest.param(packed("n", opts={"rooms": "room"}), id="a room alone"),
        pytest.param(packed("n", opts=[]), id="no options"),
        pytest.param(msgspec.msgpack.encode(["u"]), id="too short"),
        pytest.param(b"\x91" * 100_000, id="too deep"),
        pytest.param(packed("n", "V").replace(b"\xa1V", b"\x91" * 600 + b"\xc0"), id="deep values"),
        pytest.param(packed("n", "V").replace(b"\xa1V", b"\xa1\xff"), id="no UTF-8"),
    ],
)
def test_no_broadcast(data: bytes) -> None:
    """What clients could not take is refused."""
    with pytest.raises(RemoteProtocolError):
        decode_broadcast(data)


def test_cut_at_every_byte() -> None:
    """A part of a broadcast is none."""
    for length in range(len(FROM_SERVER)):
        with pytest.raises(RemoteProtocolError):
            decode_broadcast(FROM_SERVER[:length])


# --- Requests and responses

REQUESTS = {
    "SOCKETS": (
        {"uid": "u", "requestId": "r", "type": 0, "rooms": ["a", 1]},
        Request(type=0, uid="u", request_id="r", rooms=("a", 1)),
    ),
    "ALL_ROOMS": (
        {"uid": "u", "requestId": "r", "type": 1},
        Request(type=1, uid="u", request_id="r"),
    ),
    "REMOTE_JOIN": (
        {"uid": "u", "type": 2, "opts": {"rooms": ["a"], "except": ["b"]}, "rooms": ["c"]},
        Request(type=2, uid="u", opts=Options(("a",), ("b",)), rooms=("c",)),
    ),
    "REMOTE_LEAVE of the emitter": (
        {"type": 3, "opts": {"rooms": [], "except": []}, "rooms": ["c"]},
        Request(type=3, opts=Options(), rooms=("c",)),
    ),
    "REMOTE_JOIN of an old server": (
        {"uid": "u", "requestId": "r", "type": 2, "sid": "s", "room": "a"},
        Request(type=2, uid="u", request_id="r", sid="s", room="a"),
    ),
    "REMOTE_DISCONNECT": (
        {"uid": "u", "type": 4, "opts": {"rooms": [], "except": []}, "close": True},
        Request(type=4, uid="u", opts=Options(), close=True),
    ),
    "REMOTE_FETCH": (
        {"uid": "u", "requestId": "r", "type": 5, "opts": {"rooms": ["a"], "except": []}},
        Request(type=5, uid="u", request_id="r", opts=Options(("a",))),
    ),
    "SERVER_SIDE_EMIT": (
        {"uid": "u", "requestId": "r", "type": 6, "data": ["ev", {"a": [1]}]},
        Request(type=6, uid="u", request_id="r", data=["ev", {"a": [1]}]),
    ),
}
CALL = {
    "uid": "u",
    "requestId": "r",
    "type": 7,
    "packet": {"type": 2, "data": ["ev", b"\x01"], "nsp": "/"},
    "opts": {"rooms": [], "except": ["a"], "flags": {"timeout": 1000}},
}
CALL_READ = Request(
    type=7,
    uid="u",
    request_id="r",
    packet=Packet(["ev", b"\x01"]),
    opts=Options((), ("a",), {"timeout": 1000}),
)


@pytest.mark.parametrize(("sent", "request_"), REQUESTS.values(), ids=REQUESTS)
def test_request(sent: dict[str, Any], request_: Request) -> None:
    """Requests in JSON, and the same in msgpack; and ours are theirs."""
    assert decode_request(json.dumps(sent).encode()) == request_
    assert decode_request(msgspec.msgpack.encode(sent)) == request_
    ours = json.loads(encode_request(request_))
    if "opts" in ours:
        assert ours["opts"].pop("flags") == {}
    assert ours == sent


def test_request_to_clients() -> None:
    """BROADCAST, which is always msgpack."""
    assert decode_request(msgspec.msgpack.encode(CALL)) == CALL_READ
    assert msgspec.msgpack.decode(encode_request(CALL_READ)) == CALL


def test_request_with_bytes() -> None:
    """Bytes to other servers need msgpack."""
    request = Request(type=6, data=["ev", {"a": b"\x00"}])
    assert encode_request(request)[:1] != b"{"
    assert decode_request(encode_request(request)) == request


RESPONSES = {
    "SOCKETS": ({"requestId": "r", "sockets": ["a"]}, Response(request_id="r", sockets=["a"])),
    "ALL_ROOMS": ({"requestId": "r", "rooms": ["a", 1]}, Response(request_id="r", rooms=["a", 1])),
    "REMOTE_JOIN": ({"requestId": "r"}, Response(request_id="r")),
    "SERVER_SIDE_EMIT": (
        {"type": 6, "requestId": "r", "data": [1]},
        Response(request_id="r", type=6, data=[1]),
    ),
    "BROADCAST_CLIENT_COUNT": (
        {"type": 8, "requestId": "r", "clientCount": 0},
        Response(request_id="r", type=8, client_count=0),
    ),
}


@pytest.mark.parametrize(("sent", "response"), RESPONSES.values(), ids=RESPONSES)
def test_response(sent: dict[str, Any], response: Response) -> None:
    """Responses in JSON, and the same in msgpack; and ours are theirs."""
    assert decode_response(json.dumps(sent).encode()) == response
    assert decode_response(msgspec.msgpack.encode(sent)) == response
    assert json.loads(encode_response(response)) == sent


def test_acknowledgement() -> None:
    """BROADCAST_ACK, which is always msgpack: it may have bytes in it."""
    sent = {"type": 9, "requestId": "r", "packet": b"\x01"}
    response = Response(request_id="r", type=9, packet=b"\x01")
    assert decode_response(msgspec.msgpack.encode(sent)) == response
    assert msgspec.msgpack.decode(encode_response(response)) == sent


def test_sockets() -> None:
    """REMOTE_FETCH's sockets are in a room of their own, which ours are not."""
    socket = {"id": "s", "handshake": {"auth": {}}, "rooms": ["s", "a", 1], "data": {"n": 1}}
    found = read_sockets("/a", Response(request_id="r", sockets=[socket, {**socket, "data": None}]))
    assert found[0] == SocketInfo("s", "/a", "", "", frozenset({"a", "1"}), {"n": 1})
    assert len(found) == 2
    for wrong in (None, ["s"], [{"id": 1}], [{"id": "s"}]):
        with pytest.raises(RemoteProtocolError):
            read_sockets("/", Response(request_id="r", sockets=wrong))


# --- Properties

floats = st.floats(allow_nan=False)
values = st.recursive(
    json_values | st.binary(max_size=8) | st.integers(-(2**80), 2**80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def as_javascript(value: Any) -> Any:
    """The value with integers that msgpack has not as floats, and infinities as nothing."""
    if isinstance(value, dict):
        return {key: as_javascript(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_javascript(item) for item in value]
    if type(value) is int and not -(2**63) <= value < 2**64:
        return float(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


@given(st.lists(values, max_size=3), st.lists(texts.filter(bool), max_size=3), st.booleans())
def test_any_event(arguments: list[Any], rooms: list[str], is_volatile: bool) -> None:
    """What we send is what another one of us gets, and what msgpack says."""
    data, buffers = extract(["n", *arguments])
    if len(buffers) > 10:
        return
    text = socketio.encode_event("/a", data, attachments=len(buffers))
    envelope = Envelope("/a", tuple(rooms), ("x",), Encoded(text, buffers), is_volatile=is_volatile)
    sent = encode_broadcast("u", envelope)
    again = decode_broadcast(sent)[1]
    assert (again.rooms, again.excepted, again.is_volatile) == (tuple(rooms), ("x",), is_volatile)
    assert node_cluster.read_event(again.packet) == as_javascript(["n", *arguments])


@given(st.binary(max_size=200))
@example(FROM_SERVER)
@example(b"{}")
@example(b'{"type":1e999}')
@example(b'{"type":0,"rooms":' + b"[" * 2000)
def test_any_bytes(data: bytes) -> None:
    """Whatever the bytes, there is a value or a RemoteProtocolError."""
    for decode in (decode_broadcast, decode_request, decode_response):
        with suppress(RemoteProtocolError):
            decode(data)


plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | floats | any_text
packable = st.recursive(
    plain | st.binary(max_size=4) | st.datetimes(timezones=st.timezones()),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.integers(0, 99) | texts, inner, max_size=3)
    ),
    max_leaves=5,
)
names = st.sampled_from(["n", "connect", "", 1, None])
options = st.fixed_dictionaries(
    {}, optional={"rooms": packable, "except": packable, "flags": packable}
)


@given(names, st.lists(packable, max_size=3), options, st.integers(0, 9))
def test_any_values(name: Any, arguments: list[Any], opts: dict[str, Any], type: int) -> None:
    """Whatever a server packs, it is an event that clients can take, or a RemoteProtocolError."""
    try:
        data = packed(name, *arguments, opts=opts, type=type)
    except (ValueError, OverflowError):  # surrogates and the like, which msgpack has not
        return
    try:
        envelope = decode_broadcast(data)[1]
    except RemoteProtocolError:
        return
    packet = socketio.decode(envelope.packet.text.decode())
    assert packet.data[0] == name
    assert packet.attachments == len(envelope.packet.attachments) <= 10
