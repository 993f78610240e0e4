"""What can never work is told where it is written, by a call that would: no raw Python errors."""

import asyncio
import inspect
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pytest
import trio

from trio_rt import (
    Anonymous,
    Authenticator,
    Block,
    ClientConfig,
    Config,
    DropOldest,
    Handshake,
    JWTAuth,
    MisuseError,
    Player,
    Redis,
    Refuse,
    Room,
    Server,
    Socket,
    SocketIORedis,
    User,
    on,
    open_client,
)
from trio_rt.packets import encode_ack, encode_event
from trio_rt.testing import hosting

Call = Callable[[], Any]
server = Server()


async def handle(socket, number: int): ...
async def make_key(number: int): ...


class Odd:
    """No payload."""


async def late(text: str, socket: Socket): ...
async def odd(socket, payload: Odd): ...


LOOP: list[Any] = []
LOOP.append(LOOP)


def told(call: Call) -> str:
    with pytest.raises(MisuseError) as caught:
        call()
    return str(caught.value)


MADE: dict[str, tuple[Call, str]] = {
    "a class as auth": (lambda: Server(auth=Anonymous), "Write: Server(auth=Anonymous())"),
    "another class": (lambda: Server(auth=JWTAuth), "Write: Server(auth=JWTAuth(...))"),
    "a secret as auth": (lambda: Server(auth="secret"), "Server(auth=JWTAuth(secret))"),
    "an abstract class": (lambda: Server(auth=Authenticator), "Server(auth=JWTAuth(secret))"),
    "a url as backplane": (lambda: Server(backplane="redis://h"), "Redis.from_url("),
    "Redis itself": (lambda: Server(backplane=Redis), "Redis.from_url("),
    "an empty config": (lambda: Server(config={}), "Config(share_port=True)"),
    "a class as config": (lambda: Server(config=Config), "Config(...)"),
    "no such setting": (lambda: Server(pings=1), "All are fields of Config"),
    "nearly a setting": (lambda: Server(max_connection=1), "Did you mean max_connections=?"),
    "more than a setting": (lambda: Server(cors_allowed_origins=1), "Did you mean origins=?"),
    "a port": (lambda: Server(port=8000), 'trio.run(server.serve, "127.0.0.1", 8000)'),
    "text for seconds": (lambda: Server(ping_interval="25"), "Config(ping_interval=25.0)"),
    "nothing for seconds": (lambda: Server(ping_timeout=None), "Config(ping_timeout=20.0)"),
    "not a number": (lambda: Server(ping_interval=float("nan")), "Config(ping_interval=25.0)"),
    "a half": (lambda: Server(max_connections=1.5), "Config(max_connections=100000)"),
    "yes for a number": (lambda: Config(max_connections=True), "Config(max_connections=100000)"),
    "zero": (lambda: Config(max_connections=0), "Config(max_connections=100000)"),
    "a word for a bool": (lambda: Server(share_port="no"), "Config(share_port=False)"),
    "no port": (lambda: Server(web_port=70_000), "web_port"),
    "one origin": (lambda: Server(origins="https://a"), "origins=('https://example.org',)"),
    "a host as origin": (
        lambda: Server(origins=("a.org",)),
        "Config(origins=('https://example.org',))",
    ),
    "a page as origin": (
        lambda: Server(origins=("https://a.org/",)),
        "Config(origins=('https://example.org',))",
    ),
    "capitals in an origin": (lambda: Server(origins=("https://A.org",)), "no origin"),
    "a number as origin": (lambda: Server(origins=(7,)), "origins=(7,)"),
    "a path without a slash": (lambda: Server(path="/socket.io"), "Config(path='/socket.io/')"),
    "no path": (lambda: Server(path=None), "Config(path='/socket.io/')"),
    "a change": (lambda: Server().configure(ping_timeout="1"), "Config(ping_timeout=20.0)"),
    "a part of a client's": (lambda: ClientConfig(backlog=5), "backlog=BacklogLimits(...)"),
    "a wrong audience": (lambda: JWTAuth("x" * 32, audience=7), "audience=7 is no text"),
    "wrong algorithms": (lambda: JWTAuth("x" * 32, algorithms=[7]), "algorithms=[7] is no text"),
    "a wrong issuer": (lambda: JWTAuth("x" * 32, issuer=7), "issuer=7 is no text"),
    "no url of a Redis": (lambda: Redis.from_url(None), 'Redis.from_url("redis://'),
    "no url of theirs": (lambda: SocketIORedis.from_url(7), 'SocketIORedis.from_url("redis://'),
    "a prefix by number": (lambda: Redis.from_url("redis://h", prefix=3), "prefix=3 is no text"),
    "a refusal by number": (lambda: Refuse(403), 'raise Refuse("forbidden"'),
    "no key": (lambda: JWTAuth(None), "trio-rt token --new-secret"),
    "leeway as text": (lambda: JWTAuth("x" * 32, leeway="5"), "from 0 to 30"),
    "a token for a number": (lambda: JWTAuth("x" * 32).issue(7), "as text, not 7"),
    "a token for a while": (lambda: JWTAuth("x" * 32).issue("a", lifetime="5"), "above 0 s"),
    "a user by number": (lambda: User(7), "User(str(id))"),
    "a user without an id": (lambda: User(""), "User(str(id))"),
}

