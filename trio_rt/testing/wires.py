"""Wires in memory that cut, delay, stall and break; all of it on Trio's clock."""

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import cycle, repeat

import trio

from trio_rt import reasons
from trio_rt.errors import TransportClosed
from trio_rt.transport.memory import MemoryWire, memory_wire_pair
from trio_rt.transport.wire import Wire

IN_FLIGHT = 16
"""Pieces that are on their way through a `Link` before it takes no more from the sender."""

Sizes = int | Iterable[int] | None
"""How many bytes a piece has: always as many, these in turn and then anew, or as they come."""


class CutWire(Wire):
    """Gives what arrives, and takes what is sent, in pieces.

    Args:
        wire: carries the bytes; owned from here on.
        received: sizes of the pieces that are received, such as 1 for each byte alone.
        sent: sizes of the pieces that are taken at once.
    """

    __slots__ = ("_received", "_rest", "_sent", "_wire", "peer", "readable", "unread")

    def __init__(self, wire: Wire, received: Sizes = None, sent: Sizes = None) -> None:
        self._wire = wire
        self._rest = b""
        self._received = _sizes(received)
        self._sent = _sizes(sent)
        self.readable = wire.readable
        self.unread = wire.unread
        self.peer = wire.peer

    def receive_nowait(self) -> bytes:
        """See `Wire`."""
        rest = self._rest
        data = rest or self._wire.receive_nowait()
        size = next(self._received) or len(data)
        data, self._rest = data[:size], data[size:]
        if rest or self._rest:  # what came with the first piece has used its ring up
            self.readable.ring()
            self.unread.ring()
        return data

    def send_nowait(self, data: bytes) -> int:
        """See `Wire`."""
        return self._wire.send_nowait(data[: next(self._sent) or len(data)])

    async def wait_writable(self) -> None:
        """See `Wire`."""
        await self._wire.wait_writable()

    def send_eof(self) -> None:
        """See `Wire`."""
        self._wire.send_eof()

    def close(self) -> None:
        """See `Wire`."""
        self._rest = b""
        self._wire.close()


class Link:
    """A network between two wires; open one with `open_link`.

    Attributes:
        client, server: its two ends.
        delay: seconds that bytes take from now on, in each direction.
    """

    def __init__(self, delay: float, capacity: int) -> None:
        self.delay = delay
        client, self._near = memory_wire_pair(capacity)
        self._far, server = memory_wire_pair(capacity)
        self.client = _LinkEnd(client)
        self.server = _LinkEnd(server)
        self._passing = trio.Event()
        self._passing.set()

    def stall(self) -> None:
        """Nothing arrives any more, in either direction, until `resume`; nothing is lost."""
        if self._passing.is_set():
            self._passing = trio.Event()

    def resume(self) -> None:
        """What was sent in the meantime arrives."""
        self._passing.set()

    def drop(self) -> None:
        """Breaks, as by a TCP reset: both ends are closed, and what was on its way is lost."""
        self.client.is_broken = self.server.is_broken = True
        self._near.close()
        self._far.close()

    async def run(self) -> None:
        """Carries bytes until both directions have ended."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._carry, self._near, self._far)
            nursery.start_soon(self._carry, self._far, self._near)

    async def _carry(self, source: Wire, target: Wire) -> None:
        """One direction: takes pieces, and gives each when its time has come."""
        send, receive = trio.open_memory_channel[tuple[float, bytes]](IN_FLIGHT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take, source, send)
            try:
                async for due, data in receive:
                    await trio.sleep_until(due)
                    await self._passing.wait()
                    if data:
                        await target.send_all(data)
                    else:
                        target.send_eof()
            except TransportClosed:
                source.close()  # so that the sender finds out
                nursery.cancel_scope.cancel()

    async def _take(self, source: Wire, send: trio.MemorySendChannel[tuple[float, bytes]]) -> None:
        data = b"?"
        with send:
            while data:
                try:
                    data = await source.receive()
                except TransportClosed:
                    return
                await send.send((trio.current_time() + self.delay, data))
                await self._passing.wait()


class _LinkEnd(Wire):
    """An end that can break."""

    __slots__ = ("_wire", "is_broken", "peer", "readable", "unread")

    def __init__(self, wire: MemoryWire) -> None:
        self._wire = wire
        self.is_broken = False
        self.readable = wire.readable
        self.unread = wire.unread
        self.peer = wire.peer

    def receive_nowait(self) -> bytes:
        """See `Wire`."""
        self._check()
        return self._wire.receive_nowait()

    def send_nowait(self, data: bytes) -> int:
        """See `Wire`."""
        self._check()
        return self._wire.send_nowait(data)

    async def wait_writable(self) -> None:
        """See `Wire`."""
        await self._wire.wait_writable()

    def send_eof(self) -> None:
        """See `Wire`."""
        self._wire.send_eof()

    def close(self) -> None:
        """See `Wire`."""
        self._wire.close()

    def _check(self) -> None:
        if self.is_broken:
            raise TransportClosed(reasons.TRANSPORT_ERROR)


@asynccontextmanager
async def open_link(*, delay: float = 0.0, capacity: int = 65_536) -> AsyncGenerator[Link]:
    """Opens a network between two wires, `link.client` and `link.server`, for one block.

    Args:
        delay: seconds that bytes take, in each direction.
        capacity: bytes that wait at each of its four corners before the sender is blocked.
    """
    link = Link(delay, capacity)
    error: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        try:
            yield link
        except Exception as raised:  # raised below: not as a group of the nursery's
            error = raised
        nursery.cancel_scope.cancel()
    link.drop()
    if error is not None:
        raise error


def _sizes(sizes: Sizes) -> Iterator[int]:
    """The sizes of pieces, without an end; 0 for whatever comes."""
    if sizes is None:
        return repeat(0)
    return repeat(sizes) if isinstance(sizes, int) else cycle(sizes)
