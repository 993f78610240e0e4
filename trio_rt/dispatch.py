"""How an event gets to its handler, and what the client is answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from trio_rt.auth import Anonymous
from trio_rt.backplane.base import Settled
from trio_rt.codec.socketio import Packet, encode_json
from trio_rt.errors import Disconnected, LimitError, Refuse
from trio_rt.handlers import EventHandler, Handlers
from trio_rt.log import log, new_error_id, printable
from trio_rt.packets import sendable, settle
from trio_rt.socket import Socket

if TYPE_CHECKING:
    from trio_rt.app import App


class _NoAck:
    def __repr__(self) -> str:
        return "NO_ACK"


NO_ACK = _NoAck()
"""Return it from a handler, and the event is not acknowledged at all."""

_UNANSWERED = Settled(b"")

_ARRIVED = Settled(b"[]")
"""What a client that sends keys is answered all the same: else it would send the event again."""

Handle = Callable[[EventHandler, Socket, int | None, list[Any]], Awaitable[None]]


class Dispatcher:
    """Hands the events of one namespace to their handlers.

    Args:
        namespace: its name.
        handlers: what was registered for it.
        app: whose backplane knows the results of events that run once.
    """

    __slots__ = ("_app", "_events", "_handlers", "_namespace")

    def __init__(self, namespace: str, handlers: Handlers, app: App) -> None:
        self._namespace = namespace
        self._handlers = handlers
        self._events = handlers.events
        self._app = app

    def dispatch(self, socket: Socket, packet: Packet) -> Awaitable[None]:
        """Hands an event to its handler, to be awaited at once."""
        arguments: list[Any] = packet.data
        name: str | int = arguments.pop(0)
        handler = self._events.get(name)
        if handler is not None and handler.is_plain and not socket.sends_keys:
            return self._handle(handler, socket, packet.id, arguments)
        if handler is None:
            name = str(name)  # to JavaScript a number and its digits are one name
            handler = self._events.get(name, self._handlers.any_event)
            if handler is None:
                return self._answer_unknown(socket, packet.id, name)
            if handler is self._handlers.any_event:
                arguments.insert(0, name)
        handle: Handle = self._handle
        if socket.sends_keys or handler.idempotent is not None:
            handle = self._handle_once
        if handler.concurrency == 1:
            return handle(handler, socket, packet.id, arguments)
        return self._handle_concurrently(handle, handler, socket, packet.id, arguments)

    async def _handle(
        self, handler: EventHandler, socket: Socket, id: int | None, arguments: list[Any]
    ) -> None:
        """Calls a handler, and acknowledges the event with what it returns.

        This and `_handle_once` are one of the two doors where a program's exceptions stop.
        """
        try:
            is_unchecked = len(arguments) == handler.unchecked
            values = arguments if is_unchecked else handler.validate(arguments)
            result = await handler.function(socket, *values)
            if id is not None and result is not NO_ACK:
                socket.acknowledge(id, result)
        except Exception as error:
            answer = await self._explain(handler, socket, error)
            if answer is not None:
                self._answer(socket, id, answer)

    async def _handle_once(
        self, handler: EventHandler, socket: Socket, id: int | None, arguments: list[Any]
    ) -> None:
        """As `_handle`, once for each key and user: a resend gets the first acknowledgement."""
        key: Any = None
        owner = socket.user.id
        if socket.sends_keys and arguments and type(arguments[-1]) is str:
            key = arguments.pop()
            if isinstance(self._app.auth, Anonymous):
                owner = ""  # a guest may be another one next time, but the key is like no other's
        try:
            values = handler.validate(arguments)
            if key is None and handler.idempotent is not None:
                key = handler.idempotent(*values)
            name = None if key is None else self._name_key(owner, handler, key)
        except Exception as error:
            answer = await self._explain(handler, socket, error)
            if answer is not None:
                self._answer(socket, id, answer)
            return
        if name is None:
            await self._handle(handler, socket, id, arguments)
            return
        settled = await self._app.backplane.claim(name)
        if settled is None:
            settled = await self._run_once(handler, socket, id, values, name)
            if settled is None and socket.sends_keys and socket.connection.stopped is not None:
                # The client sends it again, and all that came behind it, which must not run before.
                socket.connection.end(socket.connection.stopped)
                await trio.lowlevel.checkpoint_if_cancelled()
        if id is None or settled is None:
            return
        if settled.payload:
            socket.acknowledge_again(id, settled)
        elif socket.sends_keys:
            socket.acknowledge_again(id, _ARRIVED)

    async def _run_once(
        self, handler: EventHandler, socket: Socket, id: int | None, values: Any, name: str
    ) -> Settled | None:
        """Runs a handler whose key is claimed, and keeps what the client is answered.

        None if it was given up, because the client is gone.
        """
        settled: Settled | None = None
        try:
            try:
                result = await handler.function(socket, *values)
                settled = _UNANSWERED if result is NO_ACK else settle(result)
            except Exception as error:
                answer = await self._explain(handler, socket, error)
                if answer is not None:
                    settled = settle(answer)
                    if id is None:
                        self._answer(socket, id, answer)
        finally:
            if settled is None:
                self._app.backplane.release(name)
            else:
                self._app.backplane.settle(name, settled)
        return settled

    def _name_key(self, owner: str, handler: EventHandler, key: Any) -> str:
        """The key's name among those of all users and events."""
        return encode_json((self._namespace, owner, handler.event, key)).decode()

    async def _handle_concurrently(
        self,
        handle: Handle,
        handler: EventHandler,
        socket: Socket,
        id: int | None,
        arguments: list[Any],
    ) -> None:
        """Calls a handler in a task of its own, when fewer than it may have are running."""
        slot = socket.slot(handler.event, handler.concurrency)
        await slot.acquire()
        if not socket.can_send:
            slot.release()
            return

        async def handle_in_slot() -> None:
            try:
                await handle(handler, socket, id, arguments)
            finally:
                slot.release()

        socket.nursery.start_soon(handle_in_slot, name=f"handler of {handler.event}")

    # What went wrong

    async def _explain(
        self, handler: EventHandler, socket: Socket, error: Exception
    ) -> dict[str, Any] | None:
        """What a client is told of a handler's failure; None if it is gone anyway.

        An unexpected one is logged, and told to `on_error`.
        """
        if isinstance(error, Refuse):
            return _error(error.code, error.message, error.details)
        if isinstance(error, LimitError):
            log.warning("event %s of socket %s: %s", handler.event, socket.id, error)
            return _error("limit", str(error), None)
        if isinstance(error, Disconnected) and socket.is_going:
            log.debug("event %s outlived its socket %s", handler.event, socket.id)
            return None
        error_id = new_error_id()
        log.error(
            "the handler of %s failed for socket %s (error %s)",
            handler.event,
            socket.id,
            error_id,
            exc_info=error,
        )
        await self._report(socket, handler.event, error)
        message = f"the server failed; its log has more under {error_id}"
        return _error("internal", message, {"id": error_id})

    async def _report(self, socket: Socket, event: str, error: Exception) -> None:
        """Tells `on_error`, whose own failure is only logged."""
        if self._handlers.error is None:
            return
        try:
            await self._handlers.error(socket, event, error)
        except Exception:
            log.exception("on_error failed for socket %s", socket.id)

    async def _answer_unknown(self, socket: Socket, id: int | None, name: str) -> None:
        log.debug("no handler for event %s of socket %s", printable(name), socket.id)
        self._answer(socket, id, _error("unknown_event", f"no handler for event {name[:100]!r}"))

    def _answer(self, socket: Socket, id: int | None, answer: dict[str, Any]) -> None:
        """Tells a client what went wrong: in the acknowledgement, or by an `error` event."""
        if not socket.can_send:
            return
        if id is not None:
            socket.acknowledge(id, answer)
        else:
            socket.emit_error(answer)


def _error(code: str, message: str, details: Any = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "details": sendable(details)}}
