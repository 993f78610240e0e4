"""One client in one namespace: what handlers are given.

It is one long file because half of it are the docstrings of a public class.
"""

from __future__ import annotations

import enum
import secrets
from typing import TYPE_CHECKING, Any

import trio

from trio_rt.auth import Handshake, User
from trio_rt.backplane.base import SID_CHARS, SavedSession, Settled
from trio_rt.calls import Call
from trio_rt.codec import socketio
from trio_rt.codec.envelope import Envelope
from trio_rt.codec.socketio import Encoded
from trio_rt.connection import Connection
from trio_rt.errors import CallTimeout, Disconnected, LimitError, MisuseError, name_misnomers
from trio_rt.machine.effects import Connect
from trio_rt.machine.membership import Membership
from trio_rt.nursery import SocketNursery
from trio_rt.packets import encode_ack, encode_event, encode_settled, unpack
from trio_rt.policies import CLOSE, Block, Close, Policy
from trio_rt.reasons import CLIENT_DISCONNECT, INTERNAL_ERROR, SERVER_DISCONNECT, Reason
from trio_rt.target import DEFAULT_CALL_TIMEOUT, Target, check_names, check_timeout

if TYPE_CHECKING:
    from trio_rt.namespace import Namespace


class SocketState(enum.Enum):
    """How far a socket's life has gone."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"


# Python 3.11 takes 0.1 us to look up a member of an enum, and these are asked for each message.
CONNECTED = SocketState.CONNECTED
_CONNECTING = SocketState.CONNECTING
_DISCONNECTED = SocketState.DISCONNECTED


ID_MARK = "="
"""What the ids of sockets begin with, and names of rooms do not."""


def _new_secret() -> str:
    return secrets.token_urlsafe(15)


def new_socket_id() -> str:
    """An id that nobody can guess, and no room may have."""
    return ID_MARK + secrets.token_urlsafe(15)[: SID_CHARS - len(ID_MARK)]


def _check_no_ids(rooms: tuple[str, ...]) -> None:
    for room in rooms:
        if room.startswith(ID_MARK):
            raise MisuseError(
                f"{room!r} is like the id of a socket, and no room. Choose another name, one that "
                f"does not begin with {ID_MARK!r}"
            )


class Socket:
    """One client in one namespace.

    A client may have several: one for each namespace, all on one connection. Handlers get it as
    their first argument; it is theirs to keep until `on_disconnect`.
    """

    __slots__ = (
        "__weakref__",
        "_connection",
        "_nursery",
        "_request",
        "_slots",
        "handshake",
        "id",
        "namespace",
        "reason",
        "recovered",
        "sends_keys",
        "session",
        "state",
        "user",
        "was_connected",
    )

    def __init__(
        self, id: str, namespace: Namespace, connection: Connection, handshake: Handshake
    ) -> None:
        self.id = id
        """The socket's public id; `server.to(id)` reaches it alone."""
        self.namespace = namespace
        """The namespace it is in."""
        self.handshake = handshake
        """What the client showed when it connected."""
        self.user = User(id)
        """Who the authenticator says it is."""
        self.state = SocketState.CONNECTING
        self.reason: Reason | None = None
        """Why it was disconnected; None before that."""
        self.recovered = False
        """Whether it has the id, rooms and data of a session whose connection was lost, and its
        client got what it had missed."""
        self.session = SavedSession(id + _new_secret(), namespace.name, self.user, Membership(id))
        """What it comes back with."""
        self.was_connected = False
        """Whether its client was told that it is connected."""
        self.sends_keys = False
        """Whether its client sends an idempotency key with each event."""
        self._connection = connection
        self._request: Connect | None = None  # while it may be answered
        self._nursery: SocketNursery | None = None
        self._slots: dict[str, trio.Semaphore] | None = None

    def __repr__(self) -> str:
        return f"<Socket {self.id} of {self.user.id} in {self.namespace.name}, {self.state.value}>"

    # What it is

    @property
    def connected(self) -> bool:
        """Whether it can send and receive."""
        return self.state is CONNECTED

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms it has joined; in `on_disconnect` those it was in."""
        return self.session.membership.rooms

    @property
    def data(self) -> dict[str, Any]:
        """Whatever the program wants to keep with the socket; it comes back with it."""
        if self.session.data is None:
            self.session.data = {}
        return self.session.data

    @property
    def connection(self) -> Connection:
        """The transport session that it shares with the client's other sockets."""
        return self._connection

    @property
    def nursery(self) -> SocketNursery:
        """For work that has to end with the socket: it is cancelled before `on_disconnect`."""
        if self._nursery is not None:
            return self._nursery
        nursery = SocketNursery(self)
        if self.state is not _DISCONNECTED:
            self._nursery = nursery
        return nursery

    # Sending

    async def emit(self, event: str, *arguments: Any) -> None:
        """Sends an event to this client, in order with everything else that it gets.

        One whose connection was lost gets it when it comes back in time. A checkpoint only when
        cancelled, or when more waits than the network takes.

        Args:
            event: its name.
            arguments: any JSON values, attrs classes and the like, with `bytes` anywhere in them.

        Raises:
            Disconnected: if the socket is gone for good.
            MisuseError: if the event cannot be sent.
        """
        await self.emit_with(CLOSE, event, arguments)

    def emit_nowait(self, event: str, *arguments: Any) -> bool:
        """Sends a volatile event: dropped if the client cannot take it at once, or is gone.

        Returns:
            Whether it was sent.
        """
        if self.state is SocketState.DISCONNECTED:
            return False
        if self._connection.transport.is_blocked:
            self._connection.drop()
            return False
        packet = encode_event(self.namespace.name, event, arguments)
        self._send(packet, self.namespace.offset_of(packet))
        return True

    async def call(self, event: str, *arguments: Any, timeout: float = DEFAULT_CALL_TIMEOUT) -> Any:
        """Sends an event and waits for the client's acknowledgement.

        Args:
            event: its name.
            arguments: as for `emit`.
            timeout: seconds to wait.

        Returns:
            The acknowledgement: its value; None for an empty one; a tuple of several.

        Raises:
            CallTimeout: if none came in time. The event may have been handled all the same.
            Disconnected: if the socket is or goes away.
            LimitError: if the client owes more than `Config.max_pending_calls` already.
        """
        check_timeout(timeout)
        self.announce()
        self._check_connected()
        if self._connection.stopped is not None:
            raise Disconnected(self._connection.stopped)  # nothing is read any more
        call, id = Call([self.id]), self.namespace.next_ack_id()
        packet = encode_event(self.namespace.name, event, arguments, id=id)
        self._connection.expect(self.namespace.name, id, call, self.id)
        try:
            self._send(packet)
            with trio.move_on_after(timeout):
                await call.wait()
        finally:
            self._connection.forget(self.namespace.name, id)
        if self.id in call.owed.answers:
            return unpack(call.owed.answers[self.id])
        self._check_connected()
        if self._connection.stopped is not None:
            raise Disconnected(self._connection.stopped)
        raise CallTimeout(f"no acknowledgement of {event!r} from {self.id} within {timeout} s")

    def to(self, *rooms: str) -> Target:
        """The members of rooms, but not this socket. See `Server.to`."""
        return self.namespace.to(*rooms).except_(self.id)

    @property
    def volatile(self) -> Target:
        """This socket, for events that are dropped if it cannot take them at once."""
        return self._target.volatile

    def timeout(self, seconds: float) -> Target:
        """This socket, with another time to wait in `call`."""
        return self._target.timeout(seconds)

    def when_slow(self, policy: Policy) -> Target:
        """This socket, with another policy for the case that it reads too slowly."""
        return self._target.when_slow(policy)

    @property
    def _target(self) -> Target:
        return Target(self.namespace, socket=self)

    # Rooms, and the end

    async def join(self, *rooms: str, presence: Any = None) -> None:
        """Joins rooms; those it is in already are left as they are.

        Args:
            rooms: their names.
            presence: what all members see of it there, a JSON object such as `{"name": ...}`. It
                ends with the socket, whatever ends it. Joining again changes it.

        Raises:
            Disconnected: if the socket is gone.
            LimitError: if it would be in more than `Config.max_rooms`.
            MisuseError: if a name is no text, or empty, or like the id of a socket: nobody may
                read what is for one alone.
        """
        check_names(rooms)
        _check_no_ids(rooms)
        self.announce()
        self._check_connected()
        limit = self._connection.config.max_rooms
        if len(self.rooms.union(rooms)) > limit:
            raise LimitError(f"socket {self.id} in more than {limit} rooms (Config.max_rooms)")
        for room in rooms:
            if room not in self.session.membership:
                await self.namespace.add_member(room, self)
                self._check_connected()
            if presence is not None:
                await self.namespace.presence.track(self, room, presence)

    async def leave(self, *rooms: str) -> None:
        """Leaves rooms; those it is not in are ignored."""
        for room in rooms:
            self.namespace.remove_member(room, self)
        await trio.lowlevel.checkpoint()

    async def disconnect(self, close: bool = False) -> None:
        """Puts the client out of this namespace; it does not come back by itself.

        Runs `on_disconnect` before it returns; harmless if the socket is gone already.

        Args:
            close: puts it out of all namespaces, and closes the connection as well.
        """
        await self.namespace.put_out(self, SERVER_DISCONNECT)
        if close:
            await self.namespace.app.put_out_all(self._connection)
            self._connection.stop(SERVER_DISCONNECT)

    # For the namespace

    def may_connect(self, request: Connect) -> None:
        """From here on the request can be answered: all who may refuse before have spoken."""
        self._request = request

    def announce(self) -> None:
        """Tells the client that it is connected, if that was not done yet.

        It is done with the first thing that can reach the client, and at the latest when
        `on_connect` has returned. A client that has left meanwhile makes the socket disconnected.

        Raises:
            MisuseError: if that is too early, in a middleware.
        """
        if self.state is not _CONNECTING:
            return
        if self._request is None:
            raise MisuseError(
                "a middleware runs before the socket is connected, so it cannot join, emit or "
                "call. Do that in @server.on_connect"
            )
        if not self._connection.multiplex.accepted(self._request):
            self.retire(CLIENT_DISCONNECT)
            return
        self._connected()
        if self.session.is_open:  # what was sent before has nothing to do with it
            membership, namespace = self.session.membership, self.namespace
            position = namespace.app.backplane.position(namespace.name)
            membership.since = max(membership.since, position)
        self._connection.send(self._encode_reply())
        self.namespace.add(self)

    def come_back(self, session: SavedSession, missed: list[Envelope]) -> bool:
        """Connects it with an earlier session: what the client missed goes before the reply.

        Returns:
            Whether it did; False if the client has left meanwhile.
        """
        assert self._request is not None, "it may not connect yet"
        if not self._connection.multiplex.accepted(self._request):
            self.retire(CLIENT_DISCONNECT)
            return False
        self._connected()
        self.id, self.session = session.membership.sid, session
        self.recovered = True
        encode = self._connection.transport.encode
        frames = [encode(event.packet, str(event.position).encode()) for event in missed]
        # Together: the outbox takes one frame of any size, and they have their own limit.
        self._connection.send(b"".join((*frames, self._encode_reply())))
        self._connection.prove_anew()
        self.namespace.add(self)
        return True

    def _connected(self) -> None:
        self._request = None
        self.state = CONNECTED
        self.was_connected = True

    def _encode_reply(self) -> bytes:
        """The reply to CONNECT, with the private id where there is something to recover."""
        reply: dict[str, Any] = {"sid": self.id}
        if self.session.is_open:
            reply["pid"] = self.session.pid
        if self.sends_keys:
            reply["rt"] = 1
        text = socketio.encode_connect(self.namespace.name, reply)
        return self._connection.transport.encode(Encoded(text))

    def acknowledge(self, id: int, result: Any) -> None:
        """Answers an event: a tuple is several arguments, None an empty acknowledgement.

        Nothing happens if the socket is gone.
        """
        if self.state is not _DISCONNECTED:
            connection = self._connection
            packet = encode_ack(self.namespace.name, id, result)
            connection.send(connection.transport.encode(packet))

    def acknowledge_again(self, id: int, result: Settled) -> None:
        """Answers an event that runs once with what its first run was answered.

        Nothing happens if the socket is gone.
        """
        if self.state is not _DISCONNECTED:
            self._send(encode_settled(self.namespace.name, id, result))

    def retire(self, reason: Reason) -> bool:
        """Marks it as gone and cancels its work. False if that was done before, or never joined."""
        was_connected = self.state is SocketState.CONNECTED
        self.state = SocketState.DISCONNECTED
        self.reason = self.reason or reason
        self._request = None
        if self._nursery is not None:
            self._nursery.cancel()
            self._nursery = None  # no reference cycle outlives the socket
        return was_connected

    @property
    def can_send(self) -> bool:
        """Whether the client may still get something."""
        return self.state is not _DISCONNECTED and self._connection.can_send

    @property
    def has_ended(self) -> bool:
        """Whether it is disconnected for good."""
        return self.state is _DISCONNECTED

    @property
    def is_going(self) -> bool:
        """Whether it has ended, or soon will: then `Disconnected` is nobody's failure."""
        return self.state is _DISCONNECTED or self._connection.stopped is not None

    def say_disconnect(self) -> None:
        """Tells the client that it is put out: it will not come back by itself."""
        self._connection.multiplex.put_out(self.namespace.name, trio.current_time())
        self._connection.look_at_deadlines()
        self._connection.forget_calls(self.namespace.name)
        self._connection.send_packet(socketio.encode_disconnect(self.namespace.name))

    def emit_error(self, answer: dict[str, Any]) -> None:
        """Tells the client what went wrong where no acknowledgement was asked for."""
        self._send(encode_event(self.namespace.name, "error", (answer,)))

    def slot(self, event: str, concurrency: int) -> trio.Semaphore:
        """What bounds the handlers of one event that run at once for this socket."""
        if self._slots is None:
            self._slots = {}
        return self._slots.setdefault(event, trio.Semaphore(concurrency))

    async def emit_with(self, policy: Policy, event: str, arguments: tuple[Any, ...]) -> None:
        """Emits with a policy for the case that the client reads too slowly."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self.announce()
        self._check_awaited()
        packet = encode_event(self.namespace.name, event, arguments)
        if self.can_send and self._connection.transport.is_blocked:
            await self._wait_room(len(packet.text), policy)
        if self.session.is_open:
            await self.namespace.publish(
                Envelope(self.namespace.name, (self.id,), (), packet, policy)
            )
            return
        data = self._connection.transport.encode(packet)
        if policy is CLOSE:
            self._connection.send(data)
        else:
            self._connection.send_later(data, policy)

    async def _wait_room(self, size_bytes: int, policy: Policy) -> None:
        """Lets the writer write: a loop of emits is no faster than the client reads, for a while.

        With `Block` for as long as it takes.
        """
        await trio.lowlevel.checkpoint()
        if isinstance(policy, Block):
            await self._connection.wait_room(size_bytes)
        elif isinstance(policy, Close):
            with trio.move_on_after(self._connection.config.slow_timeout):
                await self._connection.wait_room(size_bytes)
        self._check_awaited()

    def _send(self, packet: Encoded, offset: bytes = b"") -> None:
        self.announce()
        self._connection.send(self._connection.transport.encode(packet, offset))

    def _check_awaited(self) -> None:
        """Whether the client is there, or may come back and get what is sent meanwhile."""
        if not self.session.is_open:
            self._check_connected()

    def _check_connected(self) -> None:
        if not self.can_send:
            raise Disconnected(self.reason or self._connection.stopped or INTERNAL_ERROR)


ELSEWHERE = {
    "sid": "socket.id",
    "send": 'await socket.emit("message", text)',
    "broadcast": 'await socket.namespace.all.except_(socket.id).emit("said", text)',
    "enter_room": 'await socket.join("lobby")',
    "leave_room": 'await socket.leave("lobby")',
    "auth": "socket.handshake.auth, or socket.user for who it is",
    "on": '@server.on("say"), once for all sockets',
}
"""What sockets of other frameworks have, and where it is here."""

name_misnomers(Socket, ELSEWHERE)
