"""Keeps a room's lease, and its state where other nodes find it; or gives the room up in time.

    LEASE         seconds of a lease
    LEASE / 3     it is renewed, and tried again each second where that fails
    LEASE - 3     still not: the room is stopped, before anybody else can have it

The end of a lease is counted from before it was asked for, so this clock is never the slower one.
The room's tasks have that moment as the deadline of their scopes, and each handler, hook and tick
looks at the clock before it begins: a process that stood still does not act on what has waited
for it meanwhile.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from trio_rt.errors import BackplaneError
from trio_rt.log import log

if TYPE_CHECKING:
    from trio_rt.rooms.cell import Cell
    from trio_rt.rooms.rooms import Rooms

LEASE = 15.0
"""Seconds after which the rooms of a dead node are free."""

MARGIN = 3.0
"""Seconds before that in which a room that could not be renewed has to be stopped."""

RETRY = 1.0
"""Seconds until a failed attempt is repeated."""


class Keeper:
    """Keeps one room for this node.

    Args:
        rooms: the rooms of this node.
        cell: the room.
    """

    __slots__ = ("_cell", "_renew_at", "_rooms", "_save_at")

    def __init__(self, rooms: Rooms, cell: Cell) -> None:
        self._rooms = rooms
        self._cell = cell
        self._renew_at = trio.current_time() + LEASE / 3
        self._save_at = -math.inf

    async def run(self) -> None:
        """Keeps it until it is over, elsewhere, or this is cancelled."""
        cell = self._cell
        while not (cell.is_over or cell.is_fenced):
            await self._wait()
            now = trio.current_time()
            if now >= cell.last_moment:
                log.error("the lease of room %s could not be renewed in time", cell.id)
                await self._rooms.fence(cell)
                return
            with trio.move_on_at(cell.last_moment):
                if now >= self._renew_at:
                    await self._renew()
                if cell.unsaved is not None and now >= self._save_at:
                    await self._save()
            if cell.is_asleep and trio.current_time() >= cell.lobby.deadline:
                self._rooms.wake(cell)  # nothing new if it is waking

    async def _wait(self) -> None:
        cell = self._cell
        deadline = min(self._renew_at, cell.last_moment)
        if cell.is_asleep and not cell.is_waking:
            deadline = min(deadline, cell.lobby.deadline)
        if cell.unsaved is not None:
            deadline = min(deadline, self._save_at)
        with trio.move_on_at(deadline):
            await cell.keeper_bell.wait()
        await trio.lowlevel.checkpoint()

    async def _renew(self) -> None:
        cell = self._cell
        try:
            lease = await self._rooms.backplane.renew(cell.lease, LEASE)
        except BackplaneError as error:
            log.warning("the lease of room %s could not be renewed: %s", cell.id, error)
            self._renew_at = trio.current_time() + RETRY
            return
        if lease is None:
            await self._rooms.fence(cell)
            return
        cell.renewed(lease)
        self._renew_at = trio.current_time() + LEASE / 3

    async def _save(self) -> None:
        cell = self._cell
        if cell.is_over or cell.is_fenced:
            return
        data = cell.unsaved
        try:
            is_saved = await self._rooms.backplane.save(cell.lease, data)
        except BackplaneError as error:
            log.warning("room %s could not be saved: %s", cell.id, error)
            self._save_at = trio.current_time() + RETRY
            return
        if not is_saved:
            await self._rooms.fence(cell)
        elif cell.unsaved is data:
            cell.unsaved = None
