"""Clients that come, speak and vanish leave nothing behind: not a task, not a byte that adds up."""

import gc
import os
import socket
import struct
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from tests.backplane.redis.waiting import until
from tests.leftovers import leftovers, memories
from trio_rt import Anonymous, Server
from trio_rt.testing.peer import encode_messages

THOUSAND = 1_000
"""So many of them."""

BATCH = 250
"""So many at once: too few for a server to freeze what they are made of."""

BYTES_EACH = 100
"""What may seem to be left of each: the sets and dicts of a server keep their size for a while."""

DEADLINE = 60.0

UPGRADE = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)

PING = b"\x81\x012"
"""As a frame; in JSON there is no such byte."""

COUNTED = ("trio_rt", "trio", "h11")
"""Packages whose objects are counted."""

NOT_COUNTED = (
    "trio.CancelScope",
    "trio._core._run.CancelStatus",
    "trio._core._traps.WaitTaskRescheduled",
)
"""Trio keeps scopes that had a deadline for a while, and forgets them a thousand at a time. The
others are in the traceback of its newest `Cancelled`, which lives until the next."""


def make_server() -> Server:
    """A server with something for every client, and little patience."""
    server = Server(
        auth=Anonymous(),
        ping_interval=0.5,
        ping_timeout=4.0,  # the clients are in the same process, which may be slow
        disconnect_timeout=0.2,
        close_timeout=0.2,
        recovery_window=0.2,
    )
    server.namespace("/other").on("x")(answer)

    @server.on_connect
    async def enter(socket):
        socket.data["something"] = "kept"
        await socket.join("everybody", f"room of {socket.id}")
        socket.nursery.start_soon(trio.sleep_forever)

    @server.on("say")
    async def say(socket, text: str):
        await server.to("everybody").volatile.emit("said", text)
        return text

    @server.on("ask me")
    async def ask_me(socket):
        await socket.call("question", timeout=5)

    server.on("several", concurrency=2)(wait)
    return server


async def answer(socket):
    return "ok"


async def wait(socket):
    await trio.sleep_forever()


@pytest.fixture
async def server(nursery: trio.Nursery) -> AsyncIterator[Server]:
    """A server that serves on loopback."""
    server = make_server()
    await nursery.start(server.serve, "127.0.0.1", 0)
    yield server
    server.stop()


# How they go


async def leave(client: trio.SocketStream) -> None:
    """Closes in good order: a close frame, and the server's in return."""
    await client.send_all(b"\x88\x82\0\0\0\0\x03\xe8")
    while await client.receive_some():
        pass


async def reset(client: trio.SocketStream) -> None:
    """Sends a TCP reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def fall_silent(client: trio.SocketStream) -> None:
    """Reads, but says nothing more until the server gives up."""
    try:
        while await client.receive_some():
            pass
    except trio.BrokenResourceError:
        pass


WAYS = [leave, reset, fall_silent]


async def come_and_go(port: int, way: Callable[[trio.SocketStream], Any], is_busy: bool) -> None:
    """One client: connects to two namespaces, speaks, is answered, and vanishes."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as client:
        await client.send_all(UPGRADE + encode_messages("40", "40/other,"))
        await receive_until(client, b"40/other,{")
        await client.send_all(encode_messages('421["say","hello"]'))
        await receive_until(client, b'431["hello"]')
        if is_busy:
            events = ["several"] * 3 + ["ask me", "say"]
            await client.send_all(encode_messages(*(f'42["{event}"]' for event in events)))
        await way(client)


async def receive_until(client: trio.SocketStream, end: bytes) -> None:
    """Reads, and answers pings: the rest of the server's work may take longer than their time."""
    received, pongs = b"", 0
    while end not in received:
        data = await client.receive_some()
        assert data, received
        received += data
        while pongs < received.count(PING):
            await client.send_all(encode_messages("3"))
            pongs += 1


async def play(server: Server, count: int = THOUSAND) -> None:
    """So many clients come and go, in batches, some of the last one silently; then all is quiet."""
    with trio.fail_after(DEADLINE):
        for start in range(0, count, BATCH):
            async with trio.open_nursery() as nursery:
                ways = WAYS if start + BATCH >= count else WAYS[:2]
                for at in range(start, start + BATCH):
                    way = ways[at % len(ways)]
                    nursery.start_soon(come_and_go, server.port, way, at % 2 == 0)
        while leftovers(server) or memories(server):  # noqa: ASYNC110  nothing else tells
            await trio.sleep(0.01)
        for _ in range(10):
            await trio.sleep(0.01)  # the last tasks end


# What may be left


def count_tasks() -> int:
    """All tasks of this run of Trio."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    waiting, count = [root], 0
    while waiting:
        task = waiting.pop()
        count += 1
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return count


def count_objects() -> Counter[str]:
    """All objects of our classes that are alive, garbage in cycles included."""
    kinds = [type(thing) for thing in gc.get_objects()]
    ours = [kind for kind in kinds if kind.__module__.partition(".")[0] in COUNTED]
    counts = Counter(f"{kind.__module__}.{kind.__qualname__}" for kind in ours)
    for name in NOT_COUNTED:
        del counts[name]
    return counts


@contextmanager
def no_collection() -> Iterator[None]:
    """Nothing is freed but by its reference count."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


async def test_nothing_is_left(server: Server) -> None:
    """Thousands of vanished clients leave no task, descriptor, member, timer or registration."""
    await play(server, BATCH)
    tasks, descriptors = count_tasks(), len(os.listdir("/proc/self/fd"))
    await play(server)
    assert leftovers(server) == {}
    assert len(server._now.hub) == 0
    assert server._reception.requests == 0
    assert count_tasks() == tasks
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("sent", [b"", UPGRADE[:60]], ids=["nothing", "half a request"])
@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
async def test_left_in_the_doorway(server: Server, sent: bytes, is_reset: bool) -> None:
    """Who goes before there is a request leaves no descriptor and no registration either."""
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        await stream.send_all(sent)
        await until(lambda: len(server._now.hub) == 1)
        if is_reset:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()
        await until(lambda: not server._reception.requests)
        assert len(server._now.hub) == 0
    assert len(os.listdir("/proc/self/fd")) == descriptors


async def test_freed_without_the_collector(server: Server) -> None:
    """Everything of a client is freed by reference counts: the collector skips what is frozen."""
    await play(server, BATCH)
    with no_collection():
        before = count_objects()
        await play(server, BATCH)
        assert count_objects() - before == {}


async def test_no_growing_memory(server: Server) -> None:
    """A thousand more clients, after those who filled all caches, take no more memory."""
    tracemalloc.start()
    try:
        await play(server, 2 * BATCH)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        await play(server)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < THOUSAND * BYTES_EACH
    finally:
        tracemalloc.stop()
