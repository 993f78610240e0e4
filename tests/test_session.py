"""A client's sockets in memory: how they begin, how they end, and that nothing is left of them."""

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.leftovers import assert_nothing_left, leftovers
from trio_rt import Anonymous, Disconnected, Refuse, Server, reasons
from trio_rt.errors import TransportClosed
from trio_rt.reasons import Reason
from trio_rt.testing import Client, CutWire, Host, Link, connect, hosting, open_link
from trio_rt.testing.hosting import open_session
from trio_rt.transport.memory import memory_wire_pair
from trio_rt.transport.wire import Wire

pytestmark = pytest.mark.usefixtures("errors")


def server_that_notes(gone: list[Any], **changes: Any) -> Server:
    """A server whose clients are in a room until they go."""
    server = Server(auth=Anonymous(), max_payload_bytes=4_000, **changes)

    @server.on_connect
    async def enter(socket):
        await socket.join("room", "other room")

    @server.on_disconnect
    async def bye(socket, reason):
        gone.append((socket.id, reason.code))

    return server


# The beginning


async def test_too_many_dynamic_namespaces(autojump_clock, caplog: Any) -> None:
    """Namespaces that clients make by asking are bounded, and there is room when one has ended."""
    server = Server(auth=Anonymous(), max_dynamic_namespaces=2)
    server.namespace(re.compile(r"/room-\d"))
    async with hosting(server) as host:
        clients = [await host.connect(f"/room-{number}") for number in range(2)]
        for _ in range(10):
            with pytest.raises(Refuse, match="Invalid namespace"):
                await host.connect("/room-2")
        await host.connect("/room-1")  # one that there is
        await clients[0].aclose()
        await trio.sleep(server.config.recovery_window + 5)
        await host.connect("/room-2")
    told = [r.getMessage() for r in caplog.records if "max_dynamic_namespaces" in r.getMessage()]
    assert len(told) == 5


async def test_connected_by_the_first_emit(autojump_clock) -> None:
    """What on_connect emits reaches the client behind the CONNECT reply, at once."""
    server = Server(auth=Anonymous())
    go_on = trio.Event()

    @server.on_connect
    async def enter(socket):
        assert not socket.connected
        await socket.emit("welcome", socket.id)
        assert socket.connected
        await go_on.wait()

    async with connect(server) as client:
        sid = next(iter(server.all.namespace.sockets))
        assert await client.expect("welcome") == sid
        go_on.set()
        await client.expect_nothing()


async def test_connected_by_a_join(autojump_clock) -> None:
    """A socket that joined a room in on_connect gets what is sent there, behind its CONNECT."""
    server = Server(auth=Anonymous())

    @server.on_connect
    async def enter(socket):
        await socket.join("room")
        await server.to("room").emit("entered", socket.id)

    async with hosting(server) as host:
        client = await host.open()
        sid = await client.connect()
        assert await client.expect("entered") == sid


async def test_connected_when_the_hook_returns(autojump_clock) -> None:
    """Before on_connect has returned or sent something, no broadcast reaches the socket."""
    server = Server(auth=Anonymous())

    @server.on_connect
    async def enter(socket):
        await server.all.emit("somebody comes")
        await trio.sleep(1)

    async with hosting(server) as host:
        client = await host.open()
        start = trio.current_time()
        await client.connect()
        assert trio.current_time() - start == pytest.approx(1)
        await client.expect_nothing()


async def test_events_wait_for_on_connect(autojump_clock) -> None:
    """An event that a client sends as soon as it is connected is handled after on_connect."""
    order: list[str] = []
    server = Server(auth=Anonymous())

    @server.on_connect
    async def enter(socket):
        await socket.emit("hello")
        await trio.sleep(1)
        order.append("connected")

    @server.on("say")
    async def say(socket):
        order.append("said")

    async with connect(server) as client:
        await client.call("say")
        assert order == ["connected", "said"]


@pytest.mark.parametrize("hook", ["authenticate", "middleware", "on_connect"])
async def test_refused(autojump_clock, hook: str) -> None:
    """A refusal is told with its code and details; on_disconnect does not run for it."""
    gone: list[Any] = []

    async def refuse(*_: object) -> None:
        raise Refuse("not_now", "come back later", {"seconds": 5})

    class Strict(Anonymous):
        authenticate = refuse

    server = Server(auth=Strict() if hook == "authenticate" else Anonymous())
    if hook == "middleware":
        server.use(refuse)
    elif hook == "on_connect":
        server.on_connect(refuse)

    @server.on_disconnect
    async def bye(socket, reason):
        gone.append(reason)

    async with hosting(server) as host:
        client = await host.open()
        with pytest.raises(Refuse, match="come back later") as refused:
            await client.connect()
        assert (refused.value.code, refused.value.details) == ("not_now", {"seconds": 5})
        assert server.all.namespace.sockets == {}
    assert gone == []
    await assert_nothing_left(server)


