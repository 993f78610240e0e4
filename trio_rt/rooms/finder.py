"""Asks a room, wherever it is, and makes it go on here if it is nowhere.

A room is on one node at a time, which has its lease. Whoever wants something of a room asks here:

    it is here                       its inbox takes the request
    another node has its lease       that node is asked
    nobody has it                    it is activated here, from what was saved
    its node is dead                 the same, as soon as the lease has ended

What a request did whose answer was lost on the way nobody knows. Coming and going is asked again,
because it changes nothing the second time; of all else the client is told, and nothing is repeated.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from trio_rt.backplane.base import Backplane, Held, Lease
from trio_rt.codec import questions, room_requests
from trio_rt.codec.questions import ToRooms
from trio_rt.codec.room_requests import (
    MAY_REPEAT,
    Asked,
    Denied,
    Done,
    Elsewhere,
    Event,
    Lost,
    RoomAnswer,
    RoomRequest,
)
from trio_rt.dispatch import NO_ACK
from trio_rt.errors import BackplaneError, Refuse, RemoteProtocolError
from trio_rt.log import log, new_error_id
from trio_rt.machine.lobby_effects import Rules
from trio_rt.rooms import saved
from trio_rt.rooms.cell import CHANNEL, Cell
from trio_rt.rooms.endings import NOT_FOUND, UNAVAILABLE, UNKNOWN
from trio_rt.rooms.keeping import LEASE, MARGIN
from trio_rt.rooms.kind import Kind
from trio_rt.rooms.matching import PREFIX
from trio_rt.rooms.saved import SavedRoom

if TYPE_CHECKING:
    from trio_rt.rooms.rooms import Rooms

MAX_OWNERS = 10_000
"""Rooms of which a node remembers which other node has them."""

MAX_ID_CHARS = 64
"""Ids of rooms are shorter than this."""

ANSWER_GRACE = 5.0
"""Seconds that a request may wait in a room's inbox, besides what a handler may take."""

FIND_TIMEOUT = LEASE + 5.0
"""Seconds for which a room is looked for whose node is gone."""

STOPS_WITHIN = 0.05
"""Seconds that the object of a room that is not ours any more mostly takes to be gone."""

RETRY = 0.5
"""Seconds between two attempts."""


