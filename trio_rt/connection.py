"""One client: its transport, and the tasks that serve it, in one nursery.

    reader     who calls `wait` and `take`: takes events off the wire and hands them to handlers
    writer     parked until the peer reads too slowly; then empties the outbox
    heartbeat  parked until its deadline; reads on for a reader that a handler holds up

The machines decide, `_apply` acts. An ending has two steps. `stop` ends reading: what the client
sent before is still handled, for a while. `end` cancels everything; the first reason counts.

It is one long file because reading, sending and ending share the same few flags: each makes sense
only beside the others.
"""

import math
from collections.abc import Awaitable

import trio

from trio_rt import reasons
from trio_rt.calls import Call
from trio_rt.codec import engineio, socketio
from trio_rt.codec.position import START, Reached
from trio_rt.codec.socketio import EVENT, Encoded, Packet
from trio_rt.config import Config
from trio_rt.errors import LimitError, TransportClosed
from trio_rt.inbox import Inbox
from trio_rt.log import log
from trio_rt.machine.effects import Connect, Effect, Left, RefuseConnect, SendPing
from trio_rt.machine.engine import Engine
from trio_rt.machine.heartbeat import Heartbeat, HeartbeatState
from trio_rt.machine.multiplex import Multiplex
from trio_rt.outbox import Outbox, Overflow
from trio_rt.policies import CLOSE, Policy
from trio_rt.reasons import Reason
from trio_rt.schedule.flusher import Flushable, Flusher
from trio_rt.schedule.wheel import Wheel
from trio_rt.transport.base import Transport

Event = Connect | Left | Packet
"""What the reader gets, in the order in which the client sent it."""

WRITE_BYTES = 65_536
"""How much one write takes: what waits for a flush behind its first frame does not grow beyond it,
and the outbox is emptied in such pieces."""

_PING = engineio.PING.encode()

QUIET, WAITING = HeartbeatState.QUIET, HeartbeatState.WAITING


