"""trio-websocket's connections as streams of messages: the client's own transport.

The foreign library's names are known in this file alone. Three things have to be done for it. A
client of it keeps the stream of a server that has said goodbye open, so the stream is ours. It
waits on for an opening handshake when the stream has ended. And none of its waits has a deadline.
"""

import ssl
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import MappingProxyType
from urllib.parse import urlsplit

import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)
from wsproto.utilities import LocalProtocolError

from trio_rt import reasons
from trio_rt.errors import TransportClosed
from trio_rt.reasons import Reason
from trio_rt.transport.messages import MessageStream

CLOSE_TIMEOUT = 1.0
"""Seconds that the server may take for its half of a close."""

FINAL_STATUSES = frozenset({401, 403})
"""HTTP statuses that mean this very client; all others may pass, even a proxy's 404."""


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
                    raise TransportClosed(reasons.TRANSPORT_ERROR.because("no WebSocket"))
                assert websocket is not None
                yield WebSocketMessages(websocket)
            except Exception as raised:  # raised below: not as a group of the nursery's
                error = raised
            if websocket is not None:
                with trio.move_on_after(CLOSE_TIMEOUT):
                    await websocket.aclose()
            nursery.cancel_scope.cancel()
    except* HandshakeError as group:  # the reader's, which has cancelled the block
        error = TransportClosed(_why_rejected(group.exceptions[0]))
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
            if not data and self._scope is not None:
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


def _why_rejected(error: Exception) -> Reason:
    """The reason of an opening handshake that failed."""
    if isinstance(error, ConnectionRejected):
        text = f"the server answered HTTP {error.status_code}"
        if error.status_code in FINAL_STATUSES:
            return reasons.REFUSED.because(text)
        return reasons.TRANSPORT_ERROR.because(text)
    return reasons.TRANSPORT_ERROR.because(f"no WebSocket: {error}")
