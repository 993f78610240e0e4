"""Events and their payloads, up and down."""

from typing import Any

import attrs
import pytest
import trio

from tests.interop.stage import Notes, Stage, new_server
from trio_rt import NO_ACK, MisuseError, Refuse

PAYLOADS = [
    pytest.param([], id="nothing"),
    pytest.param([None], id="null"),
    pytest.param([True, False], id="booleans"),
    pytest.param([0, -1, 2**53 - 1, -(2**53)], id="integers"),
    pytest.param([1.5, 1e308, 5e-324], id="floats"),
    pytest.param(["", "text"], id="strings"),
    pytest.param([[], [1, [2]], {}, {"a": {"b": []}}], id="containers"),
    pytest.param(["é ☃ \U0001f9d1\u200d\U0001f680", "\u2028\u2029", '\0\x1e"\\/'], id="unicode"),
    pytest.param(list(range(50)), id="many"),
    pytest.param(["x" * 100_000], id="100 KB"),
    pytest.param(["☃" * 100_000], id="300 KB of UTF-8"),
    pytest.param([{"_placeholder": False, "num": 0}], id="like a placeholder"),
    pytest.param(["42[]", "0", "2probe"], id="like packets"),
    pytest.param([b"", b"\0\xff", b"4"], id="bytes"),
    pytest.param([{"a": [b"1", {"b": b"22"}]}, "between", b"333"], id="nested bytes"),
    pytest.param([bytes(range(256)) * 1000], id="256 KB of bytes"),
]


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_payload_up_and_back(play: Stage, payload: list[Any]) -> None:
    """Whatever a client may send reaches the handler as it is, and returns as an ack alike."""
    server = new_server()
    seen = Notes()

    @server.on("echo")
    async def echo(socket, *arguments):
        seen.add(list(arguments))
        return arguments

    js = await play(server)
    answer = await js("return acked(await connected(), 'echo', ...payload)", payload=payload)
    assert await seen.next() == payload
    assert answer == payload


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_payload_down_and_back(play: Stage, payload: list[Any]) -> None:
    """Whatever a server may send reaches the client as it is, and returns as an ack alike."""
    server = new_server()
    answers = Notes()

    @server.on("go")
    async def go(socket):
        await socket.emit("told", *payload)
        answers.add(await socket.call("asked", *payload))

    js = await play(server)
    told = await js("""
        const socket = await connected();
        socket.on("asked", (...args) => args.at(-1)(...args.slice(0, -1)));
        const told = next(socket, "told");
        await acked(socket, "go");
        return told;
    """)
    assert told == payload
    shape = {0: None, 1: payload[0] if payload else None}.get(len(payload), tuple(payload))
    assert await answers.next() == shape


async def test_deep_nesting(play: Stage) -> None:
    """Fifty levels of lists and objects are nothing special."""
    server = new_server()

    @server.on("echo")
    async def echo(socket, value):
        return value

    value: Any = "core"
    for _ in range(25):
        value = {"down": [value]}
    js = await play(server)
    assert await js("return (await connected()).emitWithAck('echo', value)", value=value) == value


async def test_event_names(play: Stage) -> None:
    """An event may be called anything: with spaces, in any script, or nothing at all."""
    server = new_server()
    names = ["with space", "événement", "☃", "a:b/c,d", "", "__proto__", "toString"]
    for name in names:

        @server.on(name)
        async def handler(socket, name=name):
            return name

    js = await play(server)
    assert (
        await js(
            """
        const socket = await connected();
        return Promise.all(names.map((name) => socket.emitWithAck(name)));
        """,
            names=names,
        )
        == names
    )


async def test_order_of_a_thousand_events(play: Stage) -> None:
    """Events are handled in the order sent, and acknowledged in it."""
    server = new_server()
    seen = Notes()

    @server.on("count")
    async def count(socket, number):
        if number % 100 == 0:
            await trio.lowlevel.checkpoint()
        seen.add(number)
        return number

    js = await play(server)
    assert await js("""
        const socket = await connected();
        const acks = [];
        await new Promise((resolve) => {
            for (let number = 0; number < 1000; number++)
                socket.emit("count", number, (answer) => acks.push(answer) === 1000 && resolve());
        });
        return acks;
    """) == list(range(1000))
    assert seen.rest() == list(range(1000))


