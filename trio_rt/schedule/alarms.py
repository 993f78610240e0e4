"""One timer for many tasks that have to be punctual: rings bells exactly when they asked for it.

A task in `trio.sleep_until` costs a cancel scope, an entry in Trio's deadline heap and an exception
each time. Here only the first of those who wait for the same instant does. What may be late by a
slot of time, as heartbeats may, belongs on the wheel.
"""

import heapq
import math

import trio

from trio_rt.schedule.bell import Bell


class Alarms:
    """Rings bells at their times, from the one task that is in `run`."""

    __slots__ = ("_bells", "_changed", "_order")

    def __init__(self) -> None:
        self._bells: dict[float, set[Bell]] = {}
        self._order: list[float] = []
        self._changed = Bell()

    def __len__(self) -> int:
        return sum(len(bells) for bells in self._bells.values())

    def ring_at(self, bell: Bell, deadline: float) -> float:
        """Rings `bell` at `deadline` on Trio's clock, never before.

        Returns:
            When it rings, to be handed to `forget`.
        """
        bells = self._bells.get(deadline)
        if bells is None:
            bells = self._bells[deadline] = set()
            heapq.heappush(self._order, deadline)
            if self._order[0] == deadline:
                self._changed.ring()
        bells.add(bell)
        return deadline

    def forget(self, bell: Bell, deadline: float) -> None:
        """Takes a bell back, which was to ring then; harmless if it has."""
        bells = self._bells.get(deadline)
        if bells is not None:
            bells.discard(bell)

    async def run(self) -> None:
        """Rings the bells until it is cancelled."""
        while True:
            with trio.move_on_at(self._order[0] if self._order else math.inf) as scope:
                await self._changed.wait()
            if scope.cancelled_caught:
                self._ring_due(trio.current_time())
            else:
                await trio.lowlevel.checkpoint()

    def _ring_due(self, now: float) -> None:
        while self._order and self._order[0] <= now:
            for bell in self._bells.pop(heapq.heappop(self._order)):
                bell.ring()