async def test_refused_after_a_join(autojump_clock) -> None:
    """A refusal behind the CONNECT reply is an error event and a disconnect; the rooms are left."""
    gone: list[Any] = []
    server = server_that_notes(gone)
    server.handlers.connect = None

    @server.on_connect
    async def enter(socket):
        await socket.join("room")
        raise Refuse("full", "the room is full")

    async with connect(server) as client:
        told = await client.expect("error")
        assert told == {"error": {"code": "full", "message": "the room is full", "details": None}}
        await client.expect_put_out()
        assert [code for _, code in gone] == [reasons.SERVER_DISCONNECT.code]
        assert set(leftovers(server)) == {"sessions", "bells on the wheel"}
        server.handlers.connect = None
        await client.connect()


async def test_client_goes_during_on_connect(autojump_clock) -> None:
    """A client that vanishes while it is admitted leaves nothing, and is no error."""
    gone: list[Any] = []
    server = server_that_notes(gone, disconnect_timeout=1)
    server.handlers.connect = None

    @server.on_connect
    async def enter(socket):
        await trio.sleep(3)
        await socket.emit("too late")

    async with hosting(server) as host:
        client = await host.open()
        await client.send_packet(b"0")
        await wait_all_tasks_blocked()
        client.close()
        await trio.sleep(10)
        assert gone == []
        await assert_nothing_left(server)


async def test_leave_during_on_connect(autojump_clock) -> None:
    """A DISCONNECT that arrives while on_connect runs is obeyed when that has returned."""
    gone: list[Any] = []
    server = server_that_notes(gone)
    server.handlers.connect = None

    @server.on_connect
    async def enter(socket):
        await trio.sleep(3)

    async with hosting(server) as host:
        client = await host.open()
        await client.send_packet(b"0")
        await client.leave()
        await trio.sleep(5)
        assert [code for _, code in gone] == [reasons.CLIENT_DISCONNECT.code]
        assert server.all.namespace.sockets == {}


# The endings

End = Callable[[Host, Client, Link], Awaitable[None]]
ENDINGS: list[Any] = []


def ending(reason: Reason) -> Callable[[End], End]:
    """Registers one way in which a connected socket ends."""

    def register(end: End) -> End:
        ENDINGS.append(pytest.param(end, reason, id=end.__name__))
        return end

    return register


def the_socket(host: Host) -> Any:
    """The one socket that is connected."""
    (socket,) = host.app.all.namespace.sockets.values()
    return socket


@ending(reasons.CLIENT_DISCONNECT)
async def client_leaves(host: Host, client: Client, link: Link) -> None:
    """The client sends a DISCONNECT."""
    await client.leave()


@ending(reasons.TRANSPORT_CLOSE)
async def client_closes(host: Host, client: Client, link: Link) -> None:
    """The client closes its WebSocket."""
    await client.peer.send_close()


@ending(reasons.TRANSPORT_CLOSE)
async def client_vanishes(host: Host, client: Client, link: Link) -> None:
    """The client's stream ends without a close frame."""
    client.close()


@ending(reasons.TRANSPORT_ERROR)
async def network_breaks(host: Host, client: Client, link: Link) -> None:
    """The client's stream is reset."""
    link.drop()


@ending(reasons.PING_TIMEOUT)
async def client_is_silent(host: Host, client: Client, link: Link) -> None:
    """Nothing arrives any more, in either direction."""
    link.stall()


@ending(reasons.PARSE_ERROR)
async def bad_packet(host: Host, client: Client, link: Link) -> None:
    """The client sends no Engine.IO packet."""
    await client.peer.send("9")


@ending(reasons.PARSE_ERROR)
async def bad_frame(host: Host, client: Client, link: Link) -> None:
    """The client sends a frame that is not masked."""
    await client.peer.send_bytes(b"\x81\x012")


@ending(reasons.PARSE_ERROR)
async def bad_attachment(host: Host, client: Client, link: Link) -> None:
    """The client sends a packet where an attachment was due."""
    await client.peer.send('451-["x",{"_placeholder":true,"num":0}]', '42["x"]')


