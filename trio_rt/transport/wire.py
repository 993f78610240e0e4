"""Contract of a wire: bytes in both directions, with a fast path that never waits.

A wire has one reader and one writer. The `_nowait` methods are what makes the hot path hot: a
frame usually leaves in the same step that made it, without a task switch.
"""

from abc import ABC, abstractmethod

import trio

from trio_rt.schedule.bell import Bell


class Wire(ABC):
    """A connected byte stream that belongs to one connection."""

    __slots__ = ()

    readable: Bell
    """Rung while bytes, or the end, may be there to be received."""

    unread: Bell
    """Rung when bytes, or the end, arrive while nobody waits for `readable`."""

    peer: str
    """The peer's address, `"host:port"` or a path, for logs and limits."""

    @abstractmethod
    def receive_nowait(self) -> bytes:
        """Bytes that have arrived; `b""` at the end of the stream.

        Raises:
            trio.WouldBlock: if nothing has arrived.
            TransportClosed: if the stream broke, or was closed.
        """

    async def receive(self) -> bytes:
        """Like `receive_nowait`, but waits. Cancelling it loses no bytes."""
        while True:
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                await self.readable.wait()

    @abstractmethod
    def send_nowait(self, data: bytes) -> int:
        """Sends what the peer takes now, and returns how many bytes that was (0 if none).

        Raises:
            TransportClosed: if the stream broke, or was closed.
        """

    @abstractmethod
    async def wait_writable(self) -> None:
        """Waits until `send_nowait` will take something, or fail. Cancelling it is harmless."""

    async def send_all(self, data: bytes) -> None:
        """Sends all of `data`. After a cancellation, an unknown part of it has been sent."""
        sent = self.send_nowait(data)
        while sent < len(data):
            await self.wait_writable()
            sent += self.send_nowait(data[sent:])

    @abstractmethod
    def send_eof(self) -> None:
        """Tells the peer that nothing more will come; receiving goes on."""

    @abstractmethod
    def close(self) -> None:
        """Ends both directions at once; whoever waits gets `TransportClosed`. Idempotent."""
