"""A Socket.IO client that survives: it dials, comes back, and sends again what may be lost.

open_client
├── time       all deadlines: of the heartbeat, of the next dial, of what waits too long
├── handlers   hands events to the program's handlers, one after the other
└── dial       one for each attempt, until it has ended:
    ├── reader, writer
    └── whatever the transport needs

The machines decide: `machine/reconnect.py` when to dial, `machine/dialogue.py` what the server
says, `machine/backlog.py` what is still to be told. Here it is done.

It is one long file because the public methods and what the machines decide meet here, in one state.
"""

import random
import ssl
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Generator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import trio

from trio_rt import reasons
from trio_rt.client.address import websocket_url
from trio_rt.client.changes import Change, Changes, Listeners
from trio_rt.client.config import ClientConfig
from trio_rt.client.connection import ClientConnection
from trio_rt.client.namespace import Arrival, Auth, ClientNamespace
from trio_rt.codec import socketio
from trio_rt.errors import Disconnected, MisuseError, Refused, RemoteError, TransportClosed
from trio_rt.fields import change
from trio_rt.inbox import Inbox
from trio_rt.log import log
from trio_rt.machine.dialogue import ConnectRefused
from trio_rt.machine.reconnect import (
    Changed,
    ConnectionState,
    Dial,
    Effect,
    HangUp,
    Reconnect,
)
from trio_rt.reasons import Reason
from trio_rt.schedule.bell import Bell
from trio_rt.target import DEFAULT_CALL_TIMEOUT
from trio_rt.transport.messages import Dialer, MessageStream

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

GOODBYE_TIMEOUT = 1.0
"""Seconds that our last words may take to leave."""

_OVER = (ConnectionState.DISCONNECTED, ConnectionState.CLOSED)


