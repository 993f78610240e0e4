"""A wire over a plain non-blocking socket that a hub watches: the fast one."""

import socket
from collections.abc import Awaitable

import trio

from trio_rt import reasons
from trio_rt.errors import TransportClosed
from trio_rt.schedule.bell import Bell
from trio_rt.schedule.hub import Hub, Readable
from trio_rt.transport.wire import Wire

CHUNK_BYTES = 65_536
"""Read at once. Anything less was all that there was: no second `recv` to find that out."""


class SocketWire(Wire, Readable):
    """The wire of one accepted or connected stream socket.

    Args:
        sock: a connected non-blocking socket, which the wire owns from here on.
        hub: watches it.
    """

    __slots__ = (
        "_has_hung_up",
        "_hub",
        "_is_open",
        "_is_ready",
        "_peer",
        "_readable",
        "_sock",
        "_unread",
    )

    def __init__(self, sock: socket.socket, hub: Hub) -> None:
        self._sock = sock
        self._hub = hub
        self._is_open = True
        self._is_ready = False
        self._has_hung_up = False
        self._readable = Bell()
        self._unread = Bell()
        self._peer = _describe_peer(sock)
        hub.add(self)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def became_readable(self, has_hung_up: bool) -> None:
        """Wakes the reader, or whoever stands in for it."""
        self._is_ready = True
        if has_hung_up:
            self._has_hung_up = True
        if not self._readable.wake():
            self._unread.ring()

    @property
    def is_readable(self) -> bool:
        """See `Wire`."""
        return self._is_ready or not self._is_open

    def receive_nowait(self) -> bytes:
        """See `Wire`."""
        if not self._is_ready:
            if not self._is_open:
                raise TransportClosed(reasons.TRANSPORT_CLOSE)
            raise trio.WouldBlock
        try:
            data = self._sock.recv(CHUNK_BYTES)
        except BlockingIOError:
            self._is_ready = False
            raise trio.WouldBlock from None
        except OSError as error:
            raise self._broken(error) from error
        if len(data) < CHUNK_BYTES and not self._has_hung_up:
            self._is_ready = False
        return data

    def wait_readable(self) -> Awaitable[None]:
        """See `Wire`."""
        if self._is_ready or not self._is_open:
            return trio.lowlevel.checkpoint()  # noqa: ASYNC105  the caller awaits it
        return self._readable.wait()

    def send_nowait(self, data: bytes) -> int:
        """See `Wire`."""
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._broken(error) from error

    async def wait_writable(self) -> None:
        """See `Wire`."""
        if self._is_open:
            try:
                await trio.lowlevel.wait_writable(self._sock)
            except trio.ClosedResourceError:
                return

    def send_eof(self) -> None:
        """See `Wire`."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the peer was faster

    def close(self) -> None:
        """See `Wire`."""
        if not self._is_open:
            return
        self._is_open = False
        self._is_ready = False
        self._hub.remove(self)
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()
        self._readable.wake()

    @property
    def unread(self) -> Bell:
        """See `Wire`."""
        return self._unread

    @property
    def peer(self) -> str:
        """See `Wire`."""
        return self._peer

    def _broken(self, error: OSError) -> TransportClosed:
        if not self._is_open:
            return TransportClosed(reasons.TRANSPORT_CLOSE)
        return TransportClosed(reasons.TRANSPORT_ERROR.because(error.strerror or "it broke"))


def _describe_peer(sock: socket.socket) -> str:
    try:
        name = sock.getpeername()
    except OSError:
        return "gone"
    if isinstance(name, tuple):
        host, port = name[0], name[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(name) or "unix"
