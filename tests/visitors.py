"""Clients of a server that listens: TCP connections, HTTP requests and WebSockets over them."""

import socket
from typing import Any

import attrs
import trio

from tests.web.peer import Peer
from trio_rt import Server
from trio_rt.schedule.flusher import Flusher
from trio_rt.schedule.hub import Hub, make_hub
from trio_rt.testing import Client
from trio_rt.transport.socket_wire import SocketWire

DEADLINE = 5.0
"""Seconds that anything may take which a test waits for."""

KEY = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
ENGINE = "/socket.io/?EIO=4&transport=websocket"


def request_head(port: int, target: str, method: str = "GET", **headers: str) -> bytes:
    """A request; an underscore in a header's name is a dash."""
    lines = {"Host": f"127.0.0.1:{port}", **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode()


@attrs.define
class Visitors:
    """Serves servers, and visits them."""

    nursery: trio.Nursery
    hub: Hub = attrs.field(factory=lambda: make_hub(Flusher()))
    _ended: dict[Server, trio.Event] = attrs.field(factory=dict)
    _clients: list[Client] = attrs.field(factory=list)

    async def serve(self, server: Server, port: int = 0) -> Server:
        """Serves on loopback until the test ends, or `stop`."""
        self._ended[server] = trio.Event()
        with trio.fail_after(DEADLINE):
            started: Server = await self.nursery.start(self._serve, server, port)
        return started

    async def _serve(self, server: Server, port: int, **task_status: Any) -> None:
        await server.serve("127.0.0.1", port, **task_status)
        self._ended[server].set()

    async def assert_stops(self, server: Server) -> None:
        """A server that was told to stop comes to its end."""
        with trio.fail_after(DEADLINE):
            await self._ended[server].wait()

    async def dial(self, port: int) -> trio.SocketStream:
        """A TCP connection."""
        with trio.fail_after(DEADLINE):
            return await trio.open_tcp_stream("127.0.0.1", port)

    async def visit(self, port: int) -> Peer:
        """A TCP connection that speaks HTTP."""
        return Peer(await self.dial(port))

    async def status(self, port: int, target: str = ENGINE, **headers: str) -> int:
        """The status of the answer to a request for a WebSocket."""
        stream = await self.dial(port)
        async with stream:
            await stream.send_all(request_head(port, target, **KEY, **headers))
            return await read_status(stream)

    async def upgrade(self, stream: trio.SocketStream) -> Client:
        """Reads the answer to a request for a WebSocket; then the client runs on it."""
        assert await read_status(stream) == 101
        sock = socket.socket(fileno=stream.socket.detach())
        sock.setblocking(False)
        client = Client(SocketWire(sock, self.hub))
        self._clients.append(client)
        self.nursery.start_soon(client.run)
        await client.open()
        return client

    async def connect(self, server: Server) -> Client:
        """A client in the namespace `/`."""
        stream = await self.dial(server.port)
        await stream.send_all(request_head(server.port, ENGINE, **KEY))
        client = await self.upgrade(stream)
        await client.connect()
        return client

    async def close(self) -> None:
        """All clients go, and all servers stop."""
        for client in self._clients:
            client.close()
        for server in self._ended:
            server.stop()
            await self.assert_stops(server)
        self.nursery.cancel_scope.cancel()


async def read_status(stream: trio.SocketStream) -> int:
    """Reads a response's head, and nothing behind it."""
    head = b""
    with trio.fail_after(DEADLINE):
        while not head.endswith(b"\r\n\r\n"):
            byte = await stream.receive_some(1)
            assert byte, f"the end after {head!r}"
            head += byte
    return int(head.split()[1])