@ending(reasons.FORCED_CLOSE)
async def second_connect(host: Host, client: Client, link: Link) -> None:
    """The client connects twice."""
    await client.peer.send("40")


@ending(reasons.MESSAGE_TOO_BIG)
async def too_big(host: Host, client: Client, link: Link) -> None:
    """The client sends a message over the limit."""
    await client.peer.send("4" + "x" * 5_000)


@ending(reasons.SLOW_CONSUMER)
async def too_slow(host: Host, client: Client, link: Link) -> None:
    """The client does not read, and its outbox is full."""
    client.pause()
    for _ in range(1_000):
        host.app.all.emit_nowait("not lost by this")
        await host.app.all.emit("news", "x" * 5_000)
        await trio.sleep(0.001)


@ending(reasons.SERVER_DISCONNECT)
async def put_out(host: Host, client: Client, link: Link) -> None:
    """The program puts the socket out."""
    await the_socket(host).disconnect()


@ending(reasons.SERVER_DISCONNECT)
async def put_out_and_closed(host: Host, client: Client, link: Link) -> None:
    """The program puts the client out of all namespaces and closes."""
    await the_socket(host).disconnect(close=True)


@ending(reasons.INTERNAL_ERROR)
async def task_crashes(host: Host, client: Client, link: Link) -> None:
    """A task of the socket's nursery fails."""

    async def crash():
        raise RuntimeError("a bug of the program's")

    the_socket(host).nursery.start_soon(crash)


@ending(reasons.SERVER_SHUTDOWN)
async def server_drains(host: Host, client: Client, link: Link) -> None:
    """The server closes its connections in good order."""
    host.stop()


@ending(reasons.SERVER_SHUTDOWN)
async def server_is_cancelled(host: Host, client: Client, link: Link) -> None:
    """The server is cancelled."""
    host.cut()


async def let_end(act: End, host: Host, client: Client, link: Link) -> None:
    """Acts, and waits until the connection is gone, or the socket is where that is all."""
    await act(host, client, link)
    with trio.CancelScope(shield=True):
        await trio.sleep(101)
        client.close()
        link.drop()
        await trio.sleep(10)


def take_crash(errors: list[logging.LogRecord], reason: Reason) -> None:
    """A crash of the program's is logged once; nothing else is."""
    if reason is reasons.INTERNAL_ERROR:
        assert "a task of socket" in errors.pop().getMessage()


@pytest.mark.parametrize(("act", "reason"), ENDINGS)
async def test_told_once(
    autojump_clock, errors: list[logging.LogRecord], act: End, reason: Reason
) -> None:
    """However a socket ends, on_disconnect runs once, with the reason, and nothing is left."""
    gone: list[Any] = []
    server = server_that_notes(gone)
    async with open_link() as link, hosting(server) as host:
        client = await host.open((link.client, link.server))
        sid = await client.connect()
        await let_end(act, host, client, link)
        assert gone == [(sid, reason.code)]
        await assert_nothing_left(server)
    assert gone == [(sid, reason.code)]
    take_crash(errors, reason)


@pytest.mark.parametrize(("act", "reason"), [end for end in ENDINGS if end.id != "client_leaves"])
@pytest.mark.parametrize("is_calling", [False, True], ids=["busy", "calling"])
async def test_told_once_while_a_handler_runs(
    autojump_clock, errors: list[logging.LogRecord], act: End, reason: Reason, is_calling: bool
) -> None:
    """The same, when a handler, a concurrent one and a task of the socket are at work."""
    gone: list[Any] = []
    ended: list[str] = []
    server = server_that_notes(gone)

    async def work(socket, name):
        try:
            if is_calling:
                await socket.call("question", timeout=1_000)
            await trio.sleep_forever()
        finally:
            ended.append(name)

    @server.on("work")
    async def in_order(socket):
        await work(socket, "handler")

    @server.on("more", concurrency=2)
    async def concurrently(socket):
        socket.nursery.start_soon(work, socket, "task")
        await work(socket, "concurrent")

    async with open_link() as link, hosting(server) as host:
        client = await host.open((link.client, link.server))
        sid = await client.connect()
        for event in ["more", "more", "more", "work", "work"]:
            await client.emit(event)
        await wait_all_tasks_blocked()
        await let_end(act, host, client, link)
        assert gone == [(sid, reason.code)]
        await assert_nothing_left(server)
    assert {"task", "concurrent"} <= set(ended)
    take_crash(errors, reason)


