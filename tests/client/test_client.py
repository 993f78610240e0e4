"""What a program does with a client: connect, emit, call, handle, leave."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.client.script import DEADLINE, Line, Script
from trio_rt import (
    NO_ACK,
    Anonymous,
    CallTimeout,
    ClientConfig,
    ConnectionState,
    Disconnected,
    LimitError,
    MisuseError,
    Refuse,
    Refused,
    Server,
    Socket,
    open_client,
)
from trio_rt.client import Client
from trio_rt.testing import MemoryDialer, hosting


def new_server(**changes: Any) -> Server:
    return Server(auth=Anonymous(), **changes)


@attrs.frozen
class Said:
    who: str
    text: str


async def next_of(receive: trio.MemoryReceiveChannel[Any]) -> Any:
    with trio.fail_after(DEADLINE):
        return await receive.receive()


# Against our own server


async def test_round_trip(autojump_clock: trio.testing.MockClock) -> None:
    """A call gives the acknowledgement: one value, none, or several; bytes both ways."""
    server = new_server()

    @server.on("echo")
    async def echo(socket: Socket, *values: Any) -> Any:
        return values

    async with hosting(server) as host, open_client("http://x", dial=MemoryDialer(host)) as client:
        assert await client.call("echo") is None
        assert await client.call("echo", 1) == 1
        assert await client.call("echo", 1, {"a": b"\x00\xff"}) == (1, {"a": b"\x00\xff"})
        assert client.state is ConnectionState.CONNECTED
        assert client.reason is None
    assert client.state.value == "closed"
    assert client.id is None


async def test_events_and_calls_of_the_server(autojump_clock: trio.testing.MockClock) -> None:
    """Handlers get validated payloads in the order sent, and their values answer calls."""
    server = new_server()
    send, receive = trio.open_memory_channel[Any](10)

    @server.on("go")
    async def go(socket: Socket) -> Any:
        await socket.emit("said", {"who": "a", "text": "1"})
        await socket.emit("other", 1, b"2")
        answers = [await socket.call("add", 1, 2), await socket.call("add", 1, "x")]
        return [*answers, await socket.call("nobody"), await socket.call("pair")]

    async with hosting(server) as host, open_client("http://x", dial=MemoryDialer(host)) as client:

        @client.on("said")
        async def said(msg: Said) -> None:
            send.send_nowait(msg)

        @client.on("add")
        async def add(a: int, b: int) -> int:
            return a + b

        @client.on("pair")
        async def pair() -> tuple[int, bytes]:
            return 1, b"2"

        @client.on("*")
        async def rest(event: str, *payload: Any) -> Any:
            if event == "nobody":
                raise Refuse("nobody", "is here", 7)
            send.send_nowait((event, *payload))

        three, invalid, nobody, both = await client.call("go")
        assert three == 3
        assert invalid["error"]["code"] == "invalid"
        assert nobody == {"error": {"code": "nobody", "message": "is here", "details": 7}}
        assert both == [1, b"2"]
        assert await next_of(receive) == Said("a", "1")
        assert await next_of(receive) == ("other", 1, b"2")


async def test_handler_calls_the_server(autojump_clock: trio.testing.MockClock) -> None:
    """A handler may await an answer of the server, more events before it notwithstanding."""
    server = new_server()
    seen: list[int] = []

    @server.on("go")
    async def go(socket: Socket) -> None:
        for n in range(20):
            await socket.emit("n", n)

    @server.on("double")
    async def double(socket: Socket, n: int) -> int:
        return 2 * n

    async with hosting(server) as host, open_client("http://x", dial=MemoryDialer(host)) as client:
        done = trio.Event()

        @client.on("n")
        async def on_n(n: int) -> None:
            seen.append(await client.call("double", n))
            if n == 19:
                done.set()

        await client.call("go")
        with trio.fail_after(DEADLINE):
            await done.wait()
    assert seen == [2 * n for n in range(20)]


async def test_refused_call(autojump_clock: trio.testing.MockClock) -> None:
    """A server's Refuse is our Refused, with all that it says."""
    server = new_server()

    @server.on("no")
    async def no(socket: Socket) -> None:
        raise Refuse("forbidden", "not you", {"why": 1})

    async with hosting(server) as host, open_client("http://x", dial=MemoryDialer(host)) as client:
        with pytest.raises(Refused, match="forbidden: not you") as refused:
            await client.call("no")
        assert (refused.value.code, refused.value.message) == ("forbidden", "not you")
        assert refused.value.details == {"why": 1}


