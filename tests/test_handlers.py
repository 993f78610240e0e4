"""What a program registers: misuse is told at once, and payloads are validated strictly."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NotRequired, TypedDict

import attrs
import msgspec
import pytest

from trio_rt.errors import MisuseError, Refuse
from trio_rt.handlers import Handlers


@attrs.frozen
class Say:
    room: str
    text: str = ""


@dataclass
class Move:
    x: int
    path: list[float]


class Picture(msgspec.Struct):
    name: str
    data: bytes


class Options(TypedDict):
    loud: bool
    tag: NotRequired[str]


class Unknown:
    pass


async def on_say(socket, message: Say): ...
async def two(socket, first: int, second: str): ...
async def untyped(socket, first, second): ...
async def optional(socket, first: int, second: str = "-"): ...
async def rest(socket, first: str, *more: int): ...
async def any_rest(socket, *more): ...
async def nothing(socket): ...


def validate(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What the handler would be called with, behind the socket."""
    handlers = Handlers()
    handlers.add_event("e", function)
    return list(handlers.events["e"].validate(list(arguments)))


def taking(annotation: Any) -> Callable[..., Any]:
    """A handler with one argument of this type."""

    async def handle(socket, value): ...

    handle.__annotations__["value"] = annotation
    return handle


def assert_refused(function: Callable[..., Any], *arguments: Any, words: str) -> Refuse:
    with pytest.raises(Refuse) as caught:
        validate(function, *arguments)
    assert caught.value.code == "invalid"
    assert words in caught.value.message
    return caught.value


# --- Registration


def test_add_event() -> None:
    """A handler is found under its event, and is still the function that it was."""
    handlers = Handlers()
    assert handlers.add_event("say", on_say, concurrency=3) is on_say
    handler = handlers.events["say"]
    assert (handler.event, handler.function, handler.concurrency) == ("say", on_say, 3)
    assert handlers.any_event is None


def test_add_any_event() -> None:
    """The handler of everything else is apart, and takes the name first."""

    async def anything(socket, event: str, *payload): ...

    handlers = Handlers()
    handlers.add_event("*", anything)
    assert handlers.any_event is not None
    assert list(handlers.any_event.validate(["name", 1, [2]])) == ["name", 1, [2]]
    assert "*" not in handlers.events


def test_add_hooks_and_middleware() -> None:
    """Hooks have their places, and middleware is kept in order."""

    async def leave(socket, reason): ...
    async def fail(socket, event, error): ...
    async def other(socket): ...

    handlers = Handlers()
    assert handlers.add_hook("connect", nothing, "socket") is nothing
    handlers.add_hook("disconnect", leave, "socket", "reason")
    handlers.add_hook("error", fail, "socket", "event", "error")
    assert (handlers.connect, handlers.disconnect, handlers.error) == (nothing, leave, fail)
    assert handlers.add_middleware(other) is other
    handlers.add_middleware(nothing)
    assert handlers.middleware == [other, nothing]


class Callee:
    async def __call__(self, socket, value: int): ...

    async def method(self, socket, value: int): ...

    @staticmethod
    async def static(socket, value: int): ...


async def with_database(database, socket, value: int): ...


@pytest.mark.parametrize(
    "function",
    [
        Callee(),
        Callee().method,
        Callee.static,
        partial(with_database, object()),
        partial(partial(with_database), object()),
    ],
    ids=["object", "method", "static method", "partial", "partial of a partial"],
)
def test_add_callables(function: Callable[..., Any]) -> None:
    """Everything that is called like an async function can be a handler, and is validated."""
    assert validate(function, 5) == [5]
    assert_refused(function, "5", words="'value'")


# --- Misuse


def not_async(socket): ...


async def no_arguments(): ...


async def needs_more(socket, *, more): ...


async def generator(socket):
    yield


async def ghost(socket, value: "Ghost"): ...  # noqa: F821


async def custom(socket, value: Unknown): ...


async def custom_inside(socket, value: list[Unknown]): ...


async def number_or_text(socket, value: complex): ...


async def rest_custom(socket, *values: Unknown): ...


def event(function: Any, name: str = "say", **options: Any) -> Callable[[Handlers], None]:
    return lambda handlers: handlers.add_event(name, function, **options)


def hook(function: Any, name: str, *arguments: str) -> Callable[[Handlers], None]:
    return lambda handlers: handlers.add_hook(name, function, *arguments)


def middleware(function: Any) -> Callable[[Handlers], None]:
    return lambda handlers: handlers.add_middleware(function)


def both(first: Callable, second: Callable) -> Callable[[Handlers], None]:
    def act(handlers: Handlers) -> None:
        first(handlers)
        second(handlers)

    return act


