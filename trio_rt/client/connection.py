"""One dial of a client, from the open packet to the end: a reader and a writer in one nursery.

    reader  takes messages off the transport; the dialogue decides what they mean
    writer  sends what is queued, in order, pongs before all else

Reading pauses while the inbox is full, except while somebody waits for the server. The dialogue
then answers the pings that we cannot see.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import trio

from trio_rt import reasons
from trio_rt.client.namespace import Arrival, ClientNamespace
from trio_rt.codec import engineio, socketio
from trio_rt.codec.socketio import Encoded
from trio_rt.errors import LimitError, MisuseError, TransportClosed
from trio_rt.log import log
from trio_rt.machine.dialogue import (
    Connected,
    ConnectRefused,
    Dialogue,
    Effect,
    Opened,
    PutOut,
    SendPong,
)
from trio_rt.machine.effects import End
from trio_rt.packets import encode_ack
from trio_rt.reasons import Reason
from trio_rt.schedule.bell import Bell
from trio_rt.transport.messages import MessageStream

if TYPE_CHECKING:
    from trio_rt.client.client import Client

MAX_UNSAID = 16
"""Acknowledgements that wait for a slow server before handlers wait as well."""

Messages = tuple[str | bytes, ...]


class ClientConnection:
    """One transport session.

    Args:
        client: whose it is.
        messages: its transport, owned by whoever opened it.
    """

    def __init__(self, client: Client, messages: MessageStream) -> None:
        self.reason: Reason | None = None
        """Why it ended; None while it goes on."""
        self.dialogue = Dialogue(client.config.max_attachments)
        self.max_payload_bytes = 0
        """The largest message that the server takes."""
        self._client = client
        self._messages = messages
        self._nursery: trio.Nursery | None = None
        self._queue: deque[ClientNamespace | Messages] = deque()  # a namespace: its next event
        self._work = Bell()  # the writer's
        self._may_read = Bell()  # the reader's, while it pauses
        self._has_pong = False
        self._is_writing = False
        self._is_finishing = False
        self._unsaid = 0  # messages of our own in the queue, acknowledgements most of all
        self._said = trio.lowlevel.ParkingLot()
        self._unweighed_bytes = 0  # messages of an event that is not whole yet

    # Its life

    async def run(self) -> Reason:
        """Talks to the server until the connection has ended, and says why it has."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._write)
            try:
                await self._read()
            except TransportClosed as error:
                self.end(error.reason)
        assert self.reason is not None
        return self.reason

    def end(self, reason: Reason) -> None:
        """Ends it at once; the first reason counts."""
        if self.reason is not None:
            return
        self.reason = reason
        self.dialogue.close()
        self._said.unpark_all()
        for namespace in self._client.namespaces:
            namespace.lose(self, reason)
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel(reason=reason.code)

    def finish(self) -> None:
        """Leaves all namespaces, and ends when that has been sent."""
        for namespace in self._client.namespaces:
            self.leave(namespace)
        self._is_finishing = True
        self._work.ring()

    @property
    def is_idle(self) -> bool:
        """Whether all that was queued has been sent."""
        return not self._queue and not self._is_writing

    def tick(self, now: float) -> None:
        """Time has passed."""
        self._apply(self.dialogue.tick(now), 0)

    # Receiving

    async def _read(self) -> None:
        while True:
            await self._pause()
            message = await self._messages.receive()
            self._unweighed_bytes += len(message)
            size = self._unweighed_bytes
            effects = self.dialogue.receive(message, trio.current_time())
            if not self.dialogue.is_assembling:
                self._unweighed_bytes = 0
            self._apply(effects, size)

    async def _pause(self) -> None:
        """Waits until events may come again."""
        if self._client.may_read():
            return
        self.dialogue.pause(trio.current_time())
        self._client.look_at_deadlines()
        while not self._client.may_read():
            await self._may_read.wait()
        self.dialogue.resume(trio.current_time())
        self._client.look_at_deadlines()

    def look_at_inbox(self) -> None:
        """Reading may go on."""
        self._may_read.ring()

    def _apply(self, effects: Sequence[Effect], size_bytes: int) -> None:
        """Does what the dialogue has decided."""
        for effect in effects:
            if isinstance(effect, SendPong):
                self._has_pong = True
                self._work.ring()
            elif isinstance(effect, End):
                self.end(effect.reason)
            elif isinstance(effect, Opened):
                self.max_payload_bytes = effect.max_payload_bytes
                self._client.look_at_deadlines()
                for namespace in self._client.namespaces:
                    if not namespace.has_ended:
                        self.knock(namespace)
            else:
                self._apply_to_namespace(effect, size_bytes)

    def _apply_to_namespace(self, effect: Effect, size_bytes: int) -> None:
        assert isinstance(effect, Connected | ConnectRefused | PutOut | socketio.Packet)
        namespace = self._client.find(effect.namespace)
        if namespace is None:
            return
        arrival: Arrival | None = None
        if isinstance(effect, socketio.Packet):
            arrival = namespace.receive(effect, self)
        elif isinstance(effect, Connected):
            arrival = namespace.connect(effect, self)
            self._client.note_connected(namespace, self)
        elif isinstance(effect, ConnectRefused):
            self._client.note_refused(namespace, effect, self)
        else:
            self._client.note_put_out(namespace, self)
        if arrival is not None:
            try:
                self._client.put(arrival, size_bytes)
                namespace.remember(arrival)
            except LimitError as error:
                self.end(reasons.OVERRUN.because(str(error)))

    # Sending

    def knock(self, namespace: ClientNamespace) -> None:
        """Asks to be let into a namespace, as soon as the session is open."""
        if self._nursery is not None and self.max_payload_bytes and self.reason is None:
            self._nursery.start_soon(self._knock, namespace)

    async def _knock(self, namespace: ClientNamespace) -> None:
        request = await self._client.ask(namespace, self)
        if request is not None:
            self.dialogue.ask(namespace.name)
            self._say(Encoded(request))

    def leave(self, namespace: ClientNamespace) -> None:
        """Leaves a namespace, behind all that was queued for it."""
        if namespace.connected:
            self.dialogue.leave(namespace.name)
            self._say(Encoded(socketio.encode_disconnect(namespace.name)))

    def queue(self, work: ClientNamespace) -> None:
        """Sends a namespace's next event in its turn."""
        self._queue.append(work)
        self._work.ring()

    async def acknowledge(self, namespace: str, id: int, result: Any) -> None:
        """Answers an event; waits while a slow server leaves too many answers unread."""
        try:
            packet = encode_ack(namespace, id, result)
        except MisuseError:
            log.exception("the answer to an event of namespace %s cannot be sent", namespace)
            return
        self._say(packet)
        while self._unsaid > MAX_UNSAID and self.reason is None:
            await self._said.park()

    def _say(self, packet: Encoded) -> None:
        self._unsaid += 1
        self._queue.append((engineio.MESSAGE + packet.text.decode(), *packet.attachments))
        self._work.ring()

    async def _write(self) -> None:
        try:
            while self.reason is None:
                if self._has_pong:
                    self._has_pong = False
                    await self._messages.send(engineio.PONG)
                elif self._queue:
                    await self._send_next()
                    self._client.tell_progress()
                elif self._is_finishing:
                    self.end(reasons.CLIENT_DISCONNECT)
                else:
                    await self._work.wait()
        except TransportClosed as error:
            self.end(error.reason)

    async def _send_next(self) -> None:
        work = self._queue.popleft()
        self._is_writing = True
        if isinstance(work, ClientNamespace):
            taken = work.take(self)
            if taken is not None:
                await self._send(taken[1])
                work.sent(taken[0])
        else:
            await self._send(work)
            self._unsaid -= 1
            self._said.unpark_all()
        self._is_writing = False

    async def _send(self, messages: Messages) -> None:
        for message in messages:
            await self._messages.send(message)
