"""Acknowledgements, in both directions."""

from typing import Any

import pytest
import trio

from tests.interop.stage import Notes, Stage, new_server
from trio_rt import CallTimeout, Disconnected, LimitError


@pytest.mark.parametrize(
    ("returned", "arguments"),
    [
        pytest.param(None, [], id="None is an empty ack"),
        pytest.param((None,), [None], id="a null"),
        pytest.param("one", ["one"], id="one"),
        pytest.param((1, "two", [3]), [1, "two", [3]], id="a tuple is several"),
        pytest.param([1, 2], [[1, 2]], id="a list is one"),
        pytest.param((), [], id="an empty tuple"),
        pytest.param(False, [False], id="false"),
    ],
)
async def test_return_value(play: Stage, returned: Any, arguments: list[Any]) -> None:
    """What a handler returns is the acknowledgement's arguments."""
    server = new_server()

    @server.on("ask")
    async def ask(socket):
        return returned

    js = await play(server)
    assert await js("return acked(await connected(), 'ask')") == arguments


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        pytest.param([], None, id="nothing"),
        pytest.param([None], None, id="a null"),
        pytest.param(["one"], "one", id="one"),
        pytest.param([1, "two"], (1, "two"), id="several are a tuple"),
        pytest.param([[1, 2]], [1, 2], id="a list is one"),
    ],
)
async def test_value_of_call(play: Stage, arguments: list[Any], value: Any) -> None:
    """What a client acknowledges is the value of the call."""
    server = new_server()
    values = Notes()

    @server.on("go")
    async def go(socket):
        values.add(await socket.call("ask"))

    js = await play(server)
    await js(
        """
        const socket = await connected();
        socket.on("ask", (answer) => answer(...answers));
        await acked(socket, "go");
        """,
        answers=arguments,
    )
    assert await values.next() == value


async def test_id_zero(play: Stage) -> None:
    """The id 0, which the client begins with, is an id like any other."""
    server = new_server()

    @server.on("up")
    async def up(socket):
        return await socket.call("down")

    js = await play(server)
    answer, wire = await js("""
        const socket = await connected();
        const wire_log = [];
        wire(socket).on("message", (data) => wire_log.push(`${data}`));
        socket.on("down", (answer) => answer("done"));
        return [await socket.emitWithAck("up"), wire_log];
    """)
    assert answer == "done"
    assert wire[-1] == '430["done"]'


async def test_many_calls_at_once(play: Stage) -> None:
    """Each of many calls in flight gets its own answer, in whatever order they come."""
    server = new_server()
    values = Notes()

    @server.on("go")
    async def go(socket):
        async def ask(number: int) -> None:
            values.add((number, await socket.call("double", number)))

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(ask, number)

    js = await play(server)
    await js("""
        const socket = await connected();
        const waiting = [];
        socket.on("double", (number, answer) => {
            waiting.unshift(() => answer(number * 2));
            if (waiting.length === 50) waiting.forEach((give) => give());
        });
        await acked(socket, "go");
    """)
    assert sorted(values.rest()) == [(number, number * 2) for number in range(50)]


async def test_call_times_out(play: Stage) -> None:
    """A client that does not answer in time is a CallTimeout, and its late answer is ignored."""
    server = new_server()

    @server.on("go")
    async def go(socket):
        with pytest.raises(CallTimeout):
            await socket.call("slow", timeout=0.05)
        with pytest.raises(TimeoutError):
            await socket.call("slow", timeout=0.05)
        return "timed out"

    @server.on("again")
    async def again(socket):
        return await socket.call("quick")

    js = await play(server)
    assert await js("""
        const socket = await connected();
        const late = [];
        socket.on("slow", (answer) => late.push(answer));
        socket.on("quick", (answer) => answer("quick"));
        const go = await socket.emitWithAck("go");
        late.forEach((answer) => answer("late"));
        return [go, await socket.emitWithAck("again"), late.length];
    """) == ["timed out", "quick", 2]


async def test_client_times_out(play: Stage) -> None:
    """A client's own timeout strikes while the handler is busy; the late ack does no harm."""
    server = new_server()
    release = trio.Event()

    @server.on("slow")
    async def slow(socket):
        await release.wait()
        return "late"

    @server.on("after")
    async def after(socket):
        return "after"

    js = await play(server)
    assert (
        await js("""
        my.socket = await connected();
        return my.socket.timeout(50).emitWithAck("slow").catch((error) => error.message);
    """)
        == "operation has timed out"
    )
    release.set()
    assert await js("return my.socket.emitWithAck('after')") == "after"


async def test_client_leaves_during_a_call(play: Stage) -> None:
    """A call whose client leaves ends at once, not at its timeout."""
    server = new_server()
    ended = Notes()

    @server.on("go")
    async def go(socket):
        socket.nursery.start_soon(ask, socket)
        await socket.emit("leave")

    async def ask(socket):
        try:
            await socket.call("never", timeout=60)
        except Disconnected as error:
            ended.add(error.reason.code)
            raise

    js = await play(server)
    await js("""
        const socket = await connected();
        socket.on("leave", () => socket.disconnect());
        socket.emit("go");
        await next(socket, "disconnect");
    """)
    assert await ended.next() == "client namespace disconnect"


async def test_too_many_pending_calls(play: Stage) -> None:
    """A client that owes too many acknowledgements is asked for no more."""
    server = new_server(max_pending_calls=3)

    @server.on("go")
    async def go(socket):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(lambda: socket.call("never", timeout=5))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(LimitError, match="max_pending_calls"):
                await socket.call("never")
            nursery.cancel_scope.cancel()
        return "limited"

    js = await play(server)
    assert await js("return (await connected()).emitWithAck('go')") == "limited"


async def test_reply_from_another_namespace(play: Stage) -> None:
    """Acknowledgement ids are counted per socket, so equal ids of two namespaces do not mix."""
    server = new_server()
    games = server.namespace("/games")

    @server.on("go")
    async def go_main(socket):
        return ["main", await socket.call("ask")]

    @games.on("go")
    async def go_games(socket):
        return ["games", await socket.call("ask")]

    js = await play(server)
    assert await js("""
        const sockets = [await connected("/"), await connected("/games")];
        sockets.forEach((socket) => socket.on("ask", (answer) => answer(socket.nsp)));
        return Promise.all(sockets.map((socket) => socket.emitWithAck("go")));
    """) == [["main", "/"], ["games", "/games"]]
