"""trio-websocket's connections: the client's own transport, and a wire for a server's.

The foreign library's names are known in this file alone. For a client three things have to be
done for it: it keeps the stream of a server that has said goodbye open, so the stream is ours; it
waits on for an opening handshake when the stream has ended; and none of its waits has a deadline.
"""

import re
import ssl
import sys
from collections import deque
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import MappingProxyType
from urllib.parse import urlsplit

import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    wrap_client_stream,
)
from wsproto.utilities import LocalProtocolError

from trio_rt import reasons
from trio_rt.codec import frames
from trio_rt.codec.frames import FrameDecoder
from trio_rt.errors import TransportClosed
from trio_rt.reasons import Reason
from trio_rt.schedule.bell import Bell
from trio_rt.transport.messages import MessageStream
from trio_rt.transport.wire import Wire

CAPACITY = 65_536
"""Bytes that a server's wire holds in each direction before the sender waits (as a socket's)."""

CLOSE_TIMEOUT = 1.0
"""Seconds that the server may take for its half of a close."""

FINAL_STATUSES = frozenset({401, 403})
"""HTTP statuses that mean this very client; all others may pass, even a proxy's 404."""

HEAD_BYTES = 12
"""How much of an answer says its status; trio-websocket keeps that to itself at times."""

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")


# The client


@asynccontextmanager
async def dial_websocket(
    url: str,
    *,
    headers: Mapping[str, str] = MappingProxyType({}),
    ssl_context: ssl.SSLContext | None = None,
    max_message_bytes: int,
) -> AsyncGenerator[MessageStream]:
    """Opens a WebSocket for one block; a `Dialer` once its options are bound.

    Args:
        url: `ws://` or `wss://`.
        headers: what the request says besides.
        ssl_context: for `wss://`; None is the system's usual one.
        max_message_bytes: the largest message that is taken.

    Raises:
        TransportClosed: if the server does not want it, or what answers is no WebSocket.
        OSError: if there is nobody.
    """
    parts = urlsplit(url)
    is_secure = parts.scheme == "wss"
    host = parts.hostname or ""
    port = parts.port or (443 if is_secure else 80)
    stream = _WatchedStream(await _open_stream(host, port, is_secure, ssl_context))
    error: Exception | None = None
    try:
        await stream.begin()
        async with trio.open_nursery() as nursery:  # of trio-websocket's reader
            websocket: WebSocketConnection | None = None
            try:
                with stream.until_end():
                    websocket = await wrap_client_stream(
                        nursery,
                        stream,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
                        parts.netloc.rpartition("@")[2],
                        f"{parts.path}?{parts.query}",
                        extra_headers=[(k.encode(), v.encode()) for k, v in headers.items()],
                        max_message_size=max_message_bytes,
                    )
                if stream.has_ended:
                    raise TransportClosed(_why_rejected(stream.head))
                assert websocket is not None
                yield WebSocketMessages(websocket)
            except Exception as raised:  # raised below: not as a group of the nursery's
                error = raised
            if websocket is not None:
                with trio.move_on_after(CLOSE_TIMEOUT):
                    await websocket.aclose()
            nursery.cancel_scope.cancel()
    except* TransportClosed as group:  # of `begin`
        error = group.exceptions[0]
    except* Exception as group:  # the reader's, which has cancelled the block
        error = TransportClosed(_why_rejected(stream.head))
        error.__cause__ = group.exceptions[0]
    finally:
        await trio.aclose_forcefully(stream)
    if error is not None:
        raise error


class _WatchedStream(trio.abc.Stream):
    """A stream that says when it has ended: trio-websocket waits on for a handshake then."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self._scope: trio.CancelScope | None = None
        self.has_ended = False
        self.head = b""
        """How the answer begins."""

    async def begin(self) -> None:
        """Does what TLS has to, if it is there: a failure would be lost in trio-websocket."""
        if isinstance(self._stream, trio.SSLStream):
            try:
                await self._stream.do_handshake()
            except trio.BrokenResourceError as error:
                # An operator may mend a certificate, so it makes sense to try again.
                text = f"no TLS: {error.__cause__ or error}"
                raise TransportClosed(reasons.TRANSPORT_ERROR.because(text)) from error

    @contextmanager
    def until_end(self) -> Generator[None]:
        """Cancels the block when the stream ends before it; `has_ended` says whether it has."""
        with trio.CancelScope() as self._scope:
            yield
        self._scope = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = b""
        try:
            data = await self._stream.receive_some(max_bytes)
        finally:
            if self._scope is not None:
                self.head = (self.head + data)[:HEAD_BYTES]
                if not data:
                    self.has_ended = True
                    self._scope.cancel()
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


class WebSocketMessages(MessageStream):
    """The messages of one of trio-websocket's connections."""

    def __init__(self, websocket: WebSocketConnection) -> None:
        self._websocket = websocket

    async def send(self, message: str | bytes) -> None:
        """See `MessageStream`."""
        try:
            await self._websocket.send_message(message)
        except ConnectionClosed as error:
            raise TransportClosed(_why_closed(error)) from error
        except LocalProtocolError as error:  # the peer has broken the protocol a moment ago
            raise TransportClosed(reasons.TRANSPORT_ERROR) from error

    async def receive(self) -> str | bytes:
        """See `MessageStream`."""
        try:
            return await self._websocket.get_message()
        except ConnectionClosed as error:
            raise TransportClosed(_why_closed(error)) from error


