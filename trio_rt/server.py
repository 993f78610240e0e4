"""A server: an app with listeners, a web side, and an orderly end.

serve
├── services     flusher, wheel, backplane; the hub of all sockets     (shielded, end last)
├── signals      the first begins to drain, the second cuts
├── connections  one task for each, with a nursery of its own
├── web          the listeners of pages: health checks are answered to the end
└── doors        the listeners of clients                             (end first)

What is done for one socket that came stands in `reception.py`.
"""

import contextlib
import gc
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

import trio

from trio_rt import reasons
from trio_rt.app import App
from trio_rt.auth import Authenticator
from trio_rt.backplane.base import Backplane
from trio_rt.config import Config
from trio_rt.connection import Connection
from trio_rt.errors import MisuseError
from trio_rt.handshake import Rejection
from trio_rt.log import log
from trio_rt.reception import Reception
from trio_rt.running import Running
from trio_rt.schedule.hub import make_hub
from trio_rt.session import Session
from trio_rt.transport.listener import Listener, check_loopback, open_listeners
from trio_rt.web.messages import HttpError, Request, Response
from trio_rt.web.pages import Pages

if TYPE_CHECKING:
    from trio_websocket import WebSocketRequest

_DRAIN_PAUSE = 0.05
"""Seconds between two slices of a drain."""


