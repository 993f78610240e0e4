"""The live list of rooms: what there is, and what has changed since, a few times in a second.

An entry is what the room's owner says of it, so it lives and ends with the room. Each node tells
of its own rooms; when a node is gone, those who follow the list get it anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from trio_rt.codec import questions, room_requests
from trio_rt.codec.questions import ToRooms
from trio_rt.codec.room_requests import Asked, Done
from trio_rt.errors import BackplaneError, RemoteProtocolError
from trio_rt.log import log
from trio_rt.schedule.bell import Bell

if TYPE_CHECKING:
    from trio_rt.rooms.cell import Cell
    from trio_rt.rooms.rooms import Rooms

CHANNEL = "^"
"""What the sockets are in that follow the list: the channel of no room."""

PAUSE = 0.25
"""Seconds for which changes are gathered."""

ASK_TIMEOUT = 2.0
"""Seconds that other nodes may take to tell their rooms."""

MAX_LISTED = 1_000
"""Rooms in one answer."""


class Listing:
    """The list of the rooms of a namespace.

    Args:
        rooms: all that this node owns.
    """

    __slots__ = ("_bell", "_changed", "_is_stale", "_rooms", "_told")

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._changed: dict[str, None] = {}
        self._told: dict[str, dict[str, Any]] = {}
        self._is_stale = False
        self._bell = Bell()

    def changed(self, cell: Cell) -> None:
        """Something of a room's entry may be different now."""
        self._changed[cell.id] = None
        self._bell.ring()

    def node_down(self) -> None:
        """The rooms of another node are gone, or elsewhere."""
        self._is_stale = True
        self._bell.ring()

    def here(self) -> list[dict[str, Any]]:
        """The entries of this node's rooms. Whoever gets them will be told of their ends."""
        cells = self._rooms.cells.values()
        listed = [cell for cell in cells if cell.is_listed and cell.may_act]
        for cell in listed:
            self._told.setdefault(cell.id, {})
        return [cell.summary() for cell in listed]

    async def all(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The entries of all rooms in the cluster, as far as nodes tell them in time."""
        name = self._rooms.namespace.name
        body = questions.encode(ToRooms(name, room_requests.encode(Asked(""))))
        entries = self.here()
        answers = await self._rooms.backplane.ask(body, timeout=ASK_TIMEOUT)
        for node, data in answers.bodies.items():
            try:
                answer = room_requests.decode_answer(data)
                entries += answer.value if isinstance(answer, Done) else []
            except RemoteProtocolError as error:
                log.warning("node %s: %s", node, error)
        wanted = [entry for entry in entries if kind is None or entry["kind"] == kind]
        return sorted(wanted, key=lambda entry: str(entry["room"]))[:MAX_LISTED]

    async def run(self) -> None:
        """Tells of changes until it is cancelled."""
        while True:
            await self._bell.wait()
            try:
                await self._tell()
            except BackplaneError as error:
                log.warning("the list of rooms could not be told: %s", error)
                self._bell.ring()
            await trio.sleep(PAUSE)

    async def _tell(self) -> None:
        shown, gone = self._take_changes()
        target = self._rooms.namespace.to(CHANNEL)
        if shown or gone:
            try:
                await target.emit("rooms", {"changed": shown, "gone": gone})
            except BackplaneError:  # nobody knows who has heard it: once more
                ids = [*(entry["room"] for entry in shown), *gone]
                self._told.update((id, {}) for id in ids)
                self._changed.update(dict.fromkeys(ids))
                raise
        if self._is_stale:
            self._is_stale = False  # now, because it may become so again meanwhile
            if self._rooms.namespace.rooms.get(CHANNEL):
                try:
                    await target.local.emit("rooms", {"all": await self.all()})
                except BackplaneError:
                    self._is_stale = True
                    raise

    def _take_changes(self) -> tuple[list[dict[str, Any]], list[str]]:
        """The entries that are new, and the rooms that are gone."""
        changed, self._changed = self._changed, {}
        shown: list[dict[str, Any]] = []
        gone: list[str] = []
        for id in changed:
            cell = self._rooms.cells.get(id)
            if cell is not None and cell.is_listed:
                entry = cell.summary()
                if self._told.get(id) != entry:
                    self._told[id] = entry
                    shown.append(entry)
            elif self._told.pop(id, None) is not None:
                gone.append(id)
        return shown, gone
