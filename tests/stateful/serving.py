"""One life of a server: handlers that do what they are told, and write it down."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio

from tests.stateful.journal import NEVER, Journal, Limits, Run, Said, Stay, Visit
from trio_rt import CallTimeout, Config, Disconnected, Socket
from trio_rt.app import App
from trio_rt.auth import Authenticator, Handshake, User
from trio_rt.reasons import Reason
from trio_rt.testing import Host, hosting

if TYPE_CHECKING:
    from tests.stateful.playing import Player

CONFIG = Config(
    ping_interval=4.0,
    ping_timeout=3.0,
    recovery_window=20.0,
    history_timeout=30.0,
    history_events=8,
    disconnect_timeout=0.7,
    auth_timeout=20.0,
    connect_timeout=10.0,
    once_window=120.0,
)
LIMITS = Limits(CONFIG.recovery_window, CONFIG.history_events, CONFIG.history_timeout)

SHAPES: dict[str, list[Any]] = {
    "bare": [],
    "text": ["text"],
    "like an offset": [{"a": 1}, "1763846400000-42"],
    "binary": [b"\x00\x01", "text"],
    "long": ["x" * 700],
}
"""Arguments behind an event's number."""

TAIL = "1763846400000-7"
"""The last argument of some of the clients' events."""

Step = tuple[Any, ...] | list[Any]
"""("join", room), ("leave", room), ("say", rooms, excepted, how, shape), ("nap", seconds),
("ask",), ("fill", text) that does nothing. The room "me" is the socket itself; no rooms are
everybody."""


class Doorman(Authenticator):
    """Believes everyone, but may take its time."""

    async def authenticate(self, handshake: Handshake) -> User:
        await trio.sleep(handshake.auth["looks"])
        return User(handshake.auth["user"])


