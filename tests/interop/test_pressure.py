"""Clients that read too slowly, and clients that send too fast."""

import trio
import trio.lowlevel

from tests.interop.stage import Notes, Stage, new_server
from trio_rt import Block, DropOldest, Latest, Server

# More than the kernel's buffers of both sides hold.
CHUNK = "x" * 65_536
FLOOD = 400

BLOCKED = """
    my.slow = await connected("/", { forceNew: true, reconnection: false });
    my.numbers = [];
    my.slow.on("chunk", (number) => my.numbers.push(number));
    my.last = next(my.slow, "last");
    wire(my.slow).pause();
"""


def watched() -> tuple[Server, Notes]:
    """A server, and the reasons of its disconnections."""
    server = new_server()
    gone = Notes()

    @server.on_disconnect
    async def bye(socket, reason):
        gone.add((socket.id, reason.code))

    return server, gone


async def test_slow_consumer(play: Stage) -> None:
    """A client that reads too slowly is closed, while its neighbours get everything in order."""
    server, gone = watched()

    @server.on("read well")
    async def read_well(socket):
        await socket.join("readers")

    js = await play(server)
    sid = await js(
        BLOCKED
        + """
        my.seen = [[], []];
        for (const seen of my.seen) {
            const socket = await connected("/", { forceNew: true });
            socket.on("chunk", (number) => seen.push(number));
            socket.on("seen?", (answer) => answer());
            await acked(socket, "read well");
        }
        return my.slow.id;
    """
    )
    for number in range(FLOOD):
        await server.all.emit("chunk", number, CHUNK)
        if number % 8 == 0:
            await server.to("readers").call("seen?")
    assert await gone.next() == (sid, "slow consumer")
    assert await js("return my.seen") == [[*range(FLOOD)]] * 2
    assert gone.rest() == []


async def test_volatile_to_a_blocked_client(play: Stage) -> None:
    """Volatile events that a blocked client cannot take are dropped, and it stays."""
    server, gone = watched()
    js = await play(server)
    await js(BLOCKED)
    for number in range(FLOOD):
        await server.all.volatile.emit("chunk", number, CHUNK)
    await server.all.emit("last")
    numbers = await js("""
        wire(my.slow).resume();
        await my.last;
        return my.numbers;
    """)
    assert numbers == [*range(len(numbers))]
    assert 0 < len(numbers) < FLOOD
    assert gone.rest() == []


async def test_latest(play: Stage) -> None:
    """Of the states that a blocked client missed it gets the newest, and it stays."""
    server, gone = watched()
    js = await play(server)
    await js(BLOCKED)
    states = server.all.when_slow(Latest("state"))
    for number in range(FLOOD):
        await states.emit("chunk", number, CHUNK)
    await server.all.emit("last")
    numbers = await js("wire(my.slow).resume(); await my.last; return my.numbers;")
    assert numbers == sorted(numbers)
    assert numbers[-1] == FLOOD - 1
    assert len(numbers) < FLOOD
    assert gone.rest() == []


async def test_drop_oldest(play: Stage) -> None:
    """A blocked client loses what waited longest, gets the newest in order, and stays."""
    server, gone = watched()
    js = await play(server)
    await js(BLOCKED)
    recent = server.all.when_slow(DropOldest())
    for number in range(FLOOD):
        await recent.emit("chunk", number, CHUNK)
    await recent.emit("last")
    numbers = await js("wire(my.slow).resume(); await my.last; return my.numbers;")
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == FLOOD - 1
    assert len(numbers) < FLOOD
    assert gone.rest() == []


async def test_block(play: Stage) -> None:
    """With Block() who emits waits for the client to read, and nothing is lost."""
    server, gone = watched()
    blocked = Notes()

    @server.on("go")
    async def go(socket):
        for number in range(FLOOD):
            with trio.move_on_after(0.2) as patience:
                await socket.when_slow(Block()).emit("chunk", number, CHUNK)
            if patience.cancelled_caught:
                blocked.add(number)
                await socket.when_slow(Block()).emit("chunk", number, CHUNK)
        await socket.emit("last")

    js = await play(server)
    await js(BLOCKED + "my.slow.emit('go')")
    assert 0 < await blocked.next() < FLOOD
    numbers = await js("wire(my.slow).resume(); await my.last; return my.numbers;")
    assert numbers == [*range(FLOOD)]
    assert gone.rest() == []


async def test_overrun(play: Stage) -> None:
    """A client that floods the server instead of answering its question is ended."""
    server = new_server(inbox_messages=10)
    gone = Notes()

    @server.on("go")
    async def go(socket):
        await socket.call("question", timeout=60)

    @server.on_disconnect
    async def bye(socket, reason):
        gone.add(reason.code)

    js = await play(server)
    await js("""
        const socket = await connected("/", { reconnection: false });
        const disconnect = next(socket, "disconnect");
        socket.on("question", () => {
            for (let number = 0; number < 400; number++) socket.emit("flood");
        });
        socket.emit("go");
        await disconnect;
    """)
    assert await gone.next() == "overrun"


async def test_many_clients_at_once(play: Stage) -> None:
    """Two hundred clients that come at once are all served, and all leave."""
    server, gone = watched()

    @server.on("who")
    async def who(socket):
        return socket.id

    js = await play(server)
    assert await js("""
        const sockets = await Promise.all(
            Array.from({ length: 200 }, () => connected("/", { forceNew: true })));
        const ids = await Promise.all(sockets.map((socket) => socket.emitWithAck("who")));
        const right = ids.every((id, index) => id === sockets[index].id);
        sockets.forEach((socket) => socket.disconnect());
        return [right, new Set(ids).size];
    """) == [True, 200]
    assert {(await gone.next())[1] for _ in range(200)} == {"client namespace disconnect"}