class Client:
    """A client of a Socket.IO server. Make one with `open_client`.

    Its own `on`, `emit` and `call` are those of the namespace that `open_client` named.
    """

    def __init__(
        self, url: str, namespace: str, auth: Auth, dial: Dialer, config: ClientConfig
    ) -> None:
        self.config = config
        """Limits and intervals."""
        self._url = url
        self._server = urlsplit(url).netloc.rpartition("@")[2]  # what may be logged
        self._dialer = dial
        self._reconnect = Reconnect(config.reconnect)
        self._main = ClientNamespace(namespace, auth, self)
        self._namespaces = {namespace: self._main}
        self._auth = auth
        self._watchers = Listeners()
        self._inbox: Inbox[Arrival] = Inbox(config.inbox_messages, config.inbox_bytes)
        self._arrived = Bell()  # the handlers'
        self._clock = Bell()  # the timer's
        self._progress = trio.lowlevel.ParkingLot()
        self._listeners = 0  # who waits for something that only reading can bring
        self._nursery: trio.Nursery | None = None
        self._dials: dict[Dial, trio.CancelScope] = {}
        self._dial: Dial | None = None
        self._connection: ClientConnection | None = None
        self._refusal: Refused | None = None
        self._failure: Exception | None = None

    def __repr__(self) -> str:
        return f"<Client of {self._server}, {self.state.value}>"

    # What it is

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands."""
        return self._reconnect.state

    @property
    def reason(self) -> Reason | None:
        """Why it is not connected; None while it is, and before its first ending."""
        return self._reconnect.reason

    @property
    def id(self) -> str | None:
        """The public id of our socket, while connected."""
        return self._main.id

    @property
    def recovered(self) -> bool:
        """Whether the last connecting went on with the session that was lost, nothing missed."""
        return self._main.recovered

    @property
    def pending(self) -> int:
        """Events of all namespaces that have not arrived, as far as is known."""
        return sum(namespace.pending for namespace in self._namespaces.values())

    def changes(self) -> Changes:
        """What happens to the connection, from now on: `async for change in client.changes()`.

        It ends when the client is closed. Of changes that were not asked for yet the last 16 are
        kept.
        """
        return self._watchers.listen()

    async def wait_connected(self) -> None:
        """Waits until the client is connected; returns at once if it is.

        Raises:
            Refused: if the server does not let it in.
            Disconnected: if it will not come back by itself.
        """
        await self._main.wait_connected()

    # Talking

    def on(self, event: str) -> Callable[[F], F]:
        """See `ClientNamespace.on`."""
        return self._main.on(event)

    def on_connect(self, function: F) -> F:
        """See `ClientNamespace.on_connect`."""
        return self._main.on_connect(function)

    async def emit(self, event: str, *arguments: Any) -> None:
        """See `ClientNamespace.emit`."""
        await self._main.emit(event, *arguments)

    async def call(self, event: str, *arguments: Any, timeout: float = DEFAULT_CALL_TIMEOUT) -> Any:
        """See `ClientNamespace.call`."""
        return await self._main.call(event, *arguments, timeout=timeout)

    def namespace(self, name: str, *, auth: Auth = None) -> ClientNamespace:
        """Another namespace on the same connection; the same one each time.

        It is connected as soon as the connection is, each time anew. To be refused there, or put
        out, ends it and nothing else; to be put out of the client's own ends the client.

        Args:
            name: begins with a slash.
            auth: what is shown there; None: the same as in the client's own namespace.

        Raises:
            MisuseError: if that is no name of a namespace.
        """
        _check_name(name)
        found = self._namespaces.get(name)
        if found is None:
            found = ClientNamespace(name, self._auth if auth is None else auth, self)
            self._namespaces[name] = found
            if self._connection is not None:
                self._connection.knock(found)
        return found

    def connect(self) -> None:
        """Dials at once where the client waits to, or has given up.

        Namespaces that were refused, or have put us out, are asked for again.
        """
        if self.state in _OVER:
            self._refusal = None
        for namespace in self._namespaces.values():
            if namespace.has_ended:
                namespace.begin()
                if self._connection is not None:
                    self._connection.knock(namespace)
        self._apply(self._reconnect.open(trio.current_time()))

    async def disconnect(self) -> None:
        """Leaves the server, until `connect` is called. What has not arrived by now is given up."""
        await self._say_goodbye()
        self._apply(self._reconnect.disconnect())
        self._give_up(reasons.CLIENT_DISCONNECT)

    # For its parts

    @property
    def namespaces(self) -> Collection[ClientNamespace]:
        """All of them."""
        return tuple(self._namespaces.values())

    def find(self, name: str) -> ClientNamespace | None:
        """The namespace of this name."""
        return self._namespaces.get(name)

    def may_read(self) -> bool:
        """Whether there is room for events, or somebody waits for what stands behind them."""
        return self._listeners > 0 or not self._inbox.is_full

    @contextmanager
    def listening(self) -> Generator[None]:
        """Keeps reading going, whatever the inbox holds."""
        self._listeners += 1
        self._look_at_inbox()
        try:
            yield
        finally:
            self._listeners -= 1

    def put(self, arrival: Arrival, size_bytes: int) -> None:
        """An event is to be handled.

        Raises:
            LimitError: if there is no room at all.
        """
        self._inbox.put([arrival], size_bytes)
        self._arrived.ring()

    def look_at_deadlines(self) -> None:
        """A deadline may have come nearer."""
        self._clock.ring()

    def tell_progress(self) -> None:
        """Something has left, or arrived."""
        self._progress.unpark_all()

    async def ask(self, namespace: ClientNamespace, connection: ClientConnection) -> bytes | None:
        """The CONNECT of a namespace; None if what it is to show cannot be had now."""
        try:
            return socketio.encode_connect(namespace.name, await namespace.show())
        except (OSError, RemoteError) as error:
            text = f"what is shown to the server cannot be had: {error}"
            connection.end(reasons.TRANSPORT_ERROR.because(text))
        except Exception as error:
            self._fail(error)
        return None

    def note_connected(self, namespace: ClientNamespace, connection: ClientConnection) -> None:
        """The server has let us in."""
        if namespace is self._main and connection is self._connection and self._dial is not None:
            self._apply(self._reconnect.connected(self._dial, trio.current_time()))

    def note_refused(
        self, namespace: ClientNamespace, effect: ConnectRefused, connection: ClientConnection
    ) -> None:
        """The server does not let us in."""
        refusal = _read_refusal(effect)
        reason = reasons.REFUSED.because(str(refusal))
        if namespace is self._main:
            self._refusal = refusal
            connection.end(reason)
        else:
            namespace.lose(connection, reason)
            namespace.end(refusal)

    def note_put_out(self, namespace: ClientNamespace, connection: ClientConnection) -> None:
        """The server has put us out."""
        if namespace is self._main:
            connection.end(reasons.SERVER_DISCONNECT)
        else:
            namespace.lose(connection, reasons.SERVER_DISCONNECT)
            namespace.end(Disconnected(reasons.SERVER_DISCONNECT))

    # Its life

    def start(self, nursery: trio.Nursery) -> None:
        """Starts to dial, and all that runs as long as the client is open."""
        self._nursery = nursery
        nursery.start_soon(self._keep_time)
        nursery.start_soon(self._handle)
        self.connect()

    async def finish(self) -> None:
        """Waits for what was emitted to arrive, within `close_timeout`; then leaves the server."""
        with trio.move_on_after(self.config.close_timeout), self.listening():
            if self.pending:
                self.connect()  # now, where it waits to
            while not self._is_done:
                await self._progress.park()
        await self._say_goodbye()

    def close(self) -> None:
        """Ends it at once and for ever."""
        self._apply(self._reconnect.close())
        self._give_up(reasons.CLIENT_DISCONNECT)
        self._watchers.end()
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def raise_failure(self) -> None:
        """Raises what a function of the program raised that had to give us something."""
        if self._failure is not None:
            raise self._failure

    @property
    def _is_done(self) -> bool:
        """Whether all has arrived, or nothing more will."""
        if self.state in _OVER:
            return True
        return not self.pending and (self._connection is None or self._connection.is_idle)

    async def _say_goodbye(self) -> None:
        """Leaves all namespaces, and waits for the dial's end."""
        dial = self._dial
        if self._connection is None or dial is None:
            return
        self._connection.finish()
        with trio.move_on_after(GOODBYE_TIMEOUT):
            while dial in self._dials:
                await self._progress.park()

    def _fail(self, error: Exception) -> None:
        """A function of the program's failed that nobody but the program can answer for."""
        self._failure = self._failure or error
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def _apply(self, effects: Sequence[Effect]) -> None:
        """Does what the machine has decided."""
        for effect in effects:
            if isinstance(effect, Dial):
                assert self._nursery is not None
                self._dial = effect
                self._dials[effect] = trio.CancelScope()
                self._nursery.start_soon(self._run_dial, effect)
            elif isinstance(effect, HangUp):
                self._hang_up(effect)
            elif isinstance(effect, Changed):
                log.info("client of %s: %s", self._server, effect.after.value)
                change = Change(effect.before, effect.after, effect.reason, self._main.recovered)
                self._watchers.tell(change)
            else:
                self._give_up(effect.reason)
        self.tell_progress()
        self._clock.ring()

    def _hang_up(self, effect: HangUp) -> None:
        if effect.dial is self._dial:
            if self._connection is not None:
                self._connection.end(effect.reason)
            self._dial = self._connection = None
        scope = self._dials.get(effect.dial)
        if scope is not None:
            scope.cancel()

    def _give_up(self, reason: Reason) -> None:
        """It does not come back by itself: all who wait are told."""
        for namespace in self._namespaces.values():
            namespace.end(self._refusal or Disconnected(reason))

    async def _run_dial(self, dial: Dial) -> None:
        """One attempt, and the connection that comes of it."""
        scope = self._dials[dial]
        reason = reasons.TRANSPORT_CLOSE
        try:
            with scope:
                async with self._dialer(self._url) as messages:
                    reason = await self._talk(dial, messages)
                    if reason.code != reasons.CLIENT_DISCONNECT.code:
                        scope.cancel()  # nobody is there who might take the transport's goodbye
        except TransportClosed as error:
            reason = error.reason
        except OSError as error:
            reason = reasons.TRANSPORT_ERROR.because(f"no connection: {error}")
        finally:
            del self._dials[dial]
            if self._dial is dial:
                self._dial = self._connection = None
            self.tell_progress()
        now = trio.current_time()
        self._apply(self._reconnect.ended(dial, reason, now, random.random()))

    async def _talk(self, dial: Dial, messages: MessageStream) -> Reason:
        connection = ClientConnection(self, messages)
        if self._dial is dial:
            self._connection = connection
        try:
            return await connection.run()
        finally:
            connection.end(reasons.TRANSPORT_CLOSE)

    async def _keep_time(self) -> None:
        """Calls the machines at their deadlines."""
        while True:
            with trio.CancelScope(deadline=self._deadline):
                await self._clock.wait()
            now = trio.current_time()
            for namespace in self.namespaces:
                if now >= namespace.deadline:
                    namespace.tick(now)
            if self._connection is not None:
                self._connection.tick(now)
            effects = self._reconnect.tick(now, random.random())
            if effects:
                self._apply(effects)

    @property
    def _deadline(self) -> float:
        deadlines = [self._reconnect.deadline]
        deadlines += [namespace.deadline for namespace in self._namespaces.values()]
        if self._connection is not None:
            deadlines.append(self._connection.dialogue.deadline)
        return min(deadlines)

    async def _handle(self) -> None:
        """Hands events to their handlers."""
        while True:
            for arrival in self._inbox.take():
                self._look_at_inbox()
                await arrival.namespace.handle(arrival)
                await trio.lowlevel.checkpoint()
            await self._arrived.wait()

    def _look_at_inbox(self) -> None:
        if self._connection is not None:
            self._connection.look_at_inbox()


