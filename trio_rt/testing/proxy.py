"""A TCP proxy that is as bad as a network can be: it stalls, delays, cuts, resets and refuses.

    async with open_proxy("127.0.0.1", 6379) as proxy:
        ...connect to 127.0.0.1, port proxy.port...
        proxy.stall()

It stands between real processes, where the wires in memory of `trio_rt.testing.wires` cannot.
"""

import socket
import ssl
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

PIECE_BYTES = 65_536
IN_FLIGHT = 16
"""Pieces on their way in one direction before the proxy takes no more from the sender."""

_RESET = struct.pack("ii", 1, 0)
"""Lingers for no time: closing sends RST instead of FIN."""


class Proxy:
    """Carries connections to a target; open one with `open_proxy`.

    Attributes:
        port: where it listens, on 127.0.0.1. It stays the same.
        target: host and port that connections are carried to, from the next one on.
        delay: seconds that bytes take from now on, in each direction.
        connections: how many were accepted so far.
    """

    def __init__(self, target: tuple[str, int], tls: ssl.SSLContext | None) -> None:
        self.target = target
        self.delay = 0.0
        self.connections = 0
        self._tls = tls
        self._port = 0
        self._passing = trio.Event()
        self._passing.set()
        self._open: set[_Carried] = set()
        self._listening: trio.CancelScope | None = None
        self._accepting = trio.Event()

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return self._port

    def stall(self) -> None:
        """Nothing arrives any more, in either direction, until `resume`; nothing is lost.

        New connections are accepted, and stall as well.
        """
        if self._passing.is_set():
            self._passing = trio.Event()

    def resume(self) -> None:
        """What was sent in the meantime arrives."""
        self._passing.set()

    def cut(self) -> None:
        """Closes all connections that there are, in an orderly way (FIN)."""
        for carried in list(self._open):
            carried.close()

    def reset(self) -> None:
        """Breaks all connections that there are (RST)."""
        for carried in list(self._open):
            carried.reset()

    def refuse(self) -> None:
        """New connections are refused from now on, as where nobody listens, until `accept`."""
        if self._listening is not None:
            self._listening.cancel()

    def accept(self) -> None:
        """New connections are accepted again, on the same port."""
        self._accepting.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listens and carries until it is cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._listen, nursery)
            task_status.started()
            while True:
                await self._accepting.wait()
                await nursery.start(self._listen, nursery)
                self._accepting = trio.Event()

    async def _listen(self, nursery: trio.Nursery, *, task_status: trio.TaskStatus[None]) -> None:
        """Accepts until it is told to refuse."""
        (listener,) = await trio.open_tcp_listeners(self._port, host="127.0.0.1")
        with trio.CancelScope() as self._listening:
            async with listener:
                self._port = int(listener.socket.getsockname()[1])
                task_status.started()
                while True:
                    nursery.start_soon(self._carry, await listener.accept())

    async def _carry(self, near: trio.SocketStream) -> None:
        """One connection, until either side has ended or it was cut."""
        self.connections += 1
        try:
            far = await trio.open_tcp_stream(*self.target)
        except OSError:
            await trio.aclose_forcefully(near)
            return
        carried = _Carried(near, far)
        self._open.add(carried)
        try:
            with carried.scope:
                inner: trio.abc.Stream = near
                if self._tls is not None:
                    inner = trio.SSLStream(near, self._tls, server_side=True, https_compatible=True)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pass_on, inner, far, carried)
                    nursery.start_soon(self._pass_on, far, inner, carried)
        finally:
            self._open.discard(carried)
            carried.finish()

    async def _pass_on(
        self, source: trio.abc.ReceiveStream, target: trio.abc.SendStream, carried: "_Carried"
    ) -> None:
        """One direction: takes pieces, and gives each when its time has come."""
        send, receive = trio.open_memory_channel[tuple[float, bytes]](IN_FLIGHT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take, source, send)
            async for due, data in receive:
                await trio.sleep_until(due)
                await self._passing.wait()
                try:
                    await target.send_all(data)
                except trio.BrokenResourceError:
                    break
            carried.close()

    async def _take(
        self, source: trio.abc.ReceiveStream, send: trio.MemorySendChannel[tuple[float, bytes]]
    ) -> None:
        async with send:
            try:
                while data := await source.receive_some(PIECE_BYTES):
                    await send.send((trio.current_time() + self.delay, bytes(data)))
            except trio.BrokenResourceError:
                return  # as if it had closed: what it sent before arrives


class _Carried:
    """The two sockets of one connection."""

    def __init__(self, near: trio.SocketStream, far: trio.SocketStream) -> None:
        self._streams = (near, far)
        self.scope = trio.CancelScope()

    def close(self) -> None:
        self.scope.cancel()

    def reset(self) -> None:
        for stream in self._streams:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.scope.cancel()

    def finish(self) -> None:
        for stream in self._streams:
            stream.socket.close()


@asynccontextmanager
async def open_proxy(
    host: str, port: int, *, tls: ssl.SSLContext | None = None
) -> AsyncGenerator[Proxy]:
    """Opens a proxy on a free port of 127.0.0.1 for one block.

    Args:
        host, port: the target.
        tls: if given, clients speak TLS to the proxy; the target does not.
    """
    proxy = Proxy((host, port), tls)
    error: Exception | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        try:
            yield proxy
        except Exception as raised:  # raised below: not as a group of the nursery's
            error = raised
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error
