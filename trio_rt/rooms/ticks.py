"""A room's clock: ticks without drift, and what players sent since the last one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs
import trio

from trio_rt.errors import MisuseError
from trio_rt.machine.lobby_effects import Phase
from trio_rt.rooms.player import Player

if TYPE_CHECKING:
    from trio_rt.rooms.cell import Cell


@attrs.frozen
class Input:
    """What a player sent for the next tick."""

    player: Player
    event: str
    value: Any
    """The payload, validated."""


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
    """An iterator over ticks; see `Room.ticks`."""

    __slots__ = ("_begin", "_cell", "_hz", "_is_game", "_number")

    def __init__(self, cell: Cell, hz: float) -> None:
        if not 0 < hz <= 1000:
            raise MisuseError(f"ticks(hz={hz}): a number of ticks in a second, up to 1000")
        self._cell = cell
        self._hz = hz
        self._is_game = cell.lobby.phase is Phase.PLAYING
        self._begin = trio.current_time()
        self._number = -1

    def __aiter__(self) -> Ticks:
        return self

    async def __anext__(self) -> Tick:
        """Waits for the next tick. Always a checkpoint."""
        before, number = self._number, self._number + 1
        passed = (trio.current_time() - self._begin) * self._hz
        if passed >= number + 1:  # more than a tick too late: the newest that is due counts
            number = math.floor(passed)
        due = self._begin + number / self._hz
        if not self._is_game:
            await trio.sleep_until(due)
        elif not await self._cell.is_playing_at(due):
            raise StopAsyncIteration
        self._number = number
        self._cell.pace.note(trio.current_time() - due, number - before - 1)
        return Tick(number, due, (number - before) / self._hz, self._cell.take_inputs())
