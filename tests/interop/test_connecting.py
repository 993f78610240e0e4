"""How the official client gets in, or not."""

import re

import jwt
import pytest
import trio

from tests.interop.stage import Notes, Stage, new_server
from trio_rt import Authenticator, Handshake, JWTAuth, Refuse, Server, User

SECRET = "a secret of at least thirty-two bytes"


async def test_connect(play: Stage) -> None:
    """Both sides know the socket by the same id."""
    server = new_server()
    ids = Notes()

    @server.on_connect
    async def hello(socket):
        ids.add(socket.id)

    js = await play(server)
    assert await js("return (await connected()).id") == await ids.next()


async def test_authentication(play: Stage) -> None:
    """Handlers see the user that the authenticator made of the `auth` payload."""

    class ByName(Authenticator):
        async def authenticate(self, handshake: Handshake) -> User:
            name = handshake.auth["name"]
            return User(id=name.lower(), name=name, claims={"admin": True})

    server = Server(auth=ByName())

    @server.on("who")
    async def who(socket):
        return [socket.user.id, socket.user.name, dict(socket.user.claims)]

    js = await play(server)
    assert await js("""
        const socket = await connected("/", { auth: { name: "Zoë" } });
        return socket.emitWithAck("who");
    """) == ["zoë", "Zoë", {"admin": True}]


async def test_authentication_by_a_function(play: Stage) -> None:
    """The client's `auth` may be a function, which is asked again for each attempt."""

    class Patient(Authenticator):
        async def authenticate(self, handshake: Handshake) -> User:
            if handshake.auth != {"attempt": 2}:
                raise Refuse("denied", details=handshake.auth)
            return User(id="second")

    server = Server(auth=Patient())
    js = await play(server)
    assert await js("""
        let attempt = 0;
        const socket = open("/", { auth: (give) => give({ attempt: ++attempt }) });
        const [{ data }] = await next(socket, "connect_error");
        const connect = next(socket, "connect");
        socket.connect();
        await connect;
        return data.details;
    """) == {"attempt": 1}


async def test_authentication_refused(play: Stage) -> None:
    """A refusal is a connect_error with its message, code and details, and no handler runs."""

    class Nobody(Authenticator):
        async def authenticate(self, handshake: Handshake) -> User:
            raise Refuse("denied", "Not you.", details=handshake.auth)

    server = Server(auth=Nobody())
    calls = Notes()

    @server.on_connect
    async def hello(socket):
        calls.add("connect")

    @server.on_disconnect
    async def bye(socket, reason):
        calls.add("disconnect")

    @server.on("*")
    async def event(socket, name: str, *payload):
        calls.add(name)

    js = await play(server)
    assert await js("""
        const socket = open("/", { auth: { name: "eve" } });
        socket.emit("early");
        const [{ message, data }] = await next(socket, "connect_error");
        return { message, data, active: socket.active };
    """) == {
        "message": "Not you.",
        "data": {"code": "denied", "details": {"name": "eve"}},
        "active": False,
    }
    assert calls.rest() == []


async def test_authentication_missing(play: Stage) -> None:
    """A client without `auth` is refused by a server that wants a token."""
    js = await play(Server(auth=JWTAuth(SECRET)))
    refusal = await js("return refused()")
    assert refusal["message"]
    assert refusal["data"]["code"]


async def test_token(play: Stage) -> None:
    """A valid token lets its subject in."""
    server = Server(auth=JWTAuth(SECRET))

    @server.on("who")
    async def who(socket):
        return socket.user.id

    js = await play(server)
    assert (
        await js(
            """
        const socket = await connected("/", { auth: { token } });
        return socket.emitWithAck("who");
        """,
            token=JWTAuth(SECRET).issue("ann"),
        )
        == "ann"
    )


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(lambda: _token(sub="ann", exp=1), id="expired"),
        pytest.param(lambda: _token(sub="ann"), id="without expiry"),
        pytest.param(lambda: _token("another" * 8, sub="ann", exp=4_000_000_000), id="forged"),
        pytest.param(lambda: "not.a.token", id="garbage"),
        pytest.param(lambda: 42, id="a number"),
    ],
)
async def test_token_refused(play: Stage, token) -> None:
    """A bad token is refused, in words that do not repeat it."""
    js = await play(Server(auth=JWTAuth(SECRET)))
    given = token()
    refusal = await js("return refused('/', { auth: { token } })", token=given)
    assert str(given) not in refusal["message"]


