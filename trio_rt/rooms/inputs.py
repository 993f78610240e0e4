"""What players send for ticks and turns: kept in order until the room takes it."""

from collections.abc import Collection
from typing import Any

import attrs
import trio

from trio_rt.errors import Refuse
from trio_rt.rooms.player import Player

MAX_INPUTS = 64
"""Inputs of one player that wait for a tick; more are refused with the code `busy`."""


@attrs.frozen
class Input:
    """What a player sent for the next tick."""

    player: Player
    event: str
    value: Any
    """The payload, validated."""


class Inputs:
    """The inputs of one room that wait for its next tick, or for somebody's turn."""

    __slots__ = ("_lot", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[Input] = []
        self._lot = trio.lowlevel.ParkingLot()

    def put(self, input: Input) -> None:
        """Adds one behind the others; raises `Refuse` if its player has sent too many."""
        waiting = self._waiting
        if len(waiting) >= MAX_INPUTS:
            count = sum(1 for other in waiting if other.player is input.player)
            if count >= MAX_INPUTS:
                raise Refuse("busy", f"more than {MAX_INPUTS} inputs wait for the next tick")
        waiting.append(input)
        self.wake()

    def take(self) -> tuple[Input, ...]:
        """Removes all, in order."""
        inputs, self._waiting = tuple(self._waiting), []
        return inputs

    def take_one(self, player: Player, events: Collection[str] | None) -> Input | None:
        """Removes the first of a player; where `events` are named, the first of these."""
        for at, input in enumerate(self._waiting):
            if input.player is player and (events is None or input.event in events):
                return self._waiting.pop(at)
        return None

    def forget(self, player: Player) -> None:
        """Removes what a player has sent: that was for an earlier turn."""
        self._waiting = [input for input in self._waiting if input.player is not player]

    def forget_all(self) -> None:
        """Removes all: a life, or what was before a game, is over."""
        self._waiting.clear()

    async def wait(self) -> None:
        """Waits for the next that is put, or until `wake`."""
        await self._lot.park()

    def wake(self) -> None:
        """Whoever waits looks again: something has come, or nothing may come any more."""
        self._lot.unpark_all()
