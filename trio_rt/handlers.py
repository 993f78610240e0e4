"""What a program registered for a namespace: its handlers, checked when they are registered.

A handler's signature says what it takes: `(socket, *payload)`. Annotated payloads are validated
strictly by msgspec, the others pass as plain JSON values.
"""

import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import attrs
import msgspec
from msgspec import convert
from msgspec.structs import astuple

from trio_rt.codec.socketio import RESERVED_EVENTS
from trio_rt.errors import MisuseError, Refuse

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

ANY_EVENT = "*"
"""Registers a handler for every event that has none of its own; it gets the name first."""

RESERVED_SERVER_EVENTS = frozenset({"connect", "connection", "new_namespace", ANY_EVENT})
"""What Socket.IO's own servers take for something else, and the name that stands for all."""

_BYTES = (bytes,)


@attrs.frozen
class Parameter:
    """One payload argument of a handler."""

    name: str
    type: Any
    """What it is validated against; `Any` where it is not annotated."""


@attrs.frozen(eq=False)
class EventHandler:
    """A handler of one event."""

    event: str
    function: Callable[..., Awaitable[Any]]
    concurrency: int
    """How many events of one socket it handles at once; 1 keeps their order."""
    parameters: tuple[Parameter, ...]
    required: int
    """Payload arguments without a default."""
    rest: Parameter | None
    """What `*args` takes, if there is one."""
    whole: type[msgspec.Struct] | None
    """The whole payload as one type, for handlers that take a fixed number of arguments: validated
    at once in 0.15 us, where one by one takes 0.8 us and more."""
    unchecked: int
    """How many arguments need no more than to be so many, as none is annotated; -1 if some are."""
    idempotent: Callable[..., Any] | None = None
    """Makes an idempotency key of the payload, so that a resend does not run again."""
    is_plain: bool = attrs.field(
        init=False,
        default=attrs.Factory(
            lambda self: self.concurrency == 1 and self.idempotent is None, takes_self=True
        ),
    )
    """Whether each event runs, and one after the other: what most handlers are."""

    def validate(self, arguments: list[Any]) -> Sequence[Any]:
        """The payload as the handler's annotations want it.

        Raises:
            Refuse: with the code `"invalid"`, and the argument and path in the message.
        """
        if self.whole is not None:
            try:
                return astuple(convert(arguments, self.whole))
            except msgspec.ValidationError:
                pass  # one by one, to name the argument that is wrong
        elif len(arguments) == self.unchecked:
            return arguments
        count, most = len(arguments), len(self.parameters)
        if count < self.required or (count > most and self.rest is None):
            raise Refuse("invalid", self._describe_count(count), {"arguments": count})
        return [self._convert(at, value) for at, value in enumerate(arguments)]

    def _convert(self, at: int, value: Any) -> Any:
        parameter = self.parameters[at] if at < len(self.parameters) else self.rest
        assert parameter is not None
        if parameter.type is Any:
            return value
        try:
            return msgspec.convert(value, parameter.type, builtin_types=_BYTES)
        except msgspec.ValidationError as error:
            message = f"argument {parameter.name!r}: {error}"
            raise Refuse("invalid", message, {"argument": parameter.name}) from error

    def _describe_count(self, count: int) -> str:
        most = len(self.parameters)
        wanted = f"{self.required}" if self.required == most else f"{self.required} to {most}"
        if self.rest is not None:
            wanted = f"at least {self.required}"
        noun = "argument" if wanted in ("1", "at least 1") else "arguments"
        return f"event {self.event!r} takes {wanted} {noun}, not {count}"


