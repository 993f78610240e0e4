"""What a program writes: a class of rooms. What it overrides stands first, what it calls then.

Everything that a room does goes through its inbox: hooks and handlers run one after the other, in
the order in which things happened. `run` has a task of its own, which they overlap only while it
waits. What fails in any of them makes the room crash, and its supervisor decides.

It is one long file because more than half of it are the docstrings of a public class.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import trio

from trio_rt.errors import MisuseError
from trio_rt.machine.lobby_effects import Phase
from trio_rt.machine.matchmaking import MatchRules
from trio_rt.machine.restarts import Restart
from trio_rt.reasons import Reason
from trio_rt.rooms import endings
from trio_rt.rooms.inputs import Input
from trio_rt.rooms.player import Player
from trio_rt.rooms.tasks import RoomNursery
from trio_rt.rooms.ticks import Pace, Ticks
from trio_rt.target import Target

if TYPE_CHECKING:
    from trio_rt.rooms.cell import Cell

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

MARK = "__trio_rt_room_event__"
"""Where `on` notes what a method handles."""


def on(event: str, *, spectators: bool = False) -> Callable[[F], F]:
    """Marks a method of a `Room` as the handler of an event of its members.

        @on("move")
        async def move(self, player: Player, to: Square) -> str: ...

    Payloads are validated by their annotations, the return value is the acknowledgement, and a
    raised `Refuse` is told to the client, as with `@server.on`. Any other exception makes the room
    crash.

    Args:
        event: its name.
        spectators: whether those who watch may send it, too.

    Raises:
        MisuseError: if it is given no name.
    """
    if not isinstance(event, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MisuseError('on() takes the name of an event. Write: @on("move")')

    def mark(function: F) -> F:
        setattr(function, MARK, (event, spectators))
        return function

    return mark


def _check_players(call: str, *players: Any) -> None:
    for player in players:
        if not isinstance(player, Player):
            raise MisuseError(
                f"{call}() takes a Player, one of self.players, and not {player!r}: "
                f"hand over the whole player, and not the id"
            )


def _check_seconds(call: str, seconds: Any) -> None:
    if not isinstance(seconds, int | float):
        raise MisuseError(f"{call} takes seconds as a number, and not {seconds!r}")


class Room:
    """A room with a life of its own, of which there is one in the whole cluster.

    Make a subclass, and hand it to `server.namespace("/games", rooms=[Lobby])`.
    """

    # What the class says

    kind: ClassVar[str] = ""
    """What clients call this kind of rooms; the name of the class if left out."""
    seats: ClassVar[int] = 100
    """Players at most."""
    max_spectators: ClassVar[int] = 100
    """People who watch at most."""
    restart: ClassVar[Restart] = Restart.TRANSIENT
    """When the room runs again after it has ended."""
    intensity: ClassVar[int] = 3
    """Restarts that it may have within a `period`; one more, and the room is closed."""
    period: ClassVar[float] = 10.0
    """Seconds that a restart counts."""
    crashes_per_player: ClassVar[int] = 3
    """Crashes of `@on` handlers within a `period` that put the player out whose events they
    handled. Up to that they cost nothing of `intensity`; 0: all do, and nobody is put out."""
    restart_delay: ClassVar[float] = 0.0
    """Seconds to wait before each restart."""
    hold_seconds: ClassVar[float] = 30.0
    """Seconds that the seat of a player is held whose connection was lost; see `hold`."""
    host_grace: ClassVar[float] = 10.0
    """Seconds after which a lost host hands over to another player."""
    reservation_seconds: ClassVar[float] = 30.0
    """Seconds that a reserved seat waits for its player."""
    invite_seconds: ClassVar[float] = 600.0
    """Seconds that an invite code is good for."""
    countdown: ClassVar[float] = 3.0
    """Seconds from all being ready to the start."""
    rematch_seconds: ClassVar[float] = 120.0
    """Seconds in which the host may ask for another game after one has ended; 0 for none."""
    linger: ClassVar[float] = 60.0
    """Seconds that a room with nobody in it stays open."""
    invite_only: ClassVar[bool] = False
    """Whether an invite code or a reservation is needed to come in; such rooms are not listed."""
    late_join: ClassVar[bool] = False
    """Whether free seats can be taken while a game runs."""
    inputs: ClassVar[Mapping[str, Any]] = {}
    """Events that are gathered for the next tick instead of handled: names and payload types.
    What is sent before the first tick, or while a countdown runs or a game is over, does not
    count."""
    options_type: ClassVar[Any] = dict[str, Any]
    """What the options that a room is created with are validated against."""
    match: ClassVar[MatchRules | None] = None
    """How `room:match` brings players together in rooms of this kind; None if it does not."""
    max_waiting: ClassVar[int] = 256
    """Requests that may wait for the room; more are refused with the code `busy`."""
    handler_timeout: ClassVar[float] = 10.0
    """Seconds that a hook or handler may take; then it counts as crashed."""
    snapshot_interval: ClassVar[float] = 10.0
    """Seconds from one snapshot to the next, besides those at each coming and going."""
    hibernate_after: ClassVar[float] = 300.0
    """Seconds without an event after which a room without a `run`, tasks and timers of its own
    is put to sleep: snapshot, no object, no task, until something happens."""

    is_hidden: ClassVar[bool] = False
    """For the framework: whether nobody is told who is in it."""

    cell: Cell
    """For the framework: what stays of the room when its object crashes."""

    state: Any
    """What `sync` shows to all members: a JSON object, `{}` at first."""

    def __init__(self) -> None:
        self.state = {}

    # What a program overrides

    async def run(self) -> Any:
        """The room lives while this runs: returning ends it, or its game if one is played.

        What it returns is the game's result. Here: until the room is closed, or was empty for
        `linger` seconds.
        """
        await trio.sleep_forever()

    async def on_start(self) -> None:
        """The room begins, or begins again: its members are there, `restore` has been called."""

    async def on_join(self, player: Player) -> None:
        """Somebody has come in, with a seat or to watch. A raised `Refuse` sends them away."""

    async def on_drop(self, player: Player) -> None:
        """A player's connection was lost; the seat is held."""

    async def on_return(self, player: Player) -> None:
        """A player who was lost is back."""

    async def on_leave(self, player: Player, reason: Reason) -> None:
        """Somebody is gone: left, kicked, or lost for too long."""

    async def on_phase(self, phase: Phase) -> None:
        """The game is about to start, has started or ended, or another one is prepared."""

    async def on_close(self, reason: Reason) -> None:
        """The room is over, and its members are about to be told."""

    def snapshot(self) -> Any:
        """What a new object needs to go on: any JSON value. Here: `state`."""
        return self.state

    def restore(self, snapshot: Any) -> None:
        """Goes on from what `snapshot` gave, after a crash or on another node."""
        self.state = snapshot

    def info(self) -> Any:
        """What the list of rooms shows besides who is there: a small JSON value."""
        return None

    # Who is there

    @property
    def id(self) -> str:
        """The room's id; nobody can guess it."""
        return self.cell.id

    @property
    def token(self) -> int:
        """The fencing token of this node's right to act: greater than that of every node before.

        Hand it to stores of your own that can refuse what comes with an older one.
        """
        return self.cell.lease.token

    @property
    def options(self) -> Any:
        """What the room was created with, validated against `options_type`."""
        return self.cell.options

    @property
    def players(self) -> tuple[Player, ...]:
        """Who has a seat, those whose seat is held included, the longest first."""
        members = self.cell.members
        return tuple(members[id] for id in self.cell.lobby.players if id in members)

    @property
    def spectators(self) -> tuple[Player, ...]:
        """Who watches."""
        members = self.cell.members
        return tuple(members[id] for id in self.cell.lobby.spectators if id in members)

    @property
    def members(self) -> tuple[Player, ...]:
        """Players and spectators."""
        return (*self.players, *self.spectators)

    @property
    def host(self) -> Player | None:
        """The player who may start, end and kick."""
        host = self.cell.lobby.host
        return None if host is None else self.cell.members.get(host)

    @property
    def phase(self) -> Phase:
        """How far the game is, as hooks and members have been told."""
        return self.cell.phase

    # Telling

    @property
    def everybody(self) -> Target:
        """All members."""
        return self.cell.everybody

    async def emit(self, event: str, *arguments: Any) -> None:
        """Sends an event to all members; see `Target.emit`."""
        await self.cell.everybody.emit(event, *arguments)

    def emit_nowait(self, event: str, *arguments: Any) -> None:
        """Sends a volatile event to all members; see `Target.emit_nowait`."""
        self.cell.everybody.emit_nowait(event, *arguments)

    def to(self, *players: Player) -> Target:
        """These players: all sockets of each. Those who are away do not get it."""
        _check_players("to", *players)
        sids = [sid for player in players for sid in player.sockets]
        return self.cell.target(*(sids or [f"{self.cell.channel} nobody"]))

    async def sync(self) -> None:
        """Shows all members what has changed in `state` since the last time: a JSON merge patch.

        Sent as `room:patch` with a version. A member who reads too slowly gets the latest patch
        only, sees that it has missed one, and asks for the whole by `room:state`. Those who join
        or return get the whole. It never waits for anybody; a checkpoint.
        """
        self.cell.sync(self.state)
        await trio.lowlevel.checkpoint()

    # The game

    async def ready_check(self, *, at_least: int = 1, within: float = math.inf) -> None:
        """Waits until so many players are there and all are ready, and the countdown is over.

        Or until the host starts. Returns at once while a game is being played, so that a room
        goes on after a crash. If nothing has started in time, the room is closed; a countdown that
        has begun may end.
        """
        _check_seconds("ready_check(within=...)", within)
        if not isinstance(at_least, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MisuseError(f"ready_check(at_least=2) takes a number, and not {at_least!r}")
        self.cell.ready_check(at_least, within)
        with trio.move_on_after(within) as scope:
            await self.cell.wait_for(Phase.PLAYING)
        if scope.cancelled_caught and not await self.cell.is_starting():
            self.close(endings.NOT_READY)
            await trio.sleep_forever()

    def ticks(self, hz: float) -> Ticks:
        """`async for tick in self.ticks(hz=20)`: the room's clock, with what players sent since.

        It keeps its pace without drift, leaves out what it is too late for, and notes how late it
        was in `pace`. Begun while a game is played, it ends with the game. What players sent before
        it began does not count.
        """
        return Ticks(self.cell, hz)

    @property
    def pace(self) -> Pace:
        """How punctual the ticks are."""
        return self.cell.pace

    async def turn(
        self, player: Player, *, within: float, events: Iterable[str] | None = None
    ) -> Input | None:
        """Waits for one input of a player: whose turn it is, and for how long, is told to all.

        Args:
            player: whose turn it is.
            within: seconds.
            events: which of `inputs` count; all, if left out.

        Returns:
            The input; None if none came in time, or the player has left, or the game has ended.
        """
        _check_players("turn", player)
        _check_seconds("turn(within=...)", within)
        return await self.cell.turn(player, within, events)

    def start(self) -> None:
        """Starts the game, whoever is ready."""
        self.cell.decide(self.cell.lobby.start(None, trio.current_time()))

    def end(self, result: Any = None) -> None:
        """Ends the game; members are told the result by `room:ended`."""
        self.cell.end(result)

    def rematch(self) -> None:
        """Prepares another game after one has ended."""
        self.cell.decide(self.cell.lobby.rematch(None, trio.current_time()))

    def ready(self, player: Player, is_ready: bool = True) -> None:
        """Marks a player as ready, or not."""
        _check_players("ready", player)
        lobby, now = self.cell.lobby, trio.current_time()
        mark = lobby.ready if is_ready else lobby.unready
        self.cell.decide(mark(player.id, now))

    async def hold(self, player: Player, seconds: float) -> None:
        """Holds a player's seat for so long when the connection is, or was, lost. A checkpoint."""
        _check_players("hold", player)
        _check_seconds("hold", seconds)
        self.cell.hold(player, seconds)
        await trio.lowlevel.checkpoint()

    def kick(self, player: Player) -> None:
        """Puts somebody out, who cannot come back."""
        _check_players("kick", player)
        self.cell.decide(self.cell.lobby.kick(None, player.id, trio.current_time()))

    def reserve(self, user_id: str) -> None:
        """Keeps a seat for a user who is not there yet, for `reservation_seconds`."""
        if not isinstance(user_id, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MisuseError(f"reserve() takes the id of a user, and not {user_id!r}")
        self.cell.decide(self.cell.lobby.reserve(user_id, trio.current_time()))

    def invite(self) -> str:
        """A new invite code, good for `invite_seconds` and any number of guests."""
        code = secrets.token_urlsafe(9)
        self.cell.decide(self.cell.lobby.invite(None, code, trio.current_time()))
        return code

    # Its life

    @property
    def nursery(self) -> RoomNursery:
        """For tasks that end with the room, the last started first, and crash it if they crash."""
        return self.cell.nursery

    def after(
        self, seconds: float, function: Callable[..., Awaitable[object]], *arguments: Any
    ) -> trio.CancelScope:
        """Runs `function(*arguments)` in so many seconds, in turn with hooks and handlers.

        Timers do not outlive a crash: start those that are needed again in `on_start`.

        Returns:
            What cancels the timer.
        """
        _check_seconds("after", seconds)
        if not callable(function):
            raise MisuseError(
                f"after() takes a function, and not {function!r}. Write: "
                f"self.after(5, self.remind, player), without calling it"
            )
        return self.cell.after(seconds, function, arguments)

    def save(self) -> None:
        """Takes a snapshot after the present hook or handler, and has it saved."""
        self.cell.note_change()

    def close(self, reason: Reason | str = endings.CLOSED) -> None:
        """Ends the room for good: its members are told the reason by `room:closed`.

        The present handler finishes, `run` is cancelled.

        Args:
            reason: a text is told as the reason `closed` with this sentence.
        """
        if isinstance(reason, str):
            reason = endings.CLOSED.because(reason)
        if not isinstance(reason, Reason):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MisuseError(f'close() takes a sentence, as in close("bedtime"), not {reason!r}')
        self.cell.close(reason)
