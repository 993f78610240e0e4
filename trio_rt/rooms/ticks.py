"""A room's clock: ticks without drift, and what players sent since the last one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import trio

from trio_rt.errors import MisuseError
from trio_rt.machine.lobby_effects import Phase
from trio_rt.rooms.inputs import Input
from trio_rt.schedule.bell import Bell

if TYPE_CHECKING:
    from trio_rt.rooms.cell import Cell


SLOTS_PER_SECOND = 1000
"""About how many instants there are at which ticks may be due, for each pace."""

_PLAYING = Phase.PLAYING


@attrs.frozen
class Tick:
    """One step of a room's clock."""

    number: int
    """0 at first; jumps where the room was too late for some."""
    time: float
    """When it was due, on Trio's clock."""
    seconds: float
    """From the last tick to this one, as they were due."""
    inputs: tuple[Input, ...]
    """What players sent since the last tick, in order."""


@attrs.define
class Pace:
    """How punctual a room's ticks are."""

    count: int = 0
    """Ticks so far."""
    skipped: int = 0
    """Ticks that were left out, because the room was too late for them."""
    worst: float = 0.0
    """Seconds that the latest tick was late."""
    total: float = 0.0
    """Seconds that all ticks together were late."""

    @property
    def mean(self) -> float:
        """Seconds that a tick is late on average."""
        return self.total / self.count if self.count else 0.0

    def note(self, late: float, skipped: int) -> None:
        """A tick was so late."""
        self.count += 1
        self.skipped += skipped
        self.total += late
        self.worst = max(self.worst, late)


class Ticks:
    """An iterator over ticks; see `Room.ticks`.

    It begins at the next full millisecond, so that rooms with the same pace share instants: the
    timer wakes once for all of them.
    """

    __slots__ = ("_bell", "_cell", "_first", "_hz", "_is_game", "_number", "_slots")

    def __init__(self, cell: Cell, hz: float) -> None:
        if not isinstance(hz, int | float) or not 0 < hz <= 1000:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MisuseError(
                f"ticks(hz={hz!r}) is no number of ticks in a second, up to 1000. "
                f"Write: self.ticks(hz=20)"
            )
        self._cell = cell
        self._hz = hz
        self._is_game = cell.lobby.phase is Phase.PLAYING
        self._bell = Bell()
        self._slots = max(1, round(SLOTS_PER_SECOND / hz))  # in a period
        # The tolerance is for floats that mean a full slot.
        self._first = math.ceil(trio.current_time() * hz * self._slots - 1e-3)
        self._number = -1

    def __aiter__(self) -> Ticks:
        return self

    async def __anext__(self) -> Tick:
        """Waits for the next tick. Always a checkpoint."""
        before, number = self._number, self._number + 1
        if number == 0:
            self._cell.inputs.forget_all()
        now = trio.current_time()
        passed = (now - self._due(0)) * self._hz
        if passed >= number + 1:  # more than a tick too late: the newest that is due counts
            number = math.floor(passed)
        due = self._due(number)
        if now >= due or self._is_over:
            await trio.lowlevel.checkpoint()
        else:
            await self._wait_until(due)
        await self._cell.assure()
        if self._is_over:
            raise StopAsyncIteration
        self._number = number
        self._cell.pace.note(trio.current_time() - due, number - before - 1)
        return Tick(number, due, (number - before) / self._hz, self._cell.inputs.take())

    def _due(self, number: int) -> float:
        return (self._first + number * self._slots) / (self._hz * self._slots)

    @property
    def _is_over(self) -> bool:
        return self._is_game and self._cell.lobby.phase is not _PLAYING

    async def _wait_until(self, due: float) -> None:
        """Until then, or until the game is over."""
        cell, bell = self._cell, self._bell
        alarms = cell.rooms.namespace.app.alarms
        cell.clocks.add(bell)
        alarms.ring_at(bell, due)
        try:
            while trio.current_time() < due and not self._is_over:
                await bell.wait()
        finally:
            alarms.forget(bell, due)
            cell.clocks.discard(bell)