REGISTERED: dict[str, tuple[Call, str]] = {
    "an event without a name": (lambda: server.on(handle), '@server.on("say")'),
    "a hook with brackets": (server.on_connect, "Write: @server.on_connect"),
    "a hook with a name": (lambda: server.on_disconnect("a", "b"), "@server.on_disconnect"),
    "middleware with brackets": (server.use, "Write: @server.use"),
    "presence without a room": (lambda: server.on_presence(handle), '@server.on_presence("lobby")'),
    "concurrency as text": (lambda: server.on("e", concurrency="2")(handle), "1 or more"),
    "concurrency as bool": (lambda: server.on("e", concurrency=True)(handle), "1 or more"),
    "yes as key": (lambda: server.on("e", idempotent=True)(handle), "idempotent=lambda number: "),
    "an async key": (lambda: server.on("e", idempotent=make_key)(handle), "not async"),
    "a key of nothing": (lambda: server.on("e", idempotent=lambda: 1)(handle), "lambda number: "),
    "rooms that are one": (lambda: server.namespace("/a", rooms=Room), "rooms=[Lobby]"),
    "rooms by number": (lambda: server.namespace("/a", rooms=7), "rooms=[Lobby]"),
    "a target's timeout": (lambda: server.all.timeout("2"), "timeout(2)"),
    "no time": (lambda: server.all.timeout(-1), "timeout(2)"),
    "a class as policy": (lambda: server.all.when_slow(DropOldest), "when_slow(DropOldest())"),
    "Block as a class": (lambda: server.to("a").when_slow(Block), "when_slow(DropOldest())"),
    "the socket behind": (lambda: server.on("e")(late), "the socket is the first argument"),
    "a class of no fields": (lambda: server.on("e")(odd), "Odd'> is not supported. Use attrs"),
    "a method without a name": (lambda: on(handle), '@on("move")'),
    "an event in a list": (lambda: server.all.emit_nowait(["a"]), "emit('said', ...)"),
    "what cannot be sent": (lambda: encode_event("/", "e", (object(),)), "Send JSON values"),
    "a value in itself": (lambda: encode_event("/", "e", (LOOP,)), "nested too deeply"),
    "an answer of nothing": (lambda: encode_ack("/", 1, object()), "Send JSON values"),
    "an event by number": (lambda: server.all.emit_nowait(7), "emit('said', ...)"),
}


def kind(**attributes: Any) -> Call:
    """Registers a class of rooms that has these."""
    rooms = [type("Lobby", (Room,), attributes)]
    return lambda: Server().namespace("/a", rooms=rooms)


async def alone(self): ...


ROOMS: dict[str, tuple[Call, str]] = {
    "seats as text": (kind(seats="4"), "The default is: seats = 100"),
    "no seconds": (kind(hold_seconds=None), "Lobby.hold_seconds is a number, and not None"),
    "yes for seats": (kind(seats=True), "Lobby.seats is a number, and not True"),
    "inputs as a list": (kind(inputs=["push"]), 'Write: inputs = {"push": int}'),
    "nobody who joins": (kind(on_join=alone), "async def on_join(self, player)"),
    "no reason to leave": (kind(on_leave=alone), "async def on_leave(self, player, reason)"),
}

