"""The life of a server: how it begins, whom it lets in, and how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from textwrap import dedent
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.visitors import DEADLINE, ENGINE, KEY, Visitors, request_head
from trio_rt import Anonymous, MisuseError, Server, reasons
from trio_rt.backplane.memory import MemoryBackplane
from trio_rt.transport.listener import open_listeners
from trio_rt.web.messages import Request, Response

pytestmark = pytest.mark.usefixtures("errors")


@pytest.fixture
async def visitors(nursery: trio.Nursery) -> AsyncIterator[Visitors]:
    visitors = Visitors(nursery)
    nursery.start_soon(visitors.hub.run)
    yield visitors
    await visitors.close()
    visitors.hub.close()


def new_server(**changes: Any) -> Server:
    """A server that lets everybody in."""
    return Server(auth=Anonymous(), **changes)


@pytest.fixture
def taken() -> Any:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


# The beginning


async def test_started(visitors: Visitors) -> None:
    """`nursery.start` gives the server itself; port 0 is any free one, for pages another one."""
    server = new_server()
    assert await visitors.serve(server) is server
    assert server.port > 0
    assert server.web_port not in (0, server.port)
    assert server.url == f"http://127.0.0.1:{server.port}"
    assert server.web_url == f"http://127.0.0.1:{server.web_port}"
    await visitors.connect(server)


@pytest.mark.parametrize("name", ["port", "web_port", "url", "web_url"])
async def test_no_port_without_serving(visitors: Visitors, name: str) -> None:
    """Before and after serving there is no port; asking for it says what to do."""
    server = new_server()
    with pytest.raises(MisuseError, match=r"nursery\.start"):
        getattr(server, name)
    await visitors.serve(server)
    getattr(server, name)
    server.stop()
    await visitors.assert_stops(server)
    with pytest.raises(MisuseError, match=r"nursery\.start"):
        getattr(server, name)


async def test_two_servers(visitors: Visitors) -> None:
    """Two servers live side by side: what is sent to everybody of one stays there."""
    one, two = new_server(), new_server()
    await visitors.serve(one)
    await visitors.serve(two)
    of_one, of_two = await visitors.connect(one), await visitors.connect(two)
    await one.all.emit("news", 1)
    await two.all.emit("news", 2)
    assert (await of_one.expect("news"), await of_two.expect("news")) == (1, 2)
    one.stop()
    await visitors.assert_stops(one)
    await two.all.emit("news", 3)
    assert await of_two.expect("news") == 3


async def test_serve_twice(visitors: Visitors) -> None:
    """A server that serves cannot serve again, until it has ended."""
    server = new_server()
    await visitors.serve(server)
    port = server.port
    with pytest.raises(MisuseError, match="already"):
        await server.serve("127.0.0.1", 0)
    assert server.port == port
    server.stop()
    await visitors.assert_stops(server)
    await visitors.serve(server)
    await visitors.connect(server)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
async def test_open_to_everybody(host: str) -> None:
    """Without `auth=` a server listens on loopback only, and says how to open it."""
    server = Server()
    with pytest.raises(MisuseError, match=r"auth="):
        await server.serve(host, 0)
    with pytest.raises(MisuseError):
        _ = server.port


@pytest.mark.parametrize(
    ("host", "server"),
    [("localhost", Server()), ("0.0.0.0", new_server())],
    ids=["loopback", "auth"],
)
async def test_may_listen(visitors: Visitors, host: str, server: Server) -> None:
    """On loopback nobody has to be asked; with `auth=` any address will do."""
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, host, 0)
        client = await visitors.connect(server)
        client.close()
        server.stop()


async def test_taken_port(taken: int) -> None:
    """A taken port is a plain OSError that names it, not a group."""
    server = new_server()
    with pytest.raises(OSError, match=f"port {taken}"):
        await server.serve("127.0.0.1", taken)
    with pytest.raises(MisuseError):
        _ = server.port


async def test_taken_web_port(taken: int) -> None:
    """A taken port for pages says which setting to change, and nothing listens any more."""
    with pytest.raises(OSError, match=f"(?s)port {taken}.*web_port"):
        await new_server(web_port=taken).serve("127.0.0.1", 0)


async def test_unknown_host() -> None:
    """A host that does not exist is a plain OSError."""
    with pytest.raises(OSError, match=r".+"):
        await new_server().serve("no.such.host.invalid", 0)


# The end


async def test_drain(visitors: Visitors) -> None:
    """A server that stops closes with 1001 and puts nobody out, so that clients come back."""
    gone: list[str] = []
    server = new_server()

    @server.on_disconnect
    async def bye(socket, reason):
        gone.append(reason.code)

    await visitors.serve(server)
    port = server.port
    clients = [await visitors.connect(server) for _ in range(3)]
    server.stop()
    for client in clients:
        await client.expect_end(1001)
    await visitors.assert_stops(server)
    assert gone == [reasons.SERVER_SHUTDOWN.code] * 3
    with pytest.raises(OSError, match=r".+"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_drain_in_slices(visitors: Visitors) -> None:
    """However small the slices are, everybody is told."""
    server = new_server(drain_slice=1)
    await visitors.serve(server)
    clients = [await visitors.connect(server) for _ in range(4)]
    server.stop()
    for client in clients:
        await client.expect_end(1001)


async def test_stop_without_serving() -> None:
    """To stop a server that does not serve changes nothing."""
    server = new_server()
    server.stop()


async def test_handler_in_flight(visitors: Visitors) -> None:
    """A handler that runs when the server stops ends its work, and its answer arrives."""
    server = new_server()
    go_on = trio.Event()

    @server.on("work")
    async def work(socket):
        await go_on.wait()
        return "done"

    await visitors.serve(server)
    client = await visitors.connect(server)
    id = await client.ask("work")
    await wait_all_tasks_blocked(0.01)
    server.stop()
    await client.expect_nothing(0.05)
    go_on.set()
    assert await client.expect_acknowledgement(id) == "done"
    await client.expect_end(1001)
    await visitors.assert_stops(server)


async def test_drain_deadline(visitors: Visitors) -> None:
    """What has not ended by the deadline is cut, `on_disconnect` included in order."""
    server = new_server(drain_timeout=0.1, disconnect_timeout=60)
    order: list[str] = []
    is_working = trio.Event()

    @server.on("work")
    async def work(socket):
        try:
            is_working.set()
            await trio.sleep_forever()
        finally:
            order.append("cut")

    @server.on_disconnect
    async def bye(socket, reason):
        order.append(reason.code)

    await visitors.serve(server)
    client = await visitors.connect(server)
    await client.emit("work")
    await is_working.wait()
    server.stop()
    await visitors.assert_stops(server)
    assert order == ["cut", reasons.SERVER_SHUTDOWN.code]


async def test_cancel(visitors: Visitors) -> None:
    """A cancelled server cuts its handlers, still says goodbye, and tells its clients."""
    server = new_server()
    order: list[str] = []
    is_working = trio.Event()

    @server.on("work")
    async def work(socket):
        try:
            is_working.set()
            await trio.sleep_forever()
        finally:
            order.append("cut")

    @server.on_disconnect
    async def bye(socket, reason):
        await trio.sleep(0.01)
        order.append(reason.code)

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, "127.0.0.1", 0)
            client = await visitors.connect(server)
            await client.emit("work")
            await is_working.wait()
            nursery.cancel_scope.cancel()
    assert order == ["cut", reasons.SERVER_SHUTDOWN.code]
    await client.expect_end(1001)


PROGRAM = dedent("""
    import logging, sys, trio
    from trio_rt import Anonymous, Server

    server = Server(auth=Anonymous(), drain_timeout=60, disconnect_timeout=60)

    @server.on("work")
    async def work(socket):
        await socket.emit("working")
        try:
            await trio.sleep_forever()
        finally:
            print("cut", flush=True)

    @server.on_disconnect
    async def bye(socket, reason):
        print("bye", reason, flush=True)

    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    trio.run(server.serve, "127.0.0.1", 0)
