"""One namespace: its sockets, its rooms, and how events get to their members.

It is one long file because coming, going and delivering change the same tables of members.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import trio

from trio_rt.absentees import Absentee
from trio_rt.backplane.base import Envelope, Position, SavedSession
from trio_rt.codec.position import position_in
from trio_rt.codec.questions import Members
from trio_rt.codec.socketio import Encoded
from trio_rt.dispatch import Dispatcher
from trio_rt.errors import MisuseError
from trio_rt.handlers import Handlers
from trio_rt.log import log
from trio_rt.packets import encode_event
from trio_rt.policies import Latest
from trio_rt.presence import Presence
from trio_rt.queries import Queries
from trio_rt.reasons import HISTORY_LOST, Reason
from trio_rt.registry import Registry
from trio_rt.server_events import ServerEvents, ServerReplies
from trio_rt.socket import Socket
from trio_rt.target import DEFAULT_CALL_TIMEOUT, Target

if TYPE_CHECKING:
    from trio_rt.app import App
    from trio_rt.rooms import Rooms


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
        self.dispatch = Dispatcher(name, handlers, app).dispatch
        """Hands an event of a socket to its handler, to be awaited at once."""
        self.presence = Presence(self, app.presence_keeper)
        """Who is in its rooms."""
        self.queries = Queries(self)
        """Asks about its sockets in the whole cluster."""
        self._server_events = ServerEvents(self)
        self.live_rooms: Rooms | None = None
        """Its rooms with a life of their own, where it has such."""
        self._awaited = Counter[str]()  # rooms, by how many are coming back into each
        self._last_ack_id = 0
        self._subscribing: dict[str, trio.Event] = {}
        self._is_held_up = False  # a member of the last fan-out was blocked

    def __repr__(self) -> str:
        return f"<Namespace {self.name}, {len(self.sockets)} sockets, {len(self.rooms)} rooms>"

    # Members

    def add(self, socket: Socket) -> None:
        """A socket was connected."""
        self.sockets[socket.id] = socket

    async def add_member(self, room: str, socket: Socket) -> None:
        """A socket joins a room."""
        position = await self._listen_to(room)
        if socket.connected:
            self.rooms[room].add(socket)
            socket.session.membership.join(room, position)
            self.presence.joined(socket, room)
            self._note_change(socket)
        self._stop_listening_if_deserted(room)

    def remove_member(self, room: str, socket: Socket) -> None:
        """A socket leaves a room."""
        socket.session.membership.leave(room, self.app.backplane.position(self.name))
        self.presence.left(socket, room)
        # Whoever is back is another socket in its rooms, and programs may still have the old one.
        self._drop_member(room, self.sockets.get(socket.id, socket))
        self._note_change(socket)

    async def readmit(self, socket: Socket, session: SavedSession, since: Position) -> bool:
        """Connects a socket with a session that was lost: it gets what it missed, and is back in
        its rooms.

        Returns:
            Whether it is; False if that cannot be done any more.
        """
        rooms = session.membership.rooms
        backplane = self.app.backplane
        self._awaited.update(rooms)
        try:
            for room in rooms:
                await self._listen_to(room)
            missed = await backplane.recover(session, since)
            if missed is None or not socket.come_back(session, missed):
                return False
            for room in rooms:
                self.rooms[room].add(socket)
            self.app.absentees.remove(session)
            backplane.keep_session(session)
            await self.presence.came_back(socket)
            if self.live_rooms is not None:
                self.live_rooms.came_back(socket)
            return True
        finally:
            self._awaited.subtract(rooms)
            self._awaited = +self._awaited
            for room in rooms:
                self._stop_listening_if_deserted(room)

    async def put_out(self, socket: Socket, reason: Reason) -> None:
        """Puts a client out: tells it, and runs `on_disconnect`.

        One that is still being connected is refused instead, and one that was lost does not come
        back. One that is back as another `Socket` is put out as that.
        """
        now = self.sockets.get(socket.id)
        if now is not None and now.session is socket.session:
            now.say_disconnect()
            await self.remove(now, reason)
        elif socket.was_connected:
            await self._end_lost(socket.session)
        else:
            socket.retire(reason)

    async def remove(self, socket: Socket, reason: Reason) -> None:
        """A socket is gone: leaves its rooms and runs `on_disconnect`, exactly once."""
        if not socket.retire(reason):
            return
        may_come_back = socket.session.is_open and reason.come_back and reason.keeps_session
        if may_come_back:
            self._wait_for(socket, reason)  # before it leaves its rooms
        self.sockets.pop(socket.id, None)
        self.presence.lost(socket, may_come_back=may_come_back)
        if self.live_rooms is not None:
            self.live_rooms.lost(socket, may_come_back=may_come_back)
        for room in socket.rooms:
            self._drop_member(room, socket)
        self.app.forget_if_deserted(self)
        if not may_come_back:
            await self._end_session(socket.session)
        await self.tell_disconnected(socket, reason, may_come_back=may_come_back)

    async def _end_session(self, session: SavedSession) -> bool:
        """Ends it in the backplane, whatever becomes of who wants it: the hooks come behind."""
        with trio.move_on_after(self.app.config.close_timeout, shield=True):
            return await self.app.backplane.end_session(session)
        return True

    async def _end_lost(self, session: SavedSession) -> None:
        absentee = self.app.absentees.remove(session)
        if absentee is not None and await self._end_session(session):
            await self.see_off(absentee)

    async def end_unrecovered(self, session: SavedSession) -> None:
        """A session cannot come back any more: some of what its client has missed is not kept."""
        absentee = self.app.absentees.remove(session)
        await self._end_session(session)
        if absentee is not None:
            await self.see_off(absentee)

    async def see_off(self, absentee: Absentee) -> None:
        """A lost session has ended, because it did not come back in time: runs `on_leave`."""
        if absentee.socket is not None:
            await self._tell("leave", absentee.socket, absentee.reason)

    async def tell_disconnected(
        self, socket: Socket, reason: Reason, *, may_come_back: bool
    ) -> None:
        """Runs `on_disconnect`, and then `on_drop` or `on_leave`."""
        await self._tell("disconnect", socket, reason)
        await self._tell("drop" if may_come_back else "leave", socket, reason)

    async def _tell(self, name: str, socket: Socket, reason: Reason) -> None:
        """Runs one hook: shielded, bounded by `Config.disconnect_timeout`."""
        hook = getattr(self.handlers, name)
        if hook is None:
            return
        seconds = socket.connection.config.disconnect_timeout
        try:
            with trio.move_on_after(seconds, shield=True) as scope:
                await hook(socket, reason)
        except Exception:
            log.exception("on_%s failed for socket %s", name, socket.id)
        else:
            if scope.cancelled_caught:
                log.error("on_%s of socket %s was cancelled after %s s", name, socket.id, seconds)

    def _wait_for(self, socket: Socket, reason: Reason) -> None:
        """Its session is kept for as long as the client may come back."""
        if not socket.sends_keys:  # our own client answers pings that it has not come to yet
            membership = socket.session.membership
            proven = position_in(socket.connection.proven, self.name)
            membership.since = max(membership.since, proven)
        self.app.backplane.lose_session(socket.session)
        keep = socket if self.handlers.leave is not None else None
        deadline = trio.current_time() + self.app.config.recovery_window
        self.app.absentees.add(Absentee(socket.session, self, reason, keep, deadline))

    def find(self, target: Target | Envelope | Members) -> Iterable[Socket]:
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
            self._stop_listening_if_deserted(room)

    async def _listen_to(self, room: str) -> Position:
        """From here on events for a room arrive; tells behind which position.

        Somebody has to become a member, or `_stop_listening_if_deserted` be called.
        """
        while room in self._subscribing:  # one subscription for all who join at once
            await self._subscribing[room].wait()
        if room in self.rooms:
            await trio.lowlevel.checkpoint_if_cancelled()
            return self.app.backplane.position(self.name)
        done = self._subscribing[room] = trio.Event()
        try:
            position = await self.app.backplane.subscribe(self.name, room)
            self.rooms[room] = set()
            return position
        finally:
            del self._subscribing[room]
            done.set()

    def _stop_listening_if_deserted(self, room: str) -> None:
        if not self.rooms.get(room, True) and room not in self._awaited:
            del self.rooms[room]
            self.app.backplane.unsubscribe(self.name, room)

    def _note_change(self, socket: Socket) -> None:
        if socket.session.is_open:
            self.app.backplane.change_session(socket.session)

    # From the program to itself, on the other nodes

    async def server_emit(self, event: str, *arguments: Any) -> None:
        """Tells the program on the other nodes: its `on_server_event` handlers run there, not here.

        Best effort: a node that cannot be reached misses it, and that is logged.

        Args:
            event: its name.
            arguments: as for `emit`.

        Raises:
            MisuseError: if the event cannot be sent.
        """
        await self._server_events.emit(event, arguments)

    async def server_call(
        self, event: str, *arguments: Any, timeout: float = DEFAULT_CALL_TIMEOUT
    ) -> ServerReplies:
        """Asks the program on the other nodes, and gathers what their handlers return.

        Args:
            event: its name.
            arguments: as for `emit`.
            timeout: seconds to wait; it does not wait for nodes that are gone.

        Raises:
            MisuseError: if the event cannot be sent.
        """
        return await self._server_events.call(event, arguments, timeout)

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
            await self._let_slow_members_read()
        else:
            await self.publish(envelope)

    async def publish(self, envelope: Envelope) -> None:
        """Hands an event to the backplane: from here on it is not lost."""
        await self.app.backplane.publish(envelope)
        self.app.deliver_arrived()
        await self._let_slow_members_read()

    async def _let_slow_members_read(self) -> None:
        """Lets the writers of members that were blocked write."""
        if self._is_held_up:
            self._is_held_up = False
            await trio.lowlevel.checkpoint()

    def emit_nowait(self, target: Target, event: str, arguments: tuple[Any, ...]) -> None:
        """See `Target.emit_nowait`."""
        envelope = self._envelope(target, encode_event(self.name, event, arguments), volatile=True)
        if target.is_local:
            self.deliver(envelope)
        else:
            self.publish_nowait(envelope)

    def publish_nowait(self, envelope: Envelope) -> None:
        """Hands a volatile event to the backplane."""
        self.app.backplane.publish_nowait(envelope)
        self.app.deliver_arrived()

    def send_to(self, sockets: Iterable[Socket], packet: Encoded) -> None:
        """Sends an event to some sockets of this node; it has no place, and is not recovered."""
        self._send(sockets, Envelope(self.name, (), (), packet), b"")

    def deliver(self, envelope: Envelope) -> None:
        """Puts an event behind what waits at each of its members; the flusher sends it."""
        if envelope.position is None or not self.app.config.recovery_window:
            offset = self.offset_of(envelope.packet)
        else:
            offset = str(envelope.position).encode()
        self._send(self.find(envelope), envelope, offset)

    def offset_of(self, packet: Encoded) -> bytes:
        """The offset that goes with an event that has no place of its own: mostly none.

        Clients take any text at the end of an event for an offset, an event's name included. So
        where there is one they get the place that they have reached anyway.
        """
        if self.app.config.recovery_window and packet.text.endswith(b'"]'):
            return str(self.app.backplane.position(self.name)).encode()
        return b""

    def begin_anew(self, room: str) -> None:
        """Events for a room are lost: its members are told, by sessions that begin anew.

        Args:
            room: its name; empty for everybody.
        """
        for socket in list(self._members(room) if room else self.sockets.values()):
            socket.connection.stop(HISTORY_LOST)
            self.sockets.pop(socket.id, None)  # nothing newer may reach it before it knows
            for name in socket.rooms:
                self._drop_member(name, socket)

    def next_ack_id(self) -> int:
        """A new id for acknowledgements; one counter serves all sockets of the namespace."""
        self._last_ack_id += 1
        return self._last_ack_id

    def _send(self, sockets: Iterable[Socket], envelope: Envelope, offset: bytes) -> None:
        """Encodes once for each framing in use, whatever the number of sockets."""
        frames: dict[str, bytes] = {}
        policy, is_volatile = envelope.policy, envelope.is_volatile
        count = 0
        for socket in sockets:
            connection = socket.connection
            transport = connection.transport
            data = frames.get(transport.framing)
            if data is None:
                data = frames[transport.framing] = transport.encode(envelope.packet, offset)
            if not transport.is_blocked:
                connection.send_later(data, policy)
                count += 1
            elif is_volatile and not isinstance(policy, Latest):
                connection.drop()
            else:
                self._is_held_up = True
                connection.send_later(data, policy)
        self.app.flusher.backlog += count

    def _envelope(self, target: Target, packet: Encoded, *, volatile: bool = False) -> Envelope:
        return Envelope(self.name, target.rooms, target.excepted, packet, target.policy, volatile)
