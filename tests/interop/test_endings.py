"""How a socket ends: what each side is told, how often, and who comes back."""

from contextlib import nullcontext

import pytest
import trio

from tests.interop.stage import Notes, Stage, new_server
from trio_rt import Disconnected


@pytest.mark.parametrize(
    ("act", "code"),
    [
        pytest.param("socket.disconnect()", "client namespace disconnect", id="disconnect"),
        pytest.param("socket.io.engine.close()", "transport close", id="close"),
        pytest.param("wire(socket).terminate()", "transport close", id="connection cut"),
        pytest.param("wire(socket)._socket.resetAndDestroy()", "transport error", id="reset"),
        pytest.param("wire(socket).send('9')", "parse error", id="bad packet"),
        pytest.param("wire(socket).send('42{}')", "parse error", id="bad Socket.IO packet"),
        pytest.param("wire(socket).send('42/no,[1]')", "forced close", id="not joined"),
        pytest.param("wire(socket).send('4' + 'x'.repeat(5000))", "message too big", id="too big"),
        pytest.param("socket.emit('put me out')", "server namespace disconnect", id="put out"),
        pytest.param("socket.emit('stop')", "server shutting down", id="shutdown"),
    ],
)
async def test_told_once(play: Stage, act: str, code: str) -> None:
    """However a socket ends, on_disconnect runs once with the reason, and it is gone by then."""
    server = new_server(max_payload_bytes=4_000)
    gone = Notes()

    @server.on("put me out")
    async def put_out(socket):
        await socket.disconnect()

    @server.on("stop")
    async def stop(socket):
        server.stop()

    @server.on_connect
    async def enter(socket):
        await socket.join("room")

    @server.on_disconnect
    async def bye(socket, reason):
        gone.add((socket.id, reason.code, socket.connected))
        may_come_back = reason.come_back
        with nullcontext() if may_come_back else pytest.raises(Disconnected):
            await socket.emit("too late, or just in time")
        await server.to("room").emit("nobody")

    js = await play(server)
    sid = await js(f"""
        const socket = my.socket = await connected("/", {{ reconnection: false }});
        const id = socket.id;
        {act};
        return id;
    """)
    assert await gone.next() == (sid, code, False)
    await js.close()
    await play.stop(server)
    assert gone.rest() == []


async def test_every_namespace_is_told(play: Stage) -> None:
    """The end of a connection ends its socket in each namespace, once."""
    server = new_server()
    gone = Notes()
    for name in ["/", "/a", "/b"]:

        @server.namespace(name).on_disconnect
        async def bye(socket, reason, name=name):
            gone.add((name, reason.code))

    js = await play(server)
    await js("""
        const sockets = [await connected("/"), await connected("/a"), await connected("/b")];
        sockets[0].io.reconnection(false);
        wire(sockets[0]).close();
    """)
    codes = {await gone.next() for _ in range(3)}
    assert codes == {(name, "transport close") for name in ["/", "/a", "/b"]}
    await play.stop(server)
    assert gone.rest() == []


async def test_tasks_end_with_the_socket(play: Stage) -> None:
    """What runs in a socket's nursery is cancelled with it."""
    server = new_server()
    order = Notes()

    @server.on_connect
    async def enter(socket):
        socket.nursery.start_soon(stay)

    async def stay():
        try:
            await trio.sleep_forever()
        finally:
            order.add("task ended")

    @server.on_disconnect
    async def bye(socket, reason):
        order.add("disconnected")

    js = await play(server)
    await js("(await connected()).disconnect()")
    assert {await order.next(), await order.next()} == {"task ended", "disconnected"}


async def test_handler_of_a_client_that_leaves(play: Stage) -> None:
    """A handler that is still running when its client goes is cancelled after a grace."""
    server = new_server(disconnect_timeout=0.05)
    order = Notes()

    @server.on("wait")
    async def wait(socket):
        order.add("begun")
        try:
            await trio.sleep_forever()
        finally:
            order.add("ended")

    js = await play(server)
    await js("my.socket = await connected(); my.socket.emit('wait');")
    assert await order.next() == "begun"
    await js("my.socket.disconnect()")
    assert await order.next() == "ended"


async def test_failing_task_of_a_socket(play: Stage) -> None:
    """A crash in a socket's nursery ends that socket alone, and its neighbour stays."""
    server = new_server()
    gone = Notes()

    @server.on("start")
    async def start(socket):
        socket.nursery.start_soon(crash)

    async def crash():
        raise RuntimeError("crashed")

    @server.on("echo")
    async def echo(socket, value):
        return value

    @server.on_disconnect
    async def bye(socket, reason):
        gone.add((socket.id, reason.code))

    js = await play(server)
    sid, value = await js("""
        const neighbour = await connected();
        const socket = await connected("/", { forceNew: true, reconnection: false });
        const sid = socket.id;
        const disconnect = next(socket, "disconnect");
        socket.emit("start");
        await disconnect;
        return [sid, await neighbour.emitWithAck("echo", 1)];
    """)
    assert await gone.next() == (sid, "internal error")
    assert value == 1


