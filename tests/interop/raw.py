"""A WebSocket client that can break every rule, over `websockets`' own codec."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import attrs
import trio
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

QUERY = "EIO=4&transport=websocket"
DEADLINE = 5.0


@attrs.define
class RawSocket:
    """A WebSocket whose frames the test makes and reads one by one."""

    _stream: trio.SocketStream
    _protocol: ClientProtocol
    _frames: deque[Frame] = attrs.field(factory=deque)

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self._stream.send_all(data)

    async def send(self, *packets: str | bytes | Frame) -> None:
        """Send text messages, binary ones, or frames, in one write."""
        await self.send_bytes(b"".join(map(masked, packets)))

    async def send_every(self, seconds: float, packet: str) -> None:
        """Send the same packet again and again, until the server has closed."""
        with suppress(trio.BrokenResourceError):
            while True:
                await self.send(packet)
                await trio.sleep(seconds)

    async def receive(self) -> str | bytes:
        """The next text or binary message.

        Raises:
            trio.EndOfChannel: if the server closed.
        """
        frame = await self._next_frame()
        if frame.opcode is Opcode.CLOSE:
            raise trio.EndOfChannel
        return bytes(frame.data).decode() if frame.opcode is Opcode.TEXT else bytes(frame.data)

    async def receive_after_pongs(self, count: int) -> str | bytes:
        """The next message, after exactly so many pongs."""
        for _ in range(count):
            assert (await self._next_frame()).opcode is Opcode.PONG
        return await self.receive()

    async def receive_close(self) -> int | None:
        """The code of the close frame, reading over what comes before it; None without one."""
        try:
            while (frame := await self._next_frame()).opcode is not Opcode.CLOSE:
                pass
        except trio.EndOfChannel:
            return None
        return Close.parse(frame.data).code

    async def receive_end(self) -> None:
        """Wait until the server has closed the TCP connection."""
        with trio.fail_after(DEADLINE):
            while await self._stream.receive_some():
                pass

    async def _next_frame(self) -> Frame:
        with trio.fail_after(DEADLINE):
            while not self._frames:
                data = await self._stream.receive_some()
                if not data:
                    raise trio.EndOfChannel
                self._protocol.receive_data(data)
                self._frames.extend(self._protocol.events_received())
        return self._frames.popleft()


class Unchecked(Frame):
    """A frame that may break the rules."""

    def check(self) -> None:
        """Find nothing wrong."""


def masked(packet: str | bytes | Frame) -> bytes:
    """The bytes of a text message, a binary one, or a frame, as a client has to send them."""
    if isinstance(packet, str):
        return Frame(Opcode.TEXT, packet.encode()).serialize(mask=True)
    if isinstance(packet, bytes):
        return Frame(Opcode.BINARY, packet).serialize(mask=True)
    return packet.serialize(mask=True)


@asynccontextmanager
async def raw_socket(port: int, query: str = QUERY) -> AsyncIterator[RawSocket]:
    """A WebSocket that is open, with Engine.IO's open packet not yet read."""
    protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/socket.io/?{query}"))
    protocol.send_request(protocol.connect())
    with trio.fail_after(DEADLINE):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        for data in protocol.data_to_send():
            await stream.send_all(data)
        socket = RawSocket(stream, protocol)
        response = await socket._next_frame()
        assert isinstance(response, Response)
        assert response.status_code == 101, response
        yield socket