async def test_refused_client(autojump_clock: trio.testing.MockClock) -> None:
    """A refusal is final: whoever waits or calls is told it, and nothing is dialled again."""
    server = new_server()

    @server.on_connect
    async def no(socket: Socket) -> None:
        raise Refuse("banned", "go away")

    async with hosting(server) as host:
        dial = MemoryDialer(host)
        async with open_client("http://x", dial=dial) as client:
            with pytest.raises(Refused, match="banned: go away"):
                await client.call("x")
            with pytest.raises(Refused):
                await client.wait_connected()
            with pytest.raises(Refused):
                await client.emit("x")
            assert client.state is ConnectionState.DISCONNECTED
            assert client.reason is not None
            assert client.reason.code == "refused"
            await trio.sleep(1000)
            assert dial.count == 1


async def test_connect_again(autojump_clock: trio.testing.MockClock) -> None:
    """After a refusal `connect` tries anew, and asks for what is shown anew."""
    server = new_server()
    shown: list[Any] = []

    @server.on_connect
    async def check(socket: Socket) -> None:
        shown.append(socket.handshake.auth["token"])
        if len(shown) == 1:
            raise Refuse("old")

    async def token() -> dict[str, str]:
        return {"token": f"token {len(shown)}"}

    async with (
        hosting(server) as host,
        open_client("http://x", auth=token, dial=MemoryDialer(host)) as client,
    ):
        with pytest.raises(Refused, match="old"):
            await client.wait_connected()
        client.connect()
        await client.wait_connected()
    assert shown == ["token 0", "token 1"]


async def test_put_out(autojump_clock: trio.testing.MockClock) -> None:
    """A client that the server puts out does not come back, and says why."""
    server = new_server()

    @server.on("bye")
    async def bye(socket: Socket) -> None:
        await socket.disconnect()

    async with hosting(server) as host:
        dial = MemoryDialer(host)
        async with open_client("http://x", dial=dial) as client:
            with pytest.raises(Disconnected) as ended:
                await client.call("bye")
            assert ended.value.reason.code == "server namespace disconnect"
            await trio.sleep(1000)
            assert dial.count == 1
            client.connect()
            await client.wait_connected()
            assert dial.count == 2


async def test_namespaces(autojump_clock: trio.testing.MockClock) -> None:
    """Several namespaces share one connection; to be refused in one ends it alone."""
    server = new_server()
    chat, closed = server.namespace("/chat"), server.namespace("/closed")

    @server.on("where")
    async def root_where(socket: Socket) -> str:
        return "root"

    @chat.on("where")
    async def chat_where(socket: Socket) -> str:
        await socket.emit("hello", "from chat")
        return "chat"

    @closed.on_connect
    async def no(socket: Socket) -> None:
        raise Refuse("closed")

    @chat.on("leave")
    async def leave(socket: Socket) -> None:
        await socket.disconnect()

    async with hosting(server) as host:
        dial = MemoryDialer(host)
        async with open_client("http://x", dial=dial) as client:
            talk = client.namespace("/chat")
            assert client.namespace("/chat") is talk
            send, receive = trio.open_memory_channel[str](1)
            talk.on("hello")(send.send)
            assert await talk.call("where") == "chat"
            assert await client.call("where") == "root"
            assert await next_of(receive) == "from chat"
            assert talk.id != client.id
            nowhere = client.namespace("/closed")
            with pytest.raises(Refused, match="closed"):
                await nowhere.call("where")
            with pytest.raises(Refused, match="Invalid namespace"):
                await client.namespace("/none").wait_connected()
            with pytest.raises(Disconnected):
                await talk.call("leave")
            assert await client.call("where") == "root"
            assert dial.count == 1


