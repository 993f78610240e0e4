"""A wire in memory: two ends in one process, with a bounded buffer in each direction.

For embedding a client and a server in one program, and for tests on a virtual clock.
"""

import trio

from trio_rt import reasons
from trio_rt.errors import TransportClosed
from trio_rt.schedule.bell import Bell
from trio_rt.transport.wire import Wire


class _Pipe:
    """One direction: bytes on their way from one end to the other."""

    __slots__ = ("buffer", "capacity", "has_ended", "readable", "unread", "writable")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.buffer = bytearray()
        self.has_ended = False
        self.readable = Bell()
        self.unread = Bell()
        self.writable = Bell()

    def announce(self) -> None:
        """Something, or the end, is there to be read."""
        if not self.readable.wake():
            self.readable.ring()
            self.unread.ring()

    def end(self) -> None:
        """Nothing more will come."""
        if not self.has_ended:
            self.has_ended = True
            self.announce()


class MemoryWire(Wire):
    """One end of a pair; make both with `memory_wire_pair`."""

    __slots__ = ("_inward", "_is_open", "_outward", "peer", "readable", "unread")

    def __init__(self, inward: _Pipe, outward: _Pipe, peer: str) -> None:
        self._inward = inward
        self._outward = outward
        self._is_open = True
        self.readable = inward.readable
        self.unread = inward.unread
        self.peer = peer

    def receive_nowait(self) -> bytes:
        """See `Wire`."""
        if not self._is_open:
            raise TransportClosed(reasons.TRANSPORT_CLOSE)
        pipe = self._inward
        if not pipe.buffer and not pipe.has_ended:
            raise trio.WouldBlock
        data = bytes(pipe.buffer)
        pipe.buffer.clear()
        pipe.writable.ring()
        if pipe.has_ended:
            pipe.readable.ring()
            pipe.unread.ring()
        return data

    def send_nowait(self, data: bytes) -> int:
        """See `Wire`."""
        pipe = self._outward
        if not self._is_open or pipe.has_ended:
            raise TransportClosed(reasons.TRANSPORT_CLOSE)
        taken = min(len(data), pipe.capacity - len(pipe.buffer))
        if taken:
            pipe.buffer += data[:taken]
            pipe.announce()
        return taken

    async def wait_writable(self) -> None:
        """See `Wire`."""
        pipe = self._outward
        while self._is_open and not pipe.has_ended and len(pipe.buffer) >= pipe.capacity:
            await pipe.writable.wait()

    def send_eof(self) -> None:
        """See `Wire`."""
        self._outward.end()

    def close(self) -> None:
        """See `Wire`. What this end did not read is lost, as with a socket."""
        if not self._is_open:
            return
        self._is_open = False
        self._outward.end()
        self._inward.has_ended = True
        self._inward.buffer.clear()
        for bell in (self._inward.readable, self._inward.writable, self._outward.writable):
            bell.ring()


def memory_wire_pair(
    capacity: int = 65_536, *, names: tuple[str, str] = ("memory:client", "memory:server")
) -> tuple[MemoryWire, MemoryWire]:
    """Two connected wires; what one sends the other receives.

    Args:
        capacity: bytes that each direction holds before the sender is blocked.
        names: what the first and the second end are called by their peers.
    """
    up, down = _Pipe(capacity), _Pipe(capacity)
    return MemoryWire(down, up, names[1]), MemoryWire(up, down, names[0])
