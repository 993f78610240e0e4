"""Wires in memory that cut, delay, stall, lose and break; all of it on Trio's clock."""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import cycle, repeat

import trio
from trio.testing import wait_all_tasks_blocked

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


class Lane:
    """One direction of a `Link`: bytes arrive as they were sent, in order and once, or not at all.

    Attributes:
        delay: seconds that bytes take from now on.
    """

    def __init__(self, source: Wire, target: Wire, delay: float) -> None:
        self.delay = delay
        self._source = source
        self._target = target
        self._passing = trio.Event()
        self._passing.set()
        self._left: int | None = None  # bytes that still arrive; None: all
        self._then: Callable[[], None] | None = None

    def stall(self) -> None:
        """Nothing arrives any more until `resume`; nothing is lost."""
        if self._passing.is_set():
            self._passing = trio.Event()

    def resume(self) -> None:
        """What was sent in the meantime arrives."""
        self._passing.set()

    def cut(self, after_bytes: int = 0, then: Callable[[], None] | None = None) -> None:
        """Everything is lost from here on, and nobody is told. What is cut stays so.

        Args:
            after_bytes: so many more arrive first: a cut in the middle of a frame.
            then: called when they have been read, such as `link.drop`.
        """
        self._left = after_bytes if self._left is None else min(self._left, after_bytes)
        self._then = then
        if not self._left:
            self._then = None
            if then is not None:
                then()

    async def run(self) -> None:
        """Takes pieces, and gives each when its time has come, until the sender has ended."""
        send, receive = trio.open_memory_channel[tuple[float, bytes]](IN_FLIGHT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take, send)
            try:
                async for due, data in receive:
                    await trio.sleep_until(due)
                    await self._passing.wait()
                    await self._give(data)
            except TransportClosed:
                self._source.close()  # so that the sender finds out
                nursery.cancel_scope.cancel()

    async def _take(self, send: trio.MemorySendChannel[tuple[float, bytes]]) -> None:
        data = b"?"
        with send:
            while data:
                try:
                    data = await self._source.receive()
                except TransportClosed:
                    return
                await send.send((trio.current_time() + self.delay, data))
                await self._passing.wait()

    async def _give(self, data: bytes) -> None:
        if self._left == 0:
            return
        if not data:
            self._target.send_eof()
            return
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        await self._target.send_all(data)
        if self._left == 0:
            await wait_all_tasks_blocked()
            then, self._then = self._then, None
            if then is not None:
                then()


class Link:
    """A network between two wires; open one with `open_link`.

    Attributes:
        client, server: its two ends.
        up, down: its two directions; `up` is the one to the server.
    """

    def __init__(self, delay: float, capacity: int) -> None:
        client, self._near = memory_wire_pair(capacity)
        self._far, server = memory_wire_pair(capacity)
        self.client = _LinkEnd(client)
        self.server = _LinkEnd(server)
        self.up = Lane(self._near, self._far, delay)
        self.down = Lane(self._far, self._near, delay)

    def stall(self) -> None:
        """Nothing arrives any more, in either direction, until `resume`; nothing is lost."""
        self.up.stall()
        self.down.stall()

    def resume(self) -> None:
        """What was sent in the meantime arrives."""
        self.up.resume()
        self.down.resume()

    def drop(self, *, tell_client: bool = True, tell_server: bool = True) -> None:
        """Breaks, as by a TCP reset: both ends are closed, and what was on its way is lost.

        Args:
            tell_client, tell_server: whether that end notices. For one that does not everything
                is silent from here on, and what it sends is lost.
        """
        for lane in (self.up, self.down):
            lane.cut()
            lane.resume()
        if tell_client:
            self.client.is_broken = True
            self._near.close()
        if tell_server:
            self.server.is_broken = True
            self._far.close()

    async def run(self) -> None:
        """Carries bytes until both directions have ended."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.up.run)
            nursery.start_soon(self.down.run)


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
