"""All rooms of a namespace: created here, found wherever they are, kept while they live, ended.

A room is on one node at a time, which has its lease. Whoever wants something of a room asks here:

    it is here                       its inbox takes the request
    another node has its lease       that node is asked
    nobody has it                    it is activated here, from what was saved
    its node is dead                 the same, as soon as the lease has ended

What a request did that was lost on its way to another node nobody knows: then the client is told
so, and nothing is repeated.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from trio_rt.backplane.base import Backplane, Held, Lease
from trio_rt.codec import questions, room_requests
from trio_rt.codec.questions import SocketInfo, ToRooms
from trio_rt.codec.room_requests import (
    Arrive,
    Asked,
    Back,
    Denied,
    Done,
    Elsewhere,
    Event,
    Knock,
    Lost,
    Order,
    RoomAnswer,
    RoomRequest,
)
from trio_rt.dispatch import NO_ACK
from trio_rt.errors import BackplaneError, Disconnected, LimitError, LocalError, MisuseError, Refuse
from trio_rt.log import log, new_error_id
from trio_rt.machine.lobby_effects import Rules
from trio_rt.rooms import endings, saved
from trio_rt.rooms.cell import CHANNEL, Cell, rooms_of
from trio_rt.rooms.keeping import LEASE, MARGIN, Keeper
from trio_rt.rooms.kind import Kind, inspect_room
from trio_rt.rooms.life import Life
from trio_rt.rooms.listing import Listing
from trio_rt.rooms.matching import PREFIX, queue_for
from trio_rt.rooms.room import Room
from trio_rt.rooms.saved import SavedRoom
from trio_rt.rooms.wire import Wire
from trio_rt.supervisor import Child, Ended, Supervisor

if TYPE_CHECKING:
    from trio_rt.namespace import Namespace
    from trio_rt.socket import Socket

MAX_OWNERS = 10_000
"""Rooms of which a node remembers which other node has them."""

MAX_ID_CHARS = 64
"""Ids of rooms are shorter than this."""

MAX_CREATED = 10
"""Rooms on one node that one user may have created."""

ANSWER_GRACE = 5.0
"""Seconds that a request may wait in a room's inbox, besides what a handler may take."""

FIND_TIMEOUT = LEASE + 5.0
"""Seconds for which a room is looked for whose node is gone."""

REPORT_TIMEOUT = 60.0
"""Seconds for which a node tries to tell a room that a member's socket is gone."""

RETRY = 0.5
"""Seconds between two attempts."""

NOT_FOUND = Refuse("not_found", "there is no such room")
UNAVAILABLE = Refuse("unavailable", "the room cannot be reached now; try again")
UNKNOWN = Refuse("unavailable", "the room's node did not answer; it may have done what was asked")