async def test_namespace_of_its_own(autojump_clock: trio.testing.MockClock) -> None:
    """A client may be in one namespace that is not the root."""
    server = new_server()

    @server.namespace("/chat").on("where")
    async def where(socket: Socket) -> str:
        return socket.namespace.name

    async with (
        hosting(server) as host,
        open_client("http://x", namespace="/chat", dial=MemoryDialer(host)) as client,
    ):
        assert await client.call("where") == "/chat"


async def test_graceful_close(autojump_clock: trio.testing.MockClock) -> None:
    """Leaving the block sends all that was emitted, then leaves the namespaces."""
    server = new_server()
    got: list[int] = []
    reasons: list[str] = []

    @server.on("n")
    async def on_n(socket: Socket, n: int) -> None:
        await trio.sleep(0.01)
        got.append(n)

    @server.on_disconnect
    async def bye(socket: Socket, reason: Any) -> None:
        reasons.append(reason.code)

    async with hosting(server) as host:
        async with open_client("http://x", dial=MemoryDialer(host)) as client:
            for n in range(100):
                await client.emit("n", n)
        assert client.pending == 0
        await trio.sleep(5)
        assert got == list(range(100))
        assert reasons == ["client namespace disconnect"]


async def test_exception_of_the_block(autojump_clock: trio.testing.MockClock) -> None:
    """An exception of the block comes out as it is, at once."""
    async with hosting(new_server()) as host:
        client: Client | None = None

        async def fail() -> None:
            nonlocal client
            async with open_client("http://x", dial=MemoryDialer(host)) as client:
                await client.wait_connected()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert client is not None
        assert client.state is ConnectionState.CLOSED


async def test_handler_that_fails(
    autojump_clock: trio.testing.MockClock, errors: list[logging.LogRecord]
) -> None:
    """A handler's exception is logged once, its caller is told an id, and the client goes on."""
    server = new_server()

    @server.on("go")
    async def go(socket: Socket) -> Any:
        return await socket.call("fail"), await socket.call("none"), await socket.call("fine")

    async with hosting(server) as host, open_client("http://x", dial=MemoryDialer(host)) as client:

        @client.on("fail")
        async def fail() -> None:
            raise ValueError("mine")

        @client.on("none")
        async def none() -> Any:
            return object()

        @client.on("fine")
        async def fine() -> str:
            return "fine"

        with pytest.raises(CallTimeout):
            await client.call("go", timeout=1)
    [failed, unsendable] = errors
    assert "mine" in str(failed.exc_info)
    assert "cannot be sent" in unsendable.getMessage()
    errors.clear()


async def test_no_ack(autojump_clock: trio.testing.MockClock) -> None:
    """A handler that returns NO_ACK leaves the server without an answer."""
    async with open_script() as (client, line):

        @client.on("x")
        async def x() -> Any:
            return NO_ACK

        line.say('4217["x"]', '4218["y"]')
        head, _ = await line.hear_packet()
        assert head == "4318"


# Against a script


@asynccontextmanager
async def open_script(
    reply: dict[str, Any] | None = None, **arguments: Any
) -> AsyncGenerator[tuple[Client, Line]]:
    """A client that a script serves, connected."""
    script = Script()
    async with open_client("http://x", dial=script, **arguments) as client:
        yield client, await script.accept(**(reply or {}))


