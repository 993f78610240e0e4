"""One HTTP/1.1 connection: h11's decisions joined to a stream, with a deadline on every wait."""

from http import HTTPStatus
from typing import Self

import attrs
import h11
import trio

from trio_rt import reasons
from trio_rt.config import Config
from trio_rt.errors import TransportClosed
from trio_rt.web.files import File
from trio_rt.web.head import MAX_HEAD_BYTES, new_connection, next_event, read_head
from trio_rt.web.idle import IdleStreams
from trio_rt.web.messages import HttpError, Response
from trio_rt.web.stream import ByteStream

PIECE_BYTES = 262_144
"""Bytes of a body that are in memory at once, and that `send_timeout` is for."""

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


@attrs.frozen(kw_only=True)
class HttpLimits:
    """What one HTTP connection may cost. Time is in seconds."""

    max_head_bytes: int = MAX_HEAD_BYTES
    """Size of a request's head; bigger ones are answered 431."""

    max_body_bytes: int = 1_000_000
    """Size of a request's body, as of a message; bigger ones are answered 413."""

    head_timeout: float = 10.0
    """For a request's head, from its first byte on; then 408 (slow loris)."""

    body_timeout: float = 30.0
    """For a request's body; then 408. A full one needs 270 kbit/s."""

    route_timeout: float = 30.0
    """For a route; then 503. Below the usual 60 s timeout of proxies."""

    send_timeout: float = 30.0
    """For the peer to take 256 KiB of a response; then it is cut."""

    idle_timeout: float = 15.0
    """Between two requests (Apache and Node 5 s, nginx 75 s; probes usually come every 10 s)."""

    close_timeout: float = 1.0
    """For the peer's half of a close, so that it reads our last words."""

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """The limits that a server's settings imply."""
        return cls(
            max_head_bytes=config.max_head_bytes,
            max_body_bytes=config.max_payload_bytes,
            head_timeout=config.handshake_timeout,
            close_timeout=config.close_timeout,
        )


class HttpLink:
    """The server's side of one HTTP/1.1 connection.

    Args:
        stream: the connected stream.
        connection: h11's state of it, if something has been read; otherwise a fresh one.
        limits: what it may cost.
        idle: where it is listed while it waits for a request.
    """

    __slots__ = ("_h11", "_idle", "_limits", "_stream")

    def __init__(
        self,
        stream: ByteStream,
        connection: h11.Connection | None,
        limits: HttpLimits,
        idle: IdleStreams | None = None,
    ) -> None:
        self._stream = stream
        self._idle = idle or IdleStreams()
        self._h11 = connection or new_connection(limits.max_head_bytes)
        self._limits = limits

    @property
    def peer(self) -> str:
        """The peer's address."""
        return self._stream.peer

    async def next_head(self) -> h11.Request | None:
        """Waits for the next request; `None` if the peer ended the stream or stayed idle.

        Raises:
            HttpError: if it is malformed, too big or too slow.
            TransportClosed: if the stream broke.
        """
        arrived, has_ended = self._h11.trailing_data
        if not arrived and not has_ended:
            with self._idle.waiting(self._limits.idle_timeout) as scope:
                self._h11.receive_data(await self._stream.receive())
            if scope.cancelled_caught:
                return None
        with trio.move_on_after(self._limits.head_timeout):
            return await read_head(self._stream, self._h11, max_bytes=self._limits.max_head_bytes)
        raise HttpError(408, "timeout", "the request head came too slowly")

    async def read_body(self, head: h11.Request) -> bytes:
        """Reads the body of the request; asks for it first if the peer waits to be asked.

        Raises:
            HttpError: if it is malformed, too big or too slow.
            TransportClosed: if the stream broke.
        """
        if _declared_bytes(head) > self._limits.max_body_bytes:
            raise self._too_big()
        with trio.move_on_after(self._limits.body_timeout):
            return await self._read_body()
        raise HttpError(408, "timeout", "the request body came too slowly")

    async def _read_body(self) -> bytes:
        body = bytearray()
        while True:
            event = next_event(self._h11)
            if isinstance(event, h11.EndOfMessage):
                return bytes(body)
            if isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._limits.max_body_bytes:
                    raise self._too_big()
                await trio.lowlevel.checkpoint()  # thousands of tiny chunks fit in one receive
            else:
                await self._ask_for_body()
                self._h11.receive_data(await self._stream.receive())

    async def _ask_for_body(self) -> None:
        if self._h11.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            await self._send_all(self._h11.send(go_on))

    def _too_big(self) -> HttpError:
        limit = self._limits.max_body_bytes
        return HttpError(413, "body_too_big", f"a request body may have {limit} bytes")

    async def send(
        self,
        response: Response,
        headers: list[tuple[str, str]],
        *,
        without_body: bool = False,
        is_last: bool = False,
    ) -> bool:
        """Sends a response, in pieces if it is long.

        Args:
            response: what to send.
            headers: all of them, the body's type and length included.
            without_body: for the answer to a HEAD.
            is_last: whether the connection has to end, even if it could go on.

        Returns:
            Whether another request may follow on this connection.

        Raises:
            TransportClosed: if the stream broke, or the peer reads too slowly.
            FileChanged: if a file changed meanwhile. Then the stream has to be cut.
            OSError: if a file cannot be read. Then too.
        """
        if is_last or not self._is_request_read():
            headers = [*headers, ("connection", "close")]
        data = self._h11.send(
            h11.Response(
                status_code=response.status,
                headers=headers,
                reason=_PHRASES.get(response.status, b""),
            )
        )
        offset = response.size if without_body else 0
        while offset < response.size:
            piece = await self._piece(response.body, offset)
            offset += len(piece)
            await self._send_all(data + self._h11.send(h11.Data(data=piece)))
            data = b""
        await self._send_all(data + self._h11.send(h11.EndOfMessage()))
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    async def _piece(self, body: bytes | File, offset: int) -> bytes:
        if isinstance(body, bytes):
            return body[offset : offset + PIECE_BYTES]
        with trio.move_on_after(self._limits.send_timeout):
            return await body.read(offset, PIECE_BYTES)
        raise OSError(f"{body.path} could not be read in {self._limits.send_timeout} s")

    async def _send_all(self, data: bytes) -> None:
        if not data:
            return
        with trio.move_on_after(self._limits.send_timeout) as patience:
            await self._stream.send_all(data)
        if patience.cancelled_caught:
            raise TransportClosed(reasons.SLOW_CONSUMER)

    def _is_request_read(self) -> bool:
        """Whether nothing of the request is left to come; most have no body at all."""
        if self._h11.their_state is h11.SEND_BODY:
            try:
                self._h11.next_event()
            except h11.RemoteProtocolError:
                return False
        return self._h11.their_state not in (h11.IDLE, h11.SEND_BODY, h11.ERROR)

    def start_next_cycle(self) -> None:
        """Makes ready for the next request, after `send` returned true."""
        self._h11.start_next_cycle()

    async def linger(self) -> None:
        """Ends our half, and reads on until the peer has ended its own, or a deadline.

        Closing at once while unread bytes arrive makes TCP reset the connection, and a reset can
        take the response away from a peer that has not read it yet (RFC 9112, section 9.6).
        """
        self._stream.send_eof()
        with trio.move_on_after(self._limits.close_timeout):
            data = await self._stream.receive()
            while data:
                await trio.lowlevel.checkpoint()  # so that a flood does not outlive the deadline
                data = await self._stream.receive()


def _declared_bytes(head: h11.Request) -> int:
    for name, value in head.headers:
        if name == b"content-length":
            return int(value)
    return 0