class Finder:
    """Finds the rooms of one namespace.

    Args:
        rooms: those of this node.
    """

    __slots__ = ("_finding", "_owners", "_rooms")

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._owners: OrderedDict[str, str] = OrderedDict()
        self._finding: dict[str, trio.Event] = {}

    @property
    def _backplane(self) -> Backplane:
        return self._rooms.backplane

    async def ask(self, id: str, request: RoomRequest) -> Any:
        """Asks a room, wherever it is.

        Returns:
            What it answers; `NO_ACK` for nothing.

        Raises:
            Refuse: if it says no, or cannot be reached.
        """
        deadline = trio.current_time() + FIND_TIMEOUT
        try:
            while True:
                found = await self._find(id, deadline)
                if isinstance(found, Cell):
                    answer = await self.ask_here(found, request)
                else:
                    answer = await self._ask_there(found, id, request)
                if not isinstance(answer, Elsewhere):
                    return _unpack(answer)
                if trio.current_time() >= deadline:
                    raise UNAVAILABLE
                self._owners.pop(id, None)
                await trio.sleep(RETRY)
        except (BackplaneError, RemoteProtocolError) as error:
            log.warning("room %s cannot be asked: %s", id, error)
            raise UNAVAILABLE from error

    async def answer(self, body: bytes) -> bytes:
        """Answers another node."""
        asked = room_requests.decode_asked(body)
        if asked.request is None:
            return room_requests.encode(Done(self._rooms.listing.here()))
        cell = self._rooms.cells.get(asked.room)
        answer: RoomAnswer = Elsewhere()
        if cell is not None and cell.may_act:
            try:
                answer = await self.ask_here(cell, asked.request)
            except Refuse as refusal:
                answer = Denied(refusal.code, refusal.message, refusal.details)
        try:
            return room_requests.encode(answer)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            error_id = new_error_id()
            log.error("an answer of room %s cannot be sent: %s (%s)", asked.room, error, error_id)
            return room_requests.encode(Denied("internal", f"the server failed: {error_id}"))

    async def ask_here(self, cell: Cell, request: RoomRequest) -> RoomAnswer:
        """Asks a room of this node. Raises `Refuse` if it has too much to do, or is too slow.

        An input for the next tick need not wake the room's task where that waits for something to
        do: that spares most of what one costs, and a room may get hundreds in a second.
        """
        if isinstance(request, Event) and cell.takes_at_once(request):
            cell.take_input(request)
            return Done()
        reply = cell.inbox.put(request, is_urgent=isinstance(request, Lost))
        self._rooms.wake(cell)
        return await reply.wait(cell.kind.room.handler_timeout + ANSWER_GRACE)

    async def _ask_there(self, node: str, id: str, request: RoomRequest) -> RoomAnswer:
        body = room_requests.encode(Asked(id, request))
        question = questions.encode(ToRooms(self._rooms.namespace.name, body))
        answers = await self._backplane.ask(question, nodes=[node], timeout=FIND_TIMEOUT)
        if node not in answers.bodies:
            self._owners.pop(id, None)
            if isinstance(request, MAY_REPEAT) and node not in self._backplane.nodes:
                return Elsewhere()
            raise UNKNOWN
        return room_requests.decode_answer(answers.bodies[node])

    async def _find(self, id: str, deadline: float) -> Cell | str:
        """The room if it is here, else the node that has it."""
        if len(id) > MAX_ID_CHARS:
            raise NOT_FOUND
        while True:
            cell = self._rooms.cells.get(id)
            if cell is not None and cell.may_act:
                return cell
            if cell is not None:
                if trio.current_time() >= deadline:
                    raise UNAVAILABLE
                await trio.sleep(STOPS_WITHIN)
                continue
            node = self._owners.get(id)
            if node is not None and node in self._backplane.nodes and node != self._backplane.node:
                return node
            if id in self._finding:
                await self._finding[id].wait()
                continue
            self._finding[id] = trio.Event()
            try:
                held = await self._rooms.apart(partial(self._activate, id))
            finally:
                self._finding.pop(id).set()
            if isinstance(held, Held):
                self._note_owner(id, held.node)
                if held.node not in self._backplane.nodes or held.node == self._backplane.node:
                    if trio.current_time() >= deadline:
                        raise UNAVAILABLE
                    await trio.sleep(min(held.seconds + 0.05, 1.0))

    def _note_owner(self, id: str, node: str) -> None:
        self._owners[id] = node
        self._owners.move_to_end(id)
        if len(self._owners) > MAX_OWNERS:
            self._owners.popitem(last=False)

    async def _activate(self, id: str) -> Held | None:
        """Makes a room go on here from what was saved, unless another node has it."""
        name = self._rooms.lease_name(id)
        queue = self._rooms.queues.get(id.removeprefix(PREFIX)) if id.startswith(PREFIX) else None
        if queue is None and await self._backplane.load(name) is None:
            raise NOT_FOUND
        lease = await self._backplane.acquire(name, LEASE)
        if isinstance(lease, Held):
            return lease
        try:
            data = await self._backplane.load(name)  # by now nobody else writes it
            room = None if data is None else saved.decode(data)
            cell = self._restore(id, room, lease, queue)
            await self._rooms.begin(cell)
        except BaseException:
            with trio.move_on_after(MARGIN, shield=True):
                await self._backplane.give_back(lease)
            raise
        log.info("room %s goes on here", id)
        self._owners.pop(id, None)
        self._rooms.listing.changed(cell)
        self._rooms.soon(self._rooms.doors.look_for_members, cell)
        return None

    def _restore(self, id: str, room: SavedRoom | None, lease: Lease, queue: Kind | None) -> Cell:
        """A room as it was saved; one in which players wait for others may begin by itself."""
        if room is None and queue is not None:
            return Cell(id, queue, self._rooms, lease, queue.rules, options={})
        kind = queue or (None if room is None else self._rooms.kinds.get(room.kind))
        if room is None or kind is None:
            raise NOT_FOUND
        rules = Rules(**room.rules)
        options = kind.options.validate([room.options])[0]
        cell = Cell(id, kind, self._rooms, lease, rules, options=options, creator=room.creator)
        cell.load(room)
        return cell

    async def _take_over(self, id: str) -> None:
        try:
            await self._find(id, trio.current_time() + FIND_TIMEOUT)
        except (Refuse, BackplaneError) as error:
            log.warning("room %s could not be taken over: %s", id, error)

    def node_down(self, node: str) -> None:
        """A node is gone: its rooms with members here go on, wherever that is."""
        for id in [id for id, owner in self._owners.items() if owner == node]:
            del self._owners[id]
            if self._rooms.namespace.rooms.get(CHANNEL + id):
                self._rooms.soon(self._take_over, id)

    def forget_all(self) -> None:
        """The server does not serve any more."""
        self._owners.clear()


def _unpack(answer: Done | Denied) -> Any:
    if isinstance(answer, Denied):
        raise Refuse(answer.code, answer.message, answer.details)
    if answer.is_silent:
        return NO_ACK
    return tuple(answer.value) if answer.is_many else answer.value