async def test_unknown_namespace(play: Stage) -> None:
    """A namespace that does not exist is refused in the words that clients know."""
    js = await play(new_server())
    assert (await js("return refused('/nowhere')"))["message"] == "Invalid namespace"


async def test_several_namespaces_on_one_connection(play: Stage) -> None:
    """Namespaces share a connection and nothing else: neither ids nor handlers nor endings."""
    server = new_server()

    @server.on("where")
    async def where_main(socket):
        return socket.namespace.name

    @server.namespace("/games").on("where")
    async def where_games(socket):
        return [socket.namespace.name]

    js = await play(server)
    assert await js("""
        const main = await connected("/");
        const games = await connected("/games");
        const before = [await main.emitWithAck("where"), await games.emitWithAck("where")];
        main.disconnect();
        return {
            before,
            after: await games.emitWithAck("where"),
            shared: main.io === games.io,
            differ: main.id !== games.id,
        };
    """) == {"before": ["/", ["/games"]], "after": ["/games"], "shared": True, "differ": True}


async def test_dynamic_namespace(play: Stage) -> None:
    """A pattern makes each namespace that it matches in full, and no other."""
    server = new_server()
    rooms = server.namespace(re.compile(r"/room-\d+"))

    @rooms.on("where")
    async def where(socket):
        return socket.namespace.name

    js = await play(server)
    assert await js("""
        return {
            first: await (await connected("/room-1")).emitWithAck("where"),
            second: await (await connected("/room-22")).emitWithAck("where"),
            partial: (await refused("/room-3x")).message,
        };
    """) == {"first": "/room-1", "second": "/room-22", "partial": "Invalid namespace"}


async def test_dynamic_namespaces_are_apart(play: Stage) -> None:
    """An event for everyone in one dynamic namespace does not reach its sibling."""
    server = new_server()
    rooms = server.namespace(re.compile(r"/room-\d+"))

    @rooms.on("shout")
    async def shout(socket):
        await socket.join("hall")
        await socket.to("hall").emit("heard")

    js = await play(server)
    assert await js("""
        const [first, second, other] = [
            await connected("/room-1"),
            await connected("/room-1", { forceNew: true }),
            await connected("/room-2"),
        ];
        const diaries = [diary(first), diary(second), diary(other)];
        for (const socket of [first, other, second]) await acked(socket, "shout");
        const heard = next(second, "heard");
        await acked(first, "shout");
        await heard;
        return diaries.map((events) => events.length);
    """) == [1, 1, 0]


async def test_query_and_headers(play: Stage) -> None:
    """The handshake shows the client's own query, headers and address."""
    server = new_server()

    @server.on("handshake")
    async def handshake(socket):
        seen = socket.handshake
        return [seen.query["colour"], seen.headers["x-colour"], seen.address, seen.secure]

    js = await play(server)
    colour, header, address, secure = await js("""
        const socket = await connected("/", {
            query: { colour: "blue & green" },
            extraHeaders: { "X-Colour": "red" },
        });
        return socket.emitWithAck("handshake");
    """)
    assert (colour, header, secure) == ("blue & green", "red", False)
    assert "127.0.0.1" in address


async def test_another_path(play: Stage) -> None:
    """Socket.IO may live elsewhere, and then does not live at its usual path."""
    server = new_server(path="/live/")
    js = await play(server)
    assert await js("""
        const socket = await connected("/", { path: "/live" });
        const { message } = await refused("/", { forceNew: true, path: "/socket.io" });
        return [socket.connected, message];
    """) == [True, "websocket error"]


