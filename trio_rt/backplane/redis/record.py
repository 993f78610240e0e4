"""A session as bytes: who it is, its rooms, and what the program keeps with it."""

from typing import Any

import msgspec

from trio_rt.auth import User
from trio_rt.backplane.base import Position, SavedSession
from trio_rt.codec.position import START, parse_position
from trio_rt.errors import BackplaneError
from trio_rt.log import log
from trio_rt.machine.membership import Membership

_VERSION = b"\x01"


class _Record(msgspec.Struct, array_like=True, frozen=True):
    pid: str
    namespace: str
    user_id: str
    user_name: str
    claims: dict[str, Any]
    joined: dict[str, str]
    """Rooms, and since when."""
    left: list[tuple[str, str, str]]
    """Rooms that were left, since when and until when."""
    data: dict[str, Any] | None
    presence: dict[str, dict[str, Any]] | None
    moves: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode
_decode_plain = msgspec.msgpack.Decoder(dict[str, Any]).decode
_NOT_PLAIN = (TypeError, ValueError, RecursionError, OverflowError, msgspec.DecodeError)


def pack_session(session: SavedSession) -> bytes:
    """The bytes of a session, without where it began.

    Values of `data` that are no plain ones are left out, and named in the log: they would be lost
    without a word with the node.
    """
    joined: dict[str, str] = {}
    left: list[tuple[str, str, str]] = []
    membership = session.membership
    for stay in membership.stays(START):
        if stay.until is not None:
            left.append((stay.room, str(stay.since), str(stay.until)))
        elif stay.room and stay.room != membership.sid:
            joined[stay.room] = str(stay.since)
    user = session.user
    record = _Record(
        session.pid,
        session.namespace,
        user.id,
        user.name,
        _plain(dict(user.claims), f"the claims of user {user.id}"),
        joined,
        left,
        None if session.data is None else _plain(session.data, f"socket.data of {membership.sid}"),
        session.presence,
        session.moves,
    )
    return _VERSION + _encode(record)


def unpack_session(data: bytes, sid: str, began: Position) -> SavedSession:
    """Reads what `pack_session` made.

    Raises:
        BackplaneError: if it is nothing that we know.
    """
    if data[:1] != _VERSION:
        raise BackplaneError(f"another version of sessions: {data[:40]!r}")
    try:
        record = _decode(memoryview(data)[1:])
    except msgspec.DecodeError as error:
        raise BackplaneError(f"not one of our sessions: {error}") from error
    membership = Membership(sid, began)
    for room, since, until in record.left:
        membership.join(room, _read(since))
        membership.leave(room, _read(until))
    for room, since in record.joined.items():
        membership.join(room, _read(since))
    user = User(record.user_id, record.user_name, record.claims)
    session = SavedSession(record.pid, record.namespace, user, membership, record.data)
    session.presence, session.moves = record.presence, record.moves
    session.is_open = True
    return session


def _plain(values: dict[str, Any], whose: str) -> dict[str, Any]:
    """Those that can be packed, and read again: not all keys can."""
    try:
        _decode_plain(_encode(values))
    except _NOT_PLAIN:
        return {key: value for key, value in values.items() if _is_plain(key, value, whose)}
    return values


def _is_plain(key: str, value: Any, whose: str) -> bool:
    try:
        _decode_plain(_encode({key: value}))
    except _NOT_PLAIN as error:
        log.error(
            "%s[%r] does not come back on another node: %s. Keep plain values there, and look up "
            "the rest by them",
            whose,
            key,
            error,
        )
        return False
    return True


def _read(text: str) -> Position:
    position = parse_position(text)
    if position is None:
        raise BackplaneError(f"no position of ours: {text[:80]!r}")
    return position
