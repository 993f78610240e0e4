"""The other end of an HTTP connection: bytes out, and answers in by h11's client side."""

import json
from typing import Any, Self

import attrs
import h11
import trio

from trio_rt import reasons
from trio_rt.errors import TransportClosed


class MemoryStream:
    """A `ByteStream` over one end of Trio's own pair of memory streams."""

    def __init__(self, stream: "trio.StapledStream[Any, Any]") -> None:
        self._stream = stream
        self.peer = "test:1"
        self.is_closed = False

    async def receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some())
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise TransportClosed(reasons.TRANSPORT_CLOSE) from error

    async def send_all(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise TransportClosed(reasons.TRANSPORT_CLOSE) from error

    def send_eof(self) -> None:
        self._stream.send_stream.close()

    def close(self) -> None:
        self.is_closed = True
        self._stream.send_stream.close()
        self._stream.receive_stream.close()


class SocketStream:
    """A `ByteStream` over a real socket."""

    def __init__(self, socket: trio.socket.SocketType) -> None:
        self._socket = socket
        self.peer = "test:2"

    async def receive(self) -> bytes:
        try:
            return await self._socket.recv(65_536)
        except OSError as error:
            raise TransportClosed(reasons.TRANSPORT_ERROR) from error

    async def send_all(self, data: bytes) -> None:
        try:
            while data:
                data = data[await self._socket.send(data) :]
        except OSError as error:
            raise TransportClosed(reasons.TRANSPORT_ERROR) from error

    def send_eof(self) -> None:
        self._socket.shutdown(trio.socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()


@attrs.frozen
class Answer:
    """One response, as h11's client side understands it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/json"
        told: dict[str, Any] = json.loads(self.body)["error"]
        return told


class Peer:
    """A client that may send anything."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self._unread = b""

    async def send(self, data: bytes) -> Self:
        await self.stream.send_all(data)
        return self

    async def ask(
        self, target: str, method: str = "GET", *, body: bytes = b"", **headers: str
    ) -> Answer:
        lines = {"host": "test", **{name.replace("_", "-"): headers[name] for name in headers}}
        if body:
            lines["content-length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        await self.send(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return await self.answer(method)

    async def answer(self, method: str = "GET") -> Answer:
        """Reads one response, and keeps what came behind it."""
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target="/", headers=[("host", "test")]))
        client.send(h11.EndOfMessage())
        client.receive_data(self._unread) if self._unread else None
        head, body = None, b""
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                client.receive_data(bytes(await self.stream.receive_some()))
            elif isinstance(event, h11.Response | h11.InformationalResponse):
                head = event
                if event.status_code == 100:
                    break
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                raise AssertionError(f"no answer, but {event}")
        self._unread = client.trailing_data[0]
        assert head is not None
        fields = {name.decode(): value.decode() for name, value in head.headers}
        return Answer(head.status_code, fields, body)

    async def assert_ended(self) -> None:
        """The server has ended its half, with nothing before it."""
        assert self._unread == b""
        assert await self.stream.receive_some() == b""

    async def assert_alive(self) -> None:
        """The connection still carries requests."""
        assert (await self.ask("/alive")).status == 404
