"""Contract of a wire: bytes in both directions, with a fast path that never waits.

A wire has one reader and one writer. The `_nowait` methods are what makes the hot path hot: a
frame usually leaves in the same step that made it, without a task switch.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable

import trio

from trio_rt.schedule.bell import Bell


class Wire(ABC):
    """A connected byte stream that belongs to one connection."""

    __slots__ = ()

    @property
    @abstractmethod
    def is_readable(self) -> bool:
        """Whether `receive_nowait` may return something."""

    @abstractmethod
    def receive_nowait(self) -> bytes:
        """Bytes that have arrived; `b""` at the end of the stream.

        Raises:
            trio.WouldBlock: if nothing has arrived.
            TransportClosed: if the stream broke, or was closed.
        """

    @abstractmethod
    def wait_readable(self) -> Awaitable[None]:
        """Waits until `is_readable`, or for nothing: look again. Await it at once.

        Always a checkpoint; cancelling it is harmless.
        """

    async def receive(self) -> bytes:
        """Like `receive_nowait`, but waits. Cancelling it loses no bytes."""
        while True:
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                await self.wait_readable()

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

    @property
    @abstractmethod
    def unread(self) -> Bell:
        """Rung when bytes arrive while nobody waits in `wait_readable`."""

    @property
    @abstractmethod
    def peer(self) -> str:
        """The peer's address, `"host:port"` or a path, for logs and limits."""
