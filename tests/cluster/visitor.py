"""Clients as cheap as they can be: hundreds of events a second for dozens of them in one process.

They speak Socket.IO over a raw TCP connection, come back to whichever node lets them in, and keep
what they saw.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import trio

from trio_rt.codec.frames import FrameDecoder
from trio_rt.testing.peer import encode_messages

RETRY = 0.05
"""Seconds before another attempt to connect."""

PATIENCE = 12.0
"""Seconds without an answer after which a client tries another connection."""

_read = msgspec.json.decode

Ports = Callable[[], Sequence[int]]
"""The ports at which clients may try their luck now."""


class Visitor:
    """One client that comes back until it is told to stop.

    Args:
        name: the user.
        ports: where the nodes are.
        chance: picks a node.
    """

    has_keys = True
    """Whether its events have an idempotency key, as the last argument."""

    def __init__(self, name: str, ports: Ports, chance: random.Random) -> None:
        self.name = name
        self.sid = ""
        self.came_back = 0
        """How often it got its session back."""
        self.began_anew = 0
        """How often it was told that it does not."""
        self.has_ended = False
        self.connected = trio.Event()
        self._ports = ports
        self._chance = chance
        self._stream: trio.SocketStream | None = None
        self._pid = ""
        self.offset = ""
        self._port = 0
        self._visiting = trio.CancelScope()

    def cut(self) -> None:
        """Its connection breaks, without a word."""
        self._visiting.cancel()

    async def run(self) -> None:
        """Connects again and again."""
        while not self.has_ended:
            try:
                with trio.CancelScope() as self._visiting:
                    await self._visit()
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            except* trio.TooSlowError:
                pass
            finally:
                if self.connected.is_set():  # else somebody waits for it
                    self.connected = trio.Event()
                if self._stream is not None:
                    await trio.aclose_forcefully(self._stream)
                    self._stream = None
            await trio.sleep(RETRY * (0.5 + self._chance.random()))

    async def send(self, text: str) -> None:
        """Sends an Engine.IO message."""
        if self._stream is None:
            raise trio.ClosedResourceError("not connected")
        await self._stream.send_all(encode_messages(text))

    def take_event(self, text: str, offset: str) -> None:
        """An event arrived."""

    def take_presence(self, name: str, room: str, shown: dict[str, Any]) -> None:
        """Somebody is there, or has gone."""

    def take_ack(self, id: int, answer: list[Any]) -> None:
        """An acknowledgement arrived."""

    async def settle(self) -> None:
        """What has to be done on a new connection."""

    async def _visit(self) -> None:
        ports = [port for port in self._ports() if port != self._port] or self._ports()
        self._port = self._chance.choice(ports)
        with trio.fail_after(PATIENCE):
            stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        self._stream = stream
        await stream.send_all(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        data = b""
        with trio.fail_after(PATIENCE):
            while b"\r\n\r\n" not in data:
                got = await stream.receive_some()
                if not got:
                    return
                data += got
        head, _, rest = data.partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._settle, nursery.cancel_scope)
            await self._read(FrameDecoder(max_message_bytes=100_000_000, from_client=False), rest)
            nursery.cancel_scope.cancel()

    async def _settle(self, scope: trio.CancelScope) -> None:
        auth: dict[str, Any] = {"user": self.name}
        if self.has_keys:
            auth["rt"] = 1
        if self._pid:
            auth["pid"] = self._pid
            if self.offset:
                auth["offset"] = self.offset
        await self.send("40" + msgspec.json.encode(auth).decode())
        try:
            with trio.fail_after(PATIENCE):
                await self.connected.wait()
        except trio.TooSlowError:
            scope.cancel()
            return
        try:
            await self.settle()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            scope.cancel()

    async def _read(self, decoder: FrameDecoder, data: bytes) -> None:
        assert self._stream is not None
        while True:
            for message in decoder.receive(data):
                if isinstance(message, str):
                    await self._take(message)
                elif not isinstance(message, bytes):
                    return  # a close frame
            data = bytes(await self._stream.receive_some(65_536))
            if not data:
                return

    async def _take(self, message: str) -> None:
        kind = message[:2]
        if kind == "42":
            name, *arguments = _read(message[2:])
            if name.startswith("presence_"):
                self.take_presence(name, *arguments)
            else:
                assert name == "m", f"{self.name} got {name} {arguments}"
                text, self.offset = arguments
                self.take_event(text, self.offset)
        elif kind == "43":
            bracket = message.index("[")
            self.take_ack(int(message[2:bracket]), _read(message[bracket:]))
        elif kind == "40":
            self._take_reply(_read(message[2:]))
        elif message == "2":
            await self.send("3")

    def _take_reply(self, reply: dict[str, Any]) -> None:
        if self._pid == reply["pid"]:
            self.came_back += 1
        else:
            if self._pid:
                self.began_anew += 1
            self.begin_anew()
            self.offset = ""
        self._pid, self.sid = reply["pid"], reply["sid"]
        self.connected.set()

    def begin_anew(self) -> None:
        """It has no session yet, or lost it."""


class Subscriber(Visitor):
    """Listens to one room, and keeps all that it hears."""

    def __init__(self, name: str, ports: Ports, chance: random.Random, room: str) -> None:
        super().__init__(name, ports, chance)
        self.room = room
        self.joined = trio.Event()
        self.heard: list[tuple[str, str]] = []
        """Text and offset."""
        self.holes: list[int] = []
        """How much it had heard when it was told that something may be missing."""
        self.is_in = False

    def begin_anew(self) -> None:
        """It is in no room any more, or not yet."""
        if self.heard:
            self.holes.append(len(self.heard))
        self.is_in = False

    async def settle(self) -> None:
        """Joins its room, if it is not there already."""
        if not self.is_in:
            await self.send(f'420["join","{self.room}","{self.name}.{self.sid}"]')

    def take_ack(self, id: int, answer: list[Any]) -> None:
        """It has joined."""
        self.is_in = True
        self.joined.set()

    def take_event(self, text: str, offset: str) -> None:
        """Keeps what it hears."""
        self.heard.append((text, offset))


class Publisher(Visitor):
    """Publishes at a rate, each text until it is acknowledged."""

    def __init__(
        self, name: str, ports: Ports, chance: random.Random, rooms: Sequence[str], pause: float
    ) -> None:
        super().__init__(name, ports, chance)
        self.published: dict[str, list[str]] = {room: [] for room in rooms}
        """All texts that were sent at all, by room, in order."""
        self.acknowledged: set[str] = set()
        self.refused: set[str] = set()
        """Texts whose publication failed: they may have been published all the same."""
        self._rooms = rooms
        self._pause = pause
        self._answer = trio.Event()
        self._pending = -1
        self._number = 0

    async def publish(self, until: Callable[[], bool]) -> None:
        """Publishes, and waits for the last acknowledgement."""
        due = trio.current_time()
        while not until():
            due = max(due + self._pause, trio.current_time() - 0.5)
            await trio.sleep_until(due)
            number, self._number = self._number, self._number + 1
            room = self._rooms[number % len(self._rooms)]
            text = f"{self.name}-{number}"
            self.published[room].append(text)
            await self._publish(number, room, text)

    async def _publish(self, number: int, room: str, text: str) -> None:
        self._answer = trio.Event()
        self._pending = number
        while not self._answer.is_set():
            connected = self.connected
            await connected.wait()
            try:
                await self.send(f'42{number}["pub","{room}","{text}","{self.name}.{number}"]')
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                await trio.sleep(RETRY)
                continue
            while not self._answer.is_set() and self.connected is connected:
                with trio.move_on_after(0.05):
                    await self._answer.wait()

    def take_ack(self, id: int, answer: list[Any]) -> None:
        """What it waits for is published, or was refused."""
        if id != self._pending:
            return
        text = f"{self.name}-{id}"
        (self.refused if answer else self.acknowledged).add(text)
        self._answer.set()