async def test_order_of_a_thousand_events_down(play: Stage) -> None:
    """Events reach the client in the order emitted, whether awaited or not."""
    server = new_server(outbox_messages=2_000)

    @server.on("go")
    async def go(socket):
        for number in range(1000):
            if number % 3:
                socket.emit_nowait("count", number)
            else:
                await socket.emit("count", number)

    js = await play(server)
    assert await js("""
        const socket = await connected();
        const seen = [];
        socket.on("count", (number) => seen.push(number));
        await acked(socket, "go");
        return seen;
    """) == list(range(1000))


async def test_handler_that_waits_for_its_own_client(play: Stage) -> None:
    """A handler may await its client's acknowledgement, with events queued behind it."""
    server = new_server()
    order = Notes()

    @server.on("outer")
    async def outer(socket):
        order.add("outer begins")
        order.add(await socket.call("question"))
        return "outer"

    @server.on("behind")
    async def behind(socket):
        order.add("behind")

    js = await play(server)
    assert await js("""
        const socket = await connected();
        socket.on("question", (answer) => answer("answer"));
        const outer = socket.emitWithAck("outer");
        const behind = socket.emitWithAck("behind");
        return [await outer, await behind];
    """) == ["outer", None]
    assert order.rest() == ["outer begins", "answer", "behind"]


async def test_one_event_at_a_time(play: Stage) -> None:
    """Handlers of one socket do not overlap; those of two sockets do."""
    server = new_server()
    running: dict[str, int] = {}
    most = Notes()
    both = trio.Event()

    @server.on("enter")
    async def enter(socket, meet):
        running[socket.id] = running.get(socket.id, 0) + 1
        most.add(max(running.values()))
        if len(running) == 2:
            both.set()
        if meet:
            await both.wait()
        await trio.lowlevel.checkpoint()
        running[socket.id] -= 1

    js = await play(server)
    await js("""
        const sockets = [await connected(), await connected("/", { forceNew: true })];
        await Promise.all(sockets.flatMap((socket) =>
            [true, false, false].map((meet) => acked(socket, "enter", meet))));
    """)
    assert set(most.rest()) == {1}


async def test_concurrency(play: Stage) -> None:
    """With concurrency=3 three handlers of one socket overlap, and never a fourth."""
    server = new_server()
    running = 0
    most = Notes()
    three = trio.Event()

    @server.on("work", concurrency=3)
    async def work(socket):
        nonlocal running
        running += 1
        most.add(running)
        if running == 3:
            three.set()
        await three.wait()
        await trio.lowlevel.checkpoint()
        running -= 1

    js = await play(server)
    await js("""
        const socket = await connected();
        await Promise.all(Array.from({ length: 9 }, () => acked(socket, "work")));
    """)
    assert max(most.rest()) == 3


@attrs.frozen
class Move:
    """A move in a game."""

    player: str
    to: tuple[int, int]


async def test_validated_payload(play: Stage) -> None:
    """An annotated payload arrives as a value of that type."""
    server = new_server()

    @server.on("move")
    async def move(socket, move: Move, fast: bool = False):
        assert isinstance(move, Move)
        return f"{move.player} to {move.to}{' fast' if fast else ''}"

    js = await play(server)
    assert await js("""
        const socket = await connected();
        const move = { player: "ann", to: [1, 2] };
        const slow = await socket.emitWithAck("move", move);
        return [slow, await socket.emitWithAck("move", move, true)];
    """) == ["ann to (1, 2)", "ann to (1, 2) fast"]


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        pytest.param([{"player": 5, "to": [1, 2]}], "player", id="wrong type"),
        pytest.param([{"player": "ann", "to": [1, "2"]}], "to[1]", id="no coercion"),
        pytest.param([{"player": "ann"}], "to", id="missing field"),
        pytest.param([], "", id="too few"),
        pytest.param([{"player": "ann", "to": [1, 2]}, "surplus"], "", id="too many"),
        pytest.param([None], "", id="null"),
    ],
)
async def test_invalid_payload(play: Stage, payload: list[Any], told: str) -> None:
    """An invalid payload is answered with its path, by an ack or by an `error` event."""
    server = new_server()
    calls = Notes()

    @server.on("move")
    async def handler(socket, move: Move):
        calls.add(move)

    js = await play(server)
    [acked], [emitted] = await js(
        """
        const socket = await connected();
        const answer = await acked(socket, "move", ...payload);
        const error = next(socket, "error");
        socket.emit("move", ...payload);
        return [answer, await error];
        """,
        payload=payload,
    )
    assert acked["error"]["code"] == emitted["error"]["code"] == "invalid"
    assert told in acked["error"]["message"]
    assert calls.rest() == []