@pytest.mark.parametrize(("act", "reason"), ENDINGS)
async def test_hook_that_hangs(
    autojump_clock, errors: list[logging.LogRecord], act: End, reason: Reason
) -> None:
    """An on_disconnect that hangs is cancelled at its deadline, and said to have been."""
    gone: list[Any] = []
    server = Server(auth=Anonymous(), max_payload_bytes=4_000)

    @server.on_disconnect
    async def hang(socket, reason):
        gone.append(reason.code)
        await trio.sleep_forever()

    async with open_link() as link, hosting(server) as host:
        client = await host.connect(wires=(link.client, link.server))
        await let_end(act, host, client, link)
        assert gone == [reason.code]
        await assert_nothing_left(server)
    assert "was cancelled after 5.0 s" in errors.pop().getMessage()
    take_crash(errors, reason)


@pytest.mark.parametrize(("act", "reason"), ENDINGS)
async def test_hook_that_raises(
    autojump_clock, errors: list[logging.LogRecord], act: End, reason: Reason
) -> None:
    """An on_disconnect that raises is logged, and changes nothing else."""
    gone: list[Any] = []
    server = Server(auth=Anonymous(), max_payload_bytes=4_000)
    for name in ["/", "/second"]:

        @server.namespace(name).on_disconnect
        async def fail(socket, reason):
            gone.append(socket.namespace.name)
            raise RuntimeError("a bug of the program's")

    async with open_link() as link, hosting(server) as host:
        client = await host.connect(wires=(link.client, link.server))
        await client.connect("/second")
        await let_end(act, host, client, link)
        assert sorted(gone) == ["/", "/second"]
        await assert_nothing_left(server)
    told = [errors.pop().getMessage() for _ in range(2)]
    assert all("on_disconnect failed" in text for text in told)
    take_crash(errors, reason)


async def test_in_the_hook(autojump_clock) -> None:
    """In on_disconnect the socket has left its rooms, knows their names, and cannot send."""
    seen: list[Any] = []
    server = Server(auth=Anonymous(), recovery_window=0)

    @server.on_connect
    async def enter(socket):
        await socket.join("a", "b")

    @server.on_disconnect
    async def bye(socket, reason):
        seen.append((socket.connected, socket.rooms, server.all.namespace.rooms))
        for act in (socket.emit("x"), socket.call("x"), socket.join("c")):
            with pytest.raises(Disconnected):
                await act
        assert socket.emit_nowait("x") is False
        with pytest.raises(Disconnected):
            socket.nursery.start_soon(trio.sleep, 1)
        await socket.disconnect()

    async with connect(server) as client:
        await client.aclose()
        await wait_all_tasks_blocked()
        assert seen == [(False, frozenset({"a", "b"}), {})]


async def test_disconnect_from_its_own_hooks_and_handlers(autojump_clock) -> None:
    """A socket may be put out from its own on_connect, handler and task; each is told once."""
    gone: list[Any] = []
    server = server_that_notes(gone)
    server.handlers.connect = None

    @server.on_connect
    async def enter(socket):
        if socket.handshake.auth.get("go"):
            await socket.disconnect()

    @server.on("go")
    async def go(socket):
        await socket.disconnect()
        return "unheard"

    @server.on("task")
    async def task(socket):
        socket.nursery.start_soon(socket.disconnect)

    async with hosting(server) as host:
        client = await host.open()
        await client.send_packet(b'0{"go":true}')
        await wait_all_tasks_blocked()
        for send, event in [(client.ask, "go"), (client.emit, "task")]:
            client.rest()
            await client.connect()
            await send(event)
            await client.expect_put_out()
            await client.expect_nothing()
        assert [code for _, code in gone].count(reasons.SERVER_DISCONNECT.code) == len(gone)
        assert len(gone) == 2


async def test_leaving_waits_for_the_handler(autojump_clock) -> None:
    """A DISCONNECT keeps its place in the order: behind the events that were sent before it."""
    order: list[str] = []
    server = Server(auth=Anonymous())

    @server.on("work")
    async def work(socket):
        await trio.sleep(10)
        order.append("worked")

    @server.on_disconnect
    async def bye(socket, reason):
        order.append(reason.code)

    async with connect(server) as client:
        await client.emit("work")
        await client.leave()
        await trio.sleep(20.5)
        assert order == ["worked", reasons.CLIENT_DISCONNECT.code]