""")


class Program:
    """A server in a process of its own, and what it prints."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.printed = ""

    async def expect(self, pattern: str) -> str:
        """Reads until the pattern has been printed, and gives its first group."""
        assert self.process.stdout is not None
        with trio.fail_after(30):
            while (found := re.search(pattern, self.printed)) is None:
                data = await self.process.stdout.receive_some()
                assert data, f"no {pattern} in {self.printed}"
                self.printed += bytes(data).decode()
        return found[found.re.groups and 1]

    async def exit_code(self) -> int:
        """Waits for the end, and reads what is left."""
        assert self.process.stdout is not None
        with trio.fail_after(30):
            async for data in self.process.stdout:
                self.printed += bytes(data).decode()
            return await self.process.wait()


@pytest.fixture
async def program(nursery: trio.Nursery) -> AsyncIterator[Program]:
    arguments = [sys.executable, "-c", PROGRAM]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = await trio.lowlevel.open_process(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    )
    yield Program(process)
    if process.returncode is None:
        process.kill()
    await process.wait()
    if process.stdout is not None:
        await process.stdout.aclose()


async def connect_to(program: Program, visitors: Visitors) -> Any:
    """A client of the server in the other process."""
    port = int(await program.expect(r"serving on http://127\.0\.0\.1:(\d+)"))
    stream = await visitors.dial(port)
    await stream.send_all(request_head(port, ENGINE, **KEY))
    client = await visitors.upgrade(stream)
    await client.connect()
    return client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal(program: Program, visitors: Visitors, number: signal.Signals) -> None:
    """A server that is the program drains at a signal, and the program exits with 0."""
    client = await connect_to(program, visitors)
    program.process.send_signal(number)
    await client.expect_end(1001)
    assert await program.exit_code() == 0
    assert "bye server shutting down" in program.printed
    assert "Traceback" not in program.printed