async def _open_stream(
    host: str, port: int, is_secure: bool, ssl_context: ssl.SSLContext | None
) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    if not is_secure:
        return await trio.open_tcp_stream(host, port)
    return await trio.open_ssl_over_tcp_stream(
        host, port, ssl_context=ssl_context, https_compatible=True
    )


def _why_closed(error: ConnectionClosed) -> Reason:
    """The reason of an ending, from what the connection knows of it."""
    code = None if error.reason is None else error.reason.code
    if code == 1009:
        return reasons.MESSAGE_TOO_BIG
    return reasons.TRANSPORT_CLOSE.because("the peer closed the transport")


def _why_rejected(head: bytes) -> Reason:
    """The reason of an opening handshake that failed, from how the answer begins."""
    found = _STATUS.match(head)
    if found is None or found[1] == b"101":
        return reasons.TRANSPORT_ERROR.because("what answers is no WebSocket")
    status = int(found[1])
    text = f"the server answered HTTP {status}"
    if status in FINAL_STATUSES:
        return reasons.REFUSED.because(text)
    return reasons.TRANSPORT_ERROR.because(text)


# The server


class TrioWebSocketWire(Wire):
    """A wire whose frames trio-websocket sends and receives: for servers that already run one.

    What our transport writes is taken apart into messages, and messages are written as frames for
    it to read, so that everything above is the very code that serves a socket. It costs two tasks
    for each connection, and each message about five times what our own listener takes.

    Args:
        websocket: a server's, accepted; owned from here on. `run` has to be started for it.
        peer: the client's address.
    """

    __slots__ = (
        "_arrived",
        "_decoder",
        "_has_ended",
        "_is_open",
        "_leaving",
        "_leaving_bytes",
        "_room",
        "_scope",
        "_websocket",
        "_work",
        "_writable",
        "peer",
        "readable",
        "unread",
    )

    def __init__(self, websocket: WebSocketConnection, peer: str) -> None:
        self.peer = peer
        self.readable = Bell()
        self.unread = Bell()
        self._websocket = websocket
        self._decoder = FrameDecoder(max_message_bytes=sys.maxsize, from_client=False)
        self._arrived = bytearray()
        self._leaving: deque[frames.Message] = deque()
        self._leaving_bytes = 0
        self._room = Bell()  # in `_arrived`
        self._work = Bell()
        self._writable = Bell()
        self._has_ended = False
        self._is_open = True
        self._scope = trio.CancelScope(shield=True)  # `close` ends it, when goodbye has been said

    async def run(self) -> None:
        """Carries messages until the wire is closed; then the WebSocket is closed as well."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._receive)
                    nursery.start_soon(self._send)
        finally:
            self.close()
            await trio.aclose_forcefully(self._websocket)

    def receive_nowait(self) -> bytes:
        """See `Wire`."""
        if not self._is_open:
            raise TransportClosed(reasons.TRANSPORT_CLOSE)
        if not self._arrived and not self._has_ended:
            raise trio.WouldBlock
        data = bytes(self._arrived)
        self._arrived.clear()
        self._room.ring()
        if self._has_ended:
            self._announce()
        return data

    def send_nowait(self, data: bytes) -> int:
        """See `Wire`."""
        if not self._is_open or self._has_ended:
            raise TransportClosed(reasons.TRANSPORT_CLOSE)
        taken = data[: CAPACITY - self._leaving_bytes]
        self._leaving.extend(self._decoder.receive(taken))
        if self._leaving:  # else the decoder has it, until the frame is whole
            self._leaving_bytes += len(taken)
            self._work.ring()
        return len(taken)

    async def wait_writable(self) -> None:
        """See `Wire`."""
        while self._is_open and not self._has_ended and self._leaving_bytes >= CAPACITY:
            await self._writable.wait()

    def send_eof(self) -> None:
        """See `Wire`. A close frame, which goes before it, has told the peer already."""

    def close(self) -> None:
        """See `Wire`."""
        self._is_open = False
        self._scope.cancel()
        self._wake()

    def _wake(self) -> None:
        for bell in (self.readable, self.unread, self._writable):
            bell.ring()

    def _announce(self) -> None:
        if not self.readable.wake():
            self.readable.ring()
            self.unread.ring()

    async def _receive(self) -> None:
        try:
            while True:
                while len(self._arrived) >= CAPACITY:
                    await self._room.wait()
                message = await self._websocket.get_message()
                if isinstance(message, str):
                    self._arrived += frames.text_frame(message.encode())
                else:
                    self._arrived += frames.binary_frame(message)
                self._announce()
        except ConnectionClosed:
            self._end()

    async def _send(self) -> None:
        try:
            while True:
                while self._leaving:
                    await self._send_one(self._leaving.popleft())
                self._leaving_bytes = 0
                self._writable.ring()
                await self._work.wait()
        except (ConnectionClosed, LocalProtocolError):
            self._end()

    async def _send_one(self, message: frames.Message) -> None:
        if isinstance(message, str | bytes):
            await self._websocket.send_message(message)
        elif isinstance(message, frames.Close):
            code = 1000 if message.code == 1005 else message.code
            await self._websocket.aclose(code, message.text)

    def _end(self) -> None:
        self._has_ended = True
        self._wake()
