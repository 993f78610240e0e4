"""One namespace: its sockets, its rooms, and how events get to its handlers and to its members."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING, Any

import trio

from trio_rt.backplane.base import Envelope
from trio_rt.calls import Call
from trio_rt.codec.socketio import Encoded, Packet
from trio_rt.errors import Disconnected, LimitError, MisuseError, Refuse
from trio_rt.handlers import EventHandler, Handlers
from trio_rt.log import log, new_error_id, printable
from trio_rt.packets import encode_event, sendable, unpack
from trio_rt.reasons import Reason
from trio_rt.registry import Registry
from trio_rt.socket import Socket
from trio_rt.target import Replies, Target

if TYPE_CHECKING:
    from trio_rt.app import App


class _NoAck:
    def __repr__(self) -> str:
        return "NO_ACK"


NO_ACK = _NoAck()
"""Return it from a handler, and the event is not acknowledged at all."""


class Namespace(Registry):
    """A namespace that clients are in, or could be. Make one with `Server.namespace`."""

    def __init__(self, name: str, handlers: Handlers, app: App) -> None:
        super().__init__(handlers)
        self.name = name
        """Begins with a slash."""
        self.app = app
        self.sockets: dict[str, Socket] = {}
        """Its connected sockets on this node, by id."""
        self.rooms: dict[str, set[Socket]] = {}
        """The members of each room on this node; a room without members is not there."""
        self.admissions = 0
        """Clients that are being let in, or not."""
        self._last_ack_id = 0
        self._is_held_up = False  # a member of the last fan-out was blocked

    def __repr__(self) -> str:
        return f"<Namespace {self.name}, {len(self.sockets)} sockets, {len(self.rooms)} rooms>"

    # Members

    def add(self, socket: Socket) -> None:
        """A socket was connected."""
        self.sockets[socket.id] = socket

    async def add_member(self, room: str, socket: Socket) -> None:
        """A socket joins a room."""
        if room not in self.rooms:
            await self.app.backplane.subscribe(self.name, room)
        if socket.connected:
            self.rooms.setdefault(room, set()).add(socket)
            socket.note_joined(room)

    def remove_member(self, room: str, socket: Socket) -> None:
        """A socket leaves a room."""
        socket.note_left(room)
        self._drop_member(room, socket)

    async def put_out(self, socket: Socket, reason: Reason) -> None:
        """Puts a client out: tells it, and runs `on_disconnect`.

        One that is still being connected is refused instead.
        """
        if socket.connected:
            socket.say_disconnect()
            await self.remove(socket, reason)
        else:
            socket.retire(reason)

    async def remove(self, socket: Socket, reason: Reason) -> None:
        """A socket is gone: leaves its rooms and runs `on_disconnect`, exactly once."""
        if not socket.retire(reason):
            return
        self.sockets.pop(socket.id, None)
        for room in socket.rooms:
            self._drop_member(room, socket)
        self.app.forget_if_deserted(self)
        await self.tell_disconnected(socket, reason)

    async def tell_disconnected(self, socket: Socket, reason: Reason) -> None:
        """Runs `on_disconnect`: shielded, bounded by `Config.disconnect_timeout`."""
        hook = self.handlers.disconnect
        if hook is None:
            return
        seconds = socket.connection.config.disconnect_timeout
        try:
            with trio.move_on_after(seconds, shield=True) as scope:
                await hook(socket, reason)
        except Exception:
            log.exception("on_disconnect failed for socket %s", socket.id)
        else:
            if scope.cancelled_caught:
                log.error("on_disconnect of socket %s was cancelled after %s s", socket.id, seconds)

    def find(self, target: Target | Envelope) -> Iterable[Socket]:
        """The connected sockets of this node that are meant."""
        if not target.rooms:
            found: Iterable[Socket] = self.sockets.values()
        elif len(target.rooms) == 1:
            found = self._members(target.rooms[0])
        else:
            found = set[Socket]().union(*map(self._members, target.rooms))
        if not target.excepted:
            return found
        excepted = set[Socket]().union(*map(self._members, target.excepted))
        return [socket for socket in found if socket not in excepted]

    def _members(self, room: str) -> Iterable[Socket]:
        socket = self.sockets.get(room)  # first, so that no room can pose as a socket
        return self.rooms.get(room, ()) if socket is None else (socket,)

    def _drop_member(self, room: str, socket: Socket) -> None:
        members = self.rooms.get(room)
        if members is not None:
            members.discard(socket)
            if not members:
                del self.rooms[room]
                self.app.backplane.unsubscribe(self.name, room)

    # Down: from the program to the clients

    def to(self, *rooms: str) -> Target:
        """The members of rooms, or single sockets by their ids."""
        if not rooms:
            raise MisuseError("to() means nobody. Name a room: .to('lobby'), or everybody: .all")
        return Target(self).to(*rooms)

    @property
    def all(self) -> Target:
        """Everybody in the namespace."""
        return Target(self)

    async def emit(self, target: Target, event: str, arguments: tuple[Any, ...]) -> None:
        """See `Target.emit`."""
        envelope = self._envelope(target, encode_event(self.name, event, arguments))
        await self.app.flusher.wait_room()
        if target.is_local:
            await trio.lowlevel.checkpoint_if_cancelled()
            self.deliver(envelope)
        else:
            await self.app.backplane.publish(envelope)
            self.app.deliver_arrived()
        if self._is_held_up:
            self._is_held_up = False
            await trio.lowlevel.checkpoint()  # lets the writers of slow members write

    def emit_nowait(self, target: Target, event: str, arguments: tuple[Any, ...]) -> None:
        """See `Target.emit_nowait`."""
        envelope = self._envelope(target, encode_event(self.name, event, arguments), volatile=True)
        if target.is_local:
            self.deliver(envelope)
        else:
            self.app.backplane.publish_nowait(envelope)
            self.app.deliver_arrived()

    async def call(
        self, target: Target, event: str, arguments: tuple[Any, ...], seconds: float
    ) -> Replies:
        """See `Target.call`."""
        sockets = list(self.find(target))
        call, id = Call(socket.id for socket in sockets), self.next_ack_id()
        packet = encode_event(self.name, event, arguments, id=id)
        try:
            for socket in sockets:
                try:
                    socket.connection.expect(self.name, id, call, socket.id)
                except LimitError as error:
                    log.warning("%s", error)
                    call.leave(socket.id)
            self._send(sockets, self._envelope(target, packet))
            with trio.move_on_after(seconds):
                await call.wait()
        finally:
            for socket in sockets:
                socket.connection.forget(self.name, id)
        answers = {sid: unpack(arguments) for sid, arguments in call.owed.answers.items()}
        return Replies(answers, frozenset(call.owed.waiting | call.owed.gone))

    def deliver(self, envelope: Envelope) -> None:
        """Puts an event behind what waits at each of its members; the flusher sends it."""
        self._send(self.find(envelope), envelope)

    def next_ack_id(self) -> int:
        """A new id for acknowledgements; one counter serves all sockets of the namespace."""
        self._last_ack_id += 1
        return self._last_ack_id

    def _send(self, sockets: Iterable[Socket], envelope: Envelope) -> None:
        """Encodes once for each framing in use, whatever the number of sockets."""
        frames: dict[str, bytes] = {}
        policy, is_volatile = envelope.policy, envelope.is_volatile
        count = 0
        for socket in sockets:
            connection = socket.connection
            transport = connection.transport
            data = frames.get(transport.framing)
            if data is None:
                data = frames[transport.framing] = transport.encode(envelope.packet)
            if not transport.is_blocked:
                connection.send_later(data, policy)
                count += 1
            elif is_volatile:
                connection.drop()
            else:
                self._is_held_up = True
                connection.send_later(data, policy)
        self.app.flusher.backlog += count

    def _envelope(self, target: Target, packet: Encoded, *, volatile: bool = False) -> Envelope:
        return Envelope(self.name, target.rooms, target.excepted, packet, target.policy, volatile)

    # Up: from a client to the handlers

    def dispatch(self, socket: Socket, packet: Packet) -> Awaitable[None]:
        """Hands an event to its handler, to be awaited at once."""
        arguments: list[Any] = packet.data
        name: str | int = arguments.pop(0)
        handler = self.handlers.events.get(name)
        if handler is None:
            handler = self.handlers.any_event
            if handler is None:
                return self._answer_unknown(socket, packet.id, str(name))
            arguments.insert(0, str(name))
        if handler.concurrency == 1:
            return self._handle(handler, socket, packet.id, arguments)
        return self._handle_concurrently(handler, socket, packet.id, arguments)

    async def _handle(
        self, handler: EventHandler, socket: Socket, id: int | None, arguments: list[Any]
    ) -> None:
        """Calls a handler, and acknowledges the event with what it returns.

        One of the two doors where a program's exceptions stop.
        """
        try:
            result = await handler.function(socket, *handler.validate(arguments))
            if id is not None and result is not NO_ACK:
                socket.acknowledge(id, result)
        except Refuse as refusal:
            self._answer_error(socket, id, refusal.code, refusal.message, refusal.details)
        except LimitError as error:
            log.warning("event %s of socket %s: %s", handler.event, socket.id, error)
            self._answer_error(socket, id, "limit", str(error), None)
        except Exception as error:
            if isinstance(error, Disconnected) and socket.is_going:
                log.debug("event %s outlived its socket %s", handler.event, socket.id)
                return
            error_id = new_error_id()
            log.exception(
                "the handler of %s failed for socket %s (error %s)",
                handler.event,
                socket.id,
                error_id,
            )
            message = f"the server failed; its log has more under {error_id}"
            self._answer_error(socket, id, "internal", message, {"id": error_id})
            await self._report(socket, handler.event, error)

    async def _handle_concurrently(
        self, handler: EventHandler, socket: Socket, id: int | None, arguments: list[Any]
    ) -> None:
        """Calls a handler in a task of its own, when fewer than it may have are running."""
        slot = socket.slot(handler.event, handler.concurrency)
        await slot.acquire()
        if not socket.can_send:
            slot.release()
            return

        async def handle_in_slot() -> None:
            try:
                await self._handle(handler, socket, id, arguments)
            finally:
                slot.release()

        socket.nursery.start_soon(handle_in_slot, name=f"handler of {handler.event}")

    async def _report(self, socket: Socket, event: str, error: Exception) -> None:
        """Tells `on_error`, whose own failure is only logged."""
        if self.handlers.error is None:
            return
        try:
            await self.handlers.error(socket, event, error)
        except Exception:
            log.exception("on_error failed for socket %s", socket.id)

    async def _answer_unknown(self, socket: Socket, id: int | None, name: str) -> None:
        log.debug("no handler for event %s of socket %s", printable(name), socket.id)
        message = f"no handler for event {name[:100]!r}"
        self._answer_error(socket, id, "unknown_event", message, None)

    def _answer_error(
        self, socket: Socket, id: int | None, code: str, message: str, details: Any
    ) -> None:
        """Tells a client what went wrong: in the acknowledgement, or by an `error` event."""
        if not socket.can_send:
            return
        answer = {"error": {"code": code, "message": message, "details": sendable(details)}}
        if id is not None:
            socket.acknowledge(id, answer)
        else:
            socket.emit_error(answer)
