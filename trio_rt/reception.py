"""What is done for a socket that comes to a server: a page, a session, or a refusal."""

import gc
import secrets
import socket
from collections.abc import Awaitable, Callable

import trio

from trio_rt.app import App
from trio_rt.connection import Connection
from trio_rt.errors import TransportClosed
from trio_rt.handshake import Opening, Rejection, is_for_engine, read_opening
from trio_rt.log import Sparing, log, printable
from trio_rt.running import Running
from trio_rt.session import Session
from trio_rt.transport.socket_wire import SocketWire
from trio_rt.web.exchange import refuse, serve_http
from trio_rt.web.head import new_connection, read_head
from trio_rt.web.link import HttpLimits
from trio_rt.web.messages import HttpError, Response
from trio_rt.web.pages import Pages

_FREEZE_FROM = 256
"""Connections from which on the garbage collector is told that they are here to stay."""


class Reception:
    """Answers the sockets that a server's listeners accept.

    Args:
        app: whose clients they become.
        web: whose pages they get.
        running: what the server runs on.
    """

    def __init__(self, app: App, web: Pages, running: Running) -> None:
        self.requests = 0
        """Sockets of the Socket.IO port without a session: in the handshake, or reading pages."""
        self.pages = 0
        """Sockets of the web port."""
        self._app = app
        self._web = web
        self._running = running
        self._sparing = Sparing()
        self._freeze_at = _FREEZE_FROM

    def is_full(self) -> bool:
        """Whether there are as many clients as may be."""
        return len(self._app.sessions) + self.requests >= self._app.config.max_connections

    def is_web_full(self) -> bool:
        """Whether the web port has as many sockets as may be."""
        return self.pages >= self._app.config.max_web_connections

    async def serve_client(self, sock: socket.socket) -> None:
        """Serves one socket of the Socket.IO port."""
        self.requests += 1
        try:
            await self._answer(sock, self._welcome)
        finally:
            self.requests -= 1

    async def serve_pages(self, sock: socket.socket) -> None:
        """Serves one socket of the web port."""
        self.pages += 1
        try:
            await self._answer(sock, self._show_pages)
        finally:
            self.pages -= 1

    def note(self, peer: str, rejection: Rejection) -> None:
        """One line about a request that was turned away."""
        text, kind = "%s was turned away: %s", f"rejection {rejection.code}"
        note = printable(rejection.note)
        self._sparing.warning(kind, trio.current_time(), text, printable(peer), note)

    async def _answer(
        self, sock: socket.socket, answer: Callable[[SocketWire], Awaitable[Session | None]]
    ) -> None:
        """Answers the requests of one socket. A failure of ours ends it alone.

        A request that became a WebSocket is served to its end by a task of its own, so that what
        the handshake needed is freed.
        """
        session: Session | None = None
        try:
            wire = SocketWire(sock, self._running.hub)
            try:
                session = await answer(wire)
            finally:
                if session is None:
                    wire.close()
        except TransportClosed:
            pass  # it went before anything began
        except Exception:
            log.exception("a request failed")
            sock.close()
        if session is not None:
            self._running.connections.start_soon(session.run)

    async def _show_pages(self, wire: SocketWire) -> None:
        running = self._running
        limits = HttpLimits.from_config(self._app.config)
        idle = running.late if running.stopping.is_set() else running.idle
        await serve_http(wire, self._web, limits=limits, idle=idle)

    async def _welcome(self, wire: SocketWire) -> Session | None:
        """Reads the first request, and does what it asks for.

        Returns:
            The session, if it became a WebSocket.
        """
        config, idle = self._app.config, self._running.idle
        limits = HttpLimits.from_config(config)
        http = new_connection(config.max_head_bytes)
        head = None
        answer: Opening | Rejection | Response | HttpError
        try:
            with idle.waiting(config.handshake_timeout) as scope:
                head = await read_head(wire, http, max_bytes=config.max_head_bytes)
            if scope.cancelled_caught:
                raise HttpError(408, "timeout", "the request took too long")
            if head is None:
                return None
            if is_for_engine(head, config):
                answer = read_opening(head, config)
            elif config.share_port:
                await serve_http(
                    wire, self._web, connection=http, request=head, limits=limits, idle=idle
                )
                return None
            else:
                answer = self._not_here()
        except HttpError as error:
            answer = error
        if isinstance(answer, Opening):
            return await self._connect(wire, answer, http.trailing_data[0])
        if isinstance(answer, Rejection):
            self.note(wire.peer, answer)
            answer = answer.response()
        await refuse(wire, answer, connection=http, request=head, limits=limits)
        return None

    async def _connect(self, wire: SocketWire, opening: Opening, received: bytes) -> Session:
        """Completes the handshake: the request becomes a WebSocket."""
        app = self._app
        transport = await opening.open(wire, received, app.config)
        sid = secrets.token_urlsafe(15)
        connection = Connection(sid, transport, app.config, app.flusher, app.wheel)
        self._freeze_if_grown()
        return Session(app, connection, opening.request(wire))

    def _freeze_if_grown(self) -> None:
        """Tells the garbage collector that the connections we have are here to stay.

        With 10,000 connections a full collection takes 143 to 522 ms, and finds nothing: they are
        freed by their reference counts when they end. Only growth freezes, so that what a
        program leaves in cycles while connections come and go is still collected.
        """
        count = len(self._app.sessions)
        if count >= self._freeze_at:
            self._freeze_at = count * 5 // 4
            gc.collect()
            gc.freeze()

    def _not_here(self) -> Response:
        path = self._app.config.path
        return Response(f"this port speaks Socket.IO at {path}; pages are on another port", 404)