async def test_second_signal(program: Program, visitors: Visitors) -> None:
    """A second signal cuts what the first one let finish; the exit code is 0 all the same."""
    client = await connect_to(program, visitors)
    await client.emit("work")
    await client.expect("working")
    program.process.terminate()
    await program.expect("draining 1")
    assert "cut" not in program.printed
    program.process.terminate()
    assert await program.exit_code() == 0
    assert program.printed.index("\ncut\n") < program.printed.index("bye server shutting down")


async def test_idle_streams(visitors: Visitors) -> None:
    """A server that stops lets streams go that wait for a request, on both ports."""
    server = new_server(handshake_timeout=60, drain_timeout=60)
    await visitors.serve(server)
    page = await visitors.visit(server.web_port)
    assert (await page.ask("/healthz")).status == 200
    silent = [await visitors.dial(port) for port in (server.port, server.web_port)]
    await wait_all_tasks_blocked(0.01)
    server.stop()
    await visitors.assert_stops(server)
    await page.assert_ended()
    for stream in (*silent, page.stream):
        await stream.aclose()


# Pages


async def test_shared_port(visitors: Visitors) -> None:
    """With `share_port` pages, health checks and Socket.IO are on one port."""
    server = new_server(share_port=True)

    @server.web.get("/hello")
    async def hello(request: Request) -> Response:
        return Response("hello")

    await visitors.serve(server)
    assert server.web_port == server.port
    peer = await visitors.visit(server.port)
    assert (await peer.ask("/healthz")).body == b"ok"
    assert (await peer.ask("/hello")).body == b"hello"
    await peer.stream.aclose()
    await visitors.connect(server)


async def test_own_port(visitors: Visitors) -> None:
    """Otherwise pages have their own port, and are 404 on that of Socket.IO, and it there."""
    server = new_server()
    await visitors.serve(server)
    for port, target, status in (
        (server.web_port, "/healthz", 200),
        (server.port, "/healthz", 404),
        (server.port, "/", 404),
        (server.web_port, ENGINE, 404),
    ):
        peer = await visitors.visit(port)
        assert (await peer.ask(target, connection="close")).status == status
        await peer.stream.aclose()


