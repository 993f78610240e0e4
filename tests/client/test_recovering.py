"""The client and the server together, over wires that break: nothing lost, nothing twice."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_rt import (
    Anonymous,
    ConnectionState,
    ReconnectLimits,
    Server,
    Socket,
    open_client,
)
from trio_rt.client import Client
from trio_rt.machine.membership import MAX_LEFT
from trio_rt.testing import CutWire, Link, MemoryDialer, hosting
from trio_rt.transport.memory import memory_wire_pair
from trio_rt.transport.wire import Wire

STEADY = ReconnectLimits(backoff_base=1, backoff_max=1)


async def wait_lost(client: Client) -> None:
    """Waits until the client has noticed a loss."""
    async for change in client.changes():
        if change.state is ConnectionState.BACKING_OFF:
            return


async def test_missed_events(autojump_clock: MockClock) -> None:
    """After a loss it is the same socket in the same rooms, and what it missed comes in order."""
    server = Server(auth=Anonymous())
    seen: list[int] = []

    @server.on_connect
    async def hello(socket: Socket) -> None:
        await socket.join("room")

    async with hosting(server) as host:
        dial = MemoryDialer(host)
        async with open_client("http://x", dial=dial, reconnect=STEADY) as client:

            @client.on("n")
            async def on_n(n: int) -> None:
                seen.append(n)

            await client.wait_connected()
            id = client.id
            for n in range(5):
                await server.to("room").emit("n", n)
            await wait_all_tasks_blocked()
            for n in range(5, 50):
                if n % 5 == 0:
                    dial.cut()
                await server.to("room").emit("n", n)
                if n % 5 == 2:
                    await wait_all_tasks_blocked()  # now it has noticed
                if n % 5 == 4:
                    await client.wait_connected()
                    assert client.recovered
            await wait_all_tasks_blocked()
            assert client.id == id
            assert dial.count == 10
    assert seen == list(range(50))


async def test_idle_session(autojump_clock: MockClock) -> None:
    """A session in which nothing had come is recovered as well."""
    server = Server(auth=Anonymous())
    async with hosting(server) as host:
        dial = MemoryDialer(host)
        async with open_client("http://x", dial=dial, reconnect=STEADY) as client:
            seen: list[str] = []

            @client.on("x")
            async def x(text: str) -> None:
                seen.append(text)

            await client.wait_connected()
            for _ in range(3):
                dial.cut()
                await wait_all_tasks_blocked()
                await client.wait_connected()
                assert client.recovered
            await server.all.emit("x", "text")
            await wait_all_tasks_blocked()
            assert seen == ["text"]


async def test_lost_acknowledgement(autojump_clock: MockClock) -> None:
    """A call whose acknowledgement was lost is answered after coming back, and was run once."""
    server = Server(auth=Anonymous())
    ran: list[int] = []

    @server.on("add")
    async def add(socket: Socket, n: int) -> int:
        ran.append(n)
        if len(ran) in (1, 3):
            dial.cut()
            await trio.lowlevel.checkpoint()
        return sum(ran)

    async with hosting(server) as host:
        dial = MemoryDialer(host)
        async with open_client("http://x", dial=dial, reconnect=STEADY) as client:
            await client.wait_connected()
            assert [await client.call("add", n, timeout=50) for n in range(1, 5)] == [1, 3, 6, 10]
    assert ran == [1, 2, 3, 4]


async def test_emits_over_breaking_wires(autojump_clock: MockClock) -> None:
    """What is emitted arrives once and in order, whenever the wires break, in pieces or late."""
    server = Server(auth=Anonymous())
    got: list[int] = []

    @server.on("n")
    async def on_n(socket: Socket, n: int) -> None:
        got.append(n)

    async with trio.open_nursery() as nursery, hosting(server) as host:
        links: list[Link] = []

        def new_wires() -> tuple[Wire, Wire]:
            link = Link(0.05, 500)
            links.append(link)
            nursery.start_soon(link.run)
            return CutWire(link.client, 3, (1, 7)), CutWire(link.server, (2, 5), 11)

        dial = MemoryDialer(host, new_wires)
        async with open_client("http://x", dial=dial, reconnect=STEADY) as client:
            for n in range(300):
                await client.emit("n", n)
                await trio.sleep(0.02)
                if n % 30 == 29:
                    links[-1].drop()
        assert client.pending == 0
        assert len(links) > 5
        nursery.cancel_scope.cancel()
    assert got == list(range(300))


async def test_dead_server(autojump_clock: MockClock) -> None:
    """A network that swallows everything is noticed by its silence, and another one found."""
    server = Server(auth=Anonymous(), ping_interval=2.0, ping_timeout=3.0)

    @server.on("x")
    async def x(socket: Socket) -> str:
        return "here"

    async with trio.open_nursery() as nursery, hosting(server) as host:
        links: list[Link] = []

        def new_wires() -> tuple[Wire, Wire]:
            link = Link(0.0, 65_536)
            links.append(link)
            nursery.start_soon(link.run)
            return link.client, link.server

        async with open_client(
            "http://x", dial=MemoryDialer(host, new_wires), reconnect=STEADY
        ) as client:
            await client.wait_connected()
            links[0].stall()
            start = trio.current_time()
            await wait_lost(client)
            assert trio.current_time() - start <= 5.1
            assert client.reason is not None
            assert client.reason.code == "ping timeout"
            assert await client.call("x") == "here"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seconds", [1.0, 1_000.0])
async def test_away(autojump_clock: MockClock, seconds: float) -> None:
    """Who is away too long gets a new session, and is told; the others go on."""
    server = Server(auth=Anonymous())
    async with hosting(server) as host:
        dial = MemoryDialer(host)
        async with open_client("http://x", dial=dial, reconnect=STEADY) as client:
            told: list[Any] = []

            @client.on_connect
            async def hello() -> None:
                told.append((client.id, client.recovered))

            await client.wait_connected()
            dial.error = OSError("no network")
            dial.cut()
            await trio.sleep(seconds)
            dial.error = None
            await client.wait_connected()
            await wait_all_tasks_blocked()
    (first, _), (second, recovered) = told
    assert recovered is (seconds < 10)
    assert (first == second) is recovered


async def test_order_behind_a_handler_that_gave_up(autojump_clock: MockClock) -> None:
    """Where a handler gives up with its connection, what came behind it waits for its resend."""
    server = Server(auth=Anonymous())
    ran: list[int] = []

    @server.on("slow")
    async def slow(socket: Socket) -> None:
        await trio.sleep(1.0)
        await socket.call("ask")
        ran.append(1)

    @server.on("quick")
    async def quick(socket: Socket) -> None:
        ran.append(2)

    async with (
        hosting(server) as host,
        open_client("http://x", dial=MemoryDialer(host), reconnect=STEADY) as client,
    ):

        @client.on("ask")
        async def ask() -> None: ...

        await client.wait_connected()
        await client.emit("slow")
        await wait_all_tasks_blocked()
        await client.emit("quick")
        await wait_all_tasks_blocked()
        host.stop()
        await wait_lost(client)
    assert ran == [1, 2]


@pytest.mark.parametrize("rooms", [3, MAX_LEFT + 1])
async def test_many_rooms_left(autojump_clock: MockClock, rooms: int) -> None:
    """What was missed in rooms that were left comes too; where there were too many to remember the
    client is told that it was not recovered."""
    server = Server(auth=Anonymous())
    seen: list[int] = []
    async with trio.open_nursery() as nursery, hosting(server) as host:
        link = Link(0.0, 65_536)
        nursery.start_soon(link.run)
        dial = MemoryDialer(host, lambda: (link.client, link.server))
        async with open_client("http://x", dial=dial, reconnect=STEADY) as client:

            @client.on("n")
            async def on_n(n: int) -> None:
                seen.append(n)

            await client.wait_connected()
            (socket,) = server.namespace("/").sockets.values()
            link.down.cut()
            for n in range(rooms):
                await socket.join(f"room {n}")
                await server.to(f"room {n}").emit("n", n)
                await socket.leave(f"room {n}")
            dial.new_wires = memory_wire_pair
            link.drop()
            await wait_lost(client)
            await client.wait_connected()
            await wait_all_tasks_blocked()
            assert client.recovered is (rooms < MAX_LEFT)
        nursery.cancel_scope.cancel()
    assert seen == (list(range(rooms)) if rooms < MAX_LEFT else [])
