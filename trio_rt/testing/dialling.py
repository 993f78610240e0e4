"""Dials an app that is hosted in memory: the real client against the real server, without a port.

async with hosting(server) as host:
    dial = MemoryDialer(host)
    async with open_client("http://test", dial=dial) as client:
        dial.cut()      # as a network that breaks
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

import trio

from trio_rt import reasons
from trio_rt.codec.frames import Close, Ping, pong_frame
from trio_rt.errors import RemoteProtocolError, TransportClosed
from trio_rt.testing.hosting import Host
from trio_rt.testing.peer import MASK, WebSocketPeer
from trio_rt.transport.memory import memory_wire_pair
from trio_rt.transport.messages import MessageStream
from trio_rt.transport.wire import Wire

CLOSE_TIMEOUT = 1.0
"""Seconds that the server may take for its half of a close."""


class MemoryDialer:
    """The `dial=` of clients whose server is hosted in memory.

    Args:
        host: where the app is served.
        new_wires: makes the client's and the server's end of each transport, such as those of a
            `Link`, or cut by `CutWire`.
    """

    def __init__(
        self, host: Host, new_wires: Callable[[], tuple[Wire, Wire]] = memory_wire_pair
    ) -> None:
        self.new_wires = new_wires
        self.error: Exception | None = None
        """What dialling raises from now on, such as an OSError; None lets it work."""
        self.count = 0
        """How often it was dialled."""
        self.urls: list[str] = []
        """What was dialled, in order."""
        self._host = host
        self._open: set[WebSocketPeer] = set()

    @asynccontextmanager
    async def __call__(self, url: str) -> AsyncGenerator[MessageStream]:
        """See `Dialer`."""
        await trio.lowlevel.checkpoint()
        self.count += 1
        self.urls.append(url)
        if self.error is not None:
            raise self.error
        peer = await self._host.open_raw(self.new_wires())
        self._open.add(peer)
        try:
            yield PeerMessages(peer)
            with trio.move_on_after(CLOSE_TIMEOUT), suppress(TransportClosed):
                await peer.send_close()
                while await peer.receive() is not None:
                    pass
        finally:
            self._open.discard(peer)
            peer.close()

    def cut(self) -> None:
        """Breaks all transports that are open, at once and without a word."""
        for peer in self._open:
            peer.close()


class PeerMessages(MessageStream):
    """The messages of a WebSocket in memory."""

    def __init__(self, peer: WebSocketPeer) -> None:
        self._peer = peer

    async def send(self, message: str | bytes) -> None:
        """See `MessageStream`."""
        await self._peer.send(message)

    async def receive(self) -> str | bytes:
        """See `MessageStream`."""
        while True:
            message = await self._peer.receive()
            if isinstance(message, str | bytes):
                return message
            if isinstance(message, Ping):
                await self._peer.send_bytes(pong_frame(message.payload, mask=MASK))
            elif isinstance(message, RemoteProtocolError):
                raise TransportClosed(message.reason) from message
            elif message is None or isinstance(message, Close):
                raise TransportClosed(
                    reasons.TRANSPORT_CLOSE.because("the server closed the transport")
                )
