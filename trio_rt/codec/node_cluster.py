"""What the servers of a cluster of Socket.IO's own send each other, as bytes.

    broadcast   msgpack of [uid, packet, options]
    request     an object, in JSON or in msgpack; its `type` says what is wanted
    response    an object, in JSON or in msgpack; its `requestId` says of what

Source: `@socket.io/redis-adapter` 8.3, the classic one, and `@socket.io/redis-emitter` 5.1, whose
messages have no `uid` or the uid `emitter`. An object that begins with `{` is JSON.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from trio_rt.codec import attachments, socketio
from trio_rt.codec.envelope import Envelope
from trio_rt.codec.questions import SocketInfo
from trio_rt.codec.socketio import Encoded
from trio_rt.errors import RemoteProtocolError

(
    SOCKETS,
    ALL_ROOMS,
    REMOTE_JOIN,
    REMOTE_LEAVE,
    REMOTE_DISCONNECT,
    REMOTE_FETCH,
    SERVER_SIDE_EMIT,
    BROADCAST,
    BROADCAST_CLIENT_COUNT,
    BROADCAST_ACK,
) = range(10)

MAX_ATTACHMENTS = 10
"""Binary values in one event: clients refuse more, and drop the connection."""

_MAX_INTEGER = 2**64 - 1
_MIN_INTEGER = -(2**63)
_UNDEFINED = 0

Room = str | int | float
"""JavaScript's rooms may be numbers; ours are texts."""

T = TypeVar("T")


class Packet(msgspec.Struct, frozen=True, gc=False):
    """An event without its ack id."""

    data: list[Any]
    """Begins with the name."""
    type: int = socketio.EVENT
    nsp: str = "/"


class Options(msgspec.Struct, frozen=True, gc=False):
    """Whom something is for."""

    rooms: tuple[Room, ...] = ()
    except_: tuple[Room, ...] = msgspec.field(default=(), name="except")
    flags: dict[str, Any] | None = msgspec.field(default_factory=dict[str, Any])

    @property
    def names(self) -> tuple[str, ...]:
        """Whose members are meant; empty for everybody."""
        return tuple(map(str, self.rooms))

    @property
    def excepted(self) -> tuple[str, ...]:
        """Whose members are left out."""
        return tuple(map(str, self.except_))

    def flag(self, name: str) -> Any:
        """A flag; None if it is not there."""
        return None if self.flags is None else self.flags.get(name)


