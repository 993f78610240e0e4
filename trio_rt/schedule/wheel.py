"""One timer for many tasks: rings bells when their time has come.

A task in `trio.sleep` costs 3,071 bytes and an entry in Trio's deadline heap; a task parked on a
bell costs 1,476. Deadlines are rounded up to a slot of time, so that thousands of heartbeats wake
in groups. A slot is a set of bells, so taking a bell back is cheap and leaves nothing behind.
"""

import heapq
import math

import trio

from trio_rt.schedule.bell import Bell

SLOT = 0.02
"""Seconds that a slot spans: what a deadline may be late, far below any heartbeat's interval."""

NEVER = -1
"""The slot of bells without a deadline; it is in no wheel."""


class Wheel:
    """Rings bells at their times, from the one task that is in `run`."""

    __slots__ = ("_changed", "_order", "_slots")

    def __init__(self) -> None:
        self._slots: dict[int, set[Bell]] = {}
        self._order: list[int] = []
        self._changed = Bell()

    def __len__(self) -> int:
        return sum(len(bells) for bells in self._slots.values())

    def ring_at(self, bell: Bell, deadline: float) -> int:
        """Rings `bell` at `deadline` on Trio's clock, or up to one slot later; never, if infinite.

        Returns:
            The slot, to be handed to `forget`.
        """
        if deadline == math.inf:
            return NEVER
        # A slot rings as much as 1e-6 of it early. Who then found the deadline still to come would
        # ask for the same slot again, and on a virtual clock for ever.
        slot = math.ceil(deadline / SLOT + 2e-6)
        bells = self._slots.get(slot)
        if bells is None:
            bells = self._slots[slot] = set()
            heapq.heappush(self._order, slot)
            if self._order[0] == slot:
                self._changed.ring()
        bells.add(bell)
        return slot

    def forget(self, bell: Bell, slot: int) -> None:
        """Takes a bell back; harmless if it has rung."""
        bells = self._slots.get(slot)
        if bells is not None:
            bells.discard(bell)

    async def run(self) -> None:
        """Rings the bells until it is cancelled."""
        while True:
            wait = self._order[0] * SLOT - trio.current_time() if self._order else math.inf
            with trio.move_on_after(max(wait, 0)) as scope:
                await self._changed.wait()
            if scope.cancelled_caught:
                self._ring_due(trio.current_time())
            else:
                await trio.lowlevel.checkpoint()

    def _ring_due(self, now: float) -> None:
        due = math.floor(now / SLOT + 1e-6)
        while self._order and self._order[0] <= due:
            for bell in self._slots.pop(heapq.heappop(self._order)):
                bell.ring()