@pytest.mark.parametrize(
    ("url", "arguments", "dialled"),
    [
        ("http://h", {}, "ws://h/socket.io/?EIO=4&transport=websocket"),
        ("https://h:1/", {}, "wss://h:1/socket.io/?EIO=4&transport=websocket"),
        ("ws://[::1]:2?a=b", {}, "ws://[::1]:2/socket.io/?a=b&EIO=4&transport=websocket"),
        ("wss://h", {"path": "/x/"}, "wss://h/x/?EIO=4&transport=websocket"),
    ],
)
async def test_url(
    url: str, arguments: dict[str, Any], dialled: str, autojump_clock: trio.testing.MockClock
) -> None:
    """The url of a server becomes that of its WebSocket."""
    script = Script()
    async with open_client(url, dial=script, **arguments):
        await script.accept()
    assert script.urls == [dialled]


@pytest.mark.parametrize(
    ("url", "arguments", "told"),
    [
        ("h:80", {}, "no url of a server"),
        ("ftp://h", {}, "no url of a server"),
        ("http://", {}, "no url of a server"),
        ("http://h:99999", {}, "no url of a server"),
        ("http://h/chat", {}, "has a path"),
        ("http://h", {"namespace": "chat"}, "no namespace"),
        ("http://h", {"path": "socket.io"}, "does not begin with a slash"),
        ("http://h", {"close_timeot": 1}, "ClientConfig"),
        ("http://h", {"close_timeout": -1}, "ClientConfig"),
        ("http://h", {"headers": {"a": "b"}}, "dial="),
    ],
)
async def test_misuse_of_open(url: str, arguments: dict[str, Any], told: str) -> None:
    """What can never work is told before anything is dialled."""
    with pytest.raises(MisuseError, match=told):
        async with open_client(url, dial=Script(), **arguments):
            raise AssertionError("opened")


async def test_misuse_of_on() -> None:
    """A handler that could never work is told when it is registered."""
    async with open_client("http://x", dial=Script()) as client:

        async def fine() -> None: ...

        def not_async() -> None: ...

        async def no_name() -> None: ...

        with pytest.raises(MisuseError, match="on_connect"):
            client.on("connect")(fine)
        with pytest.raises(MisuseError, match=r"@client.on\('x'\)\nasync def not_async\(payload\)"):
            client.on("x")(not_async)  # type: ignore[type-var]
        with pytest.raises(MisuseError, match=r'@client.on\("\*"\)\nasync def .*event, \*payload'):
            client.on("*")(no_name)
        client.on("x")(fine)
        with pytest.raises(MisuseError, match="a handler already"):
            client.on("x")(fine)
        with pytest.raises(MisuseError, match=r"@client.on_connect\nasync def many\(\)"):

            @client.on_connect
            async def many(one: int) -> None: ...

        client.on_connect(fine)
        with pytest.raises(MisuseError, match="registered already"):
            client.on_connect(fine)
        with pytest.raises(MisuseError, match="cannot be emitted"):
            await client.emit("disconnect")
        with pytest.raises(MisuseError, match="cannot be sent"):
            await client.emit("x", object())
        assert client.pending == 0


async def test_what_is_shown(autojump_clock: trio.testing.MockClock) -> None:
    """The first CONNECT shows what the program gave, and that we take keys."""
    script = Script()
    async with open_client("http://x", auth={"token": "t"}, dial=script):
        line = await script.answer()
        assert await line.admit() == {"token": "t", "rt": 1}


async def test_wire(autojump_clock: trio.testing.MockClock) -> None:
    """With a server without keys events are those of any Socket.IO client."""
    async with open_script() as (client, line):
        await client.emit("a", 1)
        await line.expect('42["a",1]')
        await client.emit("b", b"x", [b"y"])
        await line.expect('452-["b",{"_placeholder":true,"num":0},[{"_placeholder":true,"num":1}]]')
        assert [await line.hear(), await line.hear()] == [b"x", b"y"]
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def call() -> None:
                assert await client.call("c") == 7

            await line.expect('421["c"]')
            line.say("431[7]")
        assert client.pending == 0


