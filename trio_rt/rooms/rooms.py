"""All rooms of a namespace on this node: created, kept while they live, and ended.

`finder.py` asks rooms wherever they are, `doors.py` lets sockets in and out.

It is one long file because making, keeping and ending a room share one table.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from trio_rt.backplane.base import Backplane, Held
from trio_rt.codec import room_requests
from trio_rt.codec.questions import ToRooms
from trio_rt.codec.room_requests import (
    Elsewhere,
)
from trio_rt.errors import BackplaneError, LimitError, LocalError, MisuseError, Refuse
from trio_rt.log import log, new_error_id
from trio_rt.machine.lobby_effects import Rules
from trio_rt.rooms import endings
from trio_rt.rooms.cell import Cell
from trio_rt.rooms.doors import Doors
from trio_rt.rooms.finder import Finder
from trio_rt.rooms.keeping import LEASE, MARGIN, Keeper
from trio_rt.rooms.kind import Kind, inspect_room
from trio_rt.rooms.life import Life
from trio_rt.rooms.listing import Listing
from trio_rt.rooms.matching import queue_for
from trio_rt.rooms.room import Room
from trio_rt.rooms.wire import Wire
from trio_rt.supervisor import Child, Ended, Supervisor

if TYPE_CHECKING:
    from trio_rt.namespace import Namespace
    from trio_rt.socket import Socket

RETRY = 1.0
"""Seconds until a room that could not wake tries again."""

MAX_CREATED = 10
"""Rooms on one node that one user may have created."""


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
        self.queues = {
            kind.name: inspect_room(queue_for(kind.name, kind.room.match))
            for kind in self.kinds.values()
            if kind.room.match is not None
        }
        """Rooms in which players wait for others, by the kind of these."""
        self.cells: dict[str, Cell] = {}
        """The rooms that this node owns."""
        self.listing = Listing(self)
        """Tells what rooms there are."""
        self.finder = Finder(self)
        """Asks rooms, wherever they are."""
        self.doors = Doors(self)
        """Lets sockets in and out."""
        self._supervisor: Supervisor | None = None
        self._nursery: trio.Nursery | None = None
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
        cell: Cell = await self.apart(made)
        return cell.id

    async def close(self, id: str, text: str = "") -> None:
        """Closes a room of this node; its members are told.

        Raises:
            Refuse: if it is not here.
        """
        cell = self.cells.get(id)
        if cell is None:
            raise endings.NOT_FOUND
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

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps the rooms of this node until it is cancelled; then saves them for other nodes.

        There can be rooms as soon as it has started.
        """
        self._supervisor = Supervisor(on_end=self._ended, in_order=False)
        try:
            async with trio.open_nursery() as self._nursery:
                await self._nursery.start(self._supervisor.run)
                self._nursery.start_soon(self.listing.run)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            with trio.move_on_after(MARGIN, shield=True):
                for cell in list(self.cells.values()):
                    await self._hand_over(cell)
            self.cells.clear()
            self.finder.forget_all()

    async def _create(
        self, kind: Kind, options: Any, rules: Rules, reserved: tuple[str, ...], creator: str
    ) -> Cell:
        own = sum(1 for cell in self.cells.values() if creator and cell.creator == creator)
        if own >= MAX_CREATED:
            raise Refuse("limit", f"a user cannot create more than {MAX_CREATED} rooms")
        id = secrets.token_urlsafe(9)
        lease = await self.backplane.acquire(self.lease_name(id), LEASE)
        assert not isinstance(lease, Held), "a new id is nobody's"
        cell = Cell(id, kind, self, lease, rules, options=options, creator=creator)
        try:
            for user in reserved:
                cell.decide(cell.lobby.reserve(user, trio.current_time()))
            cell.unsaved = None
            await self.backplane.save(lease, cell.dump())
            await self.begin(cell)
        except BaseException:
            with trio.move_on_after(MARGIN, shield=True):
                await self._forget(cell)
            raise
        self.listing.changed(cell)
        return cell

    async def begin(self, cell: Cell) -> None:
        """Its first life on this node. Raises what that raised before it had started."""
        assert self._supervisor is not None
        self.cells[cell.id] = cell
        try:
            await self._supervisor.start(self._child(cell))
        except BaseException:
            self.drop(cell)
            raise
        self.soon(Keeper(self, cell).run)

    def _child(self, cell: Cell) -> Child:
        room = cell.kind.room
        return Child(
            cell.id,
            partial(self._live, cell),
            restart=room.restart,
            intensity=room.intensity,
            period=room.period,
            delay=room.restart_delay,
            excuses=cell.excuses,
        )

    async def _live(
        self, cell: Cell, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        def started() -> None:
            task_status.started()

        if cell.is_ending:  # it crashed at its end
            cell.quiet.set()
            await trio.sleep_forever()
        if cell.may_act:
            await Life(cell).run(started)
        if not cell.may_act:  # the time was up, and the keeper did not run yet
            self.soon(self.fence, cell)
            await trio.sleep_forever()

    def retire(self, cell: Cell) -> None:
        """A room is to be closed, for the reason that it has noted."""
        self.soon(self._retire, cell)

    async def _retire(self, cell: Cell) -> None:
        with trio.move_on_after(cell.kind.room.handler_timeout):
            self.wake(cell)  # for its `on_close`
            await cell.quiet.wait()
        cell.is_asleep = False
        assert self._supervisor is not None
        if cell.id in self._supervisor:
            await self._supervisor.stop(cell.id)
        else:
            await self._finish(cell)

    def put_to_sleep(self, cell: Cell) -> None:
        """Nothing happens in a room: its object and its task are given up."""
        assert self._supervisor is not None
        cell.is_asleep = True
        self.soon(self._supervisor.stop, cell.id)
        cell.keeper_bell.ring()

    def wake(self, cell: Cell) -> None:
        """Something happens in a room that sleeps."""
        if cell.is_asleep and not cell.is_waking:
            cell.is_waking = True
            self.soon(self._wake, cell)

    async def _wake(self, cell: Cell) -> None:
        assert self._supervisor is not None
        try:
            while cell.is_asleep and cell.may_act and not cell.is_over:
                if cell.id in self._supervisor:
                    await self._supervisor.stop(cell.id)
                    continue
                try:
                    self._supervisor.start_soon(self._child(cell))
                except LocalError as error:  # there are too many, or the server stops
                    cell.inbox.refuse_asked("busy", str(error))
                    await trio.sleep(RETRY)
                    continue
                cell.is_asleep = False
                cell.active_at = trio.current_time()
        finally:
            cell.is_waking = False
            cell.keeper_bell.ring()

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
            self.drop(cell)

    async def _ended(self, ended: Ended) -> None:
        """A room's task will not run again."""
        cell = self.cells.get(ended.child.name)
        if cell is None:
            return
        try:
            if not cell.may_act:
                cell.is_fenced = True
                self.drop(cell)
            elif cell.is_asleep:
                if len(cell.inbox) or cell.effects:
                    self.wake(cell)
            elif cell.closing is not None:
                await self._finish(cell)
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
            self.drop(cell)
        except trio.Cancelled:  # the supervisor does not wait for ever
            self.drop(cell)
            raise

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
        if not cell.may_act:
            self.drop(cell)  # it goes on elsewhere
            return
        for socket in list(self.namespace.rooms.get(cell.channel, ())):
            self.namespace.remove_member(cell.channel, socket)
        if len(self.backplane.nodes) > 1:
            self.soon(self.doors.show_out_everywhere, cell)
        cell.inbox.refuse_all("closed", reason.text)
        await self._forget(cell)

    async def _forget(self, cell: Cell) -> None:
        """Nothing of a room is left, anywhere."""
        try:
            await self.backplane.save(cell.lease, None)
            await self.backplane.give_back(cell.lease)
        except BackplaneError as error:
            log.warning("room %s could not be removed: %s", cell.id, error)
        self.drop(cell)

    async def _hand_over(self, cell: Cell) -> None:
        """This node stops: the room's state is saved, and its lease is free."""
        try:
            cell.put_to_save()
            if cell.unsaved is not None:
                await self.backplane.save(cell.lease, cell.unsaved)
            await self.backplane.give_back(cell.lease)
        except (BackplaneError, MisuseError) as error:
            log.warning("room %s could not be handed over: %s", cell.id, error)
        self.drop(cell)

    def drop(self, cell: Cell) -> None:
        """A room is not here any more."""
        cell.is_over = True
        cell.keeper_bell.ring()
        for _, reply in cell.inbox.drain():
            reply.set(Elsewhere())
        if self.cells.get(cell.id) is cell:
            del self.cells[cell.id]
        self.listing.changed(cell)

    # For its parts

    def soon(self, function: Callable[..., Awaitable[object]], *arguments: Any) -> None:
        """Does something of the rooms' own; nothing, if the server does not serve."""
        if self._nursery is not None:
            self._nursery.start_soon(function, *arguments)

    async def apart(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Does something to its end, whatever becomes of who wants it."""
        if self._nursery is None:
            raise endings.UNAVAILABLE
        outcome = _Outcome()

        async def do() -> None:
            try:
                outcome.value = await function()
                outcome.is_done = True
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
        if not outcome.is_done:  # the server stops
            raise endings.UNAVAILABLE
        return outcome.value

    def lease_name(self, id: str) -> str:
        """What a room's lease is called."""
        return f"room:{self.namespace.name}:{id}"

    # What the namespace and the cluster tell

    def lost(self, socket: Socket, *, may_come_back: bool) -> None:
        """A socket was disconnected: its rooms hear of it."""
        self.doors.lost(socket, may_come_back=may_come_back)

    def came_back(self, socket: Socket) -> None:
        """A socket is there again, with its session: its rooms hear of it."""
        self.doors.came_back(socket)

    async def answer(self, body: bytes) -> bytes:
        """Answers another node."""
        return await self.finder.answer(body)

    def node_down(self, node: str) -> None:
        """A node is gone: its rooms with members here go on, and ours look for their members."""
        self.listing.node_down()
        for cell in self.cells.values():
            self.soon(self.doors.look_for_members, cell)
        self.finder.node_down(node)

    def fenced(self) -> None:
        """The others take this node for dead: all its rooms are elsewhere in a moment."""
        for cell in list(self.cells.values()):
            self.soon(self.fence, cell)


@attrs.define(eq=False)
class _Outcome:
    """What became of something that was done apart."""

    value: Any = None
    error: Exception | None = None
    is_done: bool = False
    done: trio.Event = attrs.field(factory=trio.Event)


async def answer_for_rooms(namespace: Namespace | None, asked: ToRooms) -> bytes:
    """What this node's rooms have to say to another node."""
    if namespace is None or namespace.live_rooms is None:
        return room_requests.encode(Elsewhere())
    return await namespace.live_rooms.answer(asked.body)
