"""What was sent to each room lately: what those who come back can recover.

    event for                   is kept in the log of
    --------------------------  ------------------------------------------
    one room, or one socket     that room
    several rooms               the namespace, with its rooms
    everybody                   the namespace

A log is bounded by count and age, and all of them together by bytes. What was dropped raises the
log's floor: a session that would need something from below it is told that it is not recovered.
A log grows while somebody may need it, and is forgotten when nobody does and all in it is too old.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable

import attrs

from trio_rt.codec.envelope import Envelope
from trio_rt.codec.position import START, Position
from trio_rt.machine.membership import Membership


@attrs.frozen
class HistoryLimits:
    """How much is kept."""

    max_events: int
    """Events of one room; also how many one session may recover."""

    max_bytes: int
    """Bytes of all rooms together."""

    max_recovered_bytes: int
    """Bytes that one session may recover."""

    seconds: float
    """How long an event is kept."""


@attrs.define(eq=False)
class _Log:
    floor: Position
    """Something up to here was dropped, or may have been; nothing behind it was."""
    users: int = 0
    """Who may need what comes."""
    events: deque[tuple[float, Envelope]] = attrs.field(factory=deque[tuple[float, Envelope]])
    """With the time at which each came."""


class History:
    """The logs of all rooms.

    Args:
        limits: how much is kept.
    """

    __slots__ = ("_bytes", "_filled", "_forgotten", "_limits", "_logs")

    def __init__(self, limits: HistoryLimits) -> None:
        self._limits = limits
        self._logs: dict[tuple[str, str], _Log] = {}
        """By namespace and room."""
        self._filled: OrderedDict[tuple[str, str], _Log] = OrderedDict()
        """Those with events in them; those with the newest last."""
        self._bytes = 0
        self._forgotten = START  # the highest floor of a log that was forgotten

    def __len__(self) -> int:
        """How many events are kept."""
        return sum(len(log.events) for log in self._filled.values())

    @property
    def size_bytes(self) -> int:
        """How much the events take, about."""
        return self._bytes

    def begin(self, namespace: str, room: str) -> None:
        """Somebody may need a room's events from here on.

        What was there before was either for nobody, or in a log that was forgotten.
        """
        self._logs.setdefault((namespace, room), _Log(self._forgotten)).users += 1

    def end(self, namespace: str, room: str) -> None:
        """One less may need a room's events; those that are there stay until they are too old."""
        log = self._logs[namespace, room]
        log.users -= 1
        if not log.users and not log.events:
            self._forget((namespace, room))

    def append(self, envelope: Envelope, now: float) -> None:
        """Keeps an event that has its position, if anybody may need it."""
        assert envelope.position is not None, "only what has a place can be recovered"
        room = envelope.rooms[0] if len(envelope.rooms) == 1 else ""
        key = (envelope.namespace, room)
        log = self._logs.get(key)
        if log is None or not log.users:
            return
        log.events.append((now, envelope))
        self._filled[key] = log
        self._filled.move_to_end(key)
        self._bytes += envelope.size_bytes
        oldest_allowed = now - self._limits.seconds
        while len(log.events) > self._limits.max_events or log.events[0][0] < oldest_allowed:
            self._drop_oldest(log)  # but never the new one
        while self._bytes > self._limits.max_bytes:
            self._shrink()

    def expire(self, now: float) -> None:
        """Drops what is too old in rooms where nothing happens any more."""
        oldest_allowed = now - self._limits.seconds
        while self._filled:
            key, log = next(iter(self._filled.items()))
            if log.events[-1][0] >= oldest_allowed:
                return  # so are those of all logs behind it
            while log.events:
                self._drop_oldest(log)
            self._note_empty(key, log)

    def missed(
        self, namespace: str, membership: Membership, since: Position
    ) -> list[Envelope] | None:
        """What a session has to get that has got everything up to `since`.

        Returns:
            The events in order; None if some are not kept any more, or there are too many.
        """
        found: dict[Position, Envelope] = {}
        size = 0
        for stay in membership.stays(since):
            log = self._logs.get((namespace, stay.room))
            start = max(since, stay.since)
            if log is None:
                if stay.until is not None and start < self._forgotten:
                    return None  # what was in a room that was left may be forgotten with its log
                continue  # while it lasts there is a log, from the first event on
            if start < log.floor:
                return None
            for envelope in _after(log, start):
                position = envelope.position
                assert position is not None
                if position not in found and membership.was_meant(envelope):
                    found[position] = envelope
                    size += envelope.size_bytes
            if len(found) > self._limits.max_events or size > self._limits.max_recovered_bytes:
                return None
        return [found[position] for position in sorted(found)]

    def _forget(self, key: tuple[str, str]) -> None:
        self._forgotten = max(self._forgotten, self._logs.pop(key).floor)

    def _note_empty(self, key: tuple[str, str], log: _Log) -> None:
        del self._filled[key]
        if not log.users:
            self._forget(key)

    def _drop_oldest(self, log: _Log) -> None:
        _, envelope = log.events.popleft()
        assert envelope.position is not None
        log.floor = envelope.position
        self._bytes -= envelope.size_bytes

    def _shrink(self) -> None:
        """Makes room for bytes: the log in which nothing happened for longest gives first."""
        key, log = next(iter(self._filled.items()))
        self._drop_oldest(log)
        if not log.events:
            self._note_empty(key, log)


def _after(log: _Log, position: Position) -> Iterable[Envelope]:
    """The events of a log behind a position, the newest first."""
    for _, envelope in reversed(log.events):
        if envelope.position is None or envelope.position <= position:
            return
        yield envelope