async def test_put_out_while_an_event_waits_for_its_turn(autojump_clock) -> None:
    """An event that waits for a free slot ends with its socket; other namespaces go on."""
    server = Server(auth=Anonymous())

    @server.on("work", concurrency=1 + 1)
    async def work(socket):
        await trio.sleep_forever()

    @server.namespace("/other").on("ask")
    async def ask(socket):
        return "alive"

    async with connect(server) as client:
        await client.connect("/other")
        await client.peer.send(*['42["work"]'] * 3)
        await wait_all_tasks_blocked()
        (socket,) = server.all.namespace.sockets.values()
        await socket.disconnect()
        await client.expect_put_out()
        assert await client.call("ask", namespace="/other") == "alive"


@pytest.mark.parametrize("way", ["call", "emit"])
async def test_task_outlives_its_client(autojump_clock, way: str) -> None:
    """A socket's task that finds its client gone ends without a word in the log."""
    server = Server(auth=Anonymous(), disconnect_timeout=3)

    async def tell(socket):
        while True:
            await (socket.call("tick", timeout=60) if way == "call" else socket.emit("tick"))
            await trio.sleep(0.1)

    @server.on("work")
    async def work(socket):
        socket.nursery.start_soon(tell, socket)
        await trio.sleep_forever()

    async with connect(server) as client:
        await client.emit("work")
        await client.expect("tick")
        client.close()
        await trio.sleep(10)
        await assert_nothing_left(server)


class StepCounter(trio.abc.Instrument):
    """Counts what the scheduler does."""

    def __init__(self) -> None:
        self.steps = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1


async def test_rest_while_a_handler_has_its_grace() -> None:
    """A connection that waits for its last handler sleeps, whatever deadlines pass meanwhile."""
    server = Server(auth=Anonymous(), ping_interval=0.05, disconnect_timeout=0.2)

    @server.on("work")
    async def work(socket):
        await trio.sleep_forever()

    counter = StepCounter()
    async with connect(server) as client:
        await client.emit("work")
        await wait_all_tasks_blocked()
        client.close()
        await wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(counter)
        await trio.sleep(0.3)
        trio.lowlevel.remove_instrument(counter)
        await assert_nothing_left(server)
    assert counter.steps < 100


# Cancelled anywhere, and failing anywhere


class CancelAt(trio.abc.Instrument):
    """Cancels a scope when the tasks below one task have made so many steps.

    Args:
        count: of steps.
        scope: what is cancelled.
    """

    def __init__(self, count: int, scope: trio.CancelScope) -> None:
        self._left = count
        self._scope = scope
        self.top: trio.lowlevel.Task | None = None

    @property
    def has_cancelled(self) -> bool:
        return self._left <= 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        above: trio.lowlevel.Task | None = task
        while above is not None and above is not self.top:
            above = above.parent_nursery.parent_task if above.parent_nursery else None
        if above is not None and self.top is not None:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


def busy_server(gone: list[str], announced: set[str]) -> Server:
    """A server with something to do in every place that waits."""
    server = Server(auth=Anonymous(), ping_interval=0.5)

    @server.use
    async def look(socket):
        await trio.sleep(0.01)

    @server.on_connect
    async def enter(socket):
        await socket.join("a", "b")
        announced.add(socket.id)
        socket.nursery.start_soon(tell, socket)
        await trio.sleep(0.01)

    async def tell(socket):
        for number in range(20):
            await socket.emit("tick", number, "x" * 100)
            await trio.sleep(0.02)

    @server.on("ask")
    async def ask(socket, value):
        answer = await socket.call("question", timeout=1)
        await server.to("a").emit("news", answer)
        await trio.sleep(0.05)
        return value

    @server.on("many", concurrency=2)
    async def many(socket):
        await socket.leave("b")
        await server.to("a").call("poll", timeout=0.05)

    @server.on_disconnect
    async def bye(socket, reason):
        await trio.sleep(0.01)
        gone.append(socket.id)

    @server.namespace("/other").on_disconnect
    async def bye_other(socket, reason):
        gone.append(socket.id)

    @server.namespace("/other").on_connect
    async def enter_other(socket):
        await trio.sleep(0.01)
        await socket.emit("welcome")
        announced.add(socket.id)

    return server


async def play(wire: Wire) -> None:
    """A client that does a little of everything, whatever becomes of it."""
    client = Client(wire)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        try:
            await client.connect()
            await client.connect("/other")
            id = await client.ask("ask", b"binary")
            await client.peer.send(*['42["many"]'] * 3)
            while (packet := await client.receive()).id != id:
                if packet.id is not None:
                    await client.acknowledge(packet, "answer")
            client.pause()
            await trio.sleep(0.3)
            client.resume()
            await client.leave("/other")
            await trio.sleep(0.3)
            await client.aclose()
        except (TransportClosed, AssertionError):
            pass
        finally:
            client.close()
            nursery.cancel_scope.cancel()


