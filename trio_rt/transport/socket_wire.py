"""A wire over a plain non-blocking socket that a hub watches: the fast one."""

import socket
from typing import Any

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
        "_received",
        "_sock",
        "peer",
        "readable",
        "unread",
    )

    def __init__(self, sock: socket.socket, hub: Hub) -> None:
        self._sock = sock
        self._hub = hub
        self._is_open = True
        self._has_hung_up = False
        self.readable = Bell()
        self.unread = Bell()
        self.peer = _describe_peer(sock)
        self._received = hub.add(self)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def missed(self) -> None:
        """See `Readable`. Wakes whoever stands in for the reader."""
        self.readable.ring()
        self.unread.ring()

    def hung_up(self) -> None:
        """See `Readable`."""
        self._has_hung_up = True

    def receive_nowait(self) -> bytes:
        """See `Wire`."""
        try:
            data = self._sock.recv(CHUNK_BYTES)
        except BlockingIOError:
            self._note_received()
            raise trio.WouldBlock from None
        except OSError as error:
            raise self._broken(error) from error
        if self._received is not None:
            self._note_received()
        if len(data) == CHUNK_BYTES or self._has_hung_up:
            self.readable.ring()  # no edge will tell of what is left
            self.unread.ring()
        return data

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
        if not self._is_open:
            await trio.lowlevel.checkpoint()
            return
        try:
            await trio.lowlevel.wait_writable(self._sock)
        except trio.ClosedResourceError:
            return  # sending will say so

    def send_eof(self) -> None:
        """See `Wire`."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the peer was faster

    def close(self) -> None:
        """See `Wire`."""
        if self._is_open:
            self._is_open = False
            self._hub.remove(self)
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
            self.readable.ring()

    def _note_received(self) -> None:
        if self._received is not None:
            self._received.ring()

    def _broken(self, error: OSError) -> TransportClosed:
        if not self._is_open:
            return TransportClosed(reasons.TRANSPORT_CLOSE)
        return TransportClosed(reasons.TRANSPORT_ERROR.because(error.strerror or "it broke"))


def _describe_peer(sock: socket.socket) -> str:
    try:
        name: Any = sock.getpeername()
    except OSError:
        return "gone"
    family = sock.family
    if family == socket.AF_INET6:
        return f"[{name[0]}]:{name[1]}"
    if family == socket.AF_INET:
        return f"{name[0]}:{name[1]}"
    return str(name) or "unix"