ON = "@server.on('say')\nasync def "
MISUSE: dict[str, tuple[Callable[[Handlers], None], list[str]]] = {
    "not async": (
        event(not_async),
        ["not_async is not an async", f"{ON}not_async(socket, payload)"],
    ),
    "a generator": (event(generator), ["generator is not an async", ON]),
    "not callable": (event(7), ["int is not an async", ON]),
    "no socket": (event(no_arguments), ["no_arguments cannot be called with a socket", ON]),
    "a keyword without a default": (event(needs_more), ["needs_more", f"{ON}needs_more(socket"]),
    "any event, no name": (
        event(nothing, "*"),
        ["nothing", '@server.on("*")\nasync def nothing(socket, event, *payload)'],
    ),
    "an unknown annotation": (event(ghost), ["annotation of ghost", "'Ghost'", "module level"]),
    "an ordinary class": (event(custom), ["'value'", "Unknown", "attrs classes", "TypedDicts"]),
    "an ordinary class inside": (event(custom_inside), ["'value'", "Unknown", "attrs classes"]),
    "an ordinary class in *args": (event(rest_custom), ["'values'", "Unknown", "attrs classes"]),
    "a type without JSON": (event(number_or_text), ["'value'", "complex", "plain types"]),
    "twice": (both(event(two), event(on_say)), ["'say' has a handler already"]),
    "any event twice": (
        both(event(untyped, "*"), event(two, "*")),
        ["'*' has a handler already"],
    ),
    "no concurrency": (
        event(two, concurrency=0),
        ["@server.on('say', concurrency=N)", "1 or more"],
    ),
    "negative concurrency": (event(two, concurrency=-1), ["1 or more"]),
    "connect as an event": (
        event(nothing, "connect"),
        ["'connect'", "@server.on_connect", "@server.on_disconnect"],
    ),
    "disconnect as an event": (event(nothing, "disconnect"), ["@server.on_disconnect"]),
    "a hook that is not async": (
        hook(not_async, "connect", "socket"),
        ["not_async is not an async", "@server.on_connect\nasync def not_async(socket)"],
    ),
    "a hook with too few arguments": (
        hook(nothing, "disconnect", "socket", "reason"),
        ["nothing has the wrong", "@server.on_disconnect\nasync def nothing(socket, reason)"],
    ),
    "a hook with too many arguments": (
        hook(two, "connect", "socket"),
        ["two has the wrong", "@server.on_connect\nasync def two(socket)"],
    ),
    "a hook twice": (
        both(hook(nothing, "connect", "socket"), hook(nothing, "connect", "socket")),
        ["on_connect is registered already"],
    ),
    "middleware that is not async": (
        middleware(not_async),
        ["not_async is not an async", "@server.use\nasync def not_async(socket)"],
    ),
    "middleware without a socket": (
        middleware(no_arguments),
        ["no_arguments has the wrong", "@server.use\nasync def no_arguments(socket)"],
    ),
    "middleware with more": (middleware(two), ["two has the wrong", "@server.use"]),
}


@pytest.mark.parametrize(("act", "words"), MISUSE.values(), ids=MISUSE)
def test_misuse(act: Callable[[Handlers], None], words: list[str]) -> None:
    """What could never work is told when it is registered, with what would."""
    with pytest.raises(MisuseError) as caught:
        act(Handlers())
    for word in words:
        assert word in str(caught.value)


def test_misuse_changes_nothing() -> None:
    """After a failed registration everything is as it was."""
    handlers = Handlers()
    handlers.add_event("say", two)
    for act in (event(on_say), event(not_async, "other"), hook(not_async, "connect", "socket")):
        with pytest.raises(MisuseError):
            act(handlers)
    assert list(handlers.events) == ["say"]
    assert handlers.events["say"].function is two
    assert handlers.connect is None


# --- Validation: what is right

ACCEPTED: dict[str, tuple[Callable[..., Any], list[Any], list[Any]]] = {
    "nothing": (nothing, [], []),
    "untyped": (untyped, [{"a": [1]}, b"x"], [{"a": [1]}, b"x"]),
    "several": (two, [1, "x"], [1, "x"]),
    "attrs": (on_say, [{"room": "r", "text": "t"}], [Say("r", "t")]),
    "attrs with a default": (on_say, [{"room": "r"}], [Say("r", "")]),
    "attrs with more than it needs": (on_say, [{"room": "r", "more": 1}], [Say("r", "")]),
    "a dataclass": (taking(Move), [{"x": 1, "path": [1.5, 2]}], [Move(1, [1.5, 2.0])]),
    "a struct": (taking(Picture), [{"name": "n", "data": b"x"}], [Picture("n", b"x")]),
    "a TypedDict": (taking(Options), [{"loud": True}], [{"loud": True}]),
    "an integer for a float": (taking(float), [5], [5.0]),
    "a huge integer": (taking(int), [10**30], [10**30]),
    "null": (taking(int | None), [None], [None]),
    "a union": (taking(int | str), ["x"], ["x"]),
    "a literal": (taking(Literal["a", "b"]), ["b"], ["b"]),
    "a list": (taking(list[int]), [[1, 2]], [[1, 2]]),
    "a tuple": (taking(tuple[int, str]), [[1, "x"]], [(1, "x")]),
    "a dict": (taking(dict[str, int]), [{"a": 1}], [{"a": 1}]),
    "bytes": (taking(bytes), [b"x"], [b"x"]),
    "empty bytes": (taking(bytes), [b""], [b""]),
    "bytes inside": (taking(list[bytes]), [[b"x"]], [[b"x"]]),
    "bytes inside anything": (taking(dict[str, Any]), [{"a": b"x"}], [{"a": b"x"}]),
    "bytes inside an untyped dict": (taking(dict), [{"a": b"x"}], [{"a": b"x"}]),
    "bytes or null": (taking(bytes | None), [b"x"], [b"x"]),
    "object": (taking(object), [b"x"], [b"x"]),
    "a default left out": (optional, [1], [1]),
    "a default given": (optional, [1, "x"], [1, "x"]),
    "no rest": (rest, ["x"], ["x"]),
    "a rest": (rest, ["x", 1, 2, 3], ["x", 1, 2, 3]),
    "only a rest": (any_rest, [1, "x"], [1, "x"]),
}