class Request(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """Something that other servers shall do, or tell. Which fields count depends on `type`."""

    type: int
    uid: str | None = None
    """Who asks; the emitter leaves it out."""
    request_id: str | None = msgspec.field(default=None, name="requestId")
    """Where a response is wanted."""
    opts: Options | None = None
    """Which sockets are meant."""
    rooms: tuple[Room, ...] = ()
    """Of `SOCKETS`: whose members; of the orders: what is joined or left."""
    close: bool | None = None
    data: list[Any] | None = None
    """Of `SERVER_SIDE_EMIT`: begins with the name."""
    packet: Packet | None = None
    sid: str | None = None
    """In orders of old servers: the only socket that is meant."""
    room: Room | None = None


class Response(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """What one server answers to a request. Which fields count depends on the request."""

    request_id: str = msgspec.field(name="requestId")
    type: int | None = None
    sockets: list[Any] | None = None
    """Ids for `SOCKETS`, objects for `REMOTE_FETCH`."""
    rooms: list[Room] | None = None
    client_count: int | None = msgspec.field(default=None, name="clientCount")
    packet: Any = None
    """Of `BROADCAST_ACK`: the first argument of a client's acknowledgement."""
    data: Any = None
    """Of `SERVER_SIDE_EMIT`: what the handler answered."""


class RemoteSocket(msgspec.Struct, frozen=True, gc=False):
    """A socket as `REMOTE_FETCH` is answered."""

    id: str
    handshake: dict[str, Any]
    rooms: list[Room]
    """Its own one, named by its id, included."""
    data: Any = None


class _Broadcast(msgspec.Struct, array_like=True, frozen=True, gc=False):
    uid: str
    packet: Packet
    opts: Options


def _read_extension(code: int, data: memoryview) -> Any:
    """Old servers write `undefined` as an extension; what else there may be has no JSON."""
    return None if code == _UNDEFINED and len(data) == 1 else bytes(data)


_decode_broadcast = msgspec.msgpack.Decoder(_Broadcast, ext_hook=_read_extension).decode
_decoders: dict[type[Any], tuple[Any, Any]] = {
    kind: (msgspec.msgpack.Decoder(kind, ext_hook=_read_extension), msgspec.json.Decoder(kind))
    for kind in (Request, Response)
}
_pack = msgspec.msgpack.Encoder().encode
_WRONG = (msgspec.DecodeError, TypeError, ValueError, OverflowError, RecursionError)


# Broadcasts


def encode_broadcast(uid: str, envelope: Envelope) -> bytes:
    """An event on its way to the other servers.

    Args:
        uid: this server's, which ignores its own.
        envelope: the event; its place and its policy are not in it.
    """
    flags = {"volatile": True} if envelope.is_volatile else {}
    packet = Packet(read_event(envelope.packet), nsp=envelope.namespace)
    options = Options(envelope.rooms, envelope.excepted, flags)
    return _encode_packed(_Broadcast(uid, packet, options))


def decode_broadcast(data: bytes) -> tuple[str, Envelope]:
    """Reads a broadcast: the uid of the server that sent it, and the event.

    Raises:
        RemoteProtocolError: if it is none, or clients could not take the event; never anything
            else, whatever the bytes.
    """
    try:
        uid, packet, options = msgspec.structs.astuple(_decode_broadcast(data))
        encoded = write_event(packet)
        if "" in options.rooms:
            raise RemoteProtocolError("an event for a room without a name")
        envelope = Envelope(
            packet.nsp,
            options.names,
            options.excepted,
            encoded,
            is_volatile=bool(options.flag("volatile")),
        )
    except _WRONG as error:
        raise RemoteProtocolError(f"no broadcast of a Socket.IO server: {error}") from error
    return uid, envelope


def read_event(packet: Encoded) -> list[Any]:
    """The name and the arguments of an event of ours, bytes in their places."""
    decoded = socketio.decode(packet.text.decode())
    data: list[Any] = decoded.data
    return attachments.insert(data, list(packet.attachments)) if packet.attachments else data


def write_event(packet: Packet) -> Encoded:
    """An event of another server, for our clients.

    Raises:
        RemoteProtocolError: if clients could not take it.
    """
    check_event(packet)
    data, buffers = attachments.extract(_as_plain(packet.data))
    if len(buffers) > MAX_ATTACHMENTS:
        raise RemoteProtocolError(
            f"an event with {len(buffers)} binary values; clients take {MAX_ATTACHMENTS}"
        )
    text = socketio.encode_event(packet.nsp, data, attachments=len(buffers))
    return Encoded(text, buffers)


def check_event(packet: Packet) -> str:
    """The name of an event.

    Raises:
        RemoteProtocolError: if it is none, or has none that may be sent to clients.
    """
    if packet.type not in (socketio.EVENT, socketio.BINARY_EVENT):
        raise RemoteProtocolError(f"a packet of type {packet.type} for clients")
    name = packet.data[0] if packet.data else None
    if type(name) not in (str, int) or name in socketio.RESERVED_EVENTS:
        raise RemoteProtocolError("an event without a name, or with a reserved one")
    if not packet.nsp.startswith("/") or "," in packet.nsp:
        raise RemoteProtocolError("an event of no namespace")
    return str(name)


# Requests and responses


def encode_request(request: Request) -> bytes:
    """A request: in msgpack if it has a packet or bytes in it, else in JSON."""
    if request.packet is not None or attachments.contains_binary(request.data):
        return _encode_packed(request)
    return msgspec.json.encode(request)


def decode_request(data: bytes) -> Request:
    """Reads a request; raises as `decode_broadcast` does."""
    return _decode(Request, data)


def encode_response(response: Response) -> bytes:
    """A response: in msgpack if it is a client's acknowledgement or has bytes in it."""
    values = (response.data, response.sockets)
    if response.type == BROADCAST_ACK or any(map(attachments.contains_binary, values)):
        return _encode_packed(response)
    return msgspec.json.encode(response)


def decode_response(data: bytes) -> Response:
    """Reads a response; raises as `decode_broadcast` does."""
    return _decode(Response, data)


def read_sockets(namespace: str, response: Response) -> list[SocketInfo]:
    """The sockets of a response to `REMOTE_FETCH`. Node's servers know no users.

    Raises:
        RemoteProtocolError: if that is something else.
    """
    try:
        found = msgspec.convert(response.sockets, list[RemoteSocket])
        return [
            SocketInfo(
                socket.id,
                namespace,
                "",
                "",
                frozenset(str(room) for room in socket.rooms if room != socket.id),
                _as_plain(socket.data),
            )
            for socket in found
        ]
    except _WRONG as error:
        raise RemoteProtocolError(f"no sockets: {error}") from error


def as_plain(values: Sequence[Any]) -> list[Any]:
    """What came from another server as values that JSON has, and bytes.

    Raises:
        RemoteProtocolError: if it is nested too deep.
    """
    try:
        return [_as_plain(value) for value in values]
    except RecursionError as error:
        raise RemoteProtocolError("values nested too deep") from error


def _decode(kind: type[T], data: bytes) -> T:
    packed, json = _decoders[kind]
    try:
        value: T = (json if data[:1] == b"{" else packed).decode(data)
    except _WRONG as error:
        raise RemoteProtocolError(
            f"no {kind.__name__.lower()} of a Socket.IO server: {error}"
        ) from error
    return value


def _encode_packed(value: Any) -> bytes:
    """Msgpack; integers that it does not have are floats, as all numbers are in JavaScript."""
    try:
        return _pack(value)
    except OverflowError:
        return _pack(_with_small_integers(msgspec.to_builtins(value, builtin_types=(bytes,))))


def _with_small_integers(value: Any) -> Any:
    kind = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind is dict:
        return {key: _with_small_integers(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_with_small_integers(item) for item in value]
    if kind is int and not _MIN_INTEGER <= value <= _MAX_INTEGER:
        return float(str(value))  # infinite where int's own conversion raises
    return value


def _as_plain(value: Any) -> Any:
    """Keys are texts, and dates are what JavaScript writes for them in JSON."""
    kind = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind in attachments.PLAIN or kind is bytes:
        return value
    if kind is dict:
        return {str(key): _as_plain(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_as_plain(item) for item in value]
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