async def test_goodbye(autojump_clock: trio.testing.MockClock) -> None:
    """Leaving says DISCONNECT in each namespace, behind all else, and closes."""
    script = Script()
    async with open_client("http://x", dial=script) as client:
        line = await script.accept()
        chat = client.namespace("/chat")
        await line.admit(namespace="/chat,")
        await wait_all_tasks_blocked()
        await chat.emit("last")
    assert line.heard() == ['42/chat,["last"]', "41", "41/chat,"]
    assert line.ended.is_set()


async def test_cancelled_block(autojump_clock: trio.testing.MockClock) -> None:
    """Being cancelled closes at once, without a word."""
    script = Script()
    with trio.CancelScope() as scope:
        async with open_client("http://x", dial=script):
            line = await script.accept()
            start = trio.current_time()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == start
    assert line.ended.is_set()
    assert line.heard() == []


async def test_close_is_bounded(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that acknowledges nothing holds a leaving client up for `close_timeout`."""
    script = Script()
    async with open_client("http://x", dial=script, close_timeout=3) as client:
        await script.accept(rt=1)
        await wait_all_tasks_blocked()
        await client.emit("x")
        start = trio.current_time()
    assert 3 <= trio.current_time() - start <= 4
    assert "1 events of / have not arrived" in caplog.text


async def test_close_before_connected(autojump_clock: trio.testing.MockClock) -> None:
    """With nothing to tell, a client that is not connected leaves at once."""
    start = trio.current_time()
    async with open_client("http://x", dial=Script()):
        await wait_all_tasks_blocked()
    assert trio.current_time() == start


async def test_call_timeout(autojump_clock: trio.testing.MockClock) -> None:
    """A call without an answer ends in time, and a late answer means nothing."""
    async with open_script() as (client, line):
        start = trio.current_time()
        with pytest.raises(CallTimeout):
            await client.call("x", timeout=2)
        assert trio.current_time() - start == 2
        line.say("431[7]")
        await wait_all_tasks_blocked()
        assert client.state is ConnectionState.CONNECTED


async def test_call_that_is_cancelled_before_it_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A call that was given up while there was no connection is never sent."""
    script = Script()
    async with open_client("http://x", dial=script) as client:
        with pytest.raises(CallTimeout):
            await client.call("x", timeout=1)
        assert client.pending == 0
        line = await script.accept()
        await client.emit("y")
        await line.expect('42["y"]')


async def test_too_large_for_the_server(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What the server would not take is refused to the caller, before and after connecting."""
    script = Script()
    async with open_client("http://x", dial=script) as client, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def early() -> None:
            with pytest.raises(LimitError, match="messages of 1000 bytes"):
                await client.call("early", "x" * 2_000)

        await client.emit("early too", b"x" * 2_000)
        line = await script.answer(payload=1_000)
        await line.admit()
        await client.wait_connected()
        with pytest.raises(LimitError, match="messages of 1000 bytes"):
            await client.emit("late", "x" * 2_000)
        await client.emit("small")
        await line.expect('42["small"]')
    assert "early too" in caplog.text


async def test_error_of_an_emit(autojump_clock: trio.testing.MockClock) -> None:
    """What went wrong with an emitted event comes as an `error` event."""
    async with open_script(reply={"rt": 1}) as (client, line):
        send, receive = trio.open_memory_channel[Any](1)
        client.on("error")(send.send)
        await client.emit("x")
        await line.hear()
        line.say('431[{"error":{"code":"invalid","message":"no"}}]')
        assert (await next_of(receive))["error"]["code"] == "invalid"


async def test_repr() -> None:
    """It says what it is, and shows no secret of its url."""
    async with open_client("http://u:secret@h/?token=secret", dial=Script()) as client:
        assert repr(client) == "<Client of h, connecting>"
        assert isinstance(client, Client)
        assert "/a, not connected" in repr(client.namespace("/a"))


def test_config() -> None:
    """Limits are checked."""
    with pytest.raises(MisuseError, match="close_timeout"):
        ClientConfig(close_timeout=0)