# Who gets in


async def test_full(visitors: Visitors) -> None:
    """Above `max_connections` a client is told to come later; when one has gone there is room."""
    gone = trio.Event()
    server = new_server(max_connections=1)

    @server.on_disconnect
    async def bye(socket, reason):
        gone.set()

    await visitors.serve(server)
    first = await visitors.connect(server)
    peer = await visitors.visit(server.port)
    answer = await peer.answer()
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    await peer.stream.aclose()
    await first.aclose()
    await gone.wait()
    with trio.fail_after(DEADLINE):
        while True:
            await trio.lowlevel.checkpoint()
            if not server.sessions:
                break
    await visitors.connect(server)


async def test_byte_by_byte(visitors: Visitors) -> None:
    """A request that arrives byte by byte becomes a WebSocket."""
    server = new_server()
    await visitors.serve(server)
    stream = await visitors.dial(server.port)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in request_head(server.port, ENGINE, **KEY):
        await stream.send_all(bytes([byte]))
        await wait_all_tasks_blocked()
    client = await visitors.upgrade(stream)
    await client.connect()


async def test_frames_behind_the_request(visitors: Visitors) -> None:
    """What a hasty client sends behind its request, before the answer, is not lost."""
    server = new_server()
    await visitors.serve(server)
    stream = await visitors.dial(server.port)
    hasty = b"\x81\x82\x00\x00\x00\x0040"
    await stream.send_all(request_head(server.port, ENGINE, **KEY) + hasty)
    client = await visitors.upgrade(stream)
    assert (await client.receive()).data.keys() == {"sid", "pid"}


@pytest.mark.parametrize("sent", [b"", b"GET /socket.io/?EIO=4"], ids=["silent", "slow"])
async def test_slow_loris(visitors: Visitors, sent: bytes) -> None:
    """A request that does not come to its end in time is answered 408."""
    server = new_server(handshake_timeout=0.05)
    await visitors.serve(server)
    peer = await visitors.visit(server.port)
    await peer.send(sent)
    with trio.fail_after(DEADLINE):
        assert (await peer.answer()).status == 408
        await peer.assert_ended()
    await peer.stream.aclose()


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        (None, None, 101),
        (None, "http://127.0.0.1:{port}", 101),
        (None, "HTTP://127.0.0.1:{port}", 101),
        (None, "http://127.0.0.1", 403),
        (None, "http://127.0.0.1:{port}.evil.example", 403),
        (None, "http://evil.example", 403),
        (None, "null", 403),
        (None, "", 403),
        (None, "http://[", 403),
        (None, "http://[::1", 403),
        (None, "127.0.0.1:{port}", 403),
        (("http://friend.example",), "http://friend.example", 101),
        (("http://friend.example",), "http://friend.example.evil", 403),
        (("http://friend.example",), "https://friend.example", 403),
        (("http://friend.example",), "http://127.0.0.1:{port}", 403),
        (("http://friend.example",), "http://[", 403),
        (("http://friend.example",), None, 101),
        (("*",), "http://anybody", 101),
        (("*",), "null", 101),
        ((), "http://127.0.0.1:{port}", 403),
        ((), None, 101),
    ],
)
async def test_origin(
    visitors: Visitors, origins: tuple[str, ...] | None, origin: str | None, status: int
) -> None:
    """Browsers get in from pages of the same host and port, or from origins that are listed."""
    server = new_server(origins=origins)
    await visitors.serve(server)
    headers = {} if origin is None else {"Origin": origin.format(port=server.port)}
    assert await visitors.status(server.port, **headers) == status