INSIDE: dict[str, tuple[Callable[[Room, Player], Any], str]] = {
    "ticks as text": (lambda room, _: room.ticks(hz="20"), "Write: self.ticks(hz=20)"),
    "no ticks": (lambda room, _: room.ticks(0), "Write: self.ticks(hz=20)"),
    "to an id": (lambda room, player: room.to(player.id), "to() takes a Player"),
    "kick an id": (lambda room, player: room.kick(player.id), "kick() takes a Player"),
    "ready by id": (lambda room, player: room.ready(player.id), "ready() takes a Player"),
    "hold an id": (lambda room, player: room.hold(player.id, 1), "hold() takes a Player"),
    "hold for text": (lambda room, player: room.hold(player, "1"), "seconds as a number"),
    "turn of an id": (lambda room, player: room.turn(player.id, within=1), "turn() takes a Player"),
    "turn for text": (lambda room, player: room.turn(player, within="1"), "seconds as a number"),
    "at least text": (lambda room, _: room.ready_check(at_least="2"), "at_least=2"),
    "within text": (lambda room, _: room.ready_check(within="2"), "seconds as a number"),
    "reserve a player": (lambda room, player: room.reserve(player), "the id of a user"),
    "after a function": (lambda room, _: room.after(room.sync, 1), "seconds as a number"),
    "after nothing": (lambda room, _: room.after(1, None), "self.after(5, self.remind, player)"),
    "close by number": (lambda room, _: room.close(7), 'close("bedtime")'),
}

SERVED: dict[str, tuple[dict[str, Any], str]] = {
    "no host": ({"host": None}, '"" for all'),
    "a port as host": ({"host": 8000}, 'server.serve("127.0.0.1", 8000)'),
    "a port as text": ({"port": "8000"}, 'server.serve("127.0.0.1", 8000)'),
    "no port": ({"port": None}, "from 0 to 65535"),
    "a port too high": ({"port": 70_000}, "from 0 to 65535"),
    "a port below zero": ({"port": -1}, "from 0 to 65535"),
    "half a port": ({"port": 8000.0}, "from 0 to 65535"),
    "no sockets": ({"sockets": []}, "listen already"),
    "numbers for sockets": ({"web_sockets": [7]}, "web_sockets= takes sockets"),
}

OPENED: dict[str, tuple[dict[str, Any], str]] = {
    "no url": ({"url": None}, 'open_client("http://127.0.0.1:8000"'),
    "a port as url": ({"url": 8000}, 'open_client("http://127.0.0.1:8000"'),
    "a token as auth": ({"auth": "token"}, 'auth={"token": token}'),
    "a dict as config": ({"config": {}}, "ClientConfig(close_timeout=1)"),
    "text for seconds": ({"close_timeout": "5"}, "ClientConfig(close_timeout=5.0)"),
    "no such setting": ({"retries": 5}, "All are fields of ClientConfig"),
    "text as headers": ({"headers": "a: b"}, "headers={"),
    "no path": ({"path": None}, '"/socket.io/"'),
    "a namespace by number": ({"namespace": 7}, 'client.namespace("/games")'),
}


@pytest.mark.parametrize(("make", "right"), MADE.values(), ids=MADE)
def test_made(make: Call, right: str) -> None:
    """A wrong value is told where it is given, with what would do."""
    assert right in told(make)


@pytest.mark.parametrize(("register", "right"), REGISTERED.values(), ids=REGISTERED)
def test_registered(register: Call, right: str) -> None:
    """A wrong use of a decorator or a target is told at that line."""
    assert right in told(register)


@pytest.mark.parametrize(("register", "right"), ROOMS.values(), ids=ROOMS)
def test_rooms(register: Call, right: str) -> None:
    """A class of rooms that can never work is told when it is registered."""
    assert right in told(register)


@pytest.mark.parametrize(("use", "right"), INSIDE.values(), ids=INSIDE)
async def test_inside_rooms(
    use: Callable[[Room, Player], Any], right: str, autojump_clock: Any
) -> None:
    """What a room calls wrongly is told to its log, by the right call."""
    caught: list[str] = []

    class Lobby(Room):
        @on("try")
        async def attempt(self, player: Player) -> None:
            try:
                made = use(self, player)
                if inspect.isawaitable(made):
                    await made
            except MisuseError as error:
                caught.append(str(error))

    wrong = Server(auth=Anonymous())
    wrong.namespace("/a", rooms=[Lobby])
    async with hosting(wrong) as host:
        client = await host.connect("/a")
        await client.call("room:create", namespace="/a")
        assert await client.call("try", namespace="/a") is None
    assert [right in message for message in caught] == [True]


