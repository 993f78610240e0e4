"""What of a room outlives a crash, and its node: plain values, written as msgpack."""

from typing import Any

import msgspec

from trio_rt.errors import MisuseError

VERSION_GAP = 1_000_000
"""Added to the version of a state that another node goes on with: members may have seen newer ones
than were saved, and have to see that they cannot apply the next patch."""


class SavedMember(msgspec.Struct, frozen=True, array_like=True):
    """A member."""

    id: str
    name: str
    watches: bool
    data: dict[str, Any]
    sids: list[str]
    arriving: str | None
    has_joined: bool = True


class SavedRoom(msgspec.Struct, frozen=True):
    """A room."""

    kind: str
    options: Any
    rules: dict[str, Any]
    creator: str
    lobby: dict[str, Any]
    members: list[SavedMember]
    version: int
    shown: Any
    """The state that members have seen."""
    program: Any
    """What the room's `snapshot` gave; None before the first."""


_decoder = msgspec.msgpack.Decoder(SavedRoom)


def encode(room: SavedRoom) -> bytes:
    """Writes a room; raises `MisuseError` if some of it is no JSON value."""
    return _encode(room, f"options and player.data of a {room.kind}")


def copy_info(kind: str, info: Any) -> Any:
    """What `Room.info` gave as plain values; raises as `encode` does: all clients get it."""
    return msgspec.msgpack.decode(_encode(info, f"info() of a {kind}"))


def check_state(kind: str, patch: Any) -> None:
    """Raises as `encode` does if what is new in `Room.state` could not be saved."""
    _encode(patch, f"state of a {kind}")


def encode_program(kind: str, snapshot: Any) -> bytes:
    """Writes what `Room.snapshot` gave; raises as `encode` does."""
    return _encode(snapshot, f"snapshot() of a {kind}")


def _encode(value: Any, what: str) -> bytes:
    try:
        return msgspec.msgpack.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise MisuseError(f"{what} cannot be saved: {error}. Use plain JSON values") from error


def decode(data: bytes) -> SavedRoom:
    """Reads what `encode` wrote."""
    return _decoder.decode(data)