class Handlers:
    """Everything that was registered for one namespace."""

    __slots__ = (
        "any_event",
        "connect",
        "disconnect",
        "drop",
        "error",
        "events",
        "leave",
        "middleware",
        "presence",
        "recover",
        "server_events",
    )

    def __init__(self) -> None:
        self.events: dict[str | int, EventHandler] = {}
        self.any_event: EventHandler | None = None
        self.server_events: dict[str, EventHandler] = {}
        self.presence: dict[str, Callable[..., Awaitable[None]]] = {}
        """By room, or pattern of rooms."""
        self.middleware: list[Callable[..., Awaitable[None]]] = []
        self.connect: Callable[..., Awaitable[None]] | None = None
        self.disconnect: Callable[..., Awaitable[None]] | None = None
        self.drop: Callable[..., Awaitable[None]] | None = None
        self.recover: Callable[..., Awaitable[None]] | None = None
        self.leave: Callable[..., Awaitable[None]] | None = None
        self.error: Callable[..., Awaitable[None]] | None = None

    def add_event(
        self,
        event: str,
        function: F,
        concurrency: int = 1,
        idempotent: Callable[..., Any] | None = None,
    ) -> F:
        """Registers `function` for `event`.

        Raises:
            MisuseError: if it could never work, with what would.
        """
        if event in RESERVED_EVENTS:
            raise MisuseError(
                f"{event!r} is no event of yours: clients drop the connection when they see it. "
                f"For connecting and leaving use @server.on_connect and @server.on_disconnect"
            )
        if event in self.events or (event == ANY_EVENT and self.any_event is not None):
            raise MisuseError(f"event {event!r} has a handler already: one event, one handler")
        if type(concurrency) is not int or concurrency < 1:
            raise MisuseError(
                f"@server.on({event!r}, concurrency=N) takes 1 or more, not {concurrency!r}"
            )
        handler = inspect_handler(event, function, concurrency)
        if idempotent is not None:
            _check_idempotent(handler, idempotent)
            handler = attrs.evolve(handler, idempotent=idempotent)
        if event == ANY_EVENT:
            self.any_event = handler
        else:
            self.events[event] = handler
        return function

    def add_server_event(self, event: str, function: F) -> F:
        """Registers `function` for what other nodes emit to this one.

        Raises:
            MisuseError: if it could never work, with what would.
        """
        check_server_event(event)
        if event in self.server_events:
            raise MisuseError(f"server event {event!r} has a handler: one event, one handler")
        handler = inspect_handler(event, function, first=(), verb="on_server_event")
        self.server_events[event] = handler
        return function

    def add_hook(self, name: str, function: F, *arguments: str) -> F:
        """Registers the one `on_<name>` hook, which takes `arguments`.

        Raises:
            MisuseError: if it could never work, with what would.
        """
        inspect_hook(function, f"server.on_{name}", *arguments)
        if getattr(self, name) is not None:
            raise MisuseError(f"on_{name} is registered already: there is one for a namespace")
        setattr(self, name, function)
        return function

    def add_presence(self, room: str, function: F) -> F:
        """Registers the `on_presence` hook of a room, or of all that match `room`.

        Raises:
            MisuseError: if it could never work, with what would.
        """
        right = f"@server.on_presence({room!r})\nasync def {_name(function)}(room, diff): ..."
        _require_async(function, right)
        _require_arguments(function, 2, right)
        if room in self.presence:
            raise MisuseError(f"on_presence({room!r}) is registered already: there is one for each")
        self.presence[room] = function
        return function

    def add_middleware(self, function: F) -> F:
        """Registers a middleware, to be run after those that are there.

        Raises:
            MisuseError: if it could never work, with what would.
        """
        right = f"@server.use\nasync def {_name(function)}(socket): ..."
        _require_async(function, right)
        _require_arguments(function, 1, right)
        self.middleware.append(function)
        return function


def _check_idempotent(handler: EventHandler, idempotent: Any) -> None:
    """Raises MisuseError if it cannot make a key of the handler's payload."""
    can_work = callable(idempotent) and not inspect.iscoroutinefunction(idempotent)
    if can_work:
        try:
            inspect.signature(idempotent).bind(*range(handler.required))
        except TypeError:
            can_work = False
        except ValueError:  # written in C, and does not say what it takes
            return
    if not can_work:
        names = ", ".join(parameter.name for parameter in handler.parameters)
        raise MisuseError(
            f"@server.on({handler.event!r}, idempotent=...) takes a function, not async, from the "
            f"payload to a key. Write: idempotent=lambda {names or '*payload'}: ..."
        )