async def test_middleware(play: Stage) -> None:
    """Middleware runs in order before on_connect, and what it stores is there in handlers."""
    server = new_server()
    order = Notes()

    @server.use
    async def first(socket):
        order.add("first")
        socket.data["colour"] = "blue"

    @server.use
    async def second(socket):
        order.add("second")

    @server.on_connect
    async def connect(socket):
        order.add("connect")

    @server.on("colour")
    async def colour(socket):
        return socket.data["colour"]

    js = await play(server)
    assert await js("return (await connected()).emitWithAck('colour')") == "blue"
    assert order.rest() == ["first", "second", "connect"]


@pytest.mark.parametrize("door", ["use", "on_connect"])
async def test_refused_at_the_door(play: Stage, door: str) -> None:
    """Middleware and on_connect refuse alike; the socket is gone and can be asked for again."""
    server = new_server()
    gone = Notes()

    @getattr(server, door)
    async def full(socket):
        if not socket.handshake.auth:
            raise Refuse("full", "No seats.", details={"seats": 4})

    @server.on_disconnect
    async def bye(socket, reason):
        gone.add(reason.code)

    js = await play(server)
    assert await js("""
        const socket = open();
        const [{ message, data }] = await next(socket, "connect_error");
        socket.auth = { ticket: 1 };
        const connect = next(socket, "connect");
        socket.connect();
        await connect;
        return { message, data };
    """) == {"message": "No seats.", "data": {"code": "full", "details": {"seats": 4}}}
    assert gone.rest() == []


async def test_failing_on_connect(play: Stage) -> None:
    """A crash in on_connect refuses the socket without telling its traceback."""
    server = new_server()

    @server.on_connect
    async def broken(socket):
        raise RuntimeError("the password is xyzzy")

    js = await play(server)
    refusal = await js("return refused()")
    assert refusal["data"]["code"] == "internal"
    assert "xyzzy" not in str(refusal)


async def test_events_emitted_while_connecting(play: Stage) -> None:
    """What on_connect emits comes after the client's `connect`, in order and complete."""
    server = new_server()

    @server.on_connect
    async def welcome(socket):
        for number in range(20):
            await socket.emit("welcome", number)

    js = await play(server)
    assert await js("""
        const socket = open();
        const seen = [];
        socket.on("connect", () => seen.push("connect"));
        await new Promise((resolve) => socket.on("welcome", (number) => {
            seen.push(number);
            if (number === 19) resolve();
        }));
        return seen;
    """) == ["connect", *range(20)]


async def test_events_sent_before_connecting(play: Stage) -> None:
    """What the client buffered before it was connected is handled once, in order."""
    server = new_server()
    seen = Notes()

    @server.on("early")
    async def early(socket, number):
        seen.add(number)

    js = await play(server)
    await js("""
        const socket = open("/", { autoConnect: false });
        for (let number = 0; number < 5; number++) socket.emit("early", number);
        socket.connect();
        await acked(socket, "early", 5);
    """)
    assert seen.rest() == [0, 1, 2, 3, 4, 5]


async def test_reconnecting_makes_a_new_socket(play: Stage) -> None:
    """Without recovery a client that comes back has a new id, and on_connect runs again."""
    server = new_server(recovery_window=0)
    ids = Notes()

    @server.on_connect
    async def hello(socket):
        ids.add(socket.id)

    js = await play(server)
    before, after = await js("""
        const socket = await connected();
        const before = socket.id;
        const back = next(socket, "connect");
        wire(socket).terminate();
        await back;
        return [before, socket.id];
    """)
    assert before != after
    assert ids.rest() == [before, after]


async def test_polling_is_refused(play: Stage) -> None:
    """A client that only polls does not get in, and is told so at once."""
    js = await play(new_server())
    assert (
        await js("""
        const socket = open("/", { transports: ["polling"], reconnection: false });
        const [error] = await next(socket, "connect_error");
        return error.description;
    """)
        == 400
    )


async def test_websocket_after_polling(play: Stage) -> None:
    """A client with the default transports gets in when it may try all of them."""
    js = await play(new_server())
    with trio.fail_after(2):
        assert (
            await js("""
            const options = { transports: ["polling", "websocket"], tryAllTransports: true };
            return (await connected("/", options)).io.engine.transport.name;
        """)
            == "websocket"
        )


def _token(secret: str = SECRET, **claims: object) -> str:
    return jwt.encode(claims, secret, algorithm="HS256")
