"""What a client has to tell and the server has not yet acknowledged: a bounded queue.

    where    take         settle     lost     too old  no room
    -------  -----------  ---------  -------  -------  -----------------------------------
    WAITING  SENT         forgotten  WAITING  told     told (oldest), or the new one refused
    SENT                  forgotten  WAITING  told     the same

WAITING was not sent on the present connection, SENT was. Everything that is SENT is older than
everything that is WAITING, for each is sent in its turn; so a loss puts the one before the other.
"""

import enum
import itertools
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import attrs
from attrs.validators import gt, lt

from trio_rt.errors import LimitError
from trio_rt.fields import checked

T = TypeVar("T")


class WhenFull(enum.Enum):
    """What happens to an event for which there is no room."""

    REFUSE = "refuse"
    """The new event is refused, and its caller gets an error."""

    DROP_OLDEST = "drop oldest"
    """The oldest events make room, whether they were sent or not."""


@attrs.frozen(kw_only=True, field_transformer=checked)
class BacklogLimits:
    """How much a client may have to tell."""

    max_events: int = attrs.field(default=1_000, validator=gt(0))
    """Events that are not acknowledged (as many as a server keeps for one slow client)."""

    max_bytes: int = attrs.field(default=1_048_576, validator=gt(0))
    """Bytes of such events (as many as a server keeps for one slow client)."""

    max_age: float = attrs.field(default=75.0, validator=[gt(0), lt(math.inf)])
    """Seconds after which an event is given up. A server knows a key again for 120 s; what is sent
    until 45 s before that arrives in time, or the heartbeat (25 s and 20 s) ends its connection."""

    when_full: WhenFull = WhenFull.REFUSE
    """What happens to an event for which there is no room."""


@attrs.frozen
class Entry(Generic[T]):
    """An event that is not acknowledged."""

    key: str
    """The idempotency key, `<client>.<number>`: the same each time the event is sent."""

    event: T

    size_bytes: int

    added: float
    """When it was put here, in seconds."""

    sends: int = 0
    """How often it was sent. 0: it surely never happened. More: nobody knows."""


class Backlog(Generic[T]):
    """The events of one client that are not acknowledged, in order.

    Args:
        limits: its bounds.
        client: what makes the keys of this client unlike all others: random characters.
    """

    __slots__ = ("_client", "_count", "_limits", "_sent", "_waiting", "size_bytes")

    def __init__(self, limits: BacklogLimits, client: str) -> None:
        self._limits = limits
        self._client = client
        self._count = 0
        self._sent: OrderedDict[str, Entry[T]] = OrderedDict()
        self._waiting: OrderedDict[str, Entry[T]] = OrderedDict()
        self.size_bytes = 0
        """Bytes of all events together."""

    def __len__(self) -> int:
        return len(self._sent) + len(self._waiting)

    def __iter__(self) -> Iterator[Entry[T]]:
        """The events, the oldest first."""
        return itertools.chain(self._sent.values(), self._waiting.values())

    @property
    def unsent(self) -> int:
        """How many are still to be sent on the present connection."""
        return len(self._waiting)

    @property
    def deadline(self) -> float:
        """When `tick` wants to be called."""
        oldest = next(iter(self), None)
        return math.inf if oldest is None else self._end_of(oldest)

    def has_room(self, size_bytes: int) -> bool:
        """Whether an event of this size fits."""
        return (
            len(self) < self._limits.max_events
            and self.size_bytes + size_bytes <= self._limits.max_bytes
        )

    def put(self, event: T, size_bytes: int, now: float) -> tuple[Entry[T], Sequence[Entry[T]]]:
        """Adds an event behind the others.

        Returns:
            Its entry, and the entries that were dropped to make room.

        Raises:
            LimitError: if there is no room and the policy makes none. Nothing has changed.
        """
        limits = self._limits
        if size_bytes > limits.max_bytes:
            raise LimitError(
                f"an event of {size_bytes} bytes never fits: max_bytes={limits.max_bytes}"
            )
        dropped: list[Entry[T]] = []
        if limits.when_full is WhenFull.DROP_OLDEST:
            while not self.has_room(size_bytes):
                dropped.append(self._drop_oldest())
        elif not self.has_room(size_bytes):
            raise LimitError(
                f"{len(self)} events of {self.size_bytes} bytes are not acknowledged; another "
                f"{size_bytes} bytes would pass max_events={limits.max_events} or "
                f"max_bytes={limits.max_bytes}"
            )
        self._count += 1
        entry = Entry(f"{self._client}.{self._count}", event, size_bytes, now)
        self._waiting[entry.key] = entry
        self.size_bytes += size_bytes
        return entry, dropped

    def take(self, now: float) -> Entry[T] | None:
        """The oldest event that was not sent on the present connection; now it is.

        One that is too old is passed over: it is never sent again, and the next `tick` tells it.
        """
        while self._waiting:
            key, entry = self._waiting.popitem(last=False)
            if now < self._end_of(entry):
                entry = self._sent[key] = attrs.evolve(entry, sends=entry.sends + 1)
                return entry
            self._sent[key] = entry
        return None

    def settle(self, key: str) -> Entry[T] | None:
        """An event was acknowledged, or nobody cares for it any more: it is forgotten.

        Returns:
            Its entry; `None` if it was forgotten already.
        """
        entry = self._sent.pop(key, None) or self._waiting.pop(key, None)
        if entry is not None:
            self.size_bytes -= entry.size_bytes
        return entry

    def lost(self) -> None:
        """The connection is gone: everything waits to be sent, in its order."""
        self._sent.update(self._waiting)
        self._waiting, self._sent = self._sent, OrderedDict()

    def tick(self, now: float) -> Sequence[Entry[T]]:
        """Time has passed: the events that are too old are given up, and forgotten."""
        told: list[Entry[T]] = []
        while now >= self.deadline:
            told.append(self._drop_oldest())
        return told

    def clear(self) -> Sequence[Entry[T]]:
        """The client is done: all events are given up, and forgotten."""
        told = list(self)
        self._sent.clear()
        self._waiting.clear()
        self.size_bytes = 0
        return told

    def _drop_oldest(self) -> Entry[T]:
        _, entry = (self._sent or self._waiting).popitem(last=False)
        self.size_bytes -= entry.size_bytes
        return entry

    def _end_of(self, entry: Entry[T]) -> float:
        return entry.added + self._limits.max_age
