"""Serves an app in memory: clients on wires, no port, no HTTP."""

import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_rt.app import App
from trio_rt.codec.frames import FrameDecoder
from trio_rt.connection import Connection
from trio_rt.errors import MisuseError
from trio_rt.reasons import SERVER_SHUTDOWN
from trio_rt.session import Request, Session
from trio_rt.testing.client import DEADLINE, Client
from trio_rt.testing.peer import WebSocketPeer
from trio_rt.transport.memory import memory_wire_pair
from trio_rt.transport.websocket import WebSocketTransport
from trio_rt.transport.wire import Wire

_hosted: trio.lowlevel.RunVar[frozenset[App]] = trio.lowlevel.RunVar("hosted", frozenset())


def open_session(
    app: App,
    wire: Wire,
    *,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Session:
    """Makes the session of a client whose opening handshake is done, as a server does it.

    Args:
        app: whose handlers serve the client; its services have to run, see `hosting`.
        wire: the server's end, owned from here on.
        query, headers: what handshakes show of the HTTP request that there was not.
    """
    decoder = FrameDecoder(max_message_bytes=app.config.max_payload_bytes)
    wants_offsets = (query or {}).get("recovery") != "0"
    transport = WebSocketTransport(wire, decoder, takes_offsets=wants_offsets)
    sid = secrets.token_urlsafe(15)
    connection = Connection(sid, transport, app.config, app.flusher, app.wheel)
    request = Request(
        query={"EIO": "4", "transport": "websocket", **(query or {})},
        headers=headers or {},
        address=wire.peer,
        url=app.config.path,
        is_secure=False,
        time=time.time(),
    )
    return Session(app, connection, request)


async def serve_wire(app: App, wire: Wire) -> None:
    """Serves one client on a wire until its connection has ended; see `open_session`."""
    await open_session(app, wire).run()


class Host:
    """An app that is served in memory; see `hosting`."""

    def __init__(self, app: App, nursery: trio.Nursery) -> None:
        self.app = app
        self._nursery = nursery
        self._clients: list[Client] = []
        self._peers: list[WebSocketPeer] = []

    async def open(
        self,
        wires: tuple[Wire, Wire] | None = None,
        *,
        answers_pings: bool = True,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Client:
        """A new client that is in no namespace yet.

        Args:
            wires: the client's end and the server's, such as those of a `Link`.
            answers_pings: whether it answers pings.
            query, headers: what handlers find in `socket.handshake`.
        """
        ours, theirs = wires or memory_wire_pair()
        session = open_session(self.app, theirs, query=query, headers=headers)
        is_recoverable = self.app.config.recovery_window > 0
        takes_offsets = is_recoverable and (query or {}).get("recovery") != "0"
        client = Client(ours, answers_pings=answers_pings, takes_offsets=takes_offsets)
        self._clients.append(client)
        self._peers.append(client.peer)
        self._nursery.start_soon(session.run)
        self._nursery.start_soon(client.run)
        await client.open()
        return client

    async def connect(
        self,
        namespace: str = "/",
        auth: dict[str, Any] | None = None,
        *,
        wires: tuple[Wire, Wire] | None = None,
        answers_pings: bool = True,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Client:
        """A new client in a namespace; the arguments are those of `open` and `Client.connect`.

        Raises:
            Refuse: if the server said no.
        """
        client = await self.open(wires, answers_pings=answers_pings, query=query, headers=headers)
        await client.connect(namespace, auth)
        return client

    async def open_raw(self, wires: tuple[Wire, Wire] | None = None) -> WebSocketPeer:
        """A new client of which the script says every frame; the open packet is not read yet."""
        ours, theirs = wires or memory_wire_pair()
        self._nursery.start_soon(open_session(self.app, theirs).run)
        peer = WebSocketPeer(ours)
        self._peers.append(peer)
        return peer

    def stop(self) -> None:
        """Closes all connections that there are, as a server that drains."""
        for connection in list(self.app.sessions):
            connection.stop(SERVER_SHUTDOWN)

    def cut(self) -> None:
        """Cancels all sessions, as cancelling `serve` does. No client can be opened after."""
        self._nursery.cancel_scope.cancel()

    @property
    def error(self) -> Exception | None:
        """How the app broke the protocol towards one of the clients."""
        return next((client.error for client in self._clients if client.error is not None), None)

    def close(self) -> None:
        """Closes all clients at once."""
        for peer in self._peers:
            peer.close()


@asynccontextmanager
async def hosting(app: App) -> AsyncGenerator[Host]:
    """Serves an app in memory for one block.

        async with hosting(server) as host:
            alice = await host.connect(auth={"token": ...})
            bob = await host.connect()

    At its end the clients are closed, and their sessions end within 5 seconds or are cancelled.

    Raises:
        MisuseError: if the app is served in memory already.
    """
    if app in _hosted.get():
        raise MisuseError(
            "the app is served in memory already. For several clients write: "
            "async with hosting(server) as host: alice = await host.connect(); ..."
        )
    _hosted.set(_hosted.get() | {app})
    error: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            services = await nursery.start(app.run_services)
            try:
                async with trio.open_nursery() as sessions:
                    host = Host(app, sessions)
                    try:
                        yield host
                    except Exception as raised:  # raised below: not as a group of our nurseries
                        error = raised
                    error = error or host.error
                    host.close()
                    sessions.cancel_scope.deadline = trio.current_time() + DEADLINE
            finally:
                services.cancel()
    finally:
        _hosted.set(_hosted.get() - {app})
    if error is not None:
        raise error


@asynccontextmanager
async def connect(
    app: App,
    namespace: str = "/",
    auth: dict[str, Any] | None = None,
    *,
    wires: tuple[Wire, Wire] | None = None,
) -> AsyncGenerator[Client]:
    """Serves an app in memory for one client, for one block; `hosting` is for several.

    Args:
        app: the server.
        namespace: where the client connects to.
        auth: what it shows there, such as `{"token": "..."}`.
        wires: the client's end and the server's, such as those of a `Link`.

    Raises:
        Refuse: if the server said no.
    """
    async with hosting(app) as host:
        yield await host.connect(namespace, auth, wires=wires)
