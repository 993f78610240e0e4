"""The client's end of a WebSocket, frame by frame: for scripts that say exactly what is sent."""

from collections import deque

import trio

from trio_rt.codec import frames
from trio_rt.codec.frames import FrameDecoder, Message
from trio_rt.transport.wire import Wire

MASK = b"\x5a\xa5\x3c\xc3"
"""Always the same, so that a test sends the same bytes each time."""

MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class WebSocketPeer:
    """A client whose opening handshake is done.

    Args:
        wire: carries the frames; owned from here on.
        compression: whether permessage-deflate was agreed on.
    """

    def __init__(self, wire: Wire, *, compression: bool = False) -> None:
        self.wire = wire
        self._decoder = FrameDecoder(
            max_message_bytes=MAX_MESSAGE_BYTES, from_client=False, compression=compression
        )
        self._messages: deque[Message] = deque()
        self._turn = trio.Lock()

    def encode(self, *messages: str | bytes) -> bytes:
        """Text and binary messages as `send` sends them."""
        return encode_messages(*messages)

    async def send(self, *messages: str | bytes) -> None:
        """Sends text and binary messages in one write."""
        await self.send_bytes(encode_messages(*messages))

    async def send_bytes(self, data: bytes) -> None:
        """Sends bytes as they are; several tasks may, one after the other."""
        async with self._turn:
            await self.wire.send_all(data)

    async def send_ping(self, payload: bytes = b"") -> None:
        """Sends a WebSocket ping."""
        await self.send_bytes(frames.ping_frame(payload, mask=MASK))

    async def send_close(self, code: int | None = 1000) -> None:
        """Sends a close frame."""
        await self.send_bytes(frames.close_frame(code, mask=MASK))

    async def receive(self) -> Message | None:
        """The next text, binary message or control frame; None at the end of the stream.

        Cancelling it loses nothing. What breaks the protocol comes as a `RemoteProtocolError`.

        Raises:
            TransportClosed: if the wire broke, or was closed.
        """
        while not self._messages:
            data = await self.wire.receive()
            if not data:
                return None
            self._messages.extend(self._decoder.receive(data))
        return self._messages.popleft()

    def close(self) -> None:
        """Closes the wire at once, without a close frame."""
        self.wire.close()


def encode_messages(*messages: str | bytes) -> bytes:
    """Text and binary messages as masked frames, one behind the other."""
    return b"".join(
        frames.text_frame(message.encode(), mask=MASK)
        if isinstance(message, str)
        else frames.binary_frame(message, mask=MASK)
        for message in messages
    )