class Connection(Flushable):
    """One transport session of one client, from the open packet to the end.

    Args:
        sid: the Engine.IO session id: a secret between the client and us.
        transport: its handshake is done; owned from here on.
        config: limits and intervals.
        flusher, wheel: shared with all connections of the server.
    """

    __slots__ = (
        "__weakref__",
        "_calls",
        "_dropped",
        "_engine",
        "_flusher",
        "_give_up_at",
        "_inbox",
        "_is_marked",
        "_is_reading",
        "_joined_bytes",
        "_nursery",
        "_outbox",
        "_pending",
        "_pinged",
        "_tick",
        "_unweighed_bytes",
        "_wheel",
        "config",
        "multiplex",
        "proven",
        "reason",
        "sid",
        "stopped",
        "transport",
    )

    def __init__(
        self, sid: str, transport: Transport, config: Config, flusher: Flusher, wheel: Wheel
    ) -> None:
        now = trio.current_time()
        self.sid = sid
        self.transport = transport
        self.config = config
        self.stopped: Reason | None = None
        """Why reading is over; None while it goes on."""
        self.reason: Reason | None = None
        """Why the connection ended; None while it goes on."""
        self.multiplex = Multiplex(
            config.max_namespaces, config.max_attachments, config.connect_timeout, now
        )
        heartbeat = Heartbeat(config.ping_interval, config.ping_timeout, now)
        self._engine = Engine(heartbeat, self.multiplex)
        self._flusher = flusher
        self._wheel = wheel
        self._nursery: trio.Nursery | None = None
        self._calls: dict[tuple[str, int], tuple[Call, str]] | None = None
        self._inbox: Inbox[Event] | None = None
        self._outbox: Outbox | None = None
        self._pending: list[bytes] = []  # leaves with the next flush
        self._joined_bytes = 0  # of what waits behind the first
        self._is_marked = False  # the flusher knows
        self._is_reading = False  # the reader waits for the wire, no handler holds it up
        self._dropped = 0
        self._unweighed_bytes = 0  # attachments that arrived before their event was whole
        self._tick = -1  # the scheduler's step in which a frame was last sent
        self.proven: Reached = START
        self._pinged: Reached = START
        """`proven`: the peer has got all events up to here, because it answered a ping behind."""
        self._give_up_at = math.inf  # when handlers are cancelled after `stop`

    # Its life

    def start(self, nursery: trio.Nursery) -> None:
        """Sends the open packet, and starts the writer and the heartbeat.

        Args:
            nursery: the connection's own: `end` cancels it. Whoever opened it is the reader,
                awaits `wait` and then calls `take` in a loop, and calls `finish` when the nursery
                has closed.
        """
        self._nursery = nursery
        if self.reason is not None:
            nursery.cancel_scope.cancel()  # it ended before it began
            return
        self._send_open_packet()
        nursery.start_soon(self._write)
        nursery.start_soon(self._beat)

    def look_at_deadlines(self) -> None:
        """A deadline may have come nearer: the heartbeat looks at all of them again."""
        self.transport.unread.ring()

    @property
    def nursery(self) -> trio.Nursery:
        """What runs here ends with the connection."""
        if self._nursery is None:
            raise TransportClosed(self.reason or reasons.TRANSPORT_CLOSE)
        return self._nursery

    def stop(self, reason: Reason) -> None:
        """Ends reading. Events that have arrived are still handled, then the connection ends.

        Handlers that take longer than `disconnect_timeout` are cancelled.
        """
        if self.stopped is not None:
            return
        self.stopped = reason
        self._engine.close()
        if self._is_reading or self._nursery is None:
            self.end(reason)
        else:
            self._give_up_at = trio.current_time() + self.config.disconnect_timeout
            self.transport.unread.ring()
            self.forget_calls()
            if self._outbox is not None:
                self._outbox.wake()

    def end(self, reason: Reason) -> None:
        """Ends the connection and cancels all that runs in it; the first reason counts."""
        if self.reason is not None:
            return
        self.reason = self.stopped = self.stopped or reason
        self._engine.close()
        self.forget_calls()
        if self._outbox is not None:
            self._outbox.wake()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel(reason=reason.code)

    async def finish(self) -> None:
        """Sends what still waits, and closes the transport within `close_timeout`."""
        self._nursery = None
        self.end(reasons.SERVER_SHUTDOWN)
        assert self.reason is not None
        with trio.move_on_after(self.config.close_timeout, shield=True):
            try:
                self._send_pending()
                await self._drain()
                await self.transport.finish(self.reason)
            except TransportClosed:
                pass  # it ended before we could say so
        self.transport.close()

    # Receiving

    def wait(self) -> Awaitable[None]:
        """Waits until there may be something to `take`. Await it at once.

        What the handlers of the last events sent leaves now. When the connection is over this
        raises `trio.Cancelled`, because its nursery is cancelled.

        Not an async function, because the frame of one would cost each message 0.3 us, and each
        idle connection 300 bytes.
        """
        if self._pending and not self._flusher.is_crowded:
            self._send_pending()
        if self.stopped is None and not self._inbox:
            self._is_reading = True
            return self.transport.readable.wait()
        return self._wait_less()

    async def _wait_less(self) -> None:
        """Events wait in the inbox, or there will be no more."""
        if self._inbox:
            await trio.lowlevel.checkpoint()
        else:
            assert self.stopped is not None
            self.end(self.stopped)
            await trio.sleep_forever()

    def take(self) -> list[Event]:
        """Takes what has arrived, deals with it, and gives the events for handlers."""
        if not self._is_reading:
            return self._take_inbox()
        self._is_reading = False
        events: list[Event] = []
        try:
            for message in self.transport.receive_nowait():
                packet = self._engine.receive_event(message)
                if packet is not None:
                    events.append(packet)
                    continue
                for effect in self._engine.receive(message):
                    if type(effect) is Packet and effect.type == EVENT:
                        events.append(effect)
                    else:
                        self._apply(effect, events)
        except TransportClosed as error:
            self.stop(error.reason)
        return events

    def _take_inbox(self) -> list[Event]:
        assert self._inbox is not None
        events = self._inbox.take()
        self._engine.heartbeat.excuse(trio.current_time())  # reading may have paused
        self.transport.unread.ring()
        return events

    def cork(self) -> None:
        """Joins what is sent in this step of the scheduler, because more is to come."""
        self._tick = self._flusher.tick

    def _relieve(self) -> None:
        """Reads on for a reader that is held up, so that pongs and acknowledgements are seen."""
        if self._is_reading or self.stopped is not None or self._is_paused:
            return
        if not self.transport.readable.take():
            return
        events, size = self._read_and_weigh()
        if events:
            if self._inbox is None:
                self._inbox = Inbox(self.config.inbox_messages, self.config.inbox_bytes)
            try:
                self._inbox.put(events, size)
            except LimitError as error:
                self.end(reasons.OVERRUN.because(str(error)))
        self.transport.unread.ring()  # there may be more

    def _read_and_weigh(self) -> tuple[list[Event], int]:
        """As `take`, with the bytes that the events came in, attachments included."""
        events: list[Event] = []
        size = 0
        try:
            for message in self.transport.receive_nowait():
                self._unweighed_bytes += len(message)
                before = len(events)
                for effect in self._engine.receive(message):
                    self._apply(effect, events)
                if len(events) > before:
                    size += self._unweighed_bytes
                if not self.multiplex.is_assembling:
                    self._unweighed_bytes = 0
        except TransportClosed as error:
            self.stop(error.reason)
        return events, size

    @property
    def _is_paused(self) -> bool:
        """Whether we do not read, because enough waits for a handler that does not wait for us."""
        return (
            not self._is_reading
            and self._inbox is not None
            and self._inbox.is_full
            and not self._calls
        )

    # Sending

    @property
    def can_send(self) -> bool:
        """Whether the peer may still get something: it is there, or only we are leaving."""
        return self.stopped is None or (
            self.reason is None and self.stopped.code == reasons.SERVER_SHUTDOWN.code
        )

    @property
    def dropped(self) -> int:
        """Events that were dropped, as their policy says, because the peer reads too slowly."""
        return self._dropped + (0 if self._outbox is None else self._outbox.dropped)

    def drop(self) -> None:
        """Counts an event that was dropped before it came here."""
        self._dropped += 1

    def send(self, data: bytes) -> None:
        """Sends a frame in order: at once if nothing was sent in this step of the scheduler."""
        flusher = self._flusher
        if flusher.is_crowded or self._pending or self._tick == flusher.tick:
            self.send_later(data)
        elif self.transport.is_blocked:
            self._put(data, CLOSE)
        else:
            self._tick = self._flusher.tick
            try:
                self.transport.send_nowait(data)
            except TransportClosed as error:
                self.stop(error.reason)

    def send_packet(self, text: bytes, attachments: tuple[bytes, ...] = ()) -> None:
        """Encodes and sends one Socket.IO packet in order."""
        self.send(self.transport.encode(Encoded(text, attachments)))

    def send_later(self, data: bytes, policy: Policy = CLOSE) -> None:
        """Sends a frame in order with the next flush; on a blocked transport by its policy."""
        if self.transport.is_blocked:
            self._send_pending()
            self._put(data, policy)
            return
        self._pending.append(data)
        if not self._is_marked:
            self._is_marked = True
            self._flusher.mark(self)
            return
        self._joined_bytes += len(data)
        if self._joined_bytes > WRITE_BYTES:
            self._send_pending()

    def flush(self) -> None:
        """Sends what waits; called by the flusher once for each time the connection was marked."""
        self._is_marked = False
        if self._pending:
            try:
                self._send_pending()
            except Exception:  # ours: it must not take the flusher, and so the server, with it
                log.exception("sending to %s failed", self.sid)
                self.end(reasons.INTERNAL_ERROR)

    def has_room(self, size_bytes: int) -> bool:
        """Whether a frame of this size can be sent, or fits into the outbox."""
        return self._outbox is None or self._outbox.has_room(size_bytes)

    async def wait_room(self, size_bytes: int) -> None:
        """Waits until `has_room`, or the connection has stopped."""
        while self.stopped is None and self._outbox is not None and not self.has_room(size_bytes):
            await self._outbox.wait_room()

    def _send_pending(self) -> None:
        pending = self._pending
        self._joined_bytes = 0
        if self.transport.is_blocked:
            for data in pending:
                self._put(data, CLOSE)
            pending.clear()
            return
        joined = b"".join(pending)  # a frame that is alone is not copied
        pending.clear()
        self._tick = self._flusher.tick
        try:
            self.transport.send_nowait(joined)
        except TransportClosed as error:
            self.stop(error.reason)

    def _put(self, data: bytes, policy: Policy) -> None:
        if self.reason is not None:
            return
        if self._outbox is None:
            self._outbox = Outbox(self.config.outbox_messages, self.config.outbox_bytes)
        try:
            self._outbox.put(data, policy)
        except Overflow as error:
            self.end(reasons.SLOW_CONSUMER.because(str(error)))

    # Acknowledgements

    def expect(self, namespace: str, id: int, call: Call, sid: str) -> None:
        """Notes that a socket of this connection owes an acknowledgement.

        Raises:
            LimitError: if it owes too many already.
        """
        if self._calls is None:
            self._calls = {}
        if len(self._calls) >= self.config.max_pending_calls:
            raise LimitError(
                f"socket {sid} owes {len(self._calls)} acknowledgements already "
                f"(Config.max_pending_calls)"
            )
        if self.stopped is not None:
            call.leave(sid)
            return
        was_paused = self._is_paused
        self._calls[namespace, id] = (call, sid)
        if was_paused:
            self.transport.unread.ring()  # read on: the answer may stand behind more events

    def forget(self, namespace: str, id: int) -> None:
        """Nobody waits for that acknowledgement any more."""
        if self._calls:
            self._calls.pop((namespace, id), None)

    def forget_calls(self, namespace: str | None = None) -> None:
        """No more acknowledgements will come: of one namespace, or at all."""
        for key in [key for key in self._calls or () if namespace in (None, key[0])]:
            assert self._calls is not None
            call, sid = self._calls.pop(key)
            call.leave(sid)

    # Its other tasks, and what the machines decide

    async def _write(self) -> None:
        """The writer: empties the outbox as fast as the peer reads."""
        try:
            while True:
                await self.transport.blocked.wait()
                await self._drain()
        except TransportClosed as error:
            self.stop(error.reason)

    async def _drain(self) -> None:
        await self.transport.drain()
        while self._outbox is not None and len(self._outbox):
            self.transport.send_nowait(self._outbox.take(WRITE_BYTES))
            await self.transport.drain()
        if self._outbox is not None:
            self._outbox.wake()
            self._dropped += self._outbox.dropped
            self._outbox = None

    async def _beat(self) -> None:
        """The heartbeat: pings, watches all deadlines, and relieves the reader."""
        bell = self.transport.unread
        while True:
            deadline = min(self._engine.deadline, self._give_up_at)
            slot = self._wheel.ring_at(bell, deadline)
            try:
                await bell.wait()
            finally:
                self._wheel.forget(bell, slot)
            await trio.lowlevel.checkpoint()  # lets the reader take what came in the same step
            self._relieve()
            self._check_deadlines(trio.current_time())

    def _check_deadlines(self, now: float) -> None:
        if self._is_paused or self.transport.readable.is_rung:
            self._engine.heartbeat.excuse(now)  # its pong may be there, and we did not look
        owes_nothing = self._engine.heartbeat.state is QUIET
        if owes_nothing:
            self.proven = self._pinged
        for effect in self._engine.tick(now):
            self._apply(effect, [])
        if owes_nothing and self._engine.heartbeat.state is WAITING and not self._is_behind:
            self._pinged = self._flusher.reached
        if self.stopped is not None and now >= self._give_up_at:
            self.end(self.stopped)

    def prove_anew(self) -> None:
        """What a client had missed was sent: pings that left before say nothing of it."""
        self.proven = self._pinged = START

    @property
    def _is_behind(self) -> bool:
        """Whether a ping may overtake events, or be answered by the pong for another one."""
        is_overlapping = self.config.ping_timeout > self.config.ping_interval
        return bool(self._pending) or self.transport.is_blocked or is_overlapping

    def _apply(self, effect: Effect, events: list[Event]) -> None:
        """Acts on what a machine decided; events for handlers are added to `events`."""
        if isinstance(effect, Packet):
            if effect.type == EVENT:
                events.append(effect)
            else:
                self._acknowledge(effect)
        elif isinstance(effect, Connect | Left):
            events.append(effect)
        elif isinstance(effect, SendPing):
            self._send_engine(_PING)
        elif isinstance(effect, RefuseConnect):
            self.refuse(effect.namespace, effect.message, {"code": effect.code})
        else:
            self.stop(effect.reason)

    def _acknowledge(self, packet: Packet) -> None:
        """Hands an acknowledgement to who waits for it; one nobody asked for is ignored."""
        if self._calls and packet.id is not None:
            call = self._calls.pop((packet.namespace, packet.id), None)
            if call is not None:
                call[0].receive(call[1], packet.data)

    def _send_engine(self, packet: bytes) -> None:
        try:
            self.transport.send_engine(packet)
        except TransportClosed as error:
            self.stop(error.reason)

    def refuse(self, namespace: str, message: str, data: object = None) -> None:
        """Answers a CONNECT with a CONNECT_ERROR."""
        self.send_packet(socketio.encode_connect_error(namespace, message, data))

    def _send_open_packet(self) -> None:
        config = self.config
        self._send_engine(
            engineio.encode_open(
                self.sid,
                upgrades=[],
                ping_interval=config.ping_interval,
                ping_timeout=config.ping_timeout,
                max_payload=config.max_payload_bytes,
            )
        )
