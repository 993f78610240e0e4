"""One connection in memory: order, pressure in both directions, and deadlines."""

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.leftovers import assert_nothing_left
from trio_rt import Anonymous, Refuse, Server, reasons
from trio_rt.codec.frames import Message
from trio_rt.connection import WRITE_BYTES
from trio_rt.testing import Client, CutWire, Host, WebSocketPeer, connect, hosting
from trio_rt.testing.peer import encode_messages
from trio_rt.transport.memory import memory_wire_pair

pytestmark = pytest.mark.usefixtures("errors")

SMALL = 1_000
"""Bytes of a wire that is soon full."""


class Watched(Server):
    """A server that notes what its handlers saw."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(auth=Anonymous(), **changes)
        self.seen: list[Any] = []
        self.gone: list[str] = []
        self.may_go_on = trio.Event()
        self.on_disconnect(self._note_end)
        self.on("note")(self._note)
        self.on("wait")(self._wait)

    async def _note_end(self, socket, reason):
        self.gone.append(reason.code)

    async def _note(self, socket, value):
        self.seen.append(value)

    async def _wait(self, socket):
        self.seen.append("waiting")
        await self.may_go_on.wait()
        self.seen.append("went on")


async def send_notes(client: Client, count: int) -> None:
    """Sends so many events in one write."""
    await client.peer.send(*(f'42["note",{number}]' for number in range(count)))


async def receive_texts(peer: WebSocketPeer, count: int) -> list[Message | None]:
    """The next text messages of a raw client."""
    messages: list[Message | None] = []
    with trio.fail_after(5):
        while len(messages) < count:
            messages.append(await peer.receive())
    return messages


# In order


async def test_order_behind_a_slow_handler(autojump_clock) -> None:
    """Events that arrive while a handler runs are handled after it, in the order sent."""
    server = Watched()
    async with connect(server) as client:
        await client.emit("wait")
        await wait_all_tasks_blocked()
        for part in range(4):
            await client.peer.send(*(f'42["note",{part * 50 + n}]' for n in range(50)))
            await wait_all_tasks_blocked()
        assert server.seen == ["waiting"]
        server.may_go_on.set()
        await wait_all_tasks_blocked()
        assert server.seen == ["waiting", "went on", *range(200)]


async def test_order_of_bursts_and_single_events(autojump_clock) -> None:
    """Events that come one by one behind a burst that waits do not overtake it."""
    server = Watched()
    async with connect(server) as client:
        await client.emit("wait")
        await send_notes(client, 100)
        await wait_all_tasks_blocked()
        server.may_go_on.set()
        await client.emit("note", "last")
        await wait_all_tasks_blocked()
        assert server.seen == ["waiting", "went on", *range(100), "last"]


@pytest.mark.parametrize("size", [1, 2, 7, 64])
async def test_cut_into_pieces(autojump_clock, size: int) -> None:
    """However the network cuts what is sent, in both directions, the conversation is the same."""
    server = Watched()

    @server.on("echo")
    async def echo(socket, value):
        await server.all.emit("heard", value)
        return value

    ours, theirs = memory_wire_pair()
    async with connect(server, wires=(ours, CutWire(theirs, size, size))) as client:
        for value in ["ü" * 200, {"a": b"\0" * 300, "b": [b"", b"xyz"]}, None]:
            id = await client.ask("echo", value)
            assert await client.expect("heard") == value
            assert await client.expect_acknowledgement(id) == value


# A handler that takes its time


async def test_pongs_are_seen_behind_a_handler(autojump_clock) -> None:
    """A client whose handler runs for minutes is pinged on time, and its pongs count."""
    server = Watched()
    async with connect(server) as client:
        start = trio.current_time()
        await client.emit("wait")
        await trio.sleep(300.5)
        assert [round(at - start) for at in client.pings] == [25 * n for n in range(1, 13)]
        server.may_go_on.set()
        await wait_all_tasks_blocked()
        assert (server.seen, server.gone) == (["waiting", "went on"], [])


async def test_answer_behind_a_thousand_events(autojump_clock) -> None:
    """A handler may wait for its own client, whose answer stands behind events not handled yet."""
    server = Watched()

    @server.on("question me")
    async def ask(socket):
        server.seen.append(await socket.call("question"))

    async with connect(server) as client:
        await client.emit("question me")
        question = await client.receive()
        await send_notes(client, 1_000)
        await client.acknowledge(question, "answer")
        await wait_all_tasks_blocked()
        assert server.seen == ["answer", *range(1_000)]


async def test_full_inbox_pauses_reading(autojump_clock) -> None:
    """Behind a busy handler a bounded number of events is read; the network holds the rest."""
    server = Watched(inbox_messages=10)
    ours, theirs = memory_wire_pair(SMALL)
    async with connect(server, wires=(ours, theirs)) as client:
        await client.emit("wait")
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_notes, client, 1_000)
            await wait_all_tasks_blocked()
            assert ours.send_nowait(encode_messages("x")) == 0  # all is full up to here
            await trio.sleep(200)
            assert server.gone == []  # nobody blames the client for pongs that we did not read
            server.may_go_on.set()
        await wait_all_tasks_blocked()
        assert server.seen == ["waiting", "went on", *range(1_000)]


async def test_full_inbox_in_bytes(autojump_clock) -> None:
    """Reading pauses by bytes as well, for a few large events."""
    server = Watched(inbox_bytes=10_000)
    ours, theirs = memory_wire_pair(4_000)
    async with connect(server, wires=(ours, theirs)) as client:
        await client.emit("wait")
        await wait_all_tasks_blocked()
        with trio.move_on_after(1) as scope:
            for number in range(20):
                await client.emit("note", [number, "x" * 1_000])
        assert scope.cancelled_caught
        assert server.seen == ["waiting"]


async def test_call_resumes_reading(autojump_clock) -> None:
    """A handler that begins to wait for its client has it read on, though the inbox is full."""
    server = Watched(inbox_messages=10)

    @server.on("question me")
    async def ask(socket):
        await server.may_go_on.wait()
        server.seen.append(await socket.call("question"))

    ours, theirs = memory_wire_pair(SMALL)
    async with connect(server, wires=(ours, theirs)) as client:
        await client.emit("question me")
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send_and_answer():
                await send_notes(client, 100)
                await client.acknowledge(await client.receive(), "answer")

            await wait_all_tasks_blocked()
            server.may_go_on.set()
        await wait_all_tasks_blocked()
        assert server.seen == ["answer", *range(100)]


async def test_overrun(autojump_clock) -> None:
    """A client that sends without end while a handler waits for it is closed, and told so."""
    server = Watched(inbox_messages=10, disconnect_timeout=1)

    @server.on("question me")
    async def ask(socket):
        await socket.call("question", timeout=60)

    async with hosting(server) as host:
        neighbour = await host.connect()
        client = await host.connect()
        await client.emit("question me")
        await client.expect("question")
        await send_notes(client, 10 * 16 + 1)
        await client.expect_end(reasons.OVERRUN.close_code)
        assert server.gone == [reasons.OVERRUN.code]
        await neighbour.emit("note", "alive")
        await wait_all_tasks_blocked()
        assert server.seen == ["alive"]


# A client that reads slowly


async def slow_client(host: Host, capacity: int = SMALL, **options: Any) -> Client:
    """A client that reads nothing until it resumes."""
    client = await host.connect(wires=memory_wire_pair(capacity), **options)
    client.pause()
    await wait_all_tasks_blocked()
    return client


async def test_slow_consumer(autojump_clock) -> None:
    """A client that does not read is closed when its outbox is full; its neighbours get all."""
    server = Watched(outbox_messages=50)
    async with hosting(server) as host:
        slow, quick = await slow_client(host), await host.connect()
        for number in range(100):
            await server.all.emit("news", number, "x" * 100)
            await wait_all_tasks_blocked()
        for number in range(100):
            assert await quick.expect("news") == (number, "x" * 100)
        await trio.sleep(5)
        assert server.gone == [reasons.SLOW_CONSUMER.code]
        assert len(server.all.namespace.sockets) == 1
        slow.resume()
        await wait_all_tasks_blocked()
        numbers = [packet.data[1] for packet in slow.rest()]
        assert numbers == list(range(len(numbers)))
        assert 0 < len(numbers) < 70


async def test_slow_consumer_in_bytes(autojump_clock) -> None:
    """The outbox is bounded in bytes as well."""
    server = Watched(outbox_bytes=10_000)
    async with hosting(server) as host:
        await slow_client(host)
        for _ in range(9):
            await server.all.emit("news", "x" * 1_000)
            await wait_all_tasks_blocked()
        assert server.gone == []
        for _ in range(9):
            await server.all.emit("news", "x" * 1_000)
            await wait_all_tasks_blocked()
        await trio.sleep(5)
        assert server.gone == [reasons.SLOW_CONSUMER.code]


async def test_slow_then_quick(autojump_clock) -> None:
    """A client that falls behind and catches up has lost nothing, and everything is in order."""
    server = Watched()

    @server.on("mark")
    async def mark(socket, number):
        await server.all.emit("news", number)
        await socket.emit("private", number)
        return number

    async with hosting(server) as host:
        client = await slow_client(host)
        ids = [await client.ask("mark", number) for number in range(300)]
        await wait_all_tasks_blocked()
        client.resume()
        for number, id in enumerate(ids):
            assert await client.expect("news") == number
            assert await client.expect("private") == number
            assert await client.expect_acknowledgement(id) == number


async def test_acknowledgement_behind_a_broadcast(autojump_clock) -> None:
    """What a handler sent to anybody before it returned is there before its acknowledgement."""
    server = Watched()

    @server.on("say")
    async def say(socket, text):
        await server.to("room").emit("said", text)
        server.to(socket.id).emit_nowait("hint", text)
        socket.emit_nowait("whisper", text)
        await server.all.emit("news", text)
        return text

    @server.on_connect
    async def enter(socket):
        await socket.join("room")

    async with hosting(server) as host:
        clients = [await host.connect() for _ in range(5)]
        ids = [await client.ask("say", at) for at, client in enumerate(clients)]
        await wait_all_tasks_blocked()
        for at, (client, id) in enumerate(zip(clients, ids, strict=True)):
            names = [
                "ack" if packet.id == id else packet.data[0]
                for packet in client.rest()
                if packet.id == id or packet.data[1] == at
            ]
            assert names == ["said", "hint", "whisper", "news", "ack"]


async def test_binary_is_never_cut_by_text(autojump_clock) -> None:
    """A packet and its attachments arrive as one, whatever else is sent to a slow client."""
    server = Watched(outbox_messages=10_000, outbox_bytes=10_000_000, ping_interval=1)

    async def shout(socket, name):
        for number in range(50):
            await server.all.emit(name, number, b"x" * 400, b"y")
            await socket.emit(name, number)
            await trio.sleep(0.05)

    @server.on_connect
    async def enter(socket):
        for name in "abc":
            socket.nursery.start_soon(shout, socket, name)

    async with hosting(server) as host:
        ours, theirs = memory_wire_pair(SMALL)
        client = await host.connect(wires=(ours, CutWire(theirs, sent=[1, 300, 7])))
        for _ in range(20):
            client.pause()
            await trio.sleep(0.3)
            client.resume()
            await trio.sleep(0.1)
        await trio.sleep(5)
        packets = client.rest()
        for name in "abc":
            mine = [packet.data[1:] for packet in packets if packet.data[0] == name]
            assert mine[0::2] == [[number, b"x" * 400, b"y"] for number in range(50)]
            assert mine[1::2] == [[number] for number in range(50)]
        assert client.pings


# Heartbeat and deadlines


async def test_ping_before_what_waits(autojump_clock) -> None:
    """A ping overtakes the outbox of a client that reads slowly, but for one write on its way."""
    server = Watched(outbox_bytes=10_000_000)
    async with hosting(server) as host:
        peer = await host.open_raw(memory_wire_pair(SMALL))
        await peer.send("40")
        await receive_texts(peer, 2)
        for number in range(500):
            await server.all.emit("news", number, "x" * 1_000)
            await wait_all_tasks_blocked()
        await trio.sleep(30)
        messages = await receive_texts(peer, 500 + 1)
        assert messages.index("2") <= (SMALL + WRITE_BYTES) // 1_000
        assert len(set(messages)) == 501
        await peer.send("3")
        await trio.sleep(19)
        assert server.gone == []


async def test_ping_while_reading_is_paused(autojump_clock) -> None:
    """Pings leave on time to a client whose events we do not read for a while."""
    server = Watched(inbox_messages=1)
    async with connect(server) as client:
        start = trio.current_time()
        await client.emit("wait")
        await send_notes(client, 10)
        await trio.sleep(101)
        assert [round(at - start) for at in client.pings] == [25, 50, 75, 100]
        server.may_go_on.set()
        await trio.sleep(100)
        assert server.gone == []


@pytest.mark.parametrize("is_busy", [False, True], ids=["idle", "handler busy"])
async def test_ping_timeout(autojump_clock, is_busy: bool) -> None:
    """A client that answers no ping is given up when the timeout is over, not before."""
    server = Watched(disconnect_timeout=1)
    async with hosting(server) as host:
        start = trio.current_time()
        client = await host.connect(answers_pings=False)
        if is_busy:
            await client.emit("wait")
        await trio.sleep_until(start + 44.9)
        assert server.gone == []
        await client.expect_end(reasons.PING_TIMEOUT.close_code)
        assert server.gone == [reasons.PING_TIMEOUT.code]
        assert trio.current_time() - start < 45 + (1.1 if is_busy else 0.1)
        await assert_nothing_left(server)


async def test_silent_peer_is_let_go(autojump_clock) -> None:
    """The end does not wait longer than its deadline for a peer that reads nothing."""
    server = Watched()
    async with hosting(server) as host:
        await slow_client(host)
        for number in range(100):
            await server.all.emit("news", number, "x" * 100)
        await trio.sleep(45 + server.config.close_timeout + 0.1)
        assert server.gone == [reasons.PING_TIMEOUT.code]
        await assert_nothing_left(server)


async def test_connect_timeout(autojump_clock) -> None:
    """A client that connects to no namespace is closed."""
    server = Watched(connect_timeout=10)
    async with hosting(server) as host:
        start = trio.current_time()
        client = await host.open()
        await trio.sleep_until(start + 9.9)
        assert not client.has_ended
        await client.expect_end(reasons.CONNECT_TIMEOUT.close_code)
        assert server.gone == []
        await assert_nothing_left(server)


async def test_connect_timeout_begins_anew(autojump_clock) -> None:
    """A client that has left its last namespace has the same time again."""
    server = Watched(connect_timeout=10)
    async with hosting(server) as host:
        client = await host.connect()
        await trio.sleep(80)  # the next ping is due later than the deadline
        await client.leave()
        await trio.sleep(9.9)
        assert not client.has_ended
        await client.expect_end(reasons.CONNECT_TIMEOUT.close_code)
        assert server.gone == [reasons.CLIENT_DISCONNECT.code]


@pytest.mark.parametrize("step", ["authenticate", "middleware", "on_connect"])
async def test_auth_timeout(autojump_clock, step: str) -> None:
    """An admission that takes too long is refused, and the client may try again."""
    is_slow = True

    async def be_slow(*_: object) -> None:
        if is_slow:
            await trio.sleep_forever()

    class Slow(Anonymous):
        async def authenticate(self, handshake):
            if step == "authenticate":
                await be_slow()
            return await super().authenticate(handshake)

    server = Server(auth=Slow(), auth_timeout=3)
    if step == "middleware":
        server.use(be_slow)
    elif step == "on_connect":
        server.on_connect(be_slow)
    async with hosting(server) as host:
        client = await host.open()
        start = trio.current_time()
        with pytest.raises(Refuse) as refused:
            await client.connect()
        assert refused.value.code == "timeout"
        assert trio.current_time() - start == pytest.approx(3, abs=0.1)
        is_slow = False
        await client.connect()
        assert len(server.sessions) == 1
