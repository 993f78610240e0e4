"""One client's sockets, and the reader that serves them from the first CONNECT to the end."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import trio

from trio_rt import reasons
from trio_rt.auth import Handshake, User
from trio_rt.codec.socketio import Packet
from trio_rt.connection import Connection
from trio_rt.errors import BackplaneDown, Disconnected, LimitError, MisuseError, Refuse
from trio_rt.log import log, new_error_id, printable
from trio_rt.machine.effects import Connect
from trio_rt.packets import sendable
from trio_rt.reasons import Reason
from trio_rt.recovery import Claim, readmit, split_auth, take_session
from trio_rt.socket import CONNECTED, Socket, new_socket_id

if TYPE_CHECKING:
    from trio_rt.app import App
    from trio_rt.namespace import Namespace

EVENTS_PER_STEP = 64
"""Events of one client that are handled between two checkpoints, where the handlers have none."""


@attrs.frozen(kw_only=True, weakref_slot=False)
class Request:
    """The HTTP request that opened a connection, as far as handshakes tell of it."""

    query: Mapping[str, str]
    headers: Mapping[str, str]
    address: str
    url: str
    is_secure: bool
    time: float
    """Unix time in seconds."""


class Session:
    """The sockets of one connection."""

    __slots__ = ("_app", "_connection", "_request", "_sockets")

    def __init__(self, app: App, connection: Connection, request: Request) -> None:
        self._app = app
        self._connection = connection
        self._request = request
        self._sockets: dict[str, Socket] = {}
        app.sessions[connection] = self

    async def run(self) -> None:
        """Serves the client until its connection has ended, whatever ends it.

        A failure of ours ends this connection and no other: it is logged here, once.
        """
        connection = self._connection
        try:
            async with trio.open_nursery() as nursery:
                connection.start(nursery)
                await self._read(connection)
        except* BackplaneDown as group:  # it comes back with its session when that is there again
            connection.end(reasons.UNAVAILABLE)
            log.warning("client of %s sent away: %s", self._request.address, group.exceptions[0])
        except* Exception:
            connection.end(reasons.INTERNAL_ERROR)
            log.exception("connection of %s failed", self._request.address)
        finally:
            connection.end(reasons.SERVER_SHUTDOWN)
            with trio.move_on_after(self._seconds_to_finish(), shield=True):
                await self._finish(connection.reason or reasons.SERVER_SHUTDOWN)

    def _seconds_to_finish(self) -> float:
        config = self._connection.config
        hooks = 2 * len(self._sockets)  # on_disconnect, and on_drop or on_leave
        return hooks * config.disconnect_timeout + config.close_timeout

    async def _finish(self, reason: Reason) -> None:
        """Runs `on_disconnect` for each socket, and closes the transport."""
        _log_end(self._request.address, reason)
        try:
            for socket in list(self._sockets.values()):
                await socket.namespace.remove(socket, reason)
            await self._connection.finish()
        finally:
            self._connection.transport.close()
            del self._app.sessions[self._connection]

    async def put_out_all(self) -> None:
        """Puts the client out of every namespace."""
        for socket in list(self._sockets.values()):
            await socket.namespace.put_out(socket, reasons.SERVER_DISCONNECT)

    async def _read(self, connection: Connection) -> None:
        """The reader: hands each event to its handler, one after the other."""
        sockets = self._sockets
        while True:
            await connection.wait()
            events = connection.take()
            if len(events) > 1:
                connection.cork()
            left = EVENTS_PER_STEP
            for event in events:
                if type(event) is Packet:
                    socket = sockets.get(event.namespace)
                    if socket is not None and socket.state is CONNECTED:
                        await socket.namespace.dispatch(socket, event)
                elif type(event) is Connect:
                    await self._connect(event)
                else:
                    await self._leave(event.namespace)
                left -= 1
                if not left:
                    left = EVENTS_PER_STEP
                    await trio.lowlevel.checkpoint()

    async def _leave(self, name: str) -> None:
        socket = self._sockets.pop(name, None)
        if socket is not None:
            self._connection.forget_calls(name)
            await socket.namespace.remove(socket, reasons.CLIENT_DISCONNECT)
        self._connection.multiplex.check_deserted(trio.current_time())
        self._connection.look_at_deadlines()

    async def _connect(self, request: Connect) -> None:
        """Answers a CONNECT: with a socket, or with CONNECT_ERROR."""
        namespace = self._app.find_namespace(request.namespace)
        if namespace is None:
            self._say_refused(request, "Invalid namespace")
            return
        namespace.admissions += 1
        auth, claim, sends_keys = split_auth(request.auth or {})
        if not self._wants_recovery:
            claim = None
        socket = self._make_socket(namespace, auth)
        socket.sends_keys = sends_keys
        try:
            refusal = await self._admit(socket, request, claim)
            if refusal is not None:
                await self._refuse(socket, request, refusal)
                return
            socket.announce()
            if socket.reason is not None:  # it left while `on_connect` ran
                await namespace.tell_disconnected(socket, socket.reason, may_come_back=False)
        finally:
            namespace.admissions -= 1
            if not socket.connected:
                socket.retire(self._connection.reason or reasons.CLIENT_DISCONNECT)
                if not socket.was_connected:
                    with trio.move_on_after(self._connection.config.close_timeout, shield=True):
                        await self._app.backplane.end_session(socket.session)
                self._sockets.pop(namespace.name, None)
                self._app.forget_if_deserted(namespace)

    def _make_socket(self, namespace: Namespace, auth: dict[str, Any]) -> Socket:
        seen = self._request
        handshake = Handshake(
            namespace=namespace.name,
            auth=auth,
            query=seen.query,
            headers=seen.headers,
            address=seen.address,
            url=seen.url,
            secure=seen.is_secure,
            issued=seen.time,
        )
        socket = Socket(new_socket_id(), namespace, self._connection, handshake)
        self._sockets[namespace.name] = socket
        return socket

    async def _admit(self, socket: Socket, request: Connect, claim: Claim | None) -> Refuse | None:
        """Asks all who may refuse. An exception of the program's refuses as well."""
        try:
            with trio.move_on_after(self._connection.config.auth_timeout) as scope:
                await self._ask_all(socket, request, claim, scope)
            if scope.cancelled_caught:
                log.warning("connecting socket %s took too long", socket.id)
                return Refuse("timeout", "connecting took too long")
        except Refuse as refusal:
            log.info("socket of %s refused: %s", self._request.address, printable(refusal.code))
            return refusal
        except LimitError as error:
            return Refuse("limit", str(error))
        except BackplaneDown:
            raise  # a refusal would keep the client from coming back
        except Exception as error:
            if not (isinstance(error, Disconnected) and socket.is_going):
                error_id = new_error_id()
                log.exception("connecting socket %s failed (error %s)", socket.id, error_id)
                return Refuse("internal", f"the server failed; its log has more under {error_id}")
        if socket.reason is not None and not socket.connected:
            return Refuse("disconnected", "the server does not want this client")
        return None

    async def _ask_all(
        self, socket: Socket, request: Connect, claim: Claim | None, scope: trio.CancelScope
    ) -> None:
        """Authenticates, and runs middleware and hooks; one that is back is connected meanwhile."""
        handlers = socket.namespace.handlers
        socket.user = await self._app.auth.authenticate(socket.handshake)
        if not isinstance(socket.user, User):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MisuseError(
                f"{type(self._app.auth).__name__}.authenticate returned {socket.user!r}, and has "
                f"to return a User, or raise Refuse. Write: return User(id, name)"
            )
        lost = None
        if claim is not None:
            with self._uncounted(scope):
                lost = await take_session(self._app, socket, claim)
        try:
            for middleware in handlers.middleware:
                await middleware(socket)
            if socket.reason is not None:
                return
            socket.may_connect(request)
            is_back = False
            if lost is not None and claim is not None:
                with self._uncounted(scope):
                    is_back = await readmit(self._app, socket, lost, claim)
            if not is_back:
                await self._open_session(socket)
        finally:
            if lost is not None:
                if lost.is_open and not socket.recovered:
                    self._app.backplane.lose_session(lost)  # who said no may say yes later
                self._app.absentees.end_return(lost)
        hook = handlers.connect
        if socket.recovered and handlers.recover is not None:
            hook = handlers.recover
        if hook is not None:
            await hook(socket)

    @contextmanager
    def _uncounted(self, scope: trio.CancelScope) -> Generator[None]:
        """The hooks of the connection that is taken over have their time: it is not the newcomer's.

        They are two at most, `on_disconnect` and `on_drop`, or `on_leave`.
        """
        began, theirs = trio.current_time(), 2 * self._connection.config.disconnect_timeout
        scope.deadline += theirs
        try:
            yield
        finally:
            scope.deadline += trio.current_time() - began - theirs

    @property
    def _wants_recovery(self) -> bool:
        return self._request.query.get("recovery") != "0"

    async def _open_session(self, socket: Socket) -> None:
        """From here on the client may be lost and come back, if it and we care for that."""
        socket.session.user = socket.user
        if self._connection.config.recovery_window and self._wants_recovery:
            await self._app.backplane.open_session(socket.session)

    async def _refuse(self, socket: Socket, request: Connect, refusal: Refuse) -> None:
        """CONNECT_ERROR where the client does not know the socket yet, else an end of it."""
        data: dict[str, Any] = {"code": refusal.code, "details": sendable(refusal.details)}
        if socket.connected:
            socket.emit_error({"error": {**data, "message": refusal.message}})
            await socket.namespace.put_out(socket, reasons.SERVER_DISCONNECT)
        else:
            socket.retire(reasons.SERVER_DISCONNECT)
            self._say_refused(request, refusal.message, data)

    def _say_refused(self, request: Connect, message: str, data: Any = None) -> None:
        """Tells the client, unless it has left meanwhile."""
        if self._connection.multiplex.refused(request, trio.current_time()):
            self._connection.refuse(request.namespace, message, data)
            self._connection.look_at_deadlines()


def _log_end(address: str, reason: Reason) -> None:
    """One line for each ending; those that are somebody's fault are warnings."""
    is_fault = reason.close_code in (1002, 1007, 1008, 1009, 1013)
    log.log(
        30 if is_fault else 20,
        "connection of %s ended: %s: %s",
        printable(address),
        reason.code,
        printable(reason.text),
    )
