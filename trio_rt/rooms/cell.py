"""One room on the node that owns it: all that stays when the room's object crashes.

Who is in it, how far its game is, what waits for it, what its members have seen. Decisions are the
lobby's (`machine/lobby.py`); their effects wait here until the room's own task carries them out.

It is one long file because all of it survives together: each part is told of the others' effects.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs
import msgspec
import trio

from trio_rt.backplane.base import Envelope, Lease
from trio_rt.codec.room_requests import Event
from trio_rt.errors import BackplaneError, LocalError, Refuse
from trio_rt.log import log
from trio_rt.machine import delta
from trio_rt.machine.lobby import Lobby
from trio_rt.machine.lobby_effects import (
    NOT_HERE,
    Held,
    LobbyEffect,
    Phase,
    PhaseChanged,
    Refused,
    Rules,
    Why,
)
from trio_rt.packets import encode_plain_event
from trio_rt.policies import Latest
from trio_rt.reasons import Reason
from trio_rt.rooms import saved
from trio_rt.rooms.inbox import RoomInbox
from trio_rt.rooms.inputs import Input, Inputs
from trio_rt.rooms.keeping import MARGIN
from trio_rt.rooms.player import Player
from trio_rt.rooms.saved import SavedMember, SavedRoom
from trio_rt.rooms.tasks import RoomNursery
from trio_rt.rooms.ticks import Pace
from trio_rt.schedule.bell import Bell
from trio_rt.target import Target

if TYPE_CHECKING:
    from trio_rt.rooms.kind import Kind
    from trio_rt.rooms.rooms import Rooms
    from trio_rt.socket import Socket

CHANNEL = "^"
"""Before a room's id: the name of what its members' sockets are in."""

_BETWEEN_GAMES = frozenset({Phase.COUNTDOWN, Phase.ENDED})

SNAPSHOT_PAUSE = 0.25
"""Seconds between two snapshots that changes ask for."""


@attrs.frozen
class Call:
    """Something of the program's, to be run in turn with hooks and handlers."""

    function: Callable[..., Awaitable[object]]
    arguments: tuple[Any, ...] = ()