class Server(App):
    """A Socket.IO server.

        server = Server(auth=JWTAuth.from_env())

        @server.on("say")
        async def say(socket, text: str) -> str: ...

        trio.run(server.serve, "127.0.0.1", 8000)

    Args:
        auth: who decides who a client is. Without one everybody is a guest, and the server only
            listens on loopback; `auth=Anonymous()` lets guests in from anywhere.
        backplane: what joins the nodes of a cluster; None is a single node.
        config: limits and intervals.
        changes: fields of `Config` to be changed, such as `share_port=True`.
    """

    def __init__(
        self,
        *,
        auth: Authenticator | None = None,
        backplane: Backplane | None = None,
        config: Config | None = None,
        **changes: Any,
    ) -> None:
        super().__init__(auth=auth, backplane=backplane, config=config, **changes)
        self.web = Pages()
        """Pages and routes; on their own port, or on the listener's if `Config.share_port`."""
        self.web.page("/healthz", "ok")
        self.web.get("/readyz")(self._tell_readiness)
        self._needs_loopback = auth is None
        self._running: Running | None = None
        self._reception: Reception  # while it serves

    # Its life

    async def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        sockets: Sequence[socket.socket] | None = None,
        web_sockets: Sequence[socket.socket] | None = None,
        task_status: "trio.TaskStatus[Server]" = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listens and serves until `stop` is called, or it is cancelled.

        As the main task of `trio.run` it drains at the first SIGTERM or SIGINT, and cuts at the
        second. In a nursery of yours signals are yours, too.

        Draining closes the clients' transports, never their namespaces, so that they come back,
        here or elsewhere. Cancelling it cuts: handlers are cancelled, but `on_disconnect` still
        runs, and clients are told, within `Config.disconnect_timeout` and `close_timeout`.

        Args:
            host: the address to listen on, or a name; `""` for all.
            port: 0 for any free one; see `port`.
            sockets: those that listen already, non-blocking, instead of `host` and `port`: several
                processes may share them. They are closed at the end.
            web_sockets: the same for pages and health checks, where these have their own port.
            task_status: reports the server itself when it listens: `nursery.start(server.serve)`.

        Raises:
            MisuseError: if it would be open to everybody without `auth=`, or serves already; or if
                an argument can never be right.
            OSError: if a port is taken.
        """
        if not trio.lowlevel.in_trio_run():
            raise MisuseError('it runs in Trio. Write: trio.run(server.serve, "127.0.0.1", 8000)')
        if self._running is not None:
            raise MisuseError("the server is serving already. Make another Server for more")
        _check_sockets("sockets", sockets)
        _check_sockets("web_sockets", web_sockets)
        try:
            await self._serve(host, port, sockets, web_sockets, lambda: task_status.started(self))
        finally:
            self._running = None

    async def serve_websocket(self, request: "WebSocketRequest") -> None:
        """Serves one client of a trio-websocket server of yours, until it has gone.

            async def handle(request: WebSocketRequest) -> None:
                if request.path.startswith("/socket.io/"):
                    await server.serve_websocket(request)

        It accepts the request, or rejects it as our own listener would. It takes the request, and
        not the connection, because only that tells the headers: who came from where is checked
        before anybody is let in. Browsers have to come from one of `Config.origins`.

        The server has to serve at the same time, if only its pages: then draining it includes
        these clients. Cancelling this cuts the client, as cancelling `serve` does.

        Raises:
            MisuseError: if the server does not serve, or has no `auth=` and the client is on
                another machine.
        """
        from trio_rt import handover  # noqa: PLC0415  only who has it needs it

        running = self._now
        try:
            visit = handover.read_visit(request, self.config, needs_loopback=self._needs_loopback)
            if self._reception.is_full() or running.stopping.is_set():
                raise HttpError(503, "full", "too many connections, or about to stop")
        except HttpError as error:
            await handover.reject(request, error.response())
            return
        if isinstance(visit, Rejection):
            self._reception.note(handover.address_of(request), visit)
            await handover.reject(request, visit.response())
            return
        wire, connection = await visit.accept(request, self)
        done = trio.Event()
        running.connections.start_soon(_outlast, connection, done)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wire.run)
                await Session(self, connection, visit.request()).run()
                wire.close()
        finally:
            done.set()

    def stop(self) -> None:
        """Begins to drain: no new clients, and those that are there are closed in slices.

        `serve` returns when the last one is gone. After `Config.drain_timeout` those that are left
        are cut, which takes no longer than their `on_disconnect` and `Config.close_timeout`.
        """
        if self._running is not None:
            self._running.stopping.set()

    @property
    def port(self) -> int:
        """The port it listens on.

        Raises:
            MisuseError: if it does not serve.
        """
        return self._now.listeners[0].port

    @property
    def web_port(self) -> int:
        """The port of pages and health checks; raises as `port`."""
        now = self._now
        return (now.web_listeners or now.listeners)[0].port

    @property
    def url(self) -> str:
        """What clients connect to; raises as `port`."""
        return self._url(self.port)

    @property
    def web_url(self) -> str:
        """Where the pages are; raises as `port`."""
        return self._url(self.web_port)

    def _url(self, port: int) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._now.host, self._now.host)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def _now(self) -> Running:
        if self._running is None:
            raise MisuseError("the server does not serve. Await nursery.start(server.serve) first")
        return self._running

    async def _serve(
        self,
        host: str,
        port: int,
        sockets: Sequence[socket.socket] | None,
        web_sockets: Sequence[socket.socket] | None,
        started: Callable[[], None],
    ) -> None:
        with contextlib.ExitStack() as stack:
            signals = stack.enter_context(_own_signals()) if _is_main_task() else None
            running = await self._listen(stack, host, port, sockets, web_sockets)
            async with trio.open_nursery() as nursery:
                services = await nursery.start(self.run_services)
                hub_scope = await nursery.start(running.run_hub)
                try:
                    async with trio.open_nursery() as connections:
                        running.connections = connections
                        if signals is not None:
                            nursery.start_soon(self._obey, signals)
                        async with trio.open_nursery() as web:
                            for listener in running.web_listeners:
                                serve = self._reception.serve_pages
                                web.start_soon(listener.accept, connections, serve)
                            await self._open_doors(running, started)
                            await self._drain(connections.cancel_scope)
                            web.cancel_scope.cancel()
                            running.late.end()
                finally:
                    services.cancel()
                    hub_scope.cancel()
                nursery.cancel_scope.cancel()
        log.info("stopped")

    async def _listen(
        self,
        stack: contextlib.ExitStack,
        host: str,
        port: int,
        sockets: Sequence[socket.socket] | None,
        web_sockets: Sequence[socket.socket] | None,
    ) -> Running:
        config = self.config
        running = Running(host or "127.0.0.1", make_hub(self.flusher))
        stack.callback(running.hub.close)
        reception = Reception(self, self.web, running)
        if sockets is None:
            listeners = await open_listeners(host, port, reception.is_full)
        else:
            listeners = [Listener(sock, reception.is_full) for sock in sockets]
        for listener in listeners:
            stack.callback(listener.close)
        if self._needs_loopback:
            check_loopback(
                listeners,
                f"{host or 'every address'} can be reached by others, and nothing says who may "
                f"come in. Write Server(auth=JWTAuth.from_env()), or Server(auth=Anonymous()) to "
                f"let everybody in as a guest, or serve on 127.0.0.1",
            )
        web_listeners: list[Listener] = []
        if web_sockets is not None:
            web_listeners = [Listener(sock, reception.is_web_full) for sock in web_sockets]
        elif not config.share_port:
            web_port = config.web_port
            if web_port is None:
                web_port = port + 1 if 0 < port < 65_535 else 0
            web_listeners = await _listen_web(host, web_port, reception)
        for listener in web_listeners:
            stack.callback(listener.close)
        running.listeners, running.web_listeners = listeners, web_listeners
        self._running, self._reception = running, reception
        return running

    async def _open_doors(self, running: Running, started: Callable[[], None]) -> None:
        """Accepts clients until the server is told to stop."""
        async with trio.open_nursery() as doors:
            for listener in running.listeners:
                serve = self._reception.serve_client
                doors.start_soon(listener.accept, running.connections, serve)
            gc.collect()
            gc.freeze()
            log.info("serving on %s, pages on %s", self.url, self.web_url)
            started()
            await running.stopping.wait()
            doors.cancel_scope.cancel()

    async def _drain(self, connections: trio.CancelScope) -> None:
        """Closes all clients in slices; what is open after `drain_timeout` is cut."""
        log.info("draining %d connections", len(self.sessions))
        self._now.idle.end()
        connections.deadline = trio.current_time() + self.config.drain_timeout
        while True:
            remaining = [c for c in self.sessions if c.stopped is None]
            for connection in remaining[: self.config.drain_slice]:
                connection.stop(reasons.SERVER_SHUTDOWN)
            if not remaining and not self._reception.requests:
                return  # a request may still become a session
            await trio.sleep(_DRAIN_PAUSE)

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            name = signal.Signals(number).name
            if self._now.stopping.is_set():
                log.warning("%s again: cutting all connections", name)
                self._now.connections.cancel_scope.cancel()
            else:
                log.info("%s: draining", name)
                self.stop()

    async def _tell_readiness(self, _request: Request) -> Response:
        """Whether a load balancer may send clients here."""
        if self._now.stopping.is_set():
            return Response("draining", 503)
        if not self.backplane.is_ready:
            return Response("the backplane is not ready", 503)
        return Response("ready")


async def _listen_web(host: str, port: int, reception: Reception) -> list[Listener]:
    try:
        return await open_listeners(host, port, reception.is_web_full)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror} (for pages and health checks; "
            f"choose another web_port, or share_port=True)",
        ) from error


async def _outlast(connection: Connection, done: trio.Event) -> None:
    """Keeps the server going until a client in somebody else's nursery is gone; ends it, if told.

    The wait is bounded by what a session may take for its end.
    """
    try:
        await done.wait()
    finally:
        connection.end(reasons.SERVER_SHUTDOWN)
        with trio.CancelScope(shield=True):
            await done.wait()


def _check_sockets(name: str, sockets: Sequence[socket.socket] | None) -> None:
    if sockets is None:
        return
    if not sockets or not all(isinstance(each, socket.socket) for each in sockets):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MisuseError(f"{name}= takes sockets of the module `socket` that listen already")


def _is_main_task() -> bool:
    """Whether the current task is what `trio.run` was called with."""
    nursery = trio.lowlevel.current_task().parent_nursery
    return nursery is not None and nursery.parent_task is trio.lowlevel.current_root_task()


def _own_signals() -> contextlib.AbstractContextManager[AsyncIterator[int]]:
    return trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT)
