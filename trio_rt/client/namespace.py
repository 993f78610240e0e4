"""One namespace of a client: its handlers, what it has to tell, and what it waits for.

An emitted event is in the backlog from the moment it is emitted. With a server that takes
idempotency keys it stays there until it is acknowledged, and is sent again after each loss; with
any other it leaves when it has been sent, once.

It is one long file because sending, answering and losing share the same backlog.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import trio

from trio_rt import reasons
from trio_rt.client.post import Answer, Post, read_answer, write_post
from trio_rt.codec.socketio import ACK, EVENT, RESERVED_EVENTS, Packet
from trio_rt.dispatch import NO_ACK
from trio_rt.errors import CallTimeout, Disconnected, LimitError, MisuseError, Refuse, Refused
from trio_rt.handlers import ANY_EVENT, EventHandler, inspect_handler, inspect_hook
from trio_rt.log import log, new_error_id, printable
from trio_rt.machine.backlog import Backlog, Entry
from trio_rt.machine.dialogue import Connected
from trio_rt.packets import sendable
from trio_rt.reasons import Reason
from trio_rt.target import DEFAULT_CALL_TIMEOUT

if TYPE_CHECKING:
    from trio_rt.client.client import Client
    from trio_rt.client.connection import ClientConnection

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

Auth = Mapping[str, Any] | Callable[[], Mapping[str, Any] | Awaitable[Mapping[str, Any]]] | None
"""What is shown to the server: values, or a function that is asked for them at each attempt."""


@attrs.frozen(eq=False)
class Arrival:
    """An event that waits for its handler."""

    namespace: ClientNamespace
    packet: Packet | None
    """None: the namespace was connected."""
    connection: ClientConnection | None
    """Where it came from, and where its acknowledgement goes."""
    offset: str | None = None
    """Where it stands in what the server remembers."""
    may_show_offset: bool = False
    """Whether the offset still stands behind the arguments, where no handler may expect it."""


class ClientNamespace:
    """A namespace on a client's connection. Make one with `Client.namespace`."""

    def __init__(self, name: str, auth: Auth, client: Client) -> None:
        self.name = name
        """Begins with a slash."""
        self.id: str | None = None
        """The public id of our socket there, as long as it is connected."""
        self.recovered = False
        """Whether the last connecting went on with the session that was lost."""
        self._auth = auth
        self._client = client
        self._events: dict[str, EventHandler] = {}
        self._connect_hook: Callable[[], Awaitable[None]] | None = None
        self._backlog: Backlog[Post] = Backlog(client.config.backlog, secrets.token_urlsafe(12))
        self._connection: ClientConnection | None = None  # while connected
        self._asked: dict[int, tuple[str, Post]] = {}  # by ack id, on the present connection
        self._last_id = 0
        self._pid: str | None = None
        self._offset: str | None = None
        self._takes_keys = False
        self._error: Exception | None = None  # why it does not come back by itself
        self._news = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<ClientNamespace {self.name}, {self.id or 'not connected'}>"

    # For the program

    @property
    def connected(self) -> bool:
        """Whether what is emitted leaves at once."""
        return self._connection is not None

    def on(self, event: str) -> Callable[[F], F]:
        """Registers the handler of an event; `"*"` for all that have none, it gets the name first.

            @client.on("said")
            async def said(msg: Said) -> None: ...

        Handlers of all namespaces of a client run one at a time, in the order in which the events
        came. A payload is validated as on a server. What a handler returns, or the `Refuse` that
        it raises, answers a server that asked for an acknowledgement.

        Raises:
            MisuseError: if it could never work, with what would.
        """
        if not isinstance(event, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MisuseError('on() takes the name of an event. Write: @client.on("said")')
        if event in RESERVED_EVENTS:
            raise MisuseError(
                f"{event!r} is no event. Write: @client.on_connect, or: "
                f"async for change in client.changes()"
            )
        if event in self._events:
            raise MisuseError(f"event {event!r} has a handler already: one event, one handler")

        def register(function: F) -> F:
            self._events[event] = inspect_handler(event, function, owner="client", first=())
            return function

        return register

    def on_connect(self, function: F) -> F:
        """Registers what runs each time that the namespace was connected, in order with events.

            @client.on_connect
            async def hello() -> None:
                if not client.recovered:
                    await client.call("join", "lobby")  # the server knows nothing of us

        Raises:
            MisuseError: if it could never work, or is not the first.
        """
        inspect_hook(function, "client.on_connect")
        if self._connect_hook is not None:
            raise MisuseError("on_connect is registered already: there is one for a namespace")
        self._connect_hook = function
        return function

    async def emit(self, event: str, *arguments: Any) -> None:
        """Sends an event, in order with all that was emitted here before.

        Returns when the event is kept: it is sent now, or as soon as there is a connection again.
        While connected it waits for room where more is under way than `BacklogLimits` allows;
        while not connected the policy `BacklogLimits.when_full` decides. A server of ours runs it
        exactly once; any other gets it at most once.

        Args:
            event: its name.
            arguments: any JSON values, attrs classes and the like, with `bytes` anywhere in them.

        Raises:
            Disconnected: if the client will not come back by itself.
            Refused: if the server has refused the namespace.
            LimitError: if there is no room, or the server takes no message so large.
            MisuseError: if the event cannot be sent.
        """
        await self._put(write_post(event, arguments, None))

    async def call(self, event: str, *arguments: Any, timeout: float = DEFAULT_CALL_TIMEOUT) -> Any:
        """Sends an event and waits for the server's acknowledgement.

        Args:
            event: its name.
            arguments: as for `emit`.
            timeout: seconds to wait, with the time that a connection may take.

        Returns:
            The acknowledgement: its value; None for an empty one; a tuple of several.

        Raises:
            Refused: if the answer is `{"error": {"code", ...}}`, as that of a `Refuse`.
            CallTimeout: if none came in time. The event may have been handled all the same.
            Disconnected: if the connection was lost, and the server takes no idempotency keys: the
                event may have been handled. Or if the client will not come back by itself.
            LimitError, MisuseError: as `emit`.
        """
        answer = Answer()
        post = write_post(event, arguments, answer)
        with trio.move_on_after(timeout), self._client.listening():
            if len(self._asked) >= self._client.config.max_pending_calls and not self._takes_keys:
                raise LimitError(f"{len(self._asked)} calls are not answered (max_pending_calls)")
            entry = await self._put(post)
            try:
                await answer.wait()
            finally:
                self._forget(entry)
        if not answer.is_there:
            raise CallTimeout(f"no acknowledgement of {event!r} within {timeout} s{self._trouble}")
        return answer.get()

    @property
    def _trouble(self) -> str:
        """Why nothing is answered, where we know it."""
        if self.connected:
            return ""
        reason = self._client.reason
        why = "" if reason is None else f": {reason.text}"
        return f"; it is {self._client.state.value}{why}"

    async def wait_connected(self) -> None:
        """Waits until the namespace is connected; returns at once if it is.

        Raises:
            Refused: if the server does not let us in.
            Disconnected: if the client will not come back by itself.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self.connected:
            self._check()
            await self._news.park()

    # What is told

    @property
    def pending(self) -> int:
        """Events that were emitted and have not arrived, as far as is known."""
        return len(self._backlog)

    @property
    def deadline(self) -> float:
        """When `tick` wants to be called."""
        return self._backlog.deadline

    def tick(self, now: float) -> None:
        """Gives up what is too old."""
        for entry in self._backlog.tick(now):
            self._fail(entry, CallTimeout(f"{entry.event.event!r} could not be delivered in time"))
        self._tell()

    def take(
        self, connection: ClientConnection
    ) -> tuple[Entry[Post], tuple[str | bytes, ...]] | None:
        """The next event to be sent, and its messages; None if there is none."""
        while (entry := self._backlog.take(trio.current_time())) is not None:
            post = entry.event
            key = entry.key if self._takes_keys else None
            if key is None and entry.sends > 1:
                self._forget(entry)
                self._fail(entry, Disconnected(_UNKNOWN))
                continue
            post.id = None
            if key is not None or post.answer is not None:
                self._last_id += 1
                post.id = self._last_id
            messages = post.address(self.name, post.id, key)
            if max(map(len, messages)) > connection.max_payload_bytes:
                self._forget(entry)
                self._fail(entry, _too_large(post, connection))
                continue
            if post.id is not None:
                self._asked[post.id] = (entry.key, post)
            return entry, messages
        return None

    def sent(self, entry: Entry[Post]) -> None:
        """An event has left. Where no acknowledgement can be told from another, that is all."""
        if not self._takes_keys:
            self._backlog.settle(entry.key)
            self._tell()

    async def _put(self, post: Post) -> Entry[Post]:
        """Keeps an event, and sends it if there is a connection."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check()
        size = post.size_bytes
        connection = self._connection
        if connection is not None and post.largest_bytes > connection.max_payload_bytes:
            raise _too_large(post, connection)
        with self._client.listening():
            while (
                self.connected
                and size <= self._client.config.backlog.max_bytes
                and not self._backlog.has_room(size)
            ):
                await self._news.park()
                self._check()
        entry, dropped = self._backlog.put(post, size, trio.current_time())
        for old in dropped:
            self._fail(old, LimitError(f"{old.event.event!r} made room for newer events"))
        if self._connection is not None:
            self._connection.queue(self)
        if len(self._backlog) == 1:
            self._client.look_at_deadlines()
        return entry

    def _forget(self, entry: Entry[Post]) -> None:
        """Nobody waits for this event any more."""
        self._backlog.settle(entry.key)
        if entry.event.id is not None:
            self._asked.pop(entry.event.id, None)
        self._tell()

    def _fail(self, entry: Entry[Post], error: Exception) -> None:
        post = entry.event
        if post.answer is not None:
            post.answer.fail(error)
        else:
            log.warning("event %s was not delivered: %s", printable(post.event), error)

    def _check(self) -> None:
        if self._error is not None:
            raise _again(self._error)

    def _tell(self) -> None:
        """Something changed for those who wait: for room, for a connection, for the end."""
        self._news.unpark_all()
        self._client.tell_progress()

    # What comes

    async def show(self) -> dict[str, Any]:
        """The payload of our CONNECT: what the program shows, and what recovers the session."""
        shown = self._auth() if callable(self._auth) else self._auth
        if isinstance(shown, Awaitable):
            shown = await shown
        payload: dict[str, Any] = {**(shown or {}), "rt": 1}
        if self._pid is not None:
            payload["pid"] = self._pid
            if self._offset is not None:
                payload["offset"] = self._offset
        return payload

    def connect(self, effect: Connected, connection: ClientConnection) -> Arrival:
        """The server has let us in."""
        self.recovered = effect.pid is not None and effect.pid == self._pid
        if not self.recovered:
            self._offset = None
        self._pid, self.id, self._takes_keys = effect.pid, effect.sid, effect.takes_keys
        self._connection = connection
        for _ in range(self._backlog.unsent):
            connection.queue(self)
        self._tell()
        return Arrival(self, None, connection)

    def receive(self, packet: Packet, connection: ClientConnection) -> Arrival | None:
        """An event or acknowledgement has come; what is left for a handler, if anything."""
        if packet.type == ACK:
            return self._receive_answer(packet, connection)
        arguments: list[Any] = packet.data
        if self._pid is None or packet.id is not None or len(arguments) < 2:
            return Arrival(self, packet, connection)
        if type(arguments[-1]) is not str:
            return Arrival(self, packet, connection)
        if self._takes_keys:
            return Arrival(self, packet, connection, arguments.pop())
        return Arrival(self, packet, connection, arguments[-1], may_show_offset=True)

    def remember(self, arrival: Arrival) -> None:
        """An event is in the inbox: from here on it is not lost, and need not be sent again."""
        if arrival.offset is not None:
            self._offset = arrival.offset

    def lose(self, connection: ClientConnection, reason: Reason) -> None:
        """The connection is gone, or we are not in the namespace any more."""
        if self._connection is not connection:
            return
        self._connection = self.id = None
        self._backlog.lost()
        asked, self._asked = self._asked, {}
        if not self._takes_keys:
            unknown = reason.because(f"{reason.text}; what became of the call is unknown")
            for key, post in asked.values():
                self._backlog.settle(key)
                if post.answer is not None:
                    post.answer.fail(Disconnected(unknown))
        self._tell()

    def end(self, error: Exception) -> None:
        """It does not come back by itself: whoever waits is told why."""
        self._error = error
        self._pid = self._offset = None
        untold = 0
        for entry in self._backlog.clear():
            if entry.event.answer is None:
                untold += 1
            else:
                entry.event.answer.fail(_again(error))
        if untold:
            log.warning("%d events of %s have not arrived: %s", untold, self.name, error)
        self._tell()

    @property
    def has_ended(self) -> bool:
        """Whether it does not come back by itself."""
        return self._error is not None

    def begin(self) -> None:
        """It may be connected (again)."""
        self._error = None

    async def handle(self, arrival: Arrival) -> None:
        """Hands an event to its handler, and answers the server.

        One of the doors where a program's exceptions stop.
        """
        packet = arrival.packet
        if packet is None:
            await self._run_hook()
            return
        name, *arguments = packet.data
        handler = self._events.get(str(name))
        if handler is None:
            handler = self._events.get(ANY_EVENT)
            if handler is None:
                await self._answer_unknown(arrival, str(name), arguments)
                return
            arguments.insert(0, str(name))
        if (
            arrival.may_show_offset
            and not handler.rest
            and len(arguments) > len(handler.parameters)
        ):
            arguments.pop()
        try:
            result = await handler.function(*handler.validate(arguments))
            if result is not NO_ACK:
                await self._answer(arrival, result)
        except Refuse as refusal:
            await self._answer_error(arrival, refusal.code, refusal.message, refusal.details)
        except Exception:
            error_id = new_error_id()
            log.exception("the handler of %s failed (error %s)", handler.event, error_id)
            message = f"the client failed; its log has more under {error_id}"
            await self._answer_error(arrival, "internal", message, {"id": error_id})

    def _receive_answer(self, packet: Packet, connection: ClientConnection) -> Arrival | None:
        key, post = self._asked.pop(packet.id or 0, (None, None))
        if key is None or post is None:
            return None  # nobody waits any more
        self._backlog.settle(key)
        self._tell()
        answer = read_answer(packet.data)
        if post.answer is None:
            if isinstance(answer, Refused):  # as a server says it where nobody asked for an answer
                return Arrival(self, Packet(EVENT, self.name, None, ["error", *packet.data]), None)
        elif isinstance(answer, Refused):
            post.answer.fail(answer)
        else:
            post.answer.accept(answer)
        return None

    async def _run_hook(self) -> None:
        if self._connect_hook is None:
            return
        try:
            await self._connect_hook()
        except Exception:
            log.exception("on_connect of namespace %s failed", self.name)

    async def _answer(self, arrival: Arrival, result: Any) -> None:
        if arrival.packet is None or arrival.packet.id is None or arrival.connection is None:
            return
        if arrival.connection is self._connection:
            await arrival.connection.acknowledge(self.name, arrival.packet.id, result)

    async def _answer_unknown(self, arrival: Arrival, name: str, arguments: Sequence[Any]) -> None:
        if name == "error":
            log.warning("the server says: %s", printable(repr(arguments)[:500]))
        else:
            log.debug("no handler for event %s", printable(name))
        await self._answer_error(arrival, "unknown_event", f"no handler for {name[:100]!r}", None)

    async def _answer_error(self, arrival: Arrival, code: str, message: str, details: Any) -> None:
        packet = arrival.packet
        if packet is not None and packet.id is None and code != "unknown_event":
            log.warning("event %s: %s: %s", printable(str(packet.data[0])), code, message)
        error = {"code": code, "message": message, "details": sendable(details)}
        await self._answer(arrival, {"error": error})


_UNKNOWN = reasons.TRANSPORT_CLOSE.because(
    "the connection was lost while the event was being sent; what became of it is unknown"
)


def _too_large(post: Post, connection: ClientConnection) -> LimitError:
    return LimitError(
        f"event {post.event!r} has a message of {post.largest_bytes} bytes; the server takes "
        f"messages of {connection.max_payload_bytes} bytes"
    )


def _again(error: Exception) -> Exception:
    """The same error, fresh for each one who is told: tracebacks are not shared."""
    if isinstance(error, Refused):
        return Refused(error.code, error.message, error.details)
    assert isinstance(error, Disconnected)
    return Disconnected(error.reason)