async def test_socket_in_handler() -> None:
    """In a handler, a wrong time, a forgotten `await` and names of other frameworks are told."""
    caught: list[str] = []
    wrong = Server(auth=Anonymous())

    @wrong.on("try")
    async def attempt(socket: Socket) -> None:
        with pytest.raises(MisuseError, match=r"timeout='5' is no time.*call\(\.\.\., timeout=2\)"):
            await socket.call("x", timeout="5")  # type: ignore[arg-type]
        with pytest.raises(AttributeError, match=r"Write: socket\.id"):
            socket.sid  # type: ignore[attr-defined]  # noqa: B018
        forgotten = socket.emit("x")
        with pytest.raises(MisuseError, match="Write `await` before"):
            socket.acknowledge(1, forgotten)
        forgotten.close()
        caught.append("all")

    async with hosting(wrong) as host:
        client = await host.connect()
        await client.call("try")
    assert caught == ["all"]


@pytest.mark.parametrize("name", ["emit", "static", "run", "event", "live_rooms"])
def test_names_of_other_frameworks(name: str) -> None:
    """What a server does not have is answered by where it is."""
    with pytest.raises(AttributeError, match=r"'Server' object has no attribute .* Write: "):
        getattr(server, name)
    with pytest.raises(AttributeError, match=r"has no attribute 'emits'$"):
        server.emits  # type: ignore[attr-defined]  # noqa: B018


def test_outside_of_trio() -> None:
    """A server in another event loop is told that it needs Trio."""
    with pytest.raises(MisuseError, match=r"Write: trio\.run\(server\.serve"):
        asyncio.run(Server().serve("127.0.0.1", 0))


@pytest.mark.parametrize(("arguments", "right"), SERVED.values(), ids=SERVED)
async def test_served(arguments: dict[str, Any], right: str) -> None:
    """Where a server cannot listen is told before it begins, and it can begin afterwards."""
    with pytest.raises(MisuseError) as caught:
        await server.serve(**{"host": "127.0.0.1", "port": 0, **arguments})
    assert right in str(caught.value)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, "127.0.0.1", 0)
            scope.cancel()


async def test_unknown_host() -> None:
    """A host that is none is named, not only the system's words for it."""
    with pytest.raises(OSError, match=r"listen on '127\.0\.0\.1:8000', no name or address"):
        await server.serve("127.0.0.1:8000", 0)


@pytest.mark.parametrize(("arguments", "right"), OPENED.values(), ids=OPENED)
async def test_opened(arguments: dict[str, Any], right: str) -> None:
    """A client that could never dial is told before its block begins."""
    with pytest.raises(MisuseError) as caught:
        async with open_client(**{"url": "http://127.0.0.1:1", **arguments}):
            raise AssertionError
    assert right in str(caught.value)


async def test_client_event_without_name() -> None:
    """As on a server, an event has a name."""
    async with open_client("http://127.0.0.1:1", close_timeout=0.01) as client:
        assert '@client.on("said")' in told(lambda: client.on(handle))


def test_keys_of_any_callable() -> None:
    """What says nothing of its arguments is taken at its word."""
    Server().on("e", idempotent=attrgetter("id"))(handle)
    Server().on("e", idempotent=lambda *payload: payload[0])(handle)


class Forgetful(Authenticator):
    """Lets everybody in, and forgets to say whom."""

    async def authenticate(self, handshake: Handshake) -> User:
        return None  # type: ignore[return-value]


async def test_authenticator_without_user(errors: list[Any], autojump_clock) -> None:
    """An authenticator that returns no user lets nobody in, and the log has the right line."""
    async with hosting(Server(auth=Forgetful())) as host:
        with pytest.raises(Refuse, match="the server failed"):
            await host.connect()
    [record] = errors
    errors.clear()
    assert "return User(id, name)" in str(record.exc_info[1])
