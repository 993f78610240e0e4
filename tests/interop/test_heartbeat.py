"""Pings: they keep a living client, idle or busy, and find a dead one."""

import trio

from tests.interop.stage import Notes, Stage, new_server

COUNT_PINGS = """
    const socket = await connected();
    const id = socket.id;
    let pings = 0;
    const enough = new Promise((resolve) =>
        socket.io.on("ping", () => ++pings === 10 && resolve()));
"""


async def test_idle_client(play: Stage) -> None:
    """An idle client stays connected over many pings."""
    js = await play(new_server(ping_interval=0.05, ping_timeout=1.0))
    assert await js(COUNT_PINGS + "await enough; return socket.id === id && socket.connected;")


async def test_busy_client(play: Stage) -> None:
    """Pings reach a client in the middle of events and acknowledgements in both directions."""
    server = new_server(ping_interval=0.1, ping_timeout=1.0)

    @server.on("echo")
    async def echo(socket, value):
        await socket.emit("also", value)
        return value

    js = await play(server)
    assert await js(
        COUNT_PINGS
        + """
        let over = false;
        enough.then(() => { over = true; });
        while (!over) await Promise.all(
            Array.from({ length: 50 }, (_, n) => socket.emitWithAck("echo", n)));
        return socket.id === id && socket.connected;
    """
    )


async def test_client_of_a_slow_handler(play: Stage) -> None:
    """A client stays connected while its handler is slow and its events pile up behind it."""
    server = new_server(ping_interval=0.05, ping_timeout=0.5, inbox_messages=10)
    release = trio.Event()
    seen = Notes()

    @server.on("work")
    async def work(socket, number, data):
        await release.wait()
        seen.add(number)
        return number

    js = await play(server)
    await js(
        COUNT_PINGS
        + """
        const data = "x".repeat(10_000);
        for (let number = 0; number < 500; number++) socket.emit("work", number, data);
        my.last = socket.emitWithAck("work", 500, data);
        await enough;
    """
    )
    release.set()
    assert await js("return my.last") == 500
    assert seen.rest() == [*range(501)]
