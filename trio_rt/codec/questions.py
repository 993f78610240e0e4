"""What the nodes of a cluster ask each other about their sockets, and what they answer.

Written in msgpack, which knows bytes. A node that is newer or older may ask what another one does
not understand: then there is no answer, and the asker is told that the node is missing.
"""

from typing import Any

import msgspec

from trio_rt.errors import RemoteProtocolError


class Members(msgspec.Struct, frozen=True):
    """Which sockets are meant; as in an envelope."""

    namespace: str
    rooms: tuple[str, ...]
    excepted: tuple[str, ...]


class Find(Members, frozen=True, tag="find"):
    """Who are they? Answered by a list of `SocketInfo`."""


class Count(Members, frozen=True, tag="count"):
    """How many are they? Answered by a number."""


class CallThem(Members, frozen=True, tag="call"):
    """Emit an event to them and gather the acknowledgements: a `Gathered`."""

    event: str
    arguments: list[Any]
    seconds: float


class CallEach(Members, frozen=True, tag="call each"):
    """As `CallThem`, answered bit by bit: by the number of those who were asked, and then by the
    arguments of each acknowledgement as it comes."""

    event: str
    arguments: list[Any]
    seconds: float


class Show(Members, frozen=True, tag="show"):
    """What are they to a Socket.IO server of another make? Answered by a list of `Shown`."""


class PutOut(Members, frozen=True, tag="put out"):
    """Disconnect them. Answered, when it is done, by their number."""

    closes: bool
    """Whether their connections are closed as well."""


class Move(Members, frozen=True, tag="move"):
    """Make them join and leave rooms. Answered, when it is done, by their number."""

    joined: tuple[str, ...]
    left: tuple[str, ...]


class LetGo(Members, frozen=True, tag="let go"):
    """Their clients are back on another node: end their connections, which are dead or as good as
    that. Answered, when their sessions are lost, by their number."""


class ServerEvent(msgspec.Struct, frozen=True, tag="server event"):
    """An event for the program itself, on each node. Answered by a `ServerAnswer`."""

    namespace: str
    event: str
    arguments: list[Any]
    wants_answer: bool
    """Whether the handler's result is the answer; else it is empty, and comes at once."""


class RollCall(msgspec.Struct, frozen=True, tag="roll call"):
    """Who shows itself in a room, on your node? Answered by a roster's view, or nothing."""

    namespace: str
    room: str


class ToRooms(msgspec.Struct, frozen=True, tag="rooms"):
    """Something for a room that the asked node owns, or for all of them: see `room_requests`."""

    namespace: str
    body: bytes


Question = (
    RollCall | ServerEvent | Find | Show | Count | CallThem | CallEach | PutOut | Move | LetGo
)


class SocketInfo(msgspec.Struct, frozen=True):
    """What one socket was when somebody asked."""

    id: str
    namespace: str
    user_id: str
    user_name: str
    rooms: frozenset[str]
    data: Any
    """`socket.data`, as plain values."""


class Shown(msgspec.Struct, frozen=True):
    """What one socket was, with what its client showed when it connected.

    What may be a secret is left out: the auth payload, cookies, the Authorization header.
    """

    id: str
    rooms: frozenset[str]
    data: Any
    headers: dict[str, str]
    query: dict[str, str]
    address: str
    url: str
    secure: bool
    issued: float
    """Unix time in seconds."""


class ServerAnswer(msgspec.Struct, frozen=True):
    """What the handler of a server event answered."""

    value: Any


class Gathered(msgspec.Struct, frozen=True):
    """The acknowledgements of one node's sockets."""

    answers: dict[str, list[Any]]
    """The arguments of each, by socket id."""

    missing: list[str]
    """Sockets that did not answer in time, or went away."""


encode = msgspec.msgpack.encode
_question = msgspec.msgpack.Decoder(Question | ToRooms)
_sockets = msgspec.msgpack.Decoder(list[SocketInfo])
_number = msgspec.msgpack.Decoder(int)
_gathered = msgspec.msgpack.Decoder(Gathered)
_shown = msgspec.msgpack.Decoder(list[Shown])
_each = msgspec.msgpack.Decoder(int | list[Any])
_server_answer = msgspec.msgpack.Decoder(ServerAnswer)


def decode_question(body: bytes) -> Question | ToRooms:
    """Reads a question; raises `RemoteProtocolError` if it is none that we know."""
    found: Question | ToRooms = _read(_question, body)
    return found


def decode_sockets(body: bytes) -> list[SocketInfo]:
    """Reads the answer to `Find`; raises as `decode_question`."""
    found: list[SocketInfo] = _read(_sockets, body)
    return found


def decode_number(body: bytes) -> int:
    """Reads the answer to `Count`, `PutOut` and `Move`; raises as `decode_question`."""
    found: int = _read(_number, body)
    return found


def decode_gathered(body: bytes) -> Gathered:
    """Reads the answer to `CallThem`; raises as `decode_question`."""
    found: Gathered = _read(_gathered, body)
    return found


def decode_shown(body: bytes) -> list[Shown]:
    """Reads the answer to `Show`; raises as `decode_question`."""
    found: list[Shown] = _read(_shown, body)
    return found


def decode_each(body: bytes) -> int | list[Any]:
    """Reads one of the answers to `CallEach`; raises as `decode_question`."""
    found: int | list[Any] = _read(_each, body)
    return found


def decode_server_answer(body: bytes) -> ServerAnswer:
    """Reads the answer to `ServerEvent`; raises as `decode_question`."""
    found: ServerAnswer = _read(_server_answer, body)
    return found


def _read(decoder: Any, body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise RemoteProtocolError(f"another node sent something unknown: {error}") from error
