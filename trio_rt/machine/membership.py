"""Which rooms a session was in, and from when to when: what it may recover.

    member of room R    from the position at which it joined, until the one at which it left

A socket is the only member of the room that is named by its own id. Rooms that were left are
remembered for a while: what was sent there before may not have reached the client yet.
"""

from collections.abc import Iterable, Iterator

import attrs

from trio_rt.codec.envelope import Envelope
from trio_rt.codec.position import START, Position

MAX_LEFT = 64
"""Rooms a session has left that are remembered. Older ones are forgotten: whoever may have missed
something from that time is not recovered."""


@attrs.frozen
class Stay:
    """A time in a room: events after `since`, up to `until`, are for the member."""

    room: str
    since: Position
    until: Position | None = None
    """None while it lasts."""

    def includes(self, position: Position) -> bool:
        """Whether an event at `position` found the member in the room."""
        return self.since < position and (self.until is None or position <= self.until)


class Membership:
    """The rooms of one session.

    Args:
        sid: the socket's id.
        since: where the session began.
    """

    __slots__ = ("_joined", "_left", "sid", "since")

    def __init__(self, sid: str, since: Position = START) -> None:
        self.sid = sid
        self.since = since
        self._joined: dict[str, Position] = {}
        self._left: tuple[Stay, ...] = ()

    def __contains__(self, room: str) -> bool:
        return room in self._joined

    def __len__(self) -> int:
        return len(self._joined)

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms it is in."""
        return frozenset(self._joined)

    @property
    def whole_since(self) -> Position:
        """From here on all rooms are known that it was in; before that some may be forgotten."""
        oldest = self._left[0].until if len(self._left) == MAX_LEFT else None
        return self.since if oldest is None else oldest

    def join(self, room: str, position: Position) -> None:
        """It joined a room; one that it is in already stays as it is."""
        self._joined.setdefault(room, position)

    def leave(self, room: str, position: Position) -> None:
        """It left a room; one that it is not in is ignored."""
        since = self._joined.pop(room, None)
        if since is not None and since < position:
            self._left = (*self._left, Stay(room, since, position))[-MAX_LEFT:]

    def stays(self, after: Position) -> Iterator[Stay]:
        """All times in rooms that reach beyond `after`, its own room and the whole namespace's
        (the empty name) first."""
        yield Stay(self.sid, self.since)
        yield Stay("", self.since)
        for room, since in self._joined.items():
            yield Stay(room, since)
        for stay in self._left:
            if stay.until is not None and stay.until > after:
                yield stay

    def was_meant(self, envelope: Envelope) -> bool:
        """Whether an event was for this session when it was sent."""
        position = envelope.position
        if position is None or position <= self.since:
            return False
        if self._was_in(envelope.excepted, position):
            return False
        return not envelope.rooms or self._was_in(envelope.rooms, position)

    def _was_in(self, rooms: Iterable[str], position: Position) -> bool:
        for room in rooms:
            if room == self.sid:
                return True
            since = self._joined.get(room)
            if since is not None and since < position:
                return True
            if any(stay.room == room and stay.includes(position) for stay in self._left):
                return True
        return False
