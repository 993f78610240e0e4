"""Whatever clients and their connections do, each gets what was meant for it: once, in order.

Some clients join and leave rooms, lose their connections anywhere, stop reading, and come back, on
the way back as well, while events are published. The model is a list of all events, each with
those who were meant when it was published.
"""

from collections.abc import Callable
from typing import Any

import attrs
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_rt import Authenticator, Handshake, Server, User
from trio_rt.codec.socketio import CONNECT, EVENT, encode_connect
from trio_rt.testing import Client, Host, hosting
from trio_rt.transport.memory import memory_wire_pair

ROOMS = ("a", "b", "c")
PLAYERS = 3
CAPACITY = 400
"""Bytes that a network holds: few, so that clients that do not read are slow at once."""


class ByName(Authenticator):
    """Believes everybody who shows a name."""

    async def authenticate(self, handshake: Handshake) -> User:
        """Whoever it says it is."""
        return User(handshake.auth["user"])


@attrs.define
class Player:
    """One client over all its connections."""

    host: Host
    name: str
    sid: str = ""
    pid: str = ""
    offset: str | None = None
    rooms: set[str] = attrs.field(factory=set)
    """Where it is, as the model has it."""
    expected: list[int] = attrs.field(factory=list)
    received: list[int] = attrs.field(factory=list)
    connection: Client | None = None

    async def come(self) -> None:
        """Begins to connect, on a new connection; the old one stays, and nobody is there."""
        self.note()
        if self.connection is not None:
            self.connection.pause()
        self.connection = client = await self.host.open(memory_wire_pair(CAPACITY))
        claim = {"pid": self.pid, "offset": self.offset} if self.pid else {}
        if self.offset is not None:
            client._offsets["/"] = self.offset
        await client.send_packet(encode_connect("/", {"user": self.name, **claim}))

    def note(self) -> None:
        """Keeps what its connection has got."""
        if self.connection is None:
            return
        for packet in self.connection.rest():
            if packet.type == CONNECT:
                self.sid = self.sid or packet.data["sid"]
                self.pid = self.pid or packet.data["pid"]
                assert packet.data == {"sid": self.sid, "pid": self.pid}, "not recovered"
            else:
                assert packet.type == EVENT, packet
                if packet.data[0] == "n":
                    self.received.append(packet.data[1])
        self.offset = self.connection._offsets.get("/", self.offset)

    def cut(self) -> None:
        """Its connection is gone, with what was on its way."""
        self.note()
        if self.connection is not None:
            self.connection.close()
            self.connection = None


@attrs.define
class Play:
    """The server, its clients and the model."""

    server: Server
    players: list[Player]
    count: int = 0

    async def publish(self, rooms: list[str | int], excepted: list[str | int]) -> None:
        """An event for rooms, for single clients (by number), or for everybody."""
        names, without = self.names(rooms), self.names(excepted)
        target = self.server.to(*names) if names else self.server.all
        await target.except_(*without).emit("n", self.count)
        for player in self.players:
            own = {*player.rooms, player.sid}
            if (not names or own & {*names}) and not own & {*without}:
                player.expected.append(self.count)
        self.count += 1

    async def tell(self, who: int) -> None:
        """An event by the socket of a client, be it there or not."""
        await self.publish([who], [])

    async def disturb(self, who: int) -> None:
        """A volatile event that ends in a text."""
        await self.server.all.volatile.emit("volatile", f"for {who}")

    async def join(self, who: int, room: str) -> None:
        """A client that is connected joins a room."""
        socket = self.socket(who)
        if socket is not None:
            await socket.join(room)
            self.players[who].rooms.add(room)

    async def leave(self, who: int, room: str) -> None:
        """A client that is connected leaves a room."""
        socket = self.socket(who)
        if socket is not None:
            self.players[who].rooms.discard(room)
            await socket.leave(room)

    async def come(self, who: int) -> None:
        """A client begins to come back; what is next does not wait for it."""
        await self.players[who].come()

    async def cut(self, who: int) -> None:
        """A client's connection is gone."""
        self.players[who].cut()

    async def pause(self, who: int) -> None:
        """A client reads no more, until it is on another connection."""
        connection = self.players[who].connection
        if connection is not None:
            connection.pause()

    async def wait(self, seconds: float) -> None:
        """Time passes; none at all means that all do what they can."""
        if seconds:
            await trio.sleep(seconds)
        else:
            await wait_all_tasks_blocked()

    def socket(self, who: int) -> Any:
        """The socket of a client, if it is connected and can be used."""
        socket = self.server.all.namespace.sockets.get(self.players[who].sid)
        return socket if socket is not None and socket.can_send else None

    def names(self, rooms: list[str | int]) -> tuple[str, ...]:
        """Rooms, with clients' numbers as the ids of their sockets."""
        return tuple(self.players[r].sid if isinstance(r, int) else r for r in rooms)


def new_server() -> Server:
    """A server with waits in all places, so that clients are seen half-way."""
    server = Server(
        auth=ByName(),
        outbox_messages=6,
        slow_timeout=0.01,
        close_timeout=0.05,
        ping_interval=0.1,
        ping_timeout=0.08,
    )

    @server.use
    async def slow(socket):
        await trio.sleep(0.01)

    @server.on_recover
    async def recover(socket):
        await trio.sleep(0.01)

    @server.on_disconnect
    async def disconnect(socket, reason):
        await trio.sleep(0.01)

    return server


async def play(steps: list[tuple[Any, ...]]) -> None:
    """Plays the steps, lets everybody come back, and compares."""
    server = new_server()
    async with hosting(server) as host:
        players = [Player(host, f"player {number}") for number in range(PLAYERS)]
        for player in players:
            await player.come()
            await trio.sleep(0.1)
            player.note()
        game = Play(server, players)
        for name, *arguments in steps:
            step: Callable[..., Any] = getattr(game, name)
            await step(*arguments)
        for _ in range(2):
            for player in players:
                player.cut()
                await trio.sleep(0.1)
                await player.come()
                await trio.sleep(0.1)
        for player in players:
            player.note()
            assert player.received == player.expected
            assert server.all.namespace.sockets[player.sid].rooms == player.rooms
        members = {name: {s.id for s in sockets} for name, sockets in game_rooms(server).items()}
        assert members == {
            room: {player.sid for player in players if room in player.rooms}
            for room in ROOMS
            if any(room in player.rooms for player in players)
        }


def game_rooms(server: Server) -> Any:
    """The rooms of the namespace `/` with their members."""
    return server.all.namespace.rooms


who = st.integers(0, PLAYERS - 1)
room = st.sampled_from(ROOMS)
addresses = st.lists(room | who, max_size=2, unique=True)
STEPS = st.one_of(
    st.tuples(st.just("publish"), addresses, st.lists(room | who, max_size=1)),
    st.tuples(st.just("publish"), addresses, st.just([])),
    st.tuples(st.just("tell"), who),
    st.tuples(st.just("disturb"), who),
    st.tuples(st.just("join"), who, room),
    st.tuples(st.just("leave"), who, room),
    st.tuples(st.just("come"), who),
    st.tuples(st.just("cut"), who),
    st.tuples(st.just("pause"), who),
    st.tuples(st.just("wait"), st.sampled_from([0, 0.005, 0.015, 0.03, 0.25])),
)


@given(st.lists(STEPS, max_size=40))
def test_once_and_in_order(steps: list[tuple[Any, ...]]) -> None:
    """Every client gets what was meant for it, once and in order, and is in its rooms."""
    trio.run(play, steps, clock=MockClock(autojump_threshold=0))