async def test_put_out(play: Stage) -> None:
    """A client that was put out is told so, does not come back, and may use other namespaces."""
    server = new_server()

    @server.on("put me out")
    async def put_out(socket):
        await socket.disconnect()

    @server.namespace("/other").on("echo")
    async def echo(socket, value):
        return value

    js = await play(server)
    assert await js("""
        const other = await connected("/other");
        const socket = await connected();
        const disconnect = next(socket, "disconnect");
        socket.emit("put me out");
        const [reason] = await disconnect;
        return [reason, socket.active, await other.emitWithAck("echo", 1)];
    """) == ["io server disconnect", False, 1]


async def test_put_out_of_everything(play: Stage) -> None:
    """disconnect(close=True) ends all namespaces of the connection, and nobody comes back."""
    server = new_server()

    @server.on("put me out")
    async def put_out(socket):
        await socket.disconnect(close=True)

    server.namespace("/other")
    js = await play(server)
    assert await js("""
        const sockets = [await connected("/other"), await connected()];
        const reasons = sockets.map(async (socket) => (await next(socket, "disconnect"))[0]);
        const closed = next(sockets[0].io, "close");
        sockets[1].emit("put me out");
        await closed;
        return [await Promise.all(reasons), sockets.map((socket) => socket.active)];
    """) == [["io server disconnect", "io server disconnect"], [False, False]]


async def test_leaving_one_namespace(play: Stage) -> None:
    """A client that left a namespace may enter it again on the same connection."""
    server = new_server()
    gone = Notes()

    @server.on("who")
    async def who(socket):
        return socket.id

    @server.on_disconnect
    async def bye(socket, reason):
        gone.add(reason.code)

    server.namespace("/other")
    js = await play(server)
    assert await js("""
        const other = await connected("/other");
        const socket = await connected();
        const before = socket.id;
        socket.disconnect();
        const connect = next(socket, "connect");
        socket.connect();
        await connect;
        return [
            before !== socket.id,
            await socket.emitWithAck("who") === socket.id,
            other.io === socket.io && other.connected,
        ];
    """) == [True, True, True]
    assert gone.rest() == ["client namespace disconnect"]


async def test_server_restarts(play: Stage) -> None:
    """A shutdown is a lost transport to clients, who come back to a new server on the port."""
    first = new_server()
    js = await play(first)
    port = first.port
    await js("""
        const socket = await connected();
        my.disconnect = next(socket, "disconnect");
        my.connect = next(socket, "connect");
        my.socket = socket;
    """)
    await play.stop(first)
    second = new_server()

    @second.on("which")
    async def which(socket):
        return "second"

    await play.serve(second, port)
    assert await js("""
        const [reason] = await my.disconnect;
        await my.connect;
        return [reason, await my.socket.emitWithAck("which")];
    """) == ["transport close", "second"]


async def test_shutdown_lets_clients_read(play: Stage) -> None:
    """What was emitted just before a shutdown still arrives."""
    server = new_server()
    js = await play(server)
    await js("""
        const socket = await connected("/", { reconnection: false });
        my.events = diary(socket);
        my.disconnect = next(socket, "disconnect");
    """)
    for number in range(20):
        await server.all.emit("last words", number, "x" * 10_000)
    await play.stop(server)
    assert await js("await my.disconnect; return my.events.map(([, number]) => number)") == [
        *range(20)
    ]


async def test_slow_farewell(play: Stage) -> None:
    """An on_disconnect that takes too long is cut at its deadline."""
    server = new_server(disconnect_timeout=0.05)
    ended = Notes()

    @server.on_disconnect
    async def bye(socket, reason):
        try:
            await trio.sleep_forever()
        finally:
            ended.add("cut")

    js = await play(server)
    await js("(await connected()).disconnect()")
    assert await ended.next() == "cut"


async def test_too_big(play: Stage) -> None:
    """A message over the limit ends the connection that sent it, and no other."""
    server = new_server(max_payload_bytes=10_000)

    @server.on("size")
    async def size(socket, data):
        return len(data)

    js = await play(server)
    assert await js("""
        const neighbour = await connected();
        const socket = await connected("/", { forceNew: true, reconnection: false });
        const fits = await socket.emitWithAck("size", "x".repeat(9_900));
        const disconnect = next(socket, "disconnect");
        socket.emit("size", "x".repeat(10_000));
        const [reason] = await disconnect;
        return [fits, reason, await neighbour.emitWithAck("size", "small")];
    """) == [9_900, "transport close", 5]
