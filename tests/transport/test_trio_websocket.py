"""trio-websocket's connections, as a server's transport and as a client's."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from trio_websocket import WebSocketConnection, wrap_server_stream

from trio_rt import reasons
from trio_rt.codec.frames import Close, FrameDecoder, close_frame
from trio_rt.codec.socketio import Encoded
from trio_rt.errors import TransportClosed
from trio_rt.testing.contracts import TRANSPORT_CHECKS, NewTransport
from trio_rt.testing.peer import MASK, WebSocketPeer
from trio_rt.transport.memory import memory_wire_pair
from trio_rt.transport.trio_websocket import TrioWebSocketWire, dial_websocket
from trio_rt.transport.websocket import WebSocketTransport
from trio_rt.transport.wire import Wire

CAPACITY = 40_000
DEADLINE = 5.0
REQUEST = (
    b"GET /socket.io/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@attrs.frozen
class WireStream(trio.abc.Stream):
    """One of our wires as one of Trio's streams."""

    wire: Wire

    async def send_all(self, data: Any) -> None:
        await trio.lowlevel.checkpoint()
        try:
            await self.wire.send_all(bytes(data))
        except TransportClosed:
            raise trio.BrokenResourceError from None

    async def wait_send_all_might_not_block(self) -> None:
        await self.wire.wait_writable()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        try:
            return await self.wire.receive()
        except TransportClosed:
            raise trio.BrokenResourceError from None

    async def aclose(self) -> None:
        self.wire.close()
        await trio.lowlevel.checkpoint()


async def new_websocket(nursery: trio.Nursery) -> tuple[WebSocketConnection, WebSocketPeer]:
    """A server's WebSocket, accepted, and the client's frames."""
    ours, theirs = memory_wire_pair(CAPACITY)
    await ours.send_all(REQUEST)
    request = await wrap_server_stream(nursery, WireStream(theirs))
    websocket = await request.accept()
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await ours.receive()
    return websocket, WebSocketPeer(ours)


Pair = tuple[WebSocketTransport, WebSocketPeer]


async def new_pair(nursery: trio.Nursery) -> Pair:
    websocket, peer = await new_websocket(nursery)
    wire = TrioWebSocketWire(websocket, "memory")
    nursery.start_soon(wire.run)
    decoder = FrameDecoder(max_message_bytes=1_000, from_client=False)
    return WebSocketTransport(wire, decoder), peer


@pytest.fixture
async def pair(nursery: trio.Nursery) -> AsyncIterator[Pair]:
    transport, peer = await new_pair(nursery)
    yield transport, peer
    transport.close()
    peer.close()


# The server


WHOLE_MESSAGES = [check for check in TRANSPORT_CHECKS if check.__name__ != "check_partial"]
"""trio-websocket gives whole messages: there are no parts of them, and no bytes of these to be
counted."""


@pytest.mark.parametrize("check", WHOLE_MESSAGES, ids=lambda check: check.__name__)
async def test_contract(
    nursery: trio.Nursery,
    autojump_clock: MockClock,
    check: Callable[[NewTransport], Awaitable[None]],
) -> None:
    """Over a WebSocket of trio-websocket our transport keeps what `Transport` promises."""
    pairs = [await new_pair(nursery), await new_pair(nursery)]
    await check(pairs.pop)
    for transport, peer in pairs:
        transport.close()
        peer.close()
    await wait_all_tasks_blocked()
    await trio.sleep(DEADLINE)
    assert not nursery.child_tasks


async def test_received_bytes(pair: Pair, autojump_clock: MockClock) -> None:
    """What has arrived is counted, frame by frame."""
    transport, peer = pair
    await peer.send("4" + "x" * 99, b"y" * 50)
    await wait_all_tasks_blocked()
    assert transport.receive_nowait() == ["4" + "x" * 99, b"y" * 50]
    assert transport.received_bytes == 102 + 52