def inspect_handler(
    event: str,
    function: Callable[..., Awaitable[Any]],
    concurrency: int = 1,
    *,
    owner: str = "server",
    first: tuple[str, ...] = ("socket",),
    verb: str = "on",
) -> EventHandler:
    """Reads a handler's signature.

    Args:
        event: what it handles; `ANY_EVENT` for all that have no handler of their own.
        function: takes `first`, and then the payload.
        concurrency: see `EventHandler`.
        owner: what it is registered with, for the messages; empty for a method in a class.
        first: what it takes before the payload.
        verb: the decorator, for the messages.

    Raises:
        MisuseError: if it could never work, with what would.
    """
    name = _name(function)
    shown = ".".join(function.__qualname__.split(".")[-2:]) if "self" in first else name
    rest = ("event", "*payload") if event == ANY_EVENT else ("payload",)
    quoted = '"*"' if event == ANY_EVENT else repr(event)
    decorator = f"{owner}.{verb}" if owner else verb
    right = f"@{decorator}({quoted})\nasync def {name}({', '.join((*first, *rest))}): ..."
    _require_async(function, right)
    try:
        hints = typing.get_type_hints(_annotated(function))
    except NameError as error:
        raise MisuseError(
            f"an annotation of {name} names something unknown: {error}. "
            f"Payload types have to be defined at module level, above the handler"
        ) from error
    found = list(inspect.signature(function).parameters.values())
    named = [p for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    stars = [p for p in found if p.kind is p.VAR_POSITIONAL]
    needless = [p for p in found if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if len(named) < len(first) + (event == ANY_EVENT) or needless:
        given = " and ".join((*(f"a {word}" for word in first if word != "self"), "an event"))
        raise MisuseError(f"{shown} cannot be called with {given}. Write:\n{right}")
    payload = named[len(first) :]
    parameters = tuple(Parameter(p.name, _check_type(p.name, hints)) for p in payload)
    star = Parameter(stars[0].name, _check_type(stars[0].name, hints)) if stars else None
    required = sum(1 for p in payload if p.default is p.empty)
    is_checked = any(p.type is not Any for p in parameters)
    is_fixed = star is None and required == len(parameters)
    return EventHandler(
        event,
        function,
        concurrency,
        parameters,
        required,
        star,
        whole=_whole_payload(parameters) if is_checked and is_fixed else None,
        unchecked=-1 if is_checked else len(parameters),
    )


def check_server_event(event: str) -> None:
    """Tells which names are none of the program's own.

    Raises:
        MisuseError: if it is one of those.
    """
    if event in RESERVED_SERVER_EVENTS or type(event) is not str:
        raise MisuseError(f"{event!r} is no event between servers. Write: 'my_{event}'")


def _whole_payload(parameters: tuple[Parameter, ...]) -> type[msgspec.Struct] | None:
    """An array of exactly these arguments; None if bytes are among them.

    Given a plain conversion, msgspec would take a text for bytes in base64.
    """
    fields = [(f"argument_{at}", p.type) for at, p in enumerate(parameters)]
    whole = msgspec.defstruct(
        "Payload", fields, array_like=True, forbid_unknown_fields=True, gc=False
    )
    return None if "contentEncoding" in repr(msgspec.json.schema(whole)) else whole


def _check_type(name: str, hints: dict[str, Any]) -> Any:
    """The annotation of a payload argument, if msgspec can validate it."""
    wanted = hints.get(name, Any)
    if wanted in (bytearray, memoryview):
        raise MisuseError(f"argument {name!r}: binary values are bytes. Write: {name}: bytes")
    if wanted is Any or wanted is object:
        return Any
    if getattr(wanted, "__module__", "") == "trio_rt.socket":
        raise MisuseError(f"argument {name!r}: the socket is the first argument, and no payload")
    try:
        msgspec.json.schema(wanted)  # refuses what `convert` would only take as it is
        msgspec.convert({}, wanted, builtin_types=_BYTES)
    except msgspec.ValidationError:
        return wanted
    except TypeError as error:
        why = str(error).splitlines()[-1]  # the lines before speak of msgspec's schemas
        raise MisuseError(
            f"argument {name!r} cannot be validated: {why}. Use attrs classes, dataclasses, "
            f"msgspec structs, TypedDicts or plain types, or leave the annotation out"
        ) from error
    return wanted


def _annotated(function: Any) -> Any:
    """What has the annotations: a function, the one in a partial, or an object's `__call__`."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__


def inspect_hook(function: Callable[..., Awaitable[None]], owner: str, *arguments: str) -> None:
    """Checks that a hook takes its arguments.

    Args:
        function: what is to be registered.
        owner: what it is registered with, for the message.
        arguments: what it is called with.

    Raises:
        MisuseError: if it could never work, with what would.
    """
    right = f"@{owner}\nasync def {_name(function)}({', '.join(arguments)}): ..."
    _require_async(function, right)
    _require_arguments(function, len(arguments), right)


def _require_async(function: Any, right: str) -> None:
    call = getattr(function, "__call__", None)  # noqa: B004  callable objects are welcome
    if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)):
        raise MisuseError(f"{_name(function)} is not an async function. Write:\n{right}")


def _require_arguments(function: Any, count: int, right: str) -> None:
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        raise MisuseError(f"{_name(function)} has the wrong arguments. Write:\n{right}") from None


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", None) or type(function).__name__)