async def cancel_at(count: int) -> bool:
    """Plays the scenario and cancels its session at one step. False if it ended before."""
    gone: list[str] = []
    announced: set[str] = set()
    server = busy_server(gone, announced)
    scope = trio.CancelScope()
    instrument = CancelAt(count, scope)
    async with hosting(server) as host, trio.open_nursery() as nursery:
        neighbour = await host.connect()
        ours, theirs = memory_wire_pair(2_000)
        session = open_session(server, theirs)

        @nursery.start_soon
        async def serve():
            instrument.top = trio.lowlevel.current_task()
            trio.lowlevel.add_instrument(instrument)
            with scope:
                await session.run()
            trio.lowlevel.remove_instrument(instrument)
            await assert_only(server, neighbour)

        await play(ours)
    await assert_nothing_left(server)
    assert len(gone) == len(set(gone)), "on_disconnect ran twice"
    assert announced <= set(gone), "on_disconnect did not run"
    return instrument.has_cancelled


async def assert_only(server: Server, neighbour: Client) -> None:
    """Only the neighbour is left, and it is served."""
    assert len(server.sessions) == 1
    assert {len(members) for members in server.all.namespace.rooms.values()} == {1}
    assert len(server.all.namespace.sockets) == 1
    assert not server.namespace("/other").sockets  # type: ignore[attr-defined]
    assert not neighbour.has_ended


@pytest.mark.parametrize("first", range(10))
async def test_cancelled_anywhere(autojump_clock, first: int) -> None:
    """Wherever its session is cancelled, a connection leaves nothing and says goodbye once."""
    count = first + 1
    while await cancel_at(count):
        count += 10
    assert count > 50


class Sabotaged(CutWire):
    """A wire on which one method fails, as a bug of ours would, from some time on."""

    def __init__(self, wire: Wire, method: str) -> None:
        super().__init__(wire)
        self._method = method
        self.is_armed = False

    def receive_nowait(self) -> bytes:
        data = super().receive_nowait()
        self._fail_in("receive_nowait")
        return data

    def send_nowait(self, data: bytes) -> int:
        self._fail_in("send_nowait")
        return super().send_nowait(data)

    async def wait_writable(self) -> None:
        self._fail_in("wait_writable")
        await super().wait_writable()

    def _fail_in(self, method: str) -> None:
        if self.is_armed and method == self._method:
            self.is_armed = False
            raise RuntimeError(f"a bug in {method}")


@pytest.mark.parametrize(
    ("method", "is_busy"),
    [
        pytest.param("receive_nowait", False, id="reader"),
        pytest.param("receive_nowait", True, id="heartbeat that reads"),
        pytest.param("send_nowait", True, id="heartbeat that pings"),
        pytest.param("wait_writable", True, id="writer"),
        pytest.param("flush", False, id="flusher"),
    ],
)
async def test_task_that_fails(
    autojump_clock, errors: list[logging.LogRecord], method: str, is_busy: bool
) -> None:
    """When a task of a connection fails, that connection ends with one error; others go on."""
    gone: list[Any] = []
    server = server_that_notes(gone)

    @server.on("work")
    async def work(socket):
        await trio.sleep_forever()

    @server.on("ask")
    async def ask(socket):
        return "alive"

    ours, theirs = memory_wire_pair(1_000)
    wire = Sabotaged(theirs, "send_nowait" if method == "flush" else method)
    async with hosting(server) as host:
        neighbour = await host.connect()
        client = await host.connect(wires=(ours, wire))
        if is_busy:
            await client.emit("work")
            await wait_all_tasks_blocked()
        wire.is_armed = True
        if method == "receive_nowait":
            await client.emit("ask")
        elif method == "flush":
            await server.all.emit("news")
        elif method == "wait_writable":
            client.pause()
            await server.all.emit("news", "x" * 2_000)
        await trio.sleep(40)
        client.resume()
        await wait_all_tasks_blocked()
        assert [code for _, code in gone] == [reasons.INTERNAL_ERROR.code]
        assert client.has_ended
        assert await neighbour.call("ask") == "alive"
        assert len(server.sessions) == 1
    assert len(errors) == 1
    assert "failed" in errors.pop().getMessage()
