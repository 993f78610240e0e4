"""A small Socket.IO client for tests: it does what the script says, and waits for nothing long.

It answers pings by itself, in a task of its own. Packets are kept in the order of their arrival
until the script asks for them. Source: Engine.IO protocol v4; Socket.IO protocol v5.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio

from trio_rt.codec import attachments, engineio, socketio
from trio_rt.codec.attachments import Assembly
from trio_rt.codec.engineio import Open
from trio_rt.codec.frames import Close
from trio_rt.codec.socketio import Packet
from trio_rt.errors import Refuse, RemoteProtocolError, TransportClosed
from trio_rt.packets import unpack
from trio_rt.testing.peer import WebSocketPeer
from trio_rt.transport.wire import Wire

DEADLINE = 5.0
"""Seconds that anything may take which a script waits for."""


_CONNECT_REPLIES = (socketio.CONNECT, socketio.CONNECT_ERROR)


class Client:
    """One client on one wire.

    Args:
        wire: its opening handshake is done; owned from here on.
        answers_pings: whether it answers Engine.IO's pings.
        takes_offsets: whether the server sends offsets behind events: it recovers sessions.

    Attributes:
        peer: its frames, to send what no client would.
        pings: when pings arrived, on Trio's clock.
        close_code: what the server's close frame said; None before, and without one.
        has_ended: whether the server has closed, or the wire broke.
        error: how the server broke the protocol; raised by whatever waits then, and by the host.
    """

    def __init__(
        self, wire: Wire, *, answers_pings: bool = True, takes_offsets: bool = True
    ) -> None:
        self.peer = WebSocketPeer(wire)
        self.takes_offsets = takes_offsets
        self.answers_pings = answers_pings
        self.pings: list[float] = []
        self.close_code: int | None = None
        self.has_ended = False
        self.error: AssertionError | RemoteProtocolError | None = None
        self.recovered: set[str] = set()
        """Namespaces in which the server gave back the session of before."""
        self._pids: dict[str, str] = {}
        self._offsets: dict[str, str] = {}
        self.opened: Open | None = None
        """The open packet, when it has arrived."""
        self._packets: deque[Packet] = deque()
        self._assembly: Assembly | None = None
        self._news = trio.Event()
        self._reading = trio.Event()
        self._reading.set()
        self._scope: trio.CancelScope | None = None
        self._last_id = 0

    async def run(self) -> None:
        """Reads until the server has closed, or the wire broke."""
        async with trio.open_nursery() as pongs:
            try:
                while not self.has_ended:
                    await self._reading.wait()
                    message = None
                    with trio.CancelScope() as self._scope:
                        message = await self.peer.receive()
                    if not self._scope.cancelled_caught:
                        self._take(message, pongs)
            except TransportClosed:
                self._end()
            except (AssertionError, RemoteProtocolError) as error:
                self.error = error
                self._end()
            pongs.cancel_scope.cancel()

    # Speaking

    async def open(self) -> Open:
        """Waits for Engine.IO's open packet."""
        await self._wait(lambda: self.opened is not None, "open packet")
        assert self.opened is not None
        return self.opened

    async def connect(self, namespace: str = "/", auth: dict[str, Any] | None = None) -> str:
        """Connects to a namespace. What the client had missed is there before it returns.

        Returns:
            The socket's id.

        Raises:
            Refuse: if the server said no, with its code, message and details.
        """
        shown = auth or {}
        if "offset" in shown:
            self._offsets.setdefault(namespace, shown["offset"])
        await self.send_packet(socketio.encode_connect(namespace, auth))
        packet = await self._find(
            lambda p: p.namespace == namespace and p.type in _CONNECT_REPLIES, "CONNECT"
        )
        if packet.type == socketio.CONNECT_ERROR:
            data: dict[str, Any] = packet.data.get("data") or {}
            raise Refuse(data.get("code", ""), packet.data["message"], data.get("details"))
        if "pid" in packet.data:
            self._pids[namespace] = packet.data["pid"]
            if packet.data["pid"] == shown.get("pid"):
                self.recovered.add(namespace)
        sid: str = packet.data["sid"]
        return sid

    def claim(self, namespace: str = "/") -> dict[str, str]:
        """What the next connection of the same client has to show as `auth` to be recovered."""
        claim = {"pid": self._pids[namespace]}
        if namespace in self._offsets:
            claim["offset"] = self._offsets[namespace]
        return claim

    async def emit(self, event: str, *arguments: Any, namespace: str = "/") -> None:
        """Sends an event; `bytes` may be anywhere in its arguments."""
        await self._send_event(namespace, (event, *arguments), None)

    async def ask(self, event: str, *arguments: Any, namespace: str = "/") -> int:
        """Sends an event that asks for an acknowledgement, and returns its id at once."""
        self._last_id += 1
        await self._send_event(namespace, (event, *arguments), self._last_id)
        return self._last_id

    async def call(self, event: str, *arguments: Any, namespace: str = "/") -> Any:
        """Sends an event and waits for its acknowledgement; other packets are kept.

        Returns:
            As `Socket.call`: the value, None for an empty one, a tuple of several.
        """
        id = await self.ask(event, *arguments, namespace=namespace)
        packet = await self._find(lambda p: p.type == socketio.ACK and p.id == id, f"ACK {id}")
        return unpack(packet.data)

    async def acknowledge(self, packet: Packet, *arguments: Any) -> None:
        """Answers an event that `receive` gave."""
        assert packet.id is not None, f"nobody asked for an acknowledgement of {packet}"
        data, buffers = attachments.extract(list(arguments))
        text = socketio.encode_ack(packet.namespace, packet.id, data, attachments=len(buffers))
        await self.send_packet(text, buffers)

    async def leave(self, namespace: str = "/") -> None:
        """Disconnects from a namespace."""
        await self.send_packet(socketio.encode_disconnect(namespace))

    async def send_packet(self, text: bytes, buffers: tuple[bytes, ...] = ()) -> None:
        """Sends a Socket.IO packet and its attachments."""
        await self.peer.send(engineio.MESSAGE + text.decode(), *buffers)

    # Listening

    async def receive(self) -> Packet:
        """The next packet of any namespace."""
        return await self._find(lambda _: True, "packet")

    async def expect(self, event: str, *, namespace: str = "/") -> Any:
        """The arguments of the next packet of a namespace, which has to be this event.

        Returns:
            As `call` gives them.
        """
        packet = await self._next(namespace, f"event {event!r}")
        _check(
            packet.type == socketio.EVENT and packet.data[0] == event, f"event {event!r}", packet
        )
        return unpack(packet.data[1:])

    async def expect_acknowledgement(self, id: int, *, namespace: str = "/") -> Any:
        """The value of the next packet of a namespace, which has to acknowledge `ask`'s `id`."""
        packet = await self._next(namespace, f"ACK {id}")
        _check(packet.type == socketio.ACK and packet.id == id, f"ACK {id}", packet)
        return unpack(packet.data)

    async def expect_put_out(self, namespace: str = "/") -> None:
        """The next packet of a namespace has to be the server's DISCONNECT."""
        packet = await self._next(namespace, "DISCONNECT")
        _check(packet.type == socketio.DISCONNECT, "DISCONNECT", packet)

    async def expect_end(self, code: int | None) -> None:
        """The server has to close with this code, and to send nothing more before."""
        await self._wait(lambda: self.has_ended, "end of the connection")
        assert not self._packets, f"packets before the end: {list(self._packets)}"
        assert self.close_code == code, f"closed with {self.close_code}, not {code}"

    async def expect_nothing(self, seconds: float = 0.1) -> None:
        """No packet, and no end, may come for so long."""
        with trio.move_on_after(seconds):
            while not self._packets and not self.has_ended:
                await self._news.wait()
        assert not self._packets, f"unexpected: {list(self._packets)}"
        assert not self.has_ended, f"the server closed with {self.close_code}"

    def rest(self) -> list[Packet]:
        """All packets that have arrived and were not asked for."""
        rest = list(self._packets)
        self._packets.clear()
        return rest

    def pause(self) -> None:
        """Reads no more, as a client that is too slow; pings are not seen either."""
        if self._reading.is_set():
            self._reading = trio.Event()
            if self._scope is not None:
                self._scope.cancel()

    def resume(self) -> None:
        """Reads on."""
        self._reading.set()

    # Leaving

    async def aclose(self) -> None:
        """Closes as a well-behaved client: a close frame, and the server's in return."""
        try:
            await self.peer.send_close()
            await self._wait(lambda: self.has_ended, "close frame")
        except TransportClosed:
            pass  # the server was faster
        self.close()

    def close(self) -> None:
        """Closes the wire at once, as a client that vanishes."""
        self.peer.close()

    async def _send_event(self, namespace: str, data: tuple[Any, ...], id: int | None) -> None:
        plain, buffers = attachments.extract(data)
        text = socketio.encode_event(namespace, plain, id=id, attachments=len(buffers))
        await self.send_packet(text, buffers)

    def _take(self, message: object, pongs: trio.Nursery) -> None:
        """Notes what arrived."""
        if message is None:
            self._end()
        elif isinstance(message, Close):
            self.close_code = message.code
            pongs.start_soon(self._answer_close)
        elif isinstance(message, bytes):
            assert self._assembly is not None, "an attachment without a packet"
            packet = self._assembly.add(message)
            if packet is not None:
                self._assembly = None
                self._note(packet)
        elif isinstance(message, str):
            self._take_text(message, pongs)
        elif isinstance(message, Exception):
            raise message

    def _take_text(self, message: str, pongs: trio.Nursery) -> None:
        kind, payload = message[:1], message[1:]
        if kind == engineio.PING:
            self.pings.append(trio.current_time())
            if self.answers_pings:
                pongs.start_soon(self._pong)
        elif kind == engineio.OPEN:
            self.opened = engineio.decode_open(message)
            self._tell()
        else:
            assert kind == engineio.MESSAGE, f"no server sends {message!r}"
            assert self._assembly is None, "a packet between another one and its attachments"
            packet = socketio.decode(payload)
            if packet.attachments:
                self._assembly = Assembly(packet)
            else:
                self._note(packet)

    async def _pong(self) -> None:
        with suppress(TransportClosed):
            await self.peer.send(engineio.PONG)

    async def _answer_close(self) -> None:
        with suppress(TransportClosed):
            await self.peer.send_close(self.close_code if self.close_code != 1005 else None)
        self.close()

    def _note(self, packet: Packet) -> None:
        self._take_offset(packet)
        self._packets.append(packet)
        self._tell()

    def _take_offset(self, packet: Packet) -> None:
        """The last argument of an event, as the official client sees it: any text.

        What comes before the reply to CONNECT is an event that was missed.
        """
        is_plain = packet.type == socketio.EVENT and packet.id is None
        if is_plain and self.takes_offsets and type(packet.data[-1]) is str:
            self._offsets[packet.namespace] = packet.data.pop()

    def _end(self) -> None:
        self.has_ended = True
        self.close()
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def _next(self, namespace: str, wanted: str) -> Packet:
        """The next packet of one namespace: there is no order between several."""
        return await self._find(lambda packet: packet.namespace == namespace, wanted)

    async def _find(self, matches: Callable[[Packet], bool], wanted: str) -> Packet:
        """Removes the first packet that matches, waiting for it."""

        def found() -> Packet | None:
            return next((packet for packet in self._packets if matches(packet)), None)

        await self._wait(lambda: found() is not None or self.has_ended, wanted)
        packet = found()
        assert packet is not None, f"no {wanted}: the server closed with {self.close_code}"
        self._packets.remove(packet)
        return packet

    async def _wait(self, is_true: Callable[[], bool], wanted: str) -> None:
        with trio.move_on_after(DEADLINE) as scope:
            while not is_true() and self.error is None:
                await self._news.wait()
        if self.error is not None:
            raise self.error
        if scope.cancelled_caught:
            raise AssertionError(f"no {wanted} within {DEADLINE} s; kept: {list(self._packets)}")


def _check(is_right: bool, wanted: str, packet: Packet) -> None:
    assert is_right, f"{wanted} was due, and {packet} came"