async def test_refuse(play: Stage) -> None:
    """A handler's refusal is told by an ack or by an `error` event, and nothing else happens."""
    server = new_server()

    @server.on("sit")
    async def sit(socket, seat):
        raise Refuse("taken", "Seat 4 is taken.", details={"seat": seat})

    js = await play(server)
    refusal = {"error": {"code": "taken", "message": "Seat 4 is taken.", "details": {"seat": 4}}}
    assert await js("""
        const socket = await connected();
        const answer = await acked(socket, "sit", 4);
        const error = next(socket, "error");
        socket.emit("sit", 4);
        return [answer, await error, socket.connected];
    """) == [[refusal], [refusal], True]


async def test_failing_handler(play: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """A crash is told as an id that the log has too, never as its traceback, and is survived."""
    server = new_server()
    errors = Notes()

    @server.on("break")
    async def broken(socket):
        raise RuntimeError("the password is xyzzy")

    @server.on("ping me")
    async def ping(socket):
        return "pong"

    @server.on_error
    async def failed(socket, event, error):
        errors.add((event, str(error)))

    js = await play(server)
    [answer], [emitted], after = await js("""
        const socket = await connected();
        const answer = await acked(socket, "break");
        const error = next(socket, "error");
        socket.emit("break");
        return [answer, await error, await socket.emitWithAck("ping me")];
    """)
    assert after == "pong"
    assert answer["error"]["code"] == emitted["error"]["code"] == "internal"
    assert "xyzzy" not in str((answer, emitted))
    assert await errors.next() == ("break", "the password is xyzzy")
    logged = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(logged) == 2
    [incident] = answer["error"]["details"].values()
    assert incident in logged[0]


async def test_unknown_event(play: Stage) -> None:
    """An event without a handler is answered, by an ack or by an `error` event."""
    js = await play(new_server())
    [answer], [emitted] = await js("""
        const socket = await connected();
        const answer = await acked(socket, "nothing", 1);
        const error = next(socket, "error");
        socket.emit("nothing", 1);
        return [answer, await error];
    """)
    assert answer["error"]["code"] == emitted["error"]["code"] == "unknown_event"


async def test_catch_all(play: Stage) -> None:
    """The handler of "*" gets what has no handler of its own, with its name."""
    server = new_server()

    @server.on("known")
    async def known(socket):
        return "known"

    @server.on("*")
    async def rest(socket, event: str, *payload):
        return [event, *payload]

    js = await play(server)
    assert await js("""
        const socket = await connected();
        return [await socket.emitWithAck("known"), await socket.emitWithAck("other", 1, 2)];
    """) == ["known", ["other", 1, 2]]


@pytest.mark.parametrize(
    "name",
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"],
)
async def test_reserved_names(play: Stage, name: str) -> None:
    """A name that clients keep for themselves is not emitted."""
    server = new_server()
    refused = Notes()

    @server.on("go")
    async def go(socket):
        for emit in [socket.emit, server.all.emit]:
            with pytest.raises(MisuseError, match=name):
                await emit(name)
            refused.add(name)

    js = await play(server)
    await js("await acked(await connected(), 'go')")
    assert refused.rest() == [name, name]


async def test_nothing_acknowledged(play: Stage) -> None:
    """NO_ACK sends no acknowledgement; what is asked later is still answered."""
    server = new_server()

    @server.on("silent")
    async def silent(socket):
        return NO_ACK

    @server.on("loud")
    async def loud(socket):
        return "loud"

    js = await play(server)
    assert await js("""
        const socket = await connected();
        let answered = false;
        socket.emit("silent", () => { answered = true; });
        return [await socket.emitWithAck("loud"), answered];
    """) == ["loud", False]


async def test_event_named_by_a_number(play: Stage) -> None:
    """To JavaScript a number and its digits are one name; so they are to handlers."""
    server = new_server()

    @server.on("7")
    async def seven(socket, word: str) -> str:
        return word

    @server.on("*")
    async def other(socket, event, *payload):
        return event

    js = await play(server)
    assert await js("""
        const socket = await connected();
        return [await socket.emitWithAck(7, "a"), await socket.emitWithAck(8, "b")];
    """) == ["a", "8"]