@asynccontextmanager
async def open_client(
    url: str,
    *,
    namespace: str = "/",
    auth: Auth = None,
    path: str = "/socket.io/",
    headers: Mapping[str, str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    dial: Dialer | None = None,
    config: ClientConfig | None = None,
    **changes: Any,
) -> AsyncGenerator[Client]:
    """Opens a client for one block.

        async with open_client("http://127.0.0.1:8000", auth={"token": token}) as client:

            @client.on("said")
            async def said(msg: Said) -> None: ...

            await client.call("say", Say("lobby", "hi"))

    It dials in the background: handlers that are registered before the block's first wait miss
    nothing, and what is emitted before there is a connection waits for it. When a connection is
    lost it comes back by itself, unless the server has said not to.

    Leaving the block waits until what was emitted has arrived, for `ClientConfig.close_timeout` at
    most, then leaves the server. An exception of the block's does not wait; being cancelled does
    not even say goodbye.

    Args:
        url: of the server, `http`, `https`, `ws` or `wss`; a query is sent along.
        namespace: what `client.emit` and the like mean; `Client.namespace` adds others.
        auth: shown to the server at each CONNECT: a mapping; or a function, async or not, that is
            asked anew at each attempt. One that raises OSError or RemoteError is asked again
            later; anything else it raises ends the block.
        path: where Socket.IO lives on the server.
        headers: what the HTTP request says besides.
        ssl_context: for `https`; None is the system's usual one.
        dial: opens the transport; None: trio-websocket.
        config: limits and intervals.
        changes: fields of `ClientConfig` to be changed.

    Raises:
        MisuseError: if an argument can never work.
    """
    _check_name(namespace)
    if not (callable(auth) or isinstance(auth, Mapping | None)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MisuseError('auth= takes a mapping, or a function. Write: auth={"token": token}')
    if not isinstance(headers, Mapping | None):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MisuseError(
            'headers= takes a mapping. Write: headers={"Authorization": "Bearer ..."}'
        )
    if dial is not None and (headers or ssl_context):
        raise MisuseError("a dial= of yours knows its own headers and ssl_context")
    config = ClientConfig() if config is None else config
    if not isinstance(config, ClientConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MisuseError("config= is no ClientConfig. Write: config=ClientConfig(close_timeout=1)")
    config = change(config, changes)
    if dial is None:
        dial = _default_dialer(headers or {}, ssl_context, config)
    client = Client(websocket_url(url, path), namespace, auth, dial, config)
    error: Exception | None = None
    async with trio.open_nursery() as nursery:
        client.start(nursery)
        try:
            yield client
            await client.finish()
        except Exception as raised:  # raised below: not as a group of the nursery's
            error = raised
        finally:
            client.close()
    client.raise_failure()
    if error is not None:
        raise error


def _default_dialer(
    headers: Mapping[str, str], ssl_context: ssl.SSLContext | None, config: ClientConfig
) -> Dialer:
    # Here, because it takes 30 ms, and servers have no use for it.
    from trio_rt.transport.trio_websocket import dial_websocket  # noqa: PLC0415

    return partial(
        dial_websocket,
        headers=headers,
        ssl_context=ssl_context,
        max_message_bytes=config.max_message_bytes,
    )


def _read_refusal(effect: ConnectRefused) -> Refused:
    match effect.data:
        case {"code": str(code), **more}:
            return Refused(code, effect.message, more.get("details"))
        case _:
            return Refused("", effect.message, effect.data)


def _check_name(name: str) -> None:
    if type(name) is not str or not name.startswith("/") or "," in name or "?" in name:
        raise MisuseError(f'{name!r} is no namespace. Write: client.namespace("/games")')
