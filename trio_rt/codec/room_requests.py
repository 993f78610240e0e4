"""What the node of a socket asks the node that owns a room, and what that answers; in msgpack.

A player comes in by two steps: `Knock` asks for a place; then the socket listens to the room, and
`Arrive` says so. So a player hears all that is said from the hook on that welcomes it.

`seq` counts what one node has said about its sockets: of two reports that overtook each other the
one with the lower number is old.
"""

from typing import Any

import msgspec

from trio_rt.errors import RemoteProtocolError


class Knock(msgspec.Struct, frozen=True, tag="knock"):
    """Somebody wants a place in the room."""

    player: str
    name: str
    """What people call the player."""
    sid: str
    node: str
    seq: int
    watches: bool
    code: str | None = None
    """An invite code."""


class Arrive(msgspec.Struct, frozen=True, tag="arrive"):
    """The socket listens to the room. Answered by the whole view of it."""

    player: str
    sid: str


class Lost(msgspec.Struct, frozen=True, tag="lost"):
    """A socket is gone."""

    player: str
    sid: str
    node: str
    seq: int
    may_come_back: bool


class Back(msgspec.Struct, frozen=True, tag="back"):
    """A socket that was lost is there again, with its session."""

    player: str
    sid: str
    node: str
    seq: int


class Event(msgspec.Struct, frozen=True, tag="event"):
    """A member's event for the program's handler."""

    player: str
    event: str
    arguments: list[Any]


class Order(msgspec.Struct, frozen=True, tag="order"):
    """What every room can do for its members."""

    player: str
    what: str
    whom: str = ""
    """The player that it is about, besides the one who asks."""


RoomRequest = Knock | Arrive | Lost | Back | Event | Order

MAY_REPEAT = (Knock, Arrive, Lost, Back)
"""Requests that do nothing the second time."""


class Asked(msgspec.Struct, frozen=True):
    """A request, and the room that it is for; no room asks for the list of all rooms."""

    room: str
    request: RoomRequest | None = None


class Done(msgspec.Struct, frozen=True, tag="done"):
    """It was done."""

    value: Any = None

    is_many: bool = False
    """Whether the value is several arguments."""

    is_silent: bool = False
    """Whether the event is not acknowledged at all."""


class Denied(msgspec.Struct, frozen=True, tag="denied"):
    """It was refused: the client is told why."""

    code: str
    message: str
    details: Any = None


class Elsewhere(msgspec.Struct, frozen=True, tag="elsewhere"):
    """The room is not here, and nothing was done."""


RoomAnswer = Done | Denied | Elsewhere

encode = msgspec.msgpack.encode
_asked = msgspec.msgpack.Decoder(Asked)
_answer: msgspec.msgpack.Decoder[RoomAnswer] = msgspec.msgpack.Decoder(RoomAnswer)


def decode_asked(body: bytes) -> Asked:
    """Reads a request; raises `RemoteProtocolError` if it is none that we know."""
    try:
        return _asked.decode(body)
    except msgspec.DecodeError as error:
        raise RemoteProtocolError(f"another node sent something unknown: {error}") from error


def decode_answer(body: bytes) -> RoomAnswer:
    """Reads an answer; raises as `decode_asked`."""
    try:
        return _answer.decode(body)
    except msgspec.DecodeError as error:
        raise RemoteProtocolError(f"another node sent something unknown: {error}") from error
