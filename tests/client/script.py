"""A server that does what the test says, message by message, on transports in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from trio_rt.errors import TransportClosed
from trio_rt.reasons import TRANSPORT_CLOSE

DEADLINE = 5.0
"""Seconds that anything may take which a test waits for."""

Message = str | bytes


class Line:
    """One transport, as the server sees it; `send` and `receive` are the client's."""

    def __init__(self, buffer: int) -> None:
        self._down, self._arrives = trio.open_memory_channel[Message](1_000_000)
        self._leaves, self._up = trio.open_memory_channel[Message](buffer)
        self.ended = trio.Event()
        """Set when the client has closed the transport."""

    # The client's

    async def send(self, message: Message) -> None:
        try:
            await self._leaves.send(message)
        except trio.BrokenResourceError:
            raise TransportClosed(TRANSPORT_CLOSE) from None

    async def receive(self) -> Message:
        try:
            return await self._arrives.receive()
        except trio.EndOfChannel:
            raise TransportClosed(TRANSPORT_CLOSE) from None

    # The test's

    def say(self, *messages: Message) -> None:
        """Sends messages to the client."""
        for message in messages:
            self._down.send_nowait(message)

    def open(self, interval: int = 25_000, timeout: int = 20_000, payload: int = 1_000_000) -> None:
        """Sends the open packet."""
        handshake = {
            "sid": "engine",
            "upgrades": [],
            "pingInterval": interval,
            "pingTimeout": timeout,
            "maxPayload": payload,
        }
        self.say("0" + msgspec.json.encode(handshake).decode())

    async def hear(self) -> Message:
        """The next message of the client."""
        with trio.fail_after(DEADLINE):
            return await self._up.receive()

    async def hear_packet(self) -> Any:
        """The next message, which has to be text: what stands before its JSON, and that."""
        message = await self.hear()
        assert isinstance(message, str), f"{message!r} is no packet"
        at = min((i for i in map(message.find, "[{") if i > 0), default=len(message))
        return message[:at], msgspec.json.decode(message[at:]) if message[at:] else None

    def heard(self) -> list[Message]:
        """All messages that have come and were not heard yet."""
        messages: list[Message] = []
        while True:
            try:
                messages.append(self._up.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                return messages

    async def expect(self, message: Message) -> None:
        """The next message of the client has to be this one."""
        heard = await self.hear()
        assert heard == message, f"{heard!r} came instead of {message!r}"

    async def admit(self, *, namespace: str = "", **reply: Any) -> dict[str, Any]:
        """Answers the client's CONNECT, and gives what it showed."""
        head, data = await self.hear_packet()
        shown: dict[str, Any] = data
        assert head == f"40{namespace}", f"{head!r} is no CONNECT to {namespace!r}"
        self.say(f"40{namespace}" + msgspec.json.encode({"sid": "S", **reply}).decode())
        return shown

    def close(self) -> None:
        """Ends the transport, without a word."""
        self._down.close()
        self._up.close()

    def hang_up(self) -> None:
        """The client has closed its end."""
        self.ended.set()
        self._leaves.close()
        self._arrives.close()


class Script:
    """The `dial=` of a client, and where its lines are answered."""

    def __init__(self, buffer: int = 1_000_000) -> None:
        self.urls: list[str] = []
        self.times: list[float] = []
        self.error: Exception | None = None
        self.is_silent = False
        self._buffer = buffer
        self._lines = trio.open_memory_channel[Line](100)

    @asynccontextmanager
    async def __call__(self, url: str) -> AsyncIterator[Line]:
        await trio.lowlevel.checkpoint()
        self.urls.append(url)
        self.times.append(trio.current_time())
        if self.error is not None:
            raise self.error
        if self.is_silent:
            await trio.sleep_forever()
        line = Line(self._buffer)
        self._lines[0].send_nowait(line)
        try:
            yield line
        finally:
            line.hang_up()

    async def answer(self, **opening: int) -> Line:
        """The next line that the client has dialled, with its open packet sent."""
        with trio.fail_after(600):
            line = await self._lines[1].receive()
        line.open(**opening)
        return line

    async def accept(self, **reply: Any) -> Line:
        """The next line, with the client connected."""
        line = await self.answer()
        await line.admit(**reply)
        return line
