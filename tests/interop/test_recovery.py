"""The official client is lost and comes back: it gets everything once, in order, and knows it."""

from typing import Any

import pytest
import trio

from tests.interop.stage import Notes, Stage, new_server
from trio_rt import Authenticator, Handshake, Server, User

RATE = 500
"""Events in a second."""

SECONDS = 5.0
"""For how long they flow."""

WAYS = {
    "reset": "ws._socket?.resetAndDestroy()",
    "closed": "ws.close()",
    "silent": "ws._socket?.pause()",
    "bad packet": "if (ws.readyState === 1) ws.send('9')",
}
"""How a connection is lost; `ws` is its WebSocket."""


class ByName(Authenticator):
    """Believes everybody who shows a name."""

    async def authenticate(self, handshake: Handshake) -> User:
        """Whoever it says it is."""
        return User(handshake.auth["user"])


def server_with_a_room(**changes: Any) -> Server:
    """A server with everybody in one room, that soon notices who is silent."""
    server = new_server(ping_interval=0.3, ping_timeout=0.2, **changes)

    @server.on_connect
    async def enter(socket):
        await socket.join("room")

    return server


async def test_cut_again_and_again(play: Stage) -> None:
    """However often and in whatever way clients are cut while events flow, at any moment, none is
    lost, doubled or out of order, and each return is a recovered one."""
    server = server_with_a_room()
    js = await play(server)
    count = await js(
        f"""
        const ways = [
            {", ".join(f"(ws) => {{ {code}; }}" for code in WAYS.values())},
        ];
        my.players = ways.flatMap((cut, way) => [0, 1].map((copy) => {{
            const socket = open("/", {{ forceNew: true }});
            const player = {{ socket, numbers: [], returns: [], cuts: 0 }};
            socket.on("n", (number) => player.numbers.push(number));
            socket.on("connect", () => player.returns.push(socket.recovered));
            const again = () => {{
                const ws = socket.io.engine?.transport?.ws;
                if (ws && player.returns.length) {{ cut(ws); player.cuts++; }}
                const pause = way === 2 ? 700 : 40 + (player.cuts * 37 + copy * 50) % 120;
                player.timer = setTimeout(again, pause);
            }};
            player.timer = setTimeout(again, 200 + 50 * copy);
            return player;
        }}));
        await Promise.all(my.players.map(({{ socket }}) => next(socket, "connect")));
        return my.players.length;
        """
    )
    numbers = []
    start = trio.current_time()
    while trio.current_time() < start + SECONDS:
        for _ in range(RATE // 50):
            await server.to("room").emit("n", len(numbers))
            numbers.append(len(numbers))
        await trio.sleep(1 / 50)
    await js("my.players.forEach(({ timer }) => clearTimeout(timer))")
    await trio.sleep(1.5)
    await server.to("room").emit("n", len(numbers))
    numbers.append(len(numbers))
    players = await js(
        """
        while (my.players.some((player) => player.numbers.at(-1) !== last)) {
            await new Promise((resolve) => setTimeout(resolve, 20));
        }
        return my.players.map(({ numbers, returns, cuts }) => ({ numbers, returns, cuts }));
        """,
        last=numbers[-1],
    )
    assert len(players) == count
    for player in players:
        assert player["numbers"] == numbers
        first, *returns = player["returns"]
        assert first is False
        assert set(returns) == {True}
    assert sum(len(player["returns"]) for player in players) > 80


@pytest.mark.parametrize("way", WAYS)
async def test_ten_times_without_events(play: Stage, way: str) -> None:
    """A session that never had an event is recovered, the tenth time as well as the first."""
    server = server_with_a_room()
    js = await play(server)
    times = 2 if way == "silent" else 10
    ids, recovered = await js(f"""
        const socket = await connected();
        const ids = [socket.id], recovered = [];
        for (let time = 0; time < {times}; time++) {{
            const ws = wire(socket), connect = next(socket, "connect");
            {WAYS[way]};
            await connect;
            ids.push(socket.id);
            recovered.push(socket.recovered);
        }}
        return [ids, recovered];
    """)
    assert len({*ids}) == 1
    assert recovered == [True] * times


async def test_volatile_texts(play: Stage) -> None:
    """Volatile events with a text at their end, and bare ones, do not break recovery; nor do
    calls."""
    server = server_with_a_room()
    js = await play(server)
    await js("""
        const socket = my.socket = await connected();
        my.diary = diary(socket);
        socket.on("question", (answer) => answer("fine"));
        socket.on("text?", (text, answer) => answer(text));
    """)
    (socket,) = server.all.namespace.sockets.values()
    for number, disturb in enumerate(
        [
            lambda: server.all.volatile.emit("bare"),
            lambda: server.to("room").volatile.emit("say", "words"),
            lambda: server.all.local.emit("say", "words"),
            lambda: next(iter(server.all.namespace.sockets.values())).call("question"),
            lambda: next(iter(server.all.namespace.sockets.values())).call("text?", "words"),
        ]
    ):
        await server.to("room").emit("n", number)
        await disturb()
        await js(
            "await acked(my.socket, 'x');"
            "my.socket.io.reconnection(false);"
            "wire(my.socket).terminate();"
        )
        await socket.emit("missed", number)
        assert await js("""
            my.socket.io.reconnection(true);
            my.socket.connect();
            await next(my.socket, "connect");
            return my.socket.recovered;
        """)
    events = await js("return my.diary.filter(([name]) => name === 'n' || name === 'missed')")
    assert events == [[name, number] for number in range(5) for name in ("n", "missed")]


async def test_binary_and_namespaces(play: Stage) -> None:
    """Each namespace gets what it missed, binary events as well, before its `connect`."""
    server = server_with_a_room()
    server.namespace("/other")
    js = await play(server)
    sid = await js("""
        my.socket = await connected();
        my.other = await connected("/other");
        my.order = [];
        for (const [name, socket] of [["/", my.socket], ["/other", my.other]]) {
            socket.on("e", (value) => my.order.push([name, value]));
            socket.on("connect", () => my.order.push([name, socket.recovered]));
        }
        my.socket.io.reconnection(false);
        wire(my.socket).terminate();
        return my.other.id;
    """)
    other = server.namespace("/other")
    while server.sessions:  # noqa: ASYNC110  nothing else tells
        await trio.sleep(0.01)
    await server.to("room").emit("e", b"\0\1\2")
    await other.to(sid).emit("e", 1)  # type: ignore[attr-defined]
    await server.all.emit("e", "text")
    order = await js("""
        my.socket.io.reconnection(true);
        my.socket.connect();
        while (my.order.length < 5) await new Promise((resolve) => setTimeout(resolve, 10));
        return my.order;
    """)
    assert [value for name, value in order if name == "/"] == [b"\0\1\2", "text", True]
    assert [value for name, value in order if name == "/other"] == [1, True]


async def test_server_of_another_time(play: Stage) -> None:
    """A server that has begun anew does not know the session: the client is told, and goes on."""
    first = server_with_a_room()
    js = await play(first)
    port = first.port
    before = await js("my.socket = await connected(); return my.socket.id")
    await first.to("room").emit("n", 1)
    await play.stop(first)
    second = server_with_a_room()
    await play.serve(second, port)
    after, recovered = await js("""
        while (!my.socket.connected) await new Promise((resolve) => setTimeout(resolve, 10));
        return [my.socket.id, my.socket.recovered];
    """)
    assert before != after
    assert recovered is False


async def test_retries(play: Stage) -> None:
    """What the client sends with `retries` is handled once and in order, however often it is sent
    again because the connection was cut or the acknowledgement is late."""
    server = Server(auth=ByName(), disconnect_timeout=0.2)
    handled: list[int] = []
    arrived = Notes()
    count = 60

    @server.on("put", idempotent=lambda number: number)
    async def put(socket, number: int):
        arrived.add(number)
        handled.append(number)
        if number % 20 == 10:
            await trio.sleep(0.15)  # longer than the client waits
        return number

    js = await play(server)
    answers, sent = await js(f"""
        const socket = open("/", {{ retries: 100, ackTimeout: 100, auth: {{ user: "alice" }} }});
        let sent = 0;
        socket.onAnyOutgoing(() => sent++);
        const answers = [];
        let cuts = 0;
        const cut = () => {{
            const ws = socket.io.engine?.transport?.ws;
            if (ws && socket.connected) {{
                if (cuts++ % 2) ws._socket?.resetAndDestroy(); else ws.close();
            }}
            timer = setTimeout(cut, 30 + (cuts * 7) % 20);
        }};
        let timer = setTimeout(cut, 30);
        await Promise.all(Array.from({{ length: {count} }}, (_, number) =>
            new Promise((resolve) => socket.emit("put", number, (error, answer) => {{
                answers.push(error ? String(error) : answer);
                resolve();
            }}))));
        clearTimeout(timer);
        return [answers, sent];
    """)
    assert answers == [*range(count)]
    assert handled == [*range(count)]
    assert sent > count