@pytest.mark.parametrize(
    ("query", "headers", "status", "code", "message"),
    [
        ("", KEY, 400, 0, "Transport unknown"),
        ("EIO=4", KEY, 400, 0, "Transport unknown"),
        ("EIO=4&transport=polling", {}, 400, 0, "Transport unknown"),
        ("EIO=4&transport=webtransport", KEY, 400, 0, "Transport unknown"),
        ("EIO=4&transport=websocket&sid=x", KEY, 400, 1, "Session ID unknown"),
        ("EIO=4&transport=websocket", {}, 400, 3, "Bad request"),
        ("EIO=4&transport=websocket", {**KEY, "Sec-WebSocket-Key": "x"}, 400, 3, "Bad request"),
        ("EIO=4&transport=websocket", {**KEY, "Sec-WebSocket-Version": "8"}, 426, 3, "Bad req"),
        ("EIO=4&transport=websocket", {**KEY, "Upgrade": "h2c"}, 426, 3, "Bad request"),
        ("EIO=4&transport=websocket", {**KEY, "Origin": "http://evil"}, 403, 4, "Forbidden"),
        ("EIO=3&transport=websocket", KEY, 400, 5, "Unsupported protocol version"),
        ("transport=websocket", KEY, 400, 5, "Unsupported protocol version"),
    ],
)
async def test_engine_errors(
    visitors: Visitors, query: str, headers: dict[str, str], *, status: int, code: int, message: str
) -> None:
    """What cannot become a session is refused with Engine.IO's code and words."""
    server = new_server()
    await visitors.serve(server)
    peer = await visitors.visit(server.port)
    await peer.send(request_head(server.port, f"/socket.io/?{query}", **headers))
    answer = await peer.answer()
    told = json.loads(answer.body)
    assert (answer.status, told["code"]) == (status, code)
    assert told["message"].startswith(message)
    await peer.stream.aclose()


async def test_no_delay(nursery: trio.Nursery) -> None:
    """Small frames leave at once: TCP_NODELAY is set on accepted sockets."""
    (listener,) = await open_listeners("127.0.0.1", 0, lambda: False)
    options: list[int] = []
    accepted = trio.Event()

    async def serve(sock: socket.socket) -> None:
        with sock:
            options.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        accepted.set()

    nursery.start_soon(listener.accept, nursery, serve)
    async with await trio.open_tcp_stream("127.0.0.1", listener.port):
        with trio.fail_after(DEADLINE):
            await accepted.wait()
    assert options[0] != 0
    nursery.cancel_scope.cancel()


# Readiness


async def test_ready(visitors: Visitors) -> None:
    """A server that serves is ready, on the port of its pages."""
    server = new_server()
    await visitors.serve(server)
    peer = await visitors.visit(server.web_port)
    answer = await peer.ask("/readyz")
    assert (answer.status, answer.body) == (200, b"ready")
    await peer.stream.aclose()


async def test_not_ready_while_draining(visitors: Visitors) -> None:
    """A server that drains says so on its web port until the last client has gone."""
    server = new_server(drain_timeout=60)
    going, leaving = trio.Event(), trio.Event()

    @server.on_disconnect
    async def bye(socket, reason):
        going.set()
        await leaving.wait()

    await visitors.serve(server)
    client = await visitors.connect(server)
    server.stop()
    await going.wait()
    peers = [await visitors.visit(server.web_port) for _ in range(2)]
    for peer in peers:
        answer = await peer.ask("/readyz")
        assert (answer.status, answer.body) == (503, b"draining")
    assert (await peers[0].ask("/healthz")).status == 200
    leaving.set()
    await client.expect_end(1001)
    await visitors.assert_stops(server)
    for peer in peers:
        await peer.assert_ended()
        await peer.stream.aclose()


class Deaf(MemoryBackplane):
    """Hears nobody."""

    is_ready = False


async def test_not_ready_without_backplane(visitors: Visitors) -> None:
    """A server whose backplane is not ready is alive, and gets no clients."""
    server = Server(backplane=Deaf(), web_port=0)
    await visitors.serve(server)
    peer = await visitors.visit(server.web_port)
    assert (await peer.ask("/readyz")).status == 503
    assert (await peer.ask("/healthz")).status == 200
    await peer.stream.aclose()