class Cell:
    """One room that this node owns.

    Args:
        id: nobody can guess it.
        kind: what class it is of.
        rooms: all rooms of its namespace.
        lease: this node's right to act for it.
        rules: of its lobby.
        options: what it was created with, validated.
        creator: the id of the user who created it; empty for the program.
    """

    def __init__(
        self,
        id: str,
        kind: Kind,
        rooms: Rooms,
        lease: Lease,
        rules: Rules,
        *,
        options: Any,
        creator: str = "",
    ) -> None:
        self.id = id
        self.kind = kind
        self.rooms = rooms
        self.lease = lease
        self.rules = rules
        self.lobby = Lobby(rules, trio.current_time())
        """Who is in it, and how far its game is."""
        self.phase = self.lobby.phase
        """How far its game is as hooks are told, which the lobby may be ahead of."""
        self._told_phase = self.phase  # when that is done
        self.options = options
        self.creator = creator
        self.channel = CHANNEL + id
        """The name of what its members' sockets are in."""
        self._everybody = rooms.namespace.to(self.channel)
        self._when_slow = Latest(self.channel)
        self.members: dict[str, Player] = {}
        """Players and spectators by id."""
        self.inbox = RoomInbox(kind.room.max_waiting)
        self.effects: deque[LobbyEffect | Call] = deque()
        """What was decided, and has to be carried out."""
        self.program: bytes | None = None
        """The program's part of the last snapshot."""
        self.unsaved: bytes | None = None
        """What the backplane does not have yet."""
        self.keeper_bell = Bell()
        """Rings when something is to be saved, or it is over."""
        self.is_idle = False
        """Whether its task waits for something to do."""
        self.inputs = Inputs()
        """What players have sent for the next tick, or their turn."""
        self.version = 0
        self.shown: Any = {}
        """The state that members have seen, at this version; they have no members that are null."""
        self.result: Any = None
        """Of the last game."""
        self.has_begun = False
        """Whether an object of it has done its first things on this node."""
        self.info: Any = None
        """What the list of rooms shows."""
        self.pace = Pace()
        self.clocks: set[Bell] = set()
        """Ring when the phase has changed: of those who wait for a tick."""
        self.closing: Reason | None = None
        """Why it is over, or will be in a moment."""
        self.is_fenced = False
        """Whether another node may act for it."""
        self.is_asleep = False
        """Whether it hibernates, or is about to."""
        self.is_waking = False
        """Whether it will not sleep any more in a moment."""
        self.is_ending = False
        """Whether `on_close` has begun."""
        self.is_over = False
        """Whether nothing is left to be done for it."""
        self.is_changed = True
        """Whether the last snapshot is out of date."""
        self.snapshot_at = -math.inf
        """When the last one was taken."""
        self.active_at = trio.current_time()
        """When something has last happened."""
        self.at_least: int | None = None
        """Players, all ready, that start a game."""
        self.games = 0
        """Games that have begun."""
        self.quiet = trio.Event()
        """Set when its last handler is done."""
        self.tasks: RoomNursery | None = None
        """Of the present life; None between two."""
        self.check_until = math.inf
        """When a game has to have begun, or the room is closed."""
        self.excused: Exception | None = None
        """The last crash that is some player's matter, and not that of the room's budget."""
        self._faults: dict[str, deque[float]] = {}  # crashes within the period, by player
        self._turn: tuple[str, float] | None = None  # whose it is, and until when
        self._phase_changed = trio.Event()
        self._last_saved: bytes | None = None

    def __repr__(self) -> str:
        return f"<room {self.id} of {self.kind.name}, {len(self.members)} members>"

    # Whom it talks to

    @property
    def everybody(self) -> Target:
        """All members; as `target`."""
        self._check_lease()
        return self._everybody

    def target(self, *rooms: str) -> Target:
        """Some sockets, if this node may still act for the room.

        Raises:
            LocalError: if it may not.
        """
        self._check_lease()
        return self.rooms.namespace.to(*rooms)

    # Whether it is ours

    @property
    def last_moment(self) -> float:
        """When this node stops acting for the room, if its lease is not renewed before."""
        return self.lease.expires - MARGIN

    @property
    def may_act(self) -> bool:
        """Whether the room is this node's for sure. To be asked after each wait: the process may
        have stood still meanwhile, and its clock knows before anybody could tell it."""
        return not self.is_fenced and trio.current_time() < self.last_moment

    async def assure(self) -> None:
        """Goes on only where this node may act; else stands still until the life is cancelled."""
        if not self.may_act:
            await trio.sleep_forever()

    def renewed(self, lease: Lease) -> None:
        """There is more time; unless it was up already, and the room's tasks are cancelled."""
        if not self.may_act:
            return
        self.lease = lease
        if self.tasks is not None:
            self.tasks.run_until(self.last_moment)

    def _check_lease(self) -> None:
        if self.is_fenced or trio.current_time() >= self.lease.expires:
            raise LocalError(f"room {self.id} may be on another node by now: it is stopped here")

    async def announce(
        self, event: str, payload: dict[str, Any], *sids: str, without: Iterable[str] = ()
    ) -> None:
        """Tells all members, and these sockets. A backplane that is away does not crash a room."""
        if self.kind.room.is_hidden:
            return
        target = self.target(self.channel, *sids).except_(*without)
        try:
            await target.emit(event, {"room": self.id, **payload})
        except BackplaneError as error:
            log.warning("room %s could not say %s: %s", self.id, event, error)

    def sync(self, state: Any) -> None:
        """Shows a state to all members, as a patch to what they have seen."""
        new = msgspec.to_builtins(state)  # a copy, whatever it is made of
        patch = delta.diff(self.shown, new)
        if patch == {}:
            return
        self._check_lease()
        told = {"room": self.id, "version": self.version + 1, "patch": patch}
        namespace = self.rooms.namespace
        packet = encode_plain_event(namespace.name, "room:patch", told)
        saved.check_state(self.kind.name, patch)
        self.shown = new  # only now, so that what cannot be sent or saved is forgotten by a crash
        self.version += 1
        namespace.publish_nowait(
            Envelope(namespace.name, (self.channel,), (), packet, self._when_slow, is_volatile=True)
        )

    def view(self) -> dict[str, Any]:
        """All that a member may know."""
        if self.kind.room.is_hidden:
            return {}
        lobby, ready, now = self.lobby, self.lobby.ready_players, trio.current_time()
        members = self.members.values()
        turn = self._turn
        return {
            "room": self.id,
            "kind": self.kind.name,
            "options": self.options,
            "seats": self.rules.seats,
            "phase": lobby.phase.value,
            "seconds": _left(self._phase_until, now),
            "host": lobby.host,
            "at_least": self.at_least,
            "turn": turn and {"player": turn[0], "seconds": _left(turn[1], now)},
            "players": [
                {
                    "id": player.id,
                    "name": player.name,
                    "ready": player.id in ready,
                    "connected": player.connected,
                    "seconds": _left(lobby.held_until(player.id), now),
                }
                for player in members
                if not player.watches and player.id in lobby.players
            ],
            "spectators": [
                {"id": player.id, "name": player.name} for player in members if player.watches
            ],
            "reserved": list(lobby.reserved),
            "version": self.version,
            "state": delta.apply({}, self.shown),
        }

    def summary(self) -> dict[str, Any]:
        """What the list of rooms shows."""
        lobby = self.lobby
        return {
            "room": self.id,
            "kind": self.kind.name,
            "phase": lobby.phase.value,
            "players": len(lobby.players),
            "seats": self.rules.seats,
            "free": lobby.free_seats,
            "spectators": len(lobby.spectators),
            "info": self.info,
        }

    @property
    def _phase_until(self) -> float:
        """When the phase ends by itself."""
        is_open = self.lobby.phase is Phase.OPEN
        return min(self.lobby.until, self.check_until if is_open else math.inf)

    @property
    def is_listed(self) -> bool:
        """Whether everybody may know of it: not before it has begun, and `info` was asked."""
        is_secret = self.rules.invite_only or self.kind.room.is_hidden
        return self.has_begun and not (is_secret or self.closing)

    # Deciding

    def decide(self, effects: list[LobbyEffect]) -> None:
        """The lobby has decided something, which the room's task carries out.

        Raises:
            Refuse: if it has refused.
        """
        for effect in effects:
            if isinstance(effect, PhaseChanged):
                self.games += effect.phase is Phase.PLAYING
        refusals = [effect for effect in effects if isinstance(effect, Refused)]
        self.effects.extend(effect for effect in effects if not isinstance(effect, Refused))
        if self.effects:
            self.inbox.bell.ring()
        for refusal in refusals:
            raise Refuse(refusal.code, refusal.message)

    def phase_is_told(self) -> None:
        """Members and hooks know of the phase: whoever waits for it goes on."""
        self._told_phase = self.phase
        self._phase_changed.set()
        self._phase_changed = trio.Event()
        for bell in self.clocks:
            bell.ring()
        self.inputs.wake()

    def hold(self, player: Player, seconds: float) -> None:
        """A player's seat is held for so long; members are told if it is held already."""
        for effect in self.lobby.hold(player.id, seconds, trio.current_time()):
            if isinstance(effect, Held) and effect.player == player.id:
                told = {"player": player.id, "seconds": effect.until - trio.current_time()}
                self.call(self.announce, "room:dropped", told)
            else:
                self.decide([effect])

    def end(self, result: Any, by: str | None = None) -> None:
        """The game is over."""
        before, self.result = self.result, result
        try:
            self.decide(self.lobby.end(by, trio.current_time()))
        except Refuse:
            self.result = before
            raise

    def ready_check(self, at_least: int, within: float) -> None:
        """From now on so many players, all ready, start the game, if none is played."""
        if self.lobby.phase is Phase.PLAYING:
            return
        self.at_least = at_least
        self.check_until = trio.current_time() + within
        self.decide(self.lobby.ready_check(at_least, trio.current_time()))
        seconds = None if within == math.inf else within
        self.call(self.announce, "room:ready_check", {"at_least": at_least, "seconds": seconds})

    def close(self, reason: Reason) -> None:
        """Ends it for good."""
        if self.closing is None:
            self.closing = reason
            self.inbox.bell.ring()
            self.rooms.retire(self)

    # Waiting

    async def wait_for(self, phase: Phase) -> None:
        """Waits until the lobby is in a phase, and hooks know it."""
        while self._told_phase is not phase:
            await self._phase_changed.wait()
        await self.assure()

    async def is_starting(self) -> bool:
        """Waits until no countdown runs any more; tells whether it has led to a game."""
        await self.wait_while(Phase.COUNTDOWN)
        while self.lobby.phase is Phase.PLAYING and self._told_phase is not Phase.PLAYING:
            await self._phase_changed.wait()
        await self.assure()
        return self._told_phase is Phase.PLAYING

    @property
    def is_closed(self) -> bool:
        """Whether nobody plays here any more."""
        return self.lobby.phase is Phase.CLOSED

    async def wait_while(self, phase: Phase) -> None:
        """Waits until the lobby is in another phase."""
        while self.lobby.phase is phase:
            await self._phase_changed.wait()

    # What players send

    def sender(self, asked: Event) -> Player:
        """Who sent an event for the room; raises `Refuse` if it may not send this one."""
        player = self.member(asked.player)
        if player.watches and asked.event not in self.kind.for_spectators:
            raise Refuse("spectator", f"those who watch cannot send {asked.event!r}")
        return player

    def member(self, id: str) -> Player:
        """Somebody who is here; raises `Refuse` if nobody with this id is."""
        player = self.members.get(id)
        if player is None:
            raise Refuse(NOT_HERE.code, "you are not in this room")
        return player

    def takes_at_once(self, asked: Event) -> bool:
        """Whether this is an input that can be taken without the room's task: nothing that came
        before is waiting, or being done."""
        return (
            self.is_idle
            and asked.event in self.kind.inputs
            and not (self.effects or len(self.inbox) or self.closing)
            and self.may_act
        )

    def take_input(self, asked: Event) -> None:
        """Keeps an input for the next tick, or for its player's turn.

        What comes before a game, or after one, counts in none.

        Raises:
            Refuse: if it is wrong, or one too many.
        """
        player = self.sender(asked)
        [value] = self.kind.inputs[asked.event].validate(asked.arguments)
        self.active_at = trio.current_time()
        if self.lobby.phase not in _BETWEEN_GAMES:
            self.inputs.put(Input(player, asked.event, value))

    async def turn(
        self, player: Player, within: float, events: Iterable[str] | None
    ) -> Input | None:
        """Waits for one input of a player; see `Room.turn`."""
        wanted = None if events is None else frozenset(events)
        self.inputs.forget(player)
        await self.announce("room:turn", {"player": player.id, "seconds": within})
        await self.assure()
        phase = self.lobby.phase
        self._turn = turn = (player.id, trio.current_time() + within)
        try:
            with trio.move_on_after(within):
                while self._may_move(player) and self.lobby.phase is phase:
                    input = self.inputs.take_one(player, wanted)
                    if input is not None:
                        await self.assure()
                        return input
                    await self.inputs.wait()
            await trio.lowlevel.checkpoint()
            await self.assure()
            return None
        finally:
            if self._turn is turn:
                self._turn = None

    def _may_move(self, player: Player) -> bool:
        """Whether somebody still has the seat that it had; not one who left and came again."""
        return player.id in self.lobby.players and self.members.get(player.id) is player

    # Who makes it fail

    def blame(self, player: Player, error: Exception) -> None:
        """A handler of a player's event has failed: one who does that too often is put out."""
        limit, period = self.kind.room.crashes_per_player, self.kind.room.period
        is_here = player.id in self.lobby.players or player.id in self.lobby.spectators
        if not limit or not is_here:
            return
        self.excused = error
        now = trio.current_time()
        # Not forgotten with the player, who could go and come back; but no longer than it counts.
        self._faults = {id: of for id, of in self._faults.items() if now - of[-1] <= period}
        faults = self._faults.setdefault(player.id, deque(maxlen=limit))
        faults.append(now)
        if len(faults) == limit and now - faults[0] <= period:
            log.warning("room %s: what %s sends makes it fail", self.id, player.id)
            del self._faults[player.id]
            self.decide(self.lobby.kick(None, player.id, now, why=Why.FAULTY))

    def excuses(self, error: Exception) -> bool:
        """Whether a crash costs nothing of the room's budget."""
        return error is self.excused

    # The life of the present object

    @property
    def nursery(self) -> RoomNursery:
        """The tasks of the present life.

        Raises:
            LocalError: between two lives.
        """
        if self.tasks is None:
            raise LocalError(f"room {self.id} is not running")
        return self.tasks

    def call(self, function: Callable[..., Awaitable[object]], *arguments: Any) -> None:
        """Runs something in turn with hooks and handlers."""
        self.effects.append(Call(function, arguments))
        self.inbox.bell.ring()

    def after(
        self,
        seconds: float,
        function: Callable[..., Awaitable[object]],
        arguments: tuple[Any, ...],
    ) -> trio.CancelScope:
        """See `Room.after`."""

        async def ring() -> None:
            await trio.sleep(seconds)
            self.call(function, *arguments)

        return self.nursery.start_soon(ring, name=f"timer of room {self.id}")

    # What outlives it

    def note_change(self) -> None:
        """The next snapshot is due soon."""
        self.is_changed = True
        self.inbox.bell.ring()

    @property
    def snapshot_due(self) -> float:
        """When the next snapshot is to be taken."""
        pause = SNAPSHOT_PAUSE if self.is_changed else self.kind.room.snapshot_interval
        return self.snapshot_at + pause

    def take_snapshot(self, program: Any) -> None:
        """Keeps what a new object will be given, here and on other nodes.

        Raises:
            MisuseError: if that is no JSON value.
        """
        self.program = saved.encode_program(self.kind.name, program)
        self.is_changed = False
        self.snapshot_at = trio.current_time()
        self.put_to_save()

    def put_to_save(self) -> None:
        """The backplane has to have what is there now, if it is something new."""
        data = self.dump()
        if data != self._last_saved:
            self._last_saved = self.unsaved = data
            self.keeper_bell.ring()

    def dump(self) -> bytes:
        """All that another node needs to go on."""
        program = None if self.program is None else msgspec.msgpack.decode(self.program)
        now = trio.current_time()
        return saved.encode(
            SavedRoom(
                kind=self.kind.name,
                options=self.options,
                rules=attrs.asdict(self.rules),
                creator=self.creator,
                lobby=self.lobby.dump(now),
                members=[
                    SavedMember(
                        player.id,
                        player.name,
                        player.watches,
                        player.data,
                        list(player.sockets),
                        player.arriving,
                        player.has_joined,
                    )
                    for player in self.members.values()
                ],
                version=self.version,
                shown=self.shown,
                program=program,
            )
        )

    def load(self, room: SavedRoom) -> None:
        """Goes on from what another node has saved."""
        for member in room.members:
            sockets: dict[str, tuple[str, int]] = dict.fromkeys(member.sids, ("", 0))
            self.members[member.id] = Player(
                member.id,
                member.name,
                member.watches,
                member.data,
                sockets,
                member.arriving,
                member.has_joined,
            )
        self.lobby = Lobby.load(self.rules, room.lobby, trio.current_time())
        self.phase = self._told_phase = self.lobby.phase
        self.version = room.version + saved.VERSION_GAP
        self.shown = room.shown
        if room.program is not None:
            self.program = msgspec.msgpack.encode(room.program)


def _left(until: float, now: float) -> float | None:
    """Seconds until then; None for never."""
    return None if until == math.inf else max(0.0, until - now)


def rooms_of(socket: Socket) -> list[str]:
    """The ids of the rooms that a socket listens to."""
    return [name[1:] for name in socket.rooms if name.startswith(CHANNEL) and len(name) > 1]