@pytest.mark.parametrize(("function", "sent", "got"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepts(function: Callable[..., Any], sent: list[Any], got: list[Any]) -> None:
    """A payload that fits becomes what the annotations say."""
    result = validate(function, *sent)
    assert result == got
    assert [type(value) for value in result] == [type(value) for value in got]


# --- Validation: what is wrong. The words name the argument, and the path in it.

REFUSED: dict[str, tuple[Callable[..., Any], list[Any], str]] = {
    "a text for an int": (taking(int), ["5"], "'value': Expected `int`, got `str`"),
    "a float for an int": (taking(int), [5.5], "Expected `int`, got `float`"),
    "a whole float for an int": (taking(int), [5.0], "Expected `int`, got `float`"),
    "a bool for an int": (taking(int), [True], "Expected `int`, got `bool`"),
    "an int for a bool": (taking(bool), [1], "Expected `bool`, got `int`"),
    "a text for a bool": (taking(bool), ["true"], "Expected `bool`, got `str`"),
    "a text for a float": (taking(float), ["1.5"], "Expected `float`, got `str`"),
    "an int for a text": (taking(str), [5], "Expected `str`, got `int`"),
    "bytes for a text": (taking(str), [b"x"], "Expected `str`, got `bytes`"),
    "a text for bytes": (taking(bytes), ["aGk="], "Expected `bytes`, got `str`"),
    "a text for bytes inside": (taking(list[bytes]), [["aGk="]], "got `str` - at `$[0]`"),
    "a text for bytes in a struct": (
        taking(Picture),
        [{"name": "n", "data": "aGk="}],
        "Expected `bytes`, got `str` - at `$.data`",
    ),
    "a text for bytes or null": (taking(bytes | None), ["aGk="], "got `str`"),
    "null": (taking(int), [None], "got `null`"),
    "a missing field": (on_say, [{"text": "t"}], "'message': Object missing required field `room`"),
    "a wrong field": (on_say, [{"room": 7}], "Expected `str`, got `int` - at `$.room`"),
    "a list for an object": (on_say, [["r"]], "'message': Expected `object`, got `array`"),
    "a wrong item": (taking(Move), [{"x": 1, "path": [1, "2"]}], "at `$.path[1]`"),
    "a missing key": (taking(Options), [{"tag": "t"}], "missing required field `loud`"),
    "another literal": (taking(Literal["a"]), ["b"], "'value': Invalid enum value 'b'"),
    "the second argument": (two, [1, 2], "'second': Expected `str`"),
    "an argument with a default": (optional, [1, 2], "'second': Expected `str`"),
    "an argument of the rest": (rest, ["x", 1, "2"], "'more': Expected `int`"),
    "too few": (two, [1], "event 'e' takes 2 arguments, not 1"),
    "too many": (two, [1, "x", 3], "event 'e' takes 2 arguments, not 3"),
    "one for none": (nothing, [1], "takes 0 arguments, not 1"),
    "too few with a default": (optional, [], "takes 1 to 2 arguments, not 0"),
    "too many with a default": (optional, [1, "x", 3], "takes 1 to 2 arguments, not 3"),
    "too few with a rest": (rest, [], "takes at least 1 argument, not 0"),
    "too few untyped": (untyped, [1], "takes 2 arguments, not 1"),
}


@pytest.mark.parametrize(("function", "sent", "words"), REFUSED.values(), ids=REFUSED)
def test_refuses(function: Callable[..., Any], sent: list[Any], words: str) -> None:
    """A payload that does not fit is refused, nothing is made to fit, and the place is named."""
    assert_refused(function, *sent, words=words)


def test_refusal_details() -> None:
    """Programs find the argument, or the count, in the details."""
    refusal = assert_refused(two, 1, 2, words="'second'")
    assert refusal.details == {"argument": "second"}
    refusal = assert_refused(two, words="not 0")
    assert refusal.details == {"arguments": 0}


def test_validation_leaves_the_payload_alone() -> None:
    """Untyped values are handed on as they are, without a copy."""
    value = {"a": [1]}
    assert validate(untyped, value, value)[1] is value
