"""The decorators of a namespace: how a program says what it handles."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from trio_rt.errors import MisuseError
from trio_rt.handlers import Handlers

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])
"""A handler; decorators give it back unchanged."""


M = TypeVar("M", bound=Callable[..., Any])


def _without_brackets(hook: M) -> M:
    """A decorator that is used as `@server.on_connect`: it says so to whoever writes `()`."""

    @functools.wraps(hook)
    def register(self: "Registry", *arguments: Any) -> Any:
        if len(arguments) != 1:
            raise MisuseError(f"it takes no arguments. Write: @server.{hook.__name__}")
        return hook(self, *arguments)

    return cast(M, register)


class Registry:
    """Registers handlers for one namespace, or for all that match a pattern."""

    def __init__(self, handlers: Handlers) -> None:
        self.handlers = handlers
        """What has been registered."""

    def on(
        self,
        event: str,
        *,
        concurrency: int = 1,
        idempotent: Callable[..., Any] | None = None,
    ) -> Callable[[F], F]:
        """Registers the handler of an event.

        The handler takes the socket and the payload. Annotated arguments are validated: attrs
        classes, dataclasses, msgspec structs, TypedDicts and plain types. What it returns is the
        acknowledgement: a tuple is several arguments, None an empty one, `NO_ACK` none at all. A
        raised `Refuse` is told to the client; any other exception is logged, and the client is
        told an id of that log line. It is cancelled when the client is gone for good.

        Args:
            event: its name, or `"*"` for all without a handler; that one gets the name first.
            concurrency: how many events of one socket it may handle at once. 1 keeps the order.
            idempotent: makes a key of the payload, such as `lambda message: message.id`, where
                clients may send an event again because its acknowledgement was late. The handler
                runs once for each key and user within `Config.once_window`, and a resend gets the
                first acknowledgement. `None` as a key runs it each time. Our own client sends
                keys by itself.

        Raises:
            MisuseError: if it could never work, with what would.
        """
        if not isinstance(event, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MisuseError('on() takes the name of an event. Write: @server.on("say")')
        return lambda function: self.handlers.add_event(event, function, concurrency, idempotent)

    @_without_brackets
    def on_connect(self, function: F) -> F:
        """Registers `async def f(socket)`, run after authentication and before any event.

        A raised `Refuse` is told to the client as CONNECT_ERROR. The client hears that it is
        connected with the first thing that can reach it (an `emit`, a `join`), at the latest when
        the hook returns; after that, a `Refuse` is told by an `error` event and a disconnect.

        A client that comes back with its session is connected before any hook runs. Then
        `on_recover` is run; where there is none, this one, with `socket.recovered` true.
        """
        return self.handlers.add_hook("connect", function, "socket")

    @_without_brackets
    def on_recover(self, function: F) -> F:
        """Registers `async def f(socket)`, run in place of `on_connect` when a client is back.

        The socket has the id, the rooms and the data that it had, and its client has got what it
        missed. A raised `Refuse` puts it out.
        """
        return self.handlers.add_hook("recover", function, "socket")

    @_without_brackets
    def on_disconnect(self, function: F) -> F:
        """Registers `async def f(socket, reason)`, run once for every connection of a socket.

        Whatever ended it: `on_drop` and `on_leave` tell the two kinds apart. By then the socket
        has left its rooms (`socket.rooms` still has their names) and its tasks have been
        cancelled. It is shielded, with `Config.disconnect_timeout` as its deadline.
        """
        return self.handlers.add_hook("disconnect", function, "socket", "reason")

    @_without_brackets
    def on_drop(self, function: F) -> F:
        """Registers `async def f(socket, reason)`, run when a client is lost and may come back.

        What is emitted to the socket and its rooms meanwhile waits for it, for as long as
        `Config.recovery_window` says. Run after `on_disconnect`, with the same deadline.
        """
        return self.handlers.add_hook("drop", function, "socket", "reason")

    @_without_brackets
    def on_leave(self, function: F) -> F:
        """Registers `async def f(socket, reason)`, run once when a client has left for good.

        At once if it left or was put out, else when it has not come back in time. Not run for
        those who are connected when the server stops: they may come back to the next one. Where
        recovery is off it is run after each `on_disconnect`.
        """
        return self.handlers.add_hook("leave", function, "socket", "reason")

    @_without_brackets
    def on_error(self, function: F) -> F:
        """Registers `async def f(socket, event, error)`, told of handlers' unexpected failures.

        They have been logged and answered by then.
        """
        return self.handlers.add_hook("error", function, "socket", "event", "error")

    def on_presence(self, room: str) -> Callable[[F], F]:
        """Registers `async def f(room, diff)`, run when the presence in a room has changed.

        It gets a `RoomRef` and a `PresenceDiff`, on each node that has members in the room; never
        twice at once for one room: what changes meanwhile comes together in the next diff. It has
        `Config.disconnect_timeout` seconds.

        Args:
            room: its name, or a pattern such as `"game:*"`; the first that matches counts.

        Raises:
            MisuseError: if it could never work, with what would.
        """
        if not isinstance(room, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MisuseError('on_presence() takes a room. Write: @server.on_presence("lobby")')
        return lambda function: self.handlers.add_presence(room, function)

    def on_server_event(self, event: str) -> Callable[[F], F]:
        """Registers `async def f(*payload)`, run when another node says `server_emit` or asks by
        `server_call`.

        The payload is validated as that of `on`. What it returns is the answer, one value; a
        raised `Refuse`, or a failure, is answered as it is to clients. Each event has a task of
        its own, so that several may run at once, in any order.

        Args:
            event: its name.

        Raises:
            MisuseError: if it could never work, with what would.
        """
        if not isinstance(event, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MisuseError('on_server_event() takes a name: @server.on_server_event("reload")')
        return lambda function: self.handlers.add_server_event(event, function)

    @_without_brackets
    def use(self, function: F) -> F:
        """Registers a middleware `async def f(socket)`, run before `on_connect`.

        All are run in order, after authentication; a raised `Refuse` is told as CONNECT_ERROR.
        """
        return self.handlers.add_middleware(function)