class Rooms:
    """The rooms of one namespace.

    Args:
        namespace: where they are.
        kinds: the classes that there are.
    """

    def __init__(self, namespace: Namespace, kinds: Sequence[type[Room]]) -> None:
        self.namespace = namespace
        self.kinds: dict[str, Kind] = {}
        """By name."""
        for kind in map(inspect_room, kinds):
            if kind.name in self.kinds:
                raise MisuseError(f"two kinds of rooms are called {kind.name!r}: set `kind = ...`")
            self.kinds[kind.name] = kind
        self._queues = {
            kind.name: inspect_room(queue_for(kind.name, kind.room.match))
            for kind in self.kinds.values()
            if kind.room.match is not None
        }
        self.cells: dict[str, Cell] = {}
        """The rooms that this node owns."""
        self.listing = Listing(self)
        """Tells what rooms there are."""
        self._owners: OrderedDict[str, str] = OrderedDict()
        self._finding: dict[str, trio.Event] = {}
        self._supervisor: Supervisor | None = None
        self._nursery: trio.Nursery | None = None
        self._seq = 0
        Wire(self).register()

    @property
    def backplane(self) -> Backplane:
        """What joins the nodes."""
        return self.namespace.app.backplane

    # For programs

    async def create(
        self,
        room: type[Room] | str,
        options: Any = None,
        *,
        seats: int | None = None,
        private: bool = False,
        reserved: Sequence[str] = (),
        creator: str = "",
    ) -> str:
        """Creates a room, on this node.

        Args:
            room: its class, or the name of its kind.
            options: what `Room.options` will be, as plain values; `{}` if left out.
            seats: fewer seats than the class says.
            private: whether guests need a code, or a reservation.
            reserved: ids of users for whom seats are kept.
            creator: the id of the user who wants it.

        Returns:
            Its id.

        Raises:
            Refuse: if there is no such kind, or the options are not what they should be.
            LimitError: if there are too many rooms.
        """
        kind = self._kind(room)
        values = kind.options.validate([{} if options is None else options])
        rules = kind.rules_for(seats, private)
        made = partial(self._create, kind, values[0], rules, tuple(reserved), creator)
        cell: Cell = await self._apart(made)
        return cell.id

    async def close(self, id: str, text: str = "") -> None:
        """Closes a room of this node; its members are told.

        Raises:
            Refuse: if it is not here.
        """
        cell = self.cells.get(id)
        if cell is None:
            raise NOT_FOUND
        cell.close(endings.CLOSED.because(text or endings.CLOSED.text))
        await trio.lowlevel.checkpoint()

    async def all(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The entries of all rooms in the cluster that everybody may know of."""
        return await self.listing.all(kind)

    def _kind(self, room: type[Room] | str) -> Kind:
        for kind in self.kinds.values():
            if room in (kind.name, kind.room):
                return kind
        raise Refuse("unknown_kind", f"there are no rooms of kind {str(room)[:100]!r}")

    # Their lives

    async def run(self) -> None:
        """Keeps the rooms of this node until it is cancelled; then saves them for other nodes."""
        self._supervisor = Supervisor(on_end=self._ended, in_order=False)
        try:
            async with trio.open_nursery() as self._nursery:
                await self._nursery.start(self._supervisor.run)
                self._nursery.start_soon(self.listing.run)
                await trio.sleep_forever()
        finally:
            with trio.move_on_after(MARGIN, shield=True):
                for cell in list(self.cells.values()):
                    await self._hand_over(cell)
            self._nursery = None
            self.cells.clear()
            self._owners.clear()

    async def _create(
        self, kind: Kind, options: Any, rules: Rules, reserved: tuple[str, ...], creator: str
    ) -> Cell:
        own = sum(1 for cell in self.cells.values() if creator and cell.creator == creator)
        if own >= MAX_CREATED:
            raise Refuse("limit", f"a user cannot create more than {MAX_CREATED} rooms")
        id = secrets.token_urlsafe(9)
        lease = await self.backplane.acquire(self._lease_name(id), LEASE)
        assert not isinstance(lease, Held), "a new id is nobody's"
        cell = Cell(id, kind, self, lease, rules, options=options, creator=creator)
        for user in reserved:
            cell.decide(cell.lobby.reserve(user, trio.current_time()))
        try:
            cell.unsaved = None
            await self.backplane.save(lease, cell.dump())
            await self._begin(cell)
        except BaseException:
            with trio.move_on_after(MARGIN, shield=True):
                await self._forget(cell)
            raise
        self.listing.changed(cell)
        return cell

    async def _begin(self, cell: Cell) -> None:
        """Its first life on this node. Raises what that raised before it had started."""
        assert self._supervisor is not None
        assert self._nursery is not None
        self.cells[cell.id] = cell
        try:
            await self._supervisor.start(self._child(cell))
        except BaseException:
            self._drop(cell)
            raise
        self._nursery.start_soon(Keeper(self, cell).run)

    def _child(self, cell: Cell) -> Child:
        room = cell.kind.room
        return Child(
            cell.id,
            partial(self._live, cell),
            restart=room.restart,
            intensity=room.intensity,
            period=room.period,
            delay=room.restart_delay,
        )

    async def _live(
        self, cell: Cell, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        if cell.closing is not None:  # it crashed at its end
            cell.quiet.set()
            await trio.sleep_forever()
        await Life(cell).run(task_status=task_status)

    def retire(self, cell: Cell) -> None:
        """A room is to be closed, for the reason that it has noted."""
        if self._nursery is not None:
            self._nursery.start_soon(self._retire, cell)

    async def _retire(self, cell: Cell) -> None:
        with trio.move_on_after(cell.kind.room.handler_timeout):
            if not cell.is_asleep:
                await cell.quiet.wait()
        assert self._supervisor is not None
        if cell.id in self._supervisor:
            await self._supervisor.stop(cell.id)
        else:
            await self._finish(cell)

    def put_to_sleep(self, cell: Cell) -> None:
        """Nothing happens in a room: its object and its task are given up."""
        if self._nursery is not None and self._supervisor is not None:
            cell.is_asleep = True
            self._nursery.start_soon(self._supervisor.stop, cell.id)
            cell.keeper_bell.ring()

    def wake(self, cell: Cell) -> None:
        """Something happens in a room that sleeps."""
        if self._nursery is not None and cell.is_asleep:
            self._nursery.start_soon(self._wake, cell)

    async def _wake(self, cell: Cell) -> None:
        assert self._supervisor is not None
        while cell.id in self._supervisor:
            await self._supervisor.stop(cell.id)
        if cell.is_asleep and not (cell.is_over or cell.is_fenced or cell.closing):
            cell.is_asleep = False
            cell.active_at = trio.current_time()
            self._supervisor.start_soon(self._child(cell))

    async def fence(self, cell: Cell) -> None:
        """Another node may have the room in a moment, or has it: it is stopped here, unsaid."""
        if cell.is_fenced:
            return
        cell.is_fenced = True
        cell.keeper_bell.ring()
        log.warning("room %s is stopped here: it is, or will be, on another node", cell.id)
        assert self._supervisor is not None
        if cell.id in self._supervisor:
            await self._supervisor.stop(cell.id, timeout=MARGIN)
        else:
            self._drop(cell)

    async def _ended(self, ended: Ended) -> None:
        """A room's task will not run again."""
        cell = self.cells.get(ended.child.name)
        if cell is None:
            return
        try:
            if cell.is_fenced:
                self._drop(cell)
            elif cell.closing is not None:
                await self._finish(cell)
            elif cell.is_asleep:
                if len(cell.inbox) or cell.effects:
                    self.wake(cell)
            elif ended.error is not None or ended.outcome.value != "stopped":
                cell.closing = endings.CRASHED
                if ended.error_id is not None:
                    text = f"the room failed; the server's log has more under {ended.error_id}"
                    cell.closing = endings.CRASHED.because(text)
                await self._finish(cell)
            else:
                await self._hand_over(cell)
        except Exception:  # it must not stop the other rooms
            log.exception("room %s could not be ended well", cell.id)
            self._drop(cell)

    async def _finish(self, cell: Cell) -> None:
        """A room is over: its members are told, and nothing is left of it."""
        reason = cell.closing
        assert reason is not None
        if cell.is_over:
            return
        cell.is_over = True
        sids = [sid for player in cell.members.values() for sid in player.sockets]
        try:
            told = {"code": reason.code, "text": reason.text}
            await cell.announce("room:closed", told, *sids)
        except LocalError as error:
            log.warning("%s", error)
        for socket in list(self.namespace.rooms.get(cell.channel, ())):
            self.namespace.remove_member(cell.channel, socket)
        if len(self.backplane.nodes) > 1 and self._nursery is not None:
            leave = partial(self.namespace.to(cell.channel).leave, cell.channel)
            self._nursery.start_soon(self._quietly, leave)
        cell.inbox.refuse_all("closed", reason.text)
        await self._forget(cell)

    async def _forget(self, cell: Cell) -> None:
        """Nothing of a room is left, anywhere."""
        try:
            await self.backplane.save(cell.lease, None)
            await self.backplane.give_back(cell.lease)
        except BackplaneError as error:
            log.warning("room %s could not be removed: %s", cell.id, error)
        self._drop(cell)

    async def _hand_over(self, cell: Cell) -> None:
        """This node stops: the room's state is saved, and its lease is free."""
        try:
            cell.put_to_save()
            if cell.unsaved is not None:
                await self.backplane.save(cell.lease, cell.unsaved)
            await self.backplane.give_back(cell.lease)
        except (BackplaneError, MisuseError) as error:
            log.warning("room %s could not be handed over: %s", cell.id, error)
        self._drop(cell)

    def _drop(self, cell: Cell) -> None:
        """A room is not here any more."""
        cell.is_over = True
        cell.keeper_bell.ring()
        for _, reply in cell.inbox.drain():
            reply.set(Elsewhere())
        if self.cells.get(cell.id) is cell:
            del self.cells[cell.id]
        self.listing.changed(cell)

    # Asking a room

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
                    answer = await self._ask_here(found, request)
                else:
                    answer = await self._ask_there(found, id, request)
                if not isinstance(answer, Elsewhere):
                    return _unpack(answer)
                if trio.current_time() >= deadline:
                    raise UNAVAILABLE
                self._owners.pop(id, None)
                await trio.sleep(RETRY)
        except BackplaneError as error:
            log.warning("room %s cannot be asked: %s", id, error)
            raise UNAVAILABLE from error

    async def answer(self, body: bytes) -> bytes:
        """Answers another node."""
        asked = room_requests.decode_asked(body)
        if asked.request is None:
            return room_requests.encode(Done(self.listing.here()))
        cell = self.cells.get(asked.room)
        answer: RoomAnswer = Elsewhere()
        if cell is not None and not cell.is_fenced:
            try:
                answer = await self._ask_here(cell, asked.request)
            except Refuse as refusal:
                answer = Denied(refusal.code, refusal.message, refusal.details)
        try:
            return room_requests.encode(answer)
        except (TypeError, ValueError, RecursionError) as error:
            error_id = new_error_id()
            log.error("an answer of room %s cannot be sent: %s (%s)", asked.room, error, error_id)
            return room_requests.encode(Denied("internal", f"the server failed: {error_id}"))

    async def _ask_here(self, cell: Cell, request: RoomRequest) -> RoomAnswer:
        reply = cell.inbox.put(request, is_urgent=isinstance(request, Lost))
        self.wake(cell)
        return await reply.wait(cell.kind.room.handler_timeout + ANSWER_GRACE)

    async def _ask_there(self, node: str, id: str, request: RoomRequest) -> RoomAnswer:
        body = room_requests.encode(Asked(id, request))
        question = questions.encode(ToRooms(self.namespace.name, body))
        answers = await self.backplane.ask(question, nodes=[node], timeout=FIND_TIMEOUT)
        if node not in answers.bodies:
            self._owners.pop(id, None)
            raise UNKNOWN
        return room_requests.decode_answer(answers.bodies[node])

    async def _find(self, id: str, deadline: float) -> Cell | str:
        """The room if it is here, else the node that has it."""
        if len(id) > MAX_ID_CHARS:
            raise NOT_FOUND
        while True:
            cell = self.cells.get(id)
            if cell is not None and not cell.is_fenced:
                return cell
            node = self._owners.get(id)
            if node is not None and node in self.backplane.nodes and node != self.backplane.node:
                return node
            if id in self._finding:
                await self._finding[id].wait()
                continue
            self._finding[id] = trio.Event()
            try:
                held = await self._apart(partial(self._activate, id))
            finally:
                self._finding.pop(id).set()
            if isinstance(held, Held):
                self._note_owner(id, held.node)
                if held.node not in self.backplane.nodes or held.node == self.backplane.node:
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
        name = self._lease_name(id)
        queue = self._queues.get(id.removeprefix(PREFIX)) if id.startswith(PREFIX) else None
        if queue is None and await self.backplane.load(name) is None:
            raise NOT_FOUND
        lease = await self.backplane.acquire(name, LEASE)
        if isinstance(lease, Held):
            return lease
        try:
            data = await self.backplane.load(name)  # by now nobody else writes it
            room = None if data is None else saved.decode(data)
            cell = self._restore(id, room, lease, queue)
            await self._begin(cell)
        except BaseException:
            with trio.move_on_after(MARGIN, shield=True):
                await self.backplane.give_back(lease)
            raise
        log.info("room %s goes on here", id)
        self._owners.pop(id, None)
        self.listing.changed(cell)
        if self._nursery is not None:
            self._nursery.start_soon(self._look_for_members, cell)
        return None

    def _restore(self, id: str, room: SavedRoom | None, lease: Lease, queue: Kind | None) -> Cell:
        """A room as it was saved; one in which players wait for others may begin by itself."""
        if room is None and queue is not None:
            return Cell(id, queue, self, lease, queue.rules, options={})
        kind = queue or (None if room is None else self.kinds.get(room.kind))
        if room is None or kind is None:
            raise NOT_FOUND
        rules = Rules(**room.rules)
        options = kind.options.validate([room.options])[0]
        cell = Cell(id, kind, self, lease, rules, options=options, creator=room.creator)
        cell.load(room)
        return cell

    async def match(self, socket: Socket, kind: str, rating: float, size: int) -> Any:
        """Lets a client wait for others to play with, in a room of a kind.

        Raises:
            Refuse: if that is not possible.
        """
        if kind not in self._queues:
            raise Refuse("unknown_kind", f"nobody is matched for rooms of kind {kind[:100]!r}")
        id = PREFIX + kind
        await self.enter(socket, id, watches=False, code=None)
        return await self.ask(id, Event(socket.user.id, "room:match", [rating, size]))

    async def unmatch(self, socket: Socket, kind: str) -> None:
        """Lets a client wait no longer."""
        if CHANNEL + PREFIX + kind in socket.rooms:
            await self.leave(socket, PREFIX + kind)

    async def _apart(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Does something to its end, whatever becomes of who wants it."""
        if self._nursery is None:
            raise UNAVAILABLE
        outcome = _Outcome()

        async def do() -> None:
            try:
                outcome.value = await function()
            except Refuse as error:
                outcome.error = error
            except (LimitError, LocalError) as error:
                outcome.error = Refuse("limit", str(error))
            except BackplaneError as error:
                outcome.error = error
            except Exception:
                error_id = new_error_id()
                log.exception("a room could not begin (error %s)", error_id)
                message = f"the server failed; its log has more under {error_id}"
                outcome.error = Refuse("internal", message, {"id": error_id})
            finally:
                outcome.done.set()

        self._nursery.start_soon(do)
        await outcome.done.wait()
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def _lease_name(self, id: str) -> str:
        return f"room:{self.namespace.name}:{id}"

    # Members and their sockets

    async def enter(self, socket: Socket, id: str, *, watches: bool, code: str | None) -> Any:
        """Lets a client into a room: asks for a place, listens to the room, and says so.

        Returns:
            The whole view of the room.

        Raises:
            Refuse: if the room says no.
        """
        self._seq += 1
        user, node = socket.user, self.backplane.node
        await self.ask(id, Knock(user.id, user.name, socket.id, node, self._seq, watches, code))
        is_in = False
        try:
            await socket.join(CHANNEL + id)
            view = await self.ask(id, Arrive(user.id, socket.id))
            is_in = True
            return view
        except LimitError as error:
            raise Refuse("limit", str(error)) from error
        finally:
            if not is_in:
                self._undo_enter(socket, id)

    def _undo_enter(self, socket: Socket, id: str) -> None:
        """A client did not come in after all."""
        if CHANNEL + id in socket.rooms and socket.connected:
            self.namespace.remove_member(CHANNEL + id, socket)
        self._tell_lost(socket, id, may_come_back=False)

    async def leave(self, socket: Socket, id: str) -> None:
        """Takes a client out of a room."""
        try:
            await self.ask(id, Order(socket.user.id, "leave"))
        finally:
            if CHANNEL + id in socket.rooms and socket.connected:
                self.namespace.remove_member(CHANNEL + id, socket)

    def lost(self, socket: Socket, *, may_come_back: bool) -> None:
        """A socket was disconnected: its rooms hear of it."""
        for id in rooms_of(socket):
            self._tell_lost(socket, id, may_come_back=may_come_back)

    def _tell_lost(self, socket: Socket, id: str, *, may_come_back: bool) -> None:
        self._seq += 1
        told = Lost(socket.user.id, socket.id, self.backplane.node, self._seq, may_come_back)
        cell = self.cells.get(id)
        if cell is not None and not cell.is_fenced:
            cell.inbox.put(told, is_urgent=True)
            self.wake(cell)
        elif self._nursery is not None:
            self._nursery.start_soon(self._report, id, told)

    async def _report(self, id: str, told: Lost) -> None:
        """Tells a room on another node, however often that takes."""
        with trio.move_on_after(REPORT_TIMEOUT):
            while True:
                try:
                    await self.ask(id, told)
                    return
                except Refuse as refusal:
                    if refusal.code != "unavailable":
                        return
                await trio.sleep(RETRY)

    def came_back(self, socket: Socket) -> None:
        """A socket is there again, with its session: its rooms hear of it."""
        self._seq += 1
        for id in rooms_of(socket):
            if self._nursery is not None:
                self._nursery.start_soon(self._welcome_back, socket, id, self._seq)

    async def _welcome_back(self, socket: Socket, id: str, seq: int) -> None:
        told = Back(socket.user.id, socket.id, self.backplane.node, seq)
        try:
            try:
                view = await self.ask(id, told)
                await socket.emit("room:state", view)
            except Refuse as refusal:
                if refusal.code == "unavailable":
                    return
                self.namespace.remove_member(CHANNEL + id, socket)
                payload = {"room": id, "player": socket.user.id, "reason": endings.LOST.code}
                await socket.emit("room:left", payload)
        except Disconnected:
            pass

    def show_out(self, cell: Cell, sids: Sequence[str]) -> None:
        """Sockets do not listen to a room any more."""
        remote: list[str] = []
        for sid in sids:
            socket = self.namespace.sockets.get(sid)
            if socket is None:
                remote.append(sid)
            elif cell.channel in socket.rooms:
                self.namespace.remove_member(cell.channel, socket)
        if remote and len(self.backplane.nodes) > 1 and self._nursery is not None:
            leave = partial(self.namespace.to(*remote).leave, cell.channel)
            self._nursery.start_soon(self._quietly, leave)

    async def _quietly(self, function: Callable[[], Awaitable[object]]) -> None:
        try:
            await function()
        except BackplaneError as error:
            log.warning("other nodes could not be told: %s", error)

    async def _look_for_members(self, cell: Cell) -> None:
        """Whose sockets are nowhere any more is lost: their node said nothing, or not to us."""
        for _ in range(3):
            try:
                found = await self.namespace.to(cell.channel).sockets(timeout=2.0)
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
                if sid not in there:
                    cell.inbox.put(Lost(player.id, sid, node, seq, True), is_urgent=True)
        self.wake(cell)
        for info in there.values():
            if info.user_id not in cell.members and not (cell.is_over or cell.is_fenced):
                await self._readmit(cell, info)

    async def _readmit(self, cell: Cell, info: SocketInfo) -> None:
        """Somebody came in after the last state that was saved: once more, or out."""
        knock = Knock(info.user_id, info.user_name, info.id, "", 0, watches=False)
        try:
            answer = await self._ask_here(cell, knock)
            if isinstance(answer, Done):
                answer = await self._ask_here(cell, Arrive(info.user_id, info.id))
        except Refuse as refusal:
            answer = Denied(refusal.code, refusal.message)
        if isinstance(answer, Denied):
            told = {"room": cell.id, "player": info.user_id, "reason": endings.LOST.code}
            await self._quietly(partial(self.namespace.to(info.id).emit, "room:left", told))
            self.show_out(cell, [info.id])

    # Other nodes

    def node_down(self, node: str) -> None:
        """A node is gone: its rooms with members here go on, and ours look for their members."""
        self.listing.node_down()
        if self._nursery is None:
            return
        for cell in self.cells.values():
            self._nursery.start_soon(self._look_for_members, cell)
        for id in [id for id, owner in self._owners.items() if owner == node]:
            del self._owners[id]
            if self.namespace.rooms.get(CHANNEL + id):
                self._nursery.start_soon(self._take_over, id)

    async def _take_over(self, id: str) -> None:
        try:
            await self._find(id, trio.current_time() + FIND_TIMEOUT)
        except (Refuse, BackplaneError) as error:
            log.warning("room %s could not be taken over: %s", id, error)

    def fenced(self) -> None:
        """The others take this node for dead: all its rooms are elsewhere in a moment."""
        if self._nursery is not None:
            for cell in list(self.cells.values()):
                self._nursery.start_soon(self.fence, cell)


@attrs.define(eq=False)
class _Outcome:
    """What became of something that was done apart."""

    value: Any = None
    error: Exception | None = None
    done: trio.Event = attrs.field(factory=trio.Event)


def _unpack(answer: Done | Denied) -> Any:
    if isinstance(answer, Denied):
        raise Refuse(answer.code, answer.message, answer.details)
    if answer.is_silent:
        return NO_ACK
    return tuple(answer.value) if answer.is_many else answer.value


async def answer_for_rooms(namespace: Namespace | None, asked: ToRooms) -> bytes:
    """What this node's rooms have to say to another node."""
    if namespace is None or namespace.live_rooms is None:
        return room_requests.encode(Elsewhere())
    return await namespace.live_rooms.answer(asked.body)
