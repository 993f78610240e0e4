"""One life of a room: from the start of its object, or a restart, to its end or crash.

    serve   hooks, handlers, timers: one after the other, in the task of this life
    run     the program's `run`, in a task of its own
    others  what the program starts in `self.nursery`

The first failure in any of them stops the others, the last started first, and climbs to the
supervisor, which logs it and has the room live again.

It is one long file because hooks, handlers and timers take turns in one task.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import trio

from trio_rt.codec.room_requests import (
    MAY_REPEAT,
    Arrive,
    Back,
    Denied,
    Done,
    Elsewhere,
    Event,
    Knock,
    Lost,
    Order,
    RoomRequest,
)
from trio_rt.dispatch import NO_ACK
from trio_rt.errors import Refuse
from trio_rt.log import new_error_id
from trio_rt.machine.lobby_effects import (
    NOT_HOST,
    Held,
    HostChanged,
    LobbyEffect,
    Phase,
    PhaseChanged,
    ReadyChanged,
    Reserved,
    Returned,
    SeatFreed,
    StoppedWatching,
    Why,
)
from trio_rt.machine.restarts import Restart
from trio_rt.rooms import endings, saved
from trio_rt.rooms.cell import Call, Cell
from trio_rt.rooms.endings import UNKNOWN
from trio_rt.rooms.inbox import Reply
from trio_rt.rooms.player import Player
from trio_rt.rooms.tasks import RoomNursery

_VIEW: Any = object()
"""The answer that is the whole view of the room, as it is then."""

FAILED = "the room failed; the server's log says how"


class Life:
    """One life of a room.

    Args:
        cell: the room.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._room = cell.kind.room()
        self._room.cell = cell
        self._tasks = RoomNursery()

    async def run(self, started: Callable[[], None]) -> None:
        """Lives, until it is cancelled or something fails.

        Args:
            started: called when `on_start` has returned.

        Raises:
            Exception: the first failure.
        """
        cell = self._cell
        if cell.program is not None:
            self._room.restore(msgspec.msgpack.decode(cell.program))
        cell.tasks = self._tasks
        self._tasks.run_until(cell.last_moment)
        failed = True
        try:
            try:
                await self._tasks.run(lambda: self._main(started))
                failed = False
            except trio.Cancelled:
                failed = False
                raise
        finally:
            cell.inputs.forget_all()
            if not failed and cell.closing is None and cell.may_act:
                cell.take_snapshot(self._room.snapshot())
            cell.tasks = None

    async def _main(self, started: Callable[[], None]) -> None:
        await self._bounded(self._room.on_start)
        started()
        self._tasks.start_soon(self._play, name=f"run of room {self._cell.id}")
        await trio.lowlevel.checkpoint()  # the first lines of `run` come before the first look
        await self._serve()
        self._cell.is_ending = True
        await self._bounded(self._room.on_close, self._cell.closing)
        self._cell.quiet.set()
        await trio.sleep_forever()  # until we are stopped

    async def _play(self) -> None:
        """The program's `run`, once for each game."""
        cell = self._cell
        await cell.wait_while(Phase.ENDED)  # a life that begins between two games
        if cell.lobby.phase is Phase.CLOSED:
            return
        while True:
            games, plays = cell.games, cell.lobby.phase is Phase.PLAYING
            result = await self._room.run()
            was_played = plays or cell.games > games
            if cell.lobby.phase is Phase.PLAYING:
                cell.end(result)
            if cell.kind.room.restart is Restart.PERMANENT:
                if cell.lobby.phase is Phase.ENDED:
                    self._room.rematch()
                self._tasks.end()
                return
            await cell.wait_while(Phase.ENDED)
            if not was_played or cell.is_closed:
                cell.close(endings.ENDED)
                return

    # In turn

    async def _serve(self) -> None:
        cell = self._cell
        while True:
            await trio.lowlevel.checkpoint()
            await cell.assure()
            if cell.effects:
                await self._carry_out(cell.effects.popleft())
            elif cell.closing is not None:
                return
            elif (now := trio.current_time()) >= cell.lobby.deadline:
                cell.decide(cell.lobby.tick(now))  # and what follows, before anybody is answered
            elif (message := cell.inbox.take()) is not None:
                cell.active_at = now
                await self._answer(*message, now)
            else:
                self._note()
                await self._wait()

    async def _wait(self) -> None:
        """Until there is something to do; time does some of it."""
        cell = self._cell
        deadline = min(cell.lobby.deadline, cell.snapshot_due, self._bedtime)
        cell.is_idle = True
        try:
            with trio.move_on_at(deadline):
                await cell.inbox.bell.wait()
        finally:
            cell.is_idle = False
        is_idle = not cell.effects and not len(cell.inbox) and cell.closing is None
        if is_idle and self._bedtime <= trio.current_time() < cell.lobby.deadline:
            cell.active_at = math.inf
            cell.rooms.put_to_sleep(cell)
            await trio.sleep_forever()  # what comes now waits for the next life

    @property
    def _bedtime(self) -> float:
        """When it may sleep: never with something of its own to do."""
        if not self._cell.kind.may_sleep or len(self._tasks) > 1:
            return math.inf
        return self._cell.active_at + self._cell.kind.room.hibernate_after

    def _note(self) -> None:
        """Between two handlers: what the room is now may be kept, and listed."""
        cell = self._cell
        if trio.current_time() >= cell.snapshot_due:
            cell.take_snapshot(self._room.snapshot())
            cell.has_begun = True
            cell.info = saved.copy_info(cell.kind.name, self._room.info())
            cell.rooms.listing.changed(cell)

    async def _answer(self, request: RoomRequest, reply: Reply, now: float) -> None:
        """Handles a request. This is where a failure becomes an answer; it climbs all the same."""
        try:
            value = await self._handle(request, now)
            while self._cell.effects:  # what it has led to comes first
                await self._carry_out(self._cell.effects.popleft())
            reply.set(_done(self._cell.view() if value is _VIEW else value))
            if value is _VIEW:  # it leaves in the next step: only then what makes it out of date
                await trio.lowlevel.checkpoint()
        except Refuse as refusal:
            reply.set(Denied(refusal.code, refusal.message, refusal.details))
        except Exception as error:
            error_id = new_error_id()
            error.add_note(f"its client was told error {error_id}")
            reply.set(Denied("internal", f"{FAILED} under {error_id}", {"id": error_id}))
            raise
        finally:
            reply.set(self._unfinished(request))

    def _unfinished(self, request: RoomRequest) -> Denied | Elsewhere:
        """What is said of a request that was begun and is not done."""
        if self._cell.may_act:
            return Denied("internal", FAILED)
        if isinstance(request, MAY_REPEAT):
            return Elsewhere()
        return Denied(UNKNOWN.code, UNKNOWN.message)

    async def _bounded(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Runs something of the program's, for as long as that may take."""
        await self._cell.assure()
        with trio.fail_after(self._cell.kind.room.handler_timeout):
            return await function(*arguments)

    # Requests

    async def _handle(self, request: RoomRequest, now: float) -> Any:
        """Handles a request at a time until which everything has happened that was due."""
        match request:
            case Knock():
                return self._knock(request, now)
            case Arrive():
                return await self._arrive(request)
            case Lost():
                return self._lost(request, now)
            case Back():
                return await self._back(request, now)
            case Event():
                return await self._event(request)
            case Order():
                return self._order(request, now)

    def _knock(self, asked: Knock, now: float) -> None:
        """Somebody wants a place, or has one and comes with another socket."""
        cell = self._cell
        player = cell.members.get(asked.player)
        if player is None or player.watches or player.id in cell.lobby.held:
            was_held = player is not None and player.id in cell.lobby.held
            is_watching = player is not None and player.watches
            if not (is_watching and asked.watches):
                come = cell.lobby.watch if asked.watches and not was_held else cell.lobby.join
                cell.decide(come(asked.player, now, code=asked.code))
                player = player or cell.members.setdefault(
                    asked.player, Player(asked.player, asked.name)
                )
                player.watches = asked.watches and not was_held
                player.arriving = player.arriving or ("on_return" if was_held else "on_join")
        elif asked.watches:
            cell.decide(cell.lobby.watch(asked.player, now))
        assert player is not None
        player.sockets[asked.sid] = (asked.node, asked.seq)
        cell.note_change()

    async def _arrive(self, asked: Arrive) -> Any:
        """The socket of somebody who has a place hears us now."""
        cell = self._cell
        player = self._cell.member(asked.player)
        hook, player.arriving = player.arriving, None
        if hook == "on_join":
            event = "room:watching" if player.watches else "room:joined"
            shown = {"player": {"id": player.id, "name": player.name}}
            await cell.announce(event, shown, without=player.sockets)
            had_joined, player.has_joined = player.has_joined, True
            try:
                await self._bounded(self._room.on_join, player)
            except Refuse:
                player.has_joined = had_joined  # as a spectator, or not at all
                cell.decide(cell.lobby.leave(player.id, trio.current_time()))
                raise
        elif hook == "on_return":
            await self._tell_return(player)
        return _VIEW

    def _lost(self, told: Lost, now: float) -> None:
        """A socket is gone, if that is not old news."""
        cell = self._cell
        player = cell.members.get(told.player)
        if player is None or told.sid not in player.sockets:
            return
        node, seq = player.sockets[told.sid]
        if node and (node != told.node or seq > told.seq):
            return
        del player.sockets[told.sid]
        cell.note_change()
        if not player.connected:
            is_held = told.may_come_back and player.has_joined
            go = cell.lobby.dropped if is_held else cell.lobby.leave
            cell.decide(go(player.id, now))

    async def _back(self, told: Back, now: float) -> Any:
        """A socket is there again."""
        player = self._cell.member(told.player)
        if not player.watches:
            self._cell.decide(self._cell.lobby.returned(player.id, now))
        player.sockets[told.sid] = (told.node, told.seq)
        self._cell.note_change()
        if player.arriving == "on_join":  # its last connection ended on the way in
            return await self._arrive(Arrive(told.player, told.sid))
        return _VIEW

    async def _event(self, asked: Event) -> Any:
        cell, kind, name = self._cell, self._cell.kind, asked.event
        if name in kind.inputs:
            cell.take_input(asked)
            return None
        player = cell.sender(asked)
        handler = kind.handlers.get(name)
        if handler is None:
            raise Refuse("unknown_event", f"rooms of kind {kind.name} have no event {name[:100]!r}")
        values = handler.validate(asked.arguments)
        try:
            return await self._bounded(handler.function, self._room, player, *values)
        except Refuse:
            raise
        except Exception as error:
            cell.blame(player, error)
            raise

    def _order(self, order: Order, now: float) -> Any:
        cell, lobby = self._cell, self._cell.lobby
        me = self._cell.member(order.player).id
        match order.what:
            case "state":
                return _VIEW
            case "ready":
                return cell.decide(lobby.ready(me, now))
            case "unready":
                return cell.decide(lobby.unready(me, now))
            case "start":
                return cell.decide(lobby.start(me, now))
            case "end":
                return cell.end(None, by=me)
            case "rematch":
                return cell.decide(lobby.rematch(me, now))
            case "kick":
                return cell.decide(lobby.kick(me, order.whom, now))
            case "leave":
                return cell.decide(lobby.leave(me, now))
            case "invite":
                code = secrets.token_urlsafe(9)
                cell.decide(lobby.invite(me, code, now))
                return {"code": code, "seconds": cell.rules.invite}
            case "reserve":
                if me != lobby.host:
                    raise Refuse(NOT_HOST.code, NOT_HOST.message)
                cell.decide(lobby.reserve(order.whom, now))
                return {"seconds": cell.rules.reservation}
            case _:
                raise Refuse("unknown_event", f"rooms cannot {order.what[:100]!r}")

    # Effects

    async def _carry_out(self, effect: LobbyEffect | Call) -> None:
        """Tells the members what was decided, and runs the program's hook for it."""
        cell = self._cell
        cell.note_change()
        match effect:
            case Call(function, arguments):
                await self._bounded(function, *arguments)
            case Held(id, until):
                seconds = until - trio.current_time()
                await cell.announce("room:dropped", {"player": id, "seconds": seconds})
                if id in cell.members:
                    await self._bounded(self._room.on_drop, cell.members[id])
            case Returned(id):
                player = cell.members.get(id)
                if player is not None and player.arriving is None:
                    await self._tell_return(player)
            case Reserved(id, until):
                seconds = until - trio.current_time()
                await cell.announce("room:reserved", {"player": id, "seconds": seconds})
            case SeatFreed(id, Why.EXPIRED) if id in cell.members:  # it watches, and watches on
                await cell.announce("room:unreserved", {"player": id})
            case SeatFreed(id, why):
                await self._see_off(id, why)
            case StoppedWatching(id, why):
                if why is not Why.SEATED and id in cell.members:
                    await self._see_off(id, why)
            case ReadyChanged(id, is_ready):
                await cell.announce("room:ready", {"player": id, "ready": is_ready})
            case HostChanged(host):
                await cell.announce("room:host", {"host": host})
            case PhaseChanged():
                await self._tell_phase(effect)
            case _:
                pass  # told when they arrive, or in the answer

    async def _tell_return(self, player: Player) -> None:
        told = {"player": player.id}
        await self._cell.announce("room:returned", told, without=player.sockets)
        await self._bounded(self._room.on_return, player)

    async def _see_off(self, id: str, why: Why) -> None:
        """Somebody is gone, or did not come."""
        cell, reason = self._cell, endings.OF_WHY[why]
        player = cell.members.pop(id, None)
        if player is not None:
            cell.inputs.forget(player)
        cell.inputs.wake()
        sids = () if player is None else tuple(player.sockets)
        told = {"player": id, "reason": reason.code}
        if player is None or player.has_joined:
            await cell.announce("room:left", told, *sids)
        elif player.arriving is None:  # the others were told that it comes
            await cell.announce("room:left", told, without=sids)
        cell.rooms.doors.show_out(cell, sids)
        if player is not None:
            player.sockets.clear()
            if player.has_joined:
                await self._bounded(self._room.on_leave, player, reason)

    async def _tell_phase(self, change: PhaseChanged) -> None:
        cell = self._cell
        cell.phase = change.phase
        seconds = None if change.until is None else change.until - trio.current_time()
        if change.phase is Phase.CLOSED:
            cell.close(endings.ENDED if cell.games else endings.EMPTY)
            cell.phase_is_told()
            return
        try:
            if change.phase is Phase.ENDED:
                await cell.announce("room:ended", {"result": cell.result, "seconds": seconds})
            else:
                await cell.announce("room:phase", {"phase": change.phase.value, "seconds": seconds})
            await self._bounded(self._room.on_phase, change.phase)
        finally:
            cell.phase_is_told()


def _done(value: Any) -> Done:
    """A result, with what msgpack does not tell of it."""
    if value is NO_ACK:
        return Done(None, is_silent=True)
    return Done(value, is_many=isinstance(value, tuple))
