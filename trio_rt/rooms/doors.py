"""Lets sockets into rooms and out of them, and tells rooms what becomes of their sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from trio_rt.codec.questions import SocketInfo
from trio_rt.codec.room_requests import (
    Arrive,
    Back,
    Denied,
    Done,
    Event,
    Knock,
    Lost,
    Order,
)
from trio_rt.errors import BackplaneError, Disconnected, LimitError, Refuse
from trio_rt.log import log
from trio_rt.rooms import endings
from trio_rt.rooms.cell import CHANNEL, Cell, rooms_of
from trio_rt.rooms.finder import FIND_TIMEOUT
from trio_rt.rooms.matching import PREFIX

if TYPE_CHECKING:
    from trio_rt.rooms.rooms import Rooms
    from trio_rt.socket import Socket

RETRY = 0.5
"""Seconds between two attempts."""

REPORT_TIMEOUT = 60.0
"""Seconds for which a node tries to tell a room that a member's socket is gone, or back."""

GONE = frozenset({"not_here", "not_found", "closed"})
"""What is said of somebody who is in no such room for sure."""

UNSURE = frozenset({"internal", "timeout", "unavailable"})
"""What is said of a request that may have been carried out."""


class Doors:
    """The doors of one namespace's rooms, on this node.

    Args:
        rooms: those of this node.
    """

    __slots__ = ("_returns", "_rooms", "_seq")

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._seq = 0
        self._returns: dict[tuple[str, str], trio.Event] = {}
        """By socket and room, those who are just being welcomed back: set when that is done."""

    async def enter(self, socket: Socket, id: str, *, watches: bool, code: str | None) -> Any:
        """Lets a client into a room: asks for a place, listens to the room, and says so.

        Returns:
            The whole view of the room.

        Raises:
            Refuse: if the room says no.
        """
        await self._wait_returned(socket, id)
        self._seq += 1
        user, node = socket.user, self._rooms.backplane.node
        knock = Knock(user.id, user.name, socket.id, node, self._seq, watches, code)
        is_settled = was_in = CHANNEL + id in socket.rooms  # then it stays, whatever is said
        is_knocking = True
        try:
            await self._rooms.finder.ask(id, knock)
            is_knocking = False
            await socket.join(CHANNEL + id)
            view = await self._rooms.finder.ask(id, Arrive(user.id, socket.id))
            is_settled = True
            return view
        except LimitError as error:
            raise Refuse("limit", str(error)) from error
        except Refuse as refusal:
            is_settled = is_knocking and refusal.code not in UNSURE
            is_settled = is_settled or (was_in and refusal.code not in GONE)
            raise
        finally:
            if not is_settled:
                self._undo_enter(socket, id)

    def _undo_enter(self, socket: Socket, id: str) -> None:
        """A client did not come in after all."""
        now = self._rooms.namespace.sockets.get(socket.id, socket)
        if now is not socket and CHANNEL + id in now.rooms:
            return  # it is back on another connection, of which the room is told
        if CHANNEL + id in socket.rooms and socket.connected:
            self._rooms.namespace.remove_member(CHANNEL + id, socket)
        self._tell_lost(socket, id, may_come_back=False)

    async def leave(self, socket: Socket, id: str) -> None:
        """Takes a client out of a room."""
        await self._wait_returned(socket, id)
        is_gone = False
        try:
            await self._rooms.finder.ask(id, Order(socket.user.id, "leave"))
            is_gone = True
        except Refuse as refusal:
            is_gone = refusal.code in GONE
            raise
        finally:
            if is_gone and CHANNEL + id in socket.rooms and socket.connected:
                self._rooms.namespace.remove_member(CHANNEL + id, socket)

    async def match(self, socket: Socket, kind: str, rating: float, size: int) -> Any:
        """Lets a client wait for others to play with, in a room of a kind.

        Raises:
            Refuse: if that is not possible.
        """
        if kind not in self._rooms.queues:
            raise Refuse("unknown_kind", f"nobody is matched for rooms of kind {kind[:100]!r}")
        id = PREFIX + kind
        await self.enter(socket, id, watches=False, code=None)
        return await self._rooms.finder.ask(id, Event(socket.user.id, "room:match", [rating, size]))

    async def unmatch(self, socket: Socket, kind: str) -> None:
        """Lets a client wait no longer."""
        if CHANNEL + PREFIX + kind in socket.rooms:
            await self.leave(socket, PREFIX + kind)

    def lost(self, socket: Socket, *, may_come_back: bool) -> None:
        """A socket was disconnected: its rooms hear of it."""
        for id in rooms_of(socket):
            self._tell_lost(socket, id, may_come_back=may_come_back)

    def _tell_lost(self, socket: Socket, id: str, *, may_come_back: bool) -> None:
        self._seq += 1
        told = Lost(socket.user.id, socket.id, self._rooms.backplane.node, self._seq, may_come_back)
        cell = self._rooms.cells.get(id)
        if cell is not None and cell.may_act:
            cell.inbox.put(told, is_urgent=True)
            self._rooms.wake(cell)
        else:
            self._rooms.soon(self._report, id, told)

    async def _report(self, id: str, told: Lost) -> None:
        """Tells a room on another node, however often that takes."""
        with trio.move_on_after(REPORT_TIMEOUT):
            while True:
                try:
                    await self._rooms.finder.ask(id, told)
                    return
                except Refuse as refusal:
                    if refusal.code in GONE:
                        return
                await trio.sleep(RETRY)

    def came_back(self, socket: Socket) -> None:
        """A socket is there again, with its session: its rooms hear of it."""
        self._seq += 1
        for id in rooms_of(socket):
            done = self._returns[socket.id, id] = trio.Event()
            self._rooms.soon(self._welcome_back, socket, id, self._seq, done)

    async def _wait_returned(self, socket: Socket, id: str) -> None:
        """Waits until a socket knows whether it is back: what it wants now comes behind that."""
        done = self._returns.get((socket.id, id))
        if done is not None:
            with trio.move_on_after(FIND_TIMEOUT):
                await done.wait()
            if not done.is_set():
                raise endings.UNAVAILABLE

    async def _welcome_back(self, socket: Socket, id: str, seq: int, done: trio.Event) -> None:
        """Tells a room that a socket is back, and the socket how the room is, however often that
        takes. If it is gone before, the room is told so again: it may have heard that first."""
        told = Back(socket.user.id, socket.id, self._rooms.backplane.node, seq)
        try:
            with trio.move_on_after(REPORT_TIMEOUT):
                while socket.connected:
                    if await self._tell_back(socket, id, told):
                        break
                    await trio.sleep(RETRY)
        finally:
            done.set()
            if self._returns.get((socket.id, id)) is done:
                del self._returns[socket.id, id]
        if socket.id not in self._rooms.namespace.sockets:
            self._tell_lost(socket, id, may_come_back=socket.session.is_open)

    async def _tell_back(self, socket: Socket, id: str, told: Back) -> bool:
        """Returns whether the client knows how it stands."""
        try:
            try:
                view = await self._rooms.finder.ask(id, told)
                await socket.emit("room:state", view)
            except Refuse as refusal:
                if refusal.code not in GONE:
                    return False
                if not socket.connected:
                    return True
                self._rooms.namespace.remove_member(CHANNEL + id, socket)
                payload = {"room": id, "player": socket.user.id, "reason": endings.LOST.code}
                await socket.emit("room:left", payload)
        except Disconnected:
            pass
        except BackplaneError as error:
            log.warning("socket %s is back in room %s, and not told: %s", socket.id, id, error)
            return False
        return True

    def show_out(self, cell: Cell, sids: Sequence[str]) -> None:
        """Sockets do not listen to a room any more."""
        remote: list[str] = []
        for sid in sids:
            socket = self._rooms.namespace.sockets.get(sid)
            if socket is None:
                remote.append(sid)
            elif cell.channel in socket.rooms:
                self._rooms.namespace.remove_member(cell.channel, socket)
        if remote and len(self._rooms.backplane.nodes) > 1:
            self._rooms.soon(
                _quietly, partial(self._rooms.namespace.to(*remote).leave, cell.channel)
            )

    async def look_for_members(self, cell: Cell) -> None:
        """Whose sockets are nowhere any more is lost: their node said nothing, or not to us.

        A node that told us of a socket, and is there, will tell us of its end as well; the socket
        may be one that is about to come in, and in no room yet.
        """
        for _ in range(3):
            try:
                found = await self._rooms.namespace.to(cell.channel).sockets(timeout=2.0)
            except BackplaneError as error:
                log.warning("the members of room %s are unknown: %s", cell.id, error)
                await trio.sleep(RETRY)
                continue
            if not found.missing_nodes:
                break
        else:
            return
        there = {info.id: info for info in found.sockets}
        for player in list(cell.members.values()):
            for sid, (node, seq) in list(player.sockets.items()):
                if sid not in there and node not in self._rooms.backplane.nodes:
                    cell.inbox.put(Lost(player.id, sid, node, seq, True), is_urgent=True)
        self._rooms.wake(cell)
        for info in there.values():
            if info.user_id not in cell.members and cell.may_act and not cell.is_over:
                await self._readmit(cell, info)

    async def _readmit(self, cell: Cell, info: SocketInfo) -> None:
        """Somebody came in after the last state that was saved: once more, or out."""
        knock = Knock(info.user_id, info.user_name, info.id, "", 0, watches=False)
        try:
            answer = await self._rooms.finder.ask_here(cell, knock)
            if isinstance(answer, Done):
                answer = await self._rooms.finder.ask_here(cell, Arrive(info.user_id, info.id))
        except Refuse as refusal:
            answer = Denied(refusal.code, refusal.message)
        if isinstance(answer, Denied):
            told = {"room": cell.id, "player": info.user_id, "reason": endings.LOST.code}
            await _quietly(partial(self._rooms.namespace.to(info.id).emit, "room:left", told))
            self.show_out(cell, [info.id])

    async def show_out_everywhere(self, cell: Cell) -> None:
        """Nobody on other nodes listens to a room any more."""
        await _quietly(partial(self._rooms.namespace.to(cell.channel).leave, cell.channel))


async def _quietly(function: Callable[[], Awaitable[object]]) -> None:
    try:
        await function()
    except BackplaneError as error:
        log.warning("other nodes could not be told: %s", error)
