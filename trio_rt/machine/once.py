"""Events that carry an idempotency key: each runs once, and a resend gets the first result.

    state     begin                settle           release
    --------  -------------------  ---------------  -----------------
    unknown   NEW, now RUNNING     -                -
    RUNNING   RUNNING              now settled      now unknown
    settled   the result           -                -

Results are forgotten when they are older than the window, and the oldest of them when there are
too many: a resend that comes later still runs again.
"""

import enum
from collections import OrderedDict
from typing import Generic, TypeVar

import attrs

T = TypeVar("T")


class Begin(enum.Enum):
    """What to do with an event that has no result yet."""

    NEW = "new"
    """Run it, and settle or release it."""

    RUNNING = "running"
    """It runs already: wait for its result."""


@attrs.frozen
class OnceLimits:
    """How much is remembered."""

    max_results: int
    max_bytes: int
    """Bytes of all results and their keys together."""
    seconds: float
    """The window: how long a result is remembered."""


@attrs.frozen
class _Settled(Generic[T]):
    result: T
    size_bytes: int
    time: float


class Once(Generic[T]):
    """The results of events by their keys.

    Args:
        limits: how much is remembered.
    """

    __slots__ = ("_bytes", "_limits", "_running", "_settled")

    def __init__(self, limits: OnceLimits) -> None:
        self._limits = limits
        self._running: set[str] = set()
        self._settled: OrderedDict[str, _Settled[T]] = OrderedDict()  # the oldest first
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._running) + len(self._settled)

    def begin(self, key: str, now: float) -> Begin | T:
        """An event with this key arrived.

        Returns:
            What to do, or the result that there is.
        """
        self.expire(now)
        settled = self._settled.get(key)
        if settled is not None:
            return settled.result
        if key in self._running:
            return Begin.RUNNING
        self._running.add(key)
        return Begin.NEW

    def settle(self, key: str, result: T, size_bytes: int, now: float) -> None:
        """The event that `begin` called new has this result, to be kept for resends.

        Args:
            key: its key.
            result: what a resend gets.
            size_bytes: about what the result takes.
            now: the time.
        """
        self._running.remove(key)
        self._settled[key] = _Settled(result, size_bytes + len(key), now)
        self._bytes += size_bytes + len(key)
        while len(self._settled) > self._limits.max_results or self._bytes > self._limits.max_bytes:
            self._forget_oldest()

    def release(self, key: str) -> None:
        """The event that `begin` called new was cancelled: a resend runs again."""
        self._running.remove(key)

    def expire(self, now: float) -> None:
        """Forgets results that are too old."""
        while self._settled:
            oldest = next(iter(self._settled.values()))
            if oldest.time > now - self._limits.seconds:
                return
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, settled = self._settled.popitem(last=False)
        self._bytes -= settled.size_bytes
