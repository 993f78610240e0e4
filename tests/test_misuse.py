"""What can never work is told where it is written, by a call that would: no raw Python errors."""

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
    Redis,
    Refuse,
    Room,
    Server,
    User,
    open_client,
)
from trio_rt.testing import hosting

Call = Callable[[], Any]
server = Server()


async def handle(socket, number: int): ...
async def make_key(number: int): ...


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
    "an event by number": (lambda: server.all.emit_nowait(7), "emit('said', ...)"),
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