async def test_large_frame(pair: Pair, autojump_clock: MockClock) -> None:
    """A message larger than all buffers gets through."""
    transport, peer = pair
    transport.send_nowait(transport.encode(Encoded(b'2["%b"]' % (b"x" * 300_000))))
    transport.send_nowait(transport.encode(Encoded(b"2[1]"))) if not transport.is_blocked else None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.drain)
        message = await peer.receive()
        assert message == '42["' + "x" * 300_000 + '"]'


async def test_reading_pauses(pair: Pair, autojump_clock: MockClock) -> None:
    """A client whose messages are not taken is not read from for ever."""
    transport, peer = pair
    sent = 0
    with trio.move_on_after(1):
        while True:
            await peer.send(b"x" * 1_000)
            sent += 1
    assert 65 < sent < 200
    received = 0
    with trio.fail_after(DEADLINE):
        while received < sent:
            await transport.readable.wait()
            received += len(transport.receive_nowait())


@pytest.mark.parametrize("code", [None, 1001, 4000])
async def test_close_of_the_client(pair: Pair, autojump_clock: MockClock, code: int | None) -> None:
    """A client's goodbye comes behind its messages, and is answered."""
    transport, peer = pair
    await peer.send_bytes(peer.encode("4last") + close_frame(code, mask=MASK))
    answer = await peer.receive()
    assert isinstance(answer, Close)
    assert answer.code == (1005 if code is None else code)
    await wait_all_tasks_blocked()
    assert transport.receive_nowait() == ["4last"]
    with pytest.raises(TransportClosed):
        transport.receive_nowait()


async def test_too_big(pair: Pair, autojump_clock: MockClock) -> None:
    """A message over the server's limit ends with its reason, told to the client."""
    transport, peer = pair
    await peer.send("4" + "x" * 2_000)
    await wait_all_tasks_blocked()
    with pytest.raises(TransportClosed) as ended:
        transport.receive_nowait()
    assert ended.value.reason.code == reasons.MESSAGE_TOO_BIG.code
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.finish, ended.value.reason)
        answer = await peer.receive()
        assert isinstance(answer, Close)
        assert answer.code == 1009
        peer.close()


# The client


async def serve(
    nursery: trio.Nursery, handle: Callable[[trio.SocketStream], Awaitable[None]]
) -> str:
    listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
    return f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/?x"


async def expect_reason(url: str, **arguments: Any) -> reasons.Reason:
    """Why dialling fails."""
    with trio.fail_after(DEADLINE), pytest.raises(TransportClosed) as closed:
        async with dial_websocket(url, max_message_bytes=1_000, **arguments):
            raise AssertionError("connected")
    return closed.value.reason


@pytest.mark.parametrize(
    ("answer", "may_come_back", "text"),
    [
        (b"", True, "no WebSocket"),
        (b"SSH-2.0-x\r\n\r\n", True, "no WebSocket"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", False, "HTTP 403"),
        (b"HTTP/1.1 401 No\r\n\r\n", False, "HTTP 401"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", True, "HTTP 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True, "HTTP 200"),
        (
            b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: wrong\r\n\r\n",
            True,
            "no WebSocket",
        ),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_rejection(
    nursery: trio.Nursery, answer: bytes, may_come_back: bool, text: str
) -> None:
    """What is no yes is told at once, and whether it makes sense to try again."""

    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        if answer:
            await stream.send_all(answer)
        await stream.send_eof()
        await stream.receive_some()

    reason = await expect_reason(await serve(nursery, handle))
    assert reason.come_back is may_come_back
    assert text in reason.text
    nursery.cancel_scope.cancel()


async def test_nobody() -> None:
    """A port without a server is an OSError."""
    with pytest.raises(OSError, match="failed"):
        async with dial_websocket("ws://127.0.0.1:1/?x", max_message_bytes=1):
            raise AssertionError("connected")


async def test_no_tls(nursery: trio.Nursery) -> None:
    """A server that speaks no TLS is a reason to try again later."""

    async def handle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 plain\r\n\r\n")

    url = await serve(nursery, handle)
    reason = await expect_reason("wss" + url[2:], ssl_context=ssl.create_default_context())
    assert reason.come_back
    assert "no TLS" in reason.text
    nursery.cancel_scope.cancel()