class Life:
    """A server from its start to its end. Another one knows nothing of it.

    Args:
        number: which one.
        journal: where all is written down.
        players: whose clients come.
    """

    def __init__(self, number: int, journal: Journal, players: "list[Player]") -> None:
        self.number = number
        self.journal = journal
        self.players = players
        self.app = App(auth=Doorman(), config=CONFIG)
        self.host: Host | None = None
        self._stop = trio.Event()
        self._stopped = trio.Event()
        self._register()

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        """Serves until `stop` or `kill`."""
        async with hosting(self.app) as self.host:
            task_status.started()
            await self._stop.wait()
        self._stopped.set()

    async def drain(self) -> None:
        """Ends all connections, politely, and goes on: they may come back."""
        assert self.host is not None
        self.host.stop()

    async def stop(self) -> None:
        """Ends politely."""
        await self.drain()
        await trio.sleep(1.5)
        self._stop.set()
        await self._stopped.wait()

    async def kill(self, *, tell_clients: bool) -> None:
        """Nobody hears another word of it."""
        assert self.host is not None
        for player in self.players:
            for link in player.links:
                link.drop(tell_client=tell_clients)
        self.host.cut()
        await self._stopped.wait()

    # What it does

    def _register(self) -> None:
        app, journal = self.app, self.journal

        @app.use
        async def look(socket: Socket) -> None:
            await trio.sleep(socket.handshake.auth["looks"])

        @app.on_connect
        async def hello(socket: Socket) -> None:
            visit = journal.visits[socket.id] = Visit(socket.id, self.number, journal.moment())
            self._ask_why_new(socket)
            socket.data["visit"] = socket.id
            await self.perform(socket, socket.handshake.auth["hello"])
            visit.was_told(journal.moment())

        @app.on_recover
        async def welcome_back(socket: Socket) -> None:
            visit = journal.visits[socket.id]
            surely, possibly = visit.rooms
            journal.expect(surely <= socket.rooms <= possibly, f"{socket.rooms} of {visit}")
            journal.expect(socket.data == {"visit": socket.id}, f"{socket.data} of {visit}")
            visit.lost_at = None

        @app.on_drop
        async def lost(socket: Socket, reason: Reason) -> None:
            journal.visits[socket.id].lost_at = trio.current_time()

        @app.on_leave
        async def left(socket: Socket, reason: Reason) -> None:
            visit = journal.visits[socket.id]
            journal.expect(not visit.has_left, f"has left twice: {visit}")
            visit.has_left = True
            is_late = visit.is_late(trio.current_time(), LIMITS)
            visit.had_to_leave = is_late or not reason.come_back

        @app.on("do")
        async def do(socket: Socket, number: int, steps: list[Any]) -> list[int]:
            return await self._obey(socket, number, steps)

        @app.on("do with a text")
        async def do_with_a_text(
            socket: Socket, number: int, steps: list[Any], tail: str
        ) -> list[int]:
            journal.expect(tail == TAIL, f"{tail!r} came with {number}")
            return await self._obey(socket, number, steps)

    async def _obey(self, socket: Socket, number: int, steps: list[Step]) -> list[int]:
        player = self.players[socket.handshake.auth["player"]]
        run = Run(next(self.journal.runs), self.number)
        player.check_turn(number, run)
        player.orders[number].runs.append(run)
        await self.perform(socket, steps)
        run.is_done = True
        player.check_done(number)
        return [run.life, run.number]

    def _ask_why_new(self, socket: Socket) -> None:
        """A client that showed a session has got another one: was that right?"""
        shown = socket.handshake.auth
        tap = self.players[shown["player"]].taps[shown["dial"]]
        if tap.shown is not None:
            now = trio.current_time()
            excuse = self.journal.excuse(tap.shown, self.number, tap.shown_offset, now, LIMITS)
            what = f"{tap.shown} not recovered at {now} from {tap.shown_offset}"
            self.journal.expect(excuse is not None, what)

    async def perform(self, socket: Socket, steps: list[Step]) -> None:
        """What a handler is told to do, one after the other."""
        for what, *more in steps:
            if what == "join":
                await self._join(socket, *more)
            elif what == "leave":
                await self._leave(socket, *more)
            elif what == "say" and more[:3] == [["me"], [], "stored"]:
                await self._say_alone(socket, more[3])
            elif what == "say":
                await self.say(socket.id, *more)
            elif what == "nap":
                await trio.sleep(more[0])
            elif what == "ask":
                await self._ask(socket)

    async def move(self, player: int, steps: list[Step]) -> None:
        """The same without being told to by the client, which may be gone without our knowing."""
        for socket in list(self.app.namespace("/").sockets.values()):
            if socket.handshake.auth["player"] == player:
                with suppress(Disconnected):
                    await self.perform(socket, steps)

    async def _join(self, socket: Socket, room: str) -> None:
        stay = Stay(room, self.journal.moment())
        visit = self.journal.visits[socket.id]
        visit.stays.append(stay)
        await socket.join(room)
        stay.joined = self.journal.moment()
        visit.was_told(stay.joined)

    async def _leave(self, socket: Socket, room: str) -> None:
        stays = self.journal.visits[socket.id].stays
        stays = [stay for stay in stays if stay.room == room and stay.left == NEVER]
        for stay in stays:
            stay.leaves = min(stay.leaves, self.journal.moment())
        await socket.leave(room)
        for stay in stays:
            stay.left = self.journal.moment()

    async def say(
        self, me: str, rooms: list[str], excepted: list[str], how: str, shape: str
    ) -> None:
        """Emits an event to rooms, or to everybody; "often" are more than are kept."""
        names = tuple(me if room == "me" else room for room in rooms)
        without = tuple(me if room == "me" else room for room in excepted)
        target = self.app.to(*names) if names else self.app.all
        target = target.except_(*without) if without else target
        for _ in range(LIMITS.events + 2 if how == "often" else 1):
            said = self._note(names, without, shape, is_stored=how != "volatile")
            if said.is_stored:
                await target.emit("n", said.number, *said.arguments)
            else:
                target.emit_nowait("n", said.number, *said.arguments)
            said.ended = self.journal.moment()

    async def _say_alone(self, socket: Socket, shape: str) -> None:
        said = self._note((socket.id,), (), shape, is_stored=True)
        await socket.emit("n", said.number, *said.arguments)
        said.ended = self.journal.moment()
        self.journal.visits[socket.id].was_told(said.began)

    async def _ask(self, socket: Socket) -> None:
        """Calls the client."""
        said = self._note((socket.id,), (), "text", is_stored=False)
        try:
            answer = await socket.call("n", said.number, *said.arguments, timeout=1.0)
            self.journal.expect(answer == said.number, f"{answer} answered {said}")
        except CallTimeout:
            pass
        said.ended = self.journal.moment()

    def _note(
        self, rooms: tuple[str, ...], excepted: tuple[str, ...], shape: str, *, is_stored: bool
    ) -> Said:
        return self.journal.note(
            life=self.number,
            rooms=rooms,
            excepted=excepted,
            arguments=SHAPES[shape],
            is_stored=is_stored,
            at=trio.current_time(),
        )
