"""Sends what connections have waiting, once per step of the scheduler.

A burst of events for one connection becomes one `send`. A fan-out first puts its frame behind
those that wait at each member (0.25 us), and this task then sends to one connection after the
other, with a checkpoint every 64 sends, so that a broadcast to 10,000 does not hold up anybody
else: what a connection gets is in order whatever runs in between.
"""

from abc import ABC, abstractmethod

import trio

from trio_rt.codec.position import START, Reached
from trio_rt.schedule.bell import Bell

SENDS_PER_STEP = 64
"""About 0.3 ms of sending between two checkpoints."""

MAX_BACKLOG = 65_536
"""Frames that may wait for the next steps before those who emit have to wait."""


class Flushable(ABC):
    """Something with output waiting."""

    __slots__ = ()

    @abstractmethod
    def flush(self) -> None:
        """Sends what waits. Must not raise."""


class Flusher:
    """Flushes what was marked, from the one task that is in `run`.

    Attributes:
        tick: counts the scheduler's steps in which something was received or flushed. The first
            frame that a connection sends in a step leaves at once, later ones are joined.
        backlog: frames put behind others since the last flush began.
        reached: the place up to which events have been handed to their members' connections.
    """

    __slots__ = ("_bell", "_done", "_marked", "backlog", "is_crowded", "reached", "tick")

    def __init__(self) -> None:
        self.tick = 0
        self.is_crowded = False
        self.backlog = 0
        self.reached: Reached = START
        self._marked: list[Flushable] = []
        self._bell = Bell()
        self._done = trio.lowlevel.ParkingLot()

    def mark(self, item: Flushable) -> None:
        """Flushes `item` in the scheduler's next step. Mark it once until it was flushed."""
        if not self._marked:
            self._bell.ring()
        self._marked.append(item)

    async def wait_room(self) -> None:
        """Waits while too much is waiting: the brake for programs that emit in a loop."""
        while self.backlog > MAX_BACKLOG:
            await self._done.park()

    async def run(self) -> None:
        """Flushes until it is cancelled."""
        try:
            while True:
                await self._bell.wait()
                marked, self._marked = self._marked, []
                self.is_crowded = False
                self.backlog = 0
                await self._flush(marked)
                del marked  # nobody is kept alive until the next flush
                if not self._marked:
                    self.backlog = 0  # what was counted meanwhile has left as well
                self._done.unpark_all()
        finally:
            self._marked.clear()  # another life begins with nothing

    async def _flush(self, marked: list[Flushable]) -> None:
        for start in range(0, len(marked), SENDS_PER_STEP):
            if start:  # behind the last piece there is the bell's wait
                await trio.lowlevel.checkpoint()
            self.tick += 1
            for item in marked[start : start + SENDS_PER_STEP]:
                item.flush()
