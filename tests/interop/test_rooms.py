"""Broadcasts: who gets them, who does not, and who answers."""

import re

import pytest

from tests.interop.stage import Notes, Stage, new_server
from trio_rt import LimitError, Server

FOUR = """
    my.sockets = {};
    my.diaries = {};
    for (const [name, rooms] of Object.entries(members)) {
        const socket = await connected("/", { forceNew: true });
        await acked(socket, "join", name, rooms);
        my.sockets[name] = socket;
        my.diaries[name] = diary(socket);
    }
"""
MEMBERS = {"ann": ["red"], "bob": ["red", "blue"], "cat": ["blue"], "dan": []}

# Each socket gets its own acknowledgement after what was broadcast before.
DIARIES = """
    await Promise.all(Object.values(my.sockets).map((socket) => acked(socket, "sync")));
    return my.diaries;
"""
IDS = """
    const pairs = Object.entries(my.sockets).map(([name, socket]) => [name, socket.id]);
    return Object.fromEntries(pairs);
"""


def club() -> Server:
    """A server whose members join rooms as they ask for, and can be found by name."""
    server = new_server()

    @server.on("join")
    async def join(socket, name: str, rooms: list[str]) -> None:
        socket.data["name"] = name
        await socket.join(name, *rooms)

    @server.on("leave")
    async def leave(socket, room: str) -> None:
        await socket.leave(room)

    @server.on("sync")
    async def sync(socket) -> None:
        pass

    return server


def heard(diaries: dict[str, list[list[str]]], event: str) -> str:
    """The first letters of those who heard the event once; capital letters are doubles."""
    letters = ""
    for name, diary in diaries.items():
        if count := sum(entry[0] == event for entry in diary):
            letters += name[0] if count == 1 else name[0].upper()
    return letters


TARGETS = {
    "a room": (lambda server, bob: server.to("red"), "ab"),
    "two rooms": (lambda server, bob: server.to("red", "blue"), "abc"),
    "chained": (lambda server, bob: server.to("red").to("blue"), "abc"),
    "except a member": (lambda server, bob: server.to("red", "blue").except_("ann"), "bc"),
    "except a room": (lambda server, bob: server.to("red").except_("blue"), "a"),
    "everyone": (lambda server, bob: server.all, "abcd"),
    "everyone else": (lambda server, bob: server.all.except_("red"), "cd"),
    "a room of one": (lambda server, bob: server.to("dan"), "d"),
    "a socket's id": (lambda server, bob: server.to(bob.id), "b"),
    "an empty room": (lambda server, bob: server.to("nobody"), ""),
    "the others": (lambda server, bob: bob.to("red"), "a"),
    "some others": (lambda server, bob: bob.to("red", "blue").except_("cat"), "a"),
    "volatile": (lambda server, bob: server.to("red").volatile, "ab"),
    "local": (lambda server, bob: server.to("red").local, "ab"),
}


@pytest.mark.parametrize("nowait", [False, True], ids=["emit", "emit_nowait"])
async def test_targets(play: Stage, nowait: bool) -> None:
    """Each target reaches exactly its members, each once."""
    server = club()

    @server.on("tell")
    async def tell(socket):
        for event, (target, _) in TARGETS.items():
            if nowait:
                target(server, socket).emit_nowait(event)
            else:
                await target(server, socket).emit(event)

    js = await play(server)
    await js(FOUR, members=MEMBERS)
    await js("await acked(my.sockets.bob, 'tell')")
    diaries = await js(DIARIES)
    assert {event: heard(diaries, event) for event in TARGETS} == {
        event: letters for event, (_, letters) in TARGETS.items()
    }


async def test_targets_are_values(play: Stage) -> None:
    """A modified target is a new one: the one it came from stays as it was."""
    server = club()

    @server.on("tell")
    async def tell(socket):
        red = server.to("red")
        red.to("blue")
        red.except_("ann")
        red.volatile.timeout(1)
        await red.emit("room")

    js = await play(server)
    await js(FOUR, members=MEMBERS)
    await js("await acked(my.sockets.dan, 'tell')")
    assert heard(await js(DIARIES), "room") == "ab"


async def test_broadcast_payload(play: Stage) -> None:
    """A broadcast carries text and bytes alike to every member."""
    server = club()

    @server.on("tell")
    async def tell(socket, *payload):
        await server.all.emit("told", *payload)

    js = await play(server)
    payload = ["é☃", {"deep": [b"\0\1", {"more": b""}]}, None, 1.5]
    await js(FOUR, members=MEMBERS)
    await js("await acked(my.sockets.ann, 'tell', ...payload)", payload=payload)
    diaries = await js(DIARIES)
    assert diaries == {name: [["told", *payload]] for name in MEMBERS}


async def test_leave(play: Stage) -> None:
    """Who left a room hears nothing of it any more, and keeps the other rooms."""
    server = club()

    @server.on("tell")
    async def tell(socket):
        await server.to("red").emit("red")
        await server.to("blue").emit("blue")

    js = await play(server)
    await js(FOUR, members=MEMBERS)
    await js("await acked(my.sockets.bob, 'leave', 'red')")
    await js("await acked(my.sockets.bob, 'leave', 'never joined')")
    await js("await acked(my.sockets.dan, 'tell')")
    diaries = await js(DIARIES)
    assert (heard(diaries, "red"), heard(diaries, "blue")) == ("a", "bc")


async def test_rooms_of_a_socket(play: Stage) -> None:
    """A socket's rooms are those it joined and did not leave, however often it joined."""
    server = new_server()

    @server.on("rooms")
    async def rooms(socket):
        await socket.join("a", "b", "a")
        await socket.join("b")
        await socket.leave("a")
        return sorted(set(socket.rooms) - {socket.id})

    js = await play(server)
    assert await js("return (await connected()).emitWithAck('rooms')") == ["b"]


async def test_too_many_rooms(play: Stage) -> None:
    """A join beyond the limit fails as a whole and names the limit."""
    server = new_server(max_rooms=3)

    @server.on("rooms")
    async def rooms(socket):
        await socket.join("a", "b")
        with pytest.raises(LimitError, match="max_rooms"):
            await socket.join("c", "d", "e")
        return sorted(set(socket.rooms) - {socket.id})

    js = await play(server)
    assert await js("return (await connected()).emitWithAck('rooms')") == ["a", "b"]


async def test_gone_members(play: Stage) -> None:
    """A broadcast after a member left reaches the others, and the room does not remember it."""
    server = club()
    gone = Notes()

    @server.on_disconnect
    async def bye(socket, reason):
        gone.add(socket.data["name"])

    js = await play(server)
    await js(FOUR, members=MEMBERS)
    await js("""
        my.sockets.ann.disconnect();
        my.sockets.bob.io.reconnection(false);
        wire(my.sockets.bob).terminate();
    """)
    assert {await gone.next(), await gone.next()} == {"ann", "bob"}
    await server.all.emit("after")
    await server.to("red").emit("red after")
    await js("delete my.sockets.ann; delete my.sockets.bob;")
    diaries = await js(DIARIES)
    assert (heard(diaries, "after"), heard(diaries, "red after")) == ("cd", "")


async def test_namespaces_bound_broadcasts(play: Stage) -> None:
    """Neither everyone nor a room of one namespace reaches another, dynamic ones included."""
    server = new_server()
    games = server.namespace("/games")
    tables = server.namespace(re.compile(r"/table-\d"))
    for namespace in [server, games, tables]:

        @namespace.on_connect
        async def enter(socket):
            await socket.join("hall")

    @tables.on("tell")
    async def tell(socket):
        await socket.to("hall").emit("table")

    js = await play(server)
    await js("""
        my.sockets = {};
        for (const namespace of ["/", "/games", "/table-1", "/table-2"])
            my.sockets[namespace] = await connected(namespace);
        my.sockets.other = await connected("/table-1", { forceNew: true });
        my.diaries = Object.fromEntries(
            Object.entries(my.sockets).map(([name, socket]) => [name, diary(socket)]));
        my.sockets["/table-1"].emit("tell");
    """)
    await server.to("hall").emit("main")
    await games.all.emit("games")
    diaries = await js(DIARIES)
    told = {
        name: [event for event, *_ in diary if event != "error"] for name, diary in diaries.items()
    }
    assert told == {
        "/": ["main"],
        "/games": ["games"],
        "/table-1": [],
        "/table-2": [],
        "other": ["table"],
    }


async def test_acknowledged_broadcast(play: Stage) -> None:
    """A call on a room gathers each member's answer."""
    server = club()
    js = await play(server)
    await js(FOUR, members=MEMBERS)
    await js("""
        for (const [name, socket] of Object.entries(my.sockets))
            socket.on("ask", (number, answer) => answer(name, number));
    """)
    replies = await server.to("red", "blue").call("ask", 7, timeout=5)
    ids = await js(IDS)
    assert replies.answers == {ids[name]: (name, 7) for name in ["ann", "bob", "cat"]}
    assert replies.missing == frozenset()


async def test_acknowledged_broadcast_with_somebody_missing(play: Stage) -> None:
    """Who does not answer in time, or leaves, is named as missing; the answers are kept."""
    server = club()
    js = await play(server)
    await js(FOUR, members=MEMBERS)
    await js("""
        my.sockets.ann.on("ask", (answer) => answer("here"));
        my.sockets.cat.on("ask", () => my.sockets.cat.disconnect());
    """)
    ids = await js(IDS)
    replies = await server.to("red", "blue").call("ask", timeout=0.2)
    assert replies.answers == {ids["ann"]: "here"}
    assert replies.missing == {ids["bob"], ids["cat"]}


async def test_acknowledged_broadcast_to_nobody(play: Stage) -> None:
    """A call on an empty room returns at once."""
    server = new_server()
    await play(server)
    replies = await server.to("empty").call("ask", timeout=60)
    assert (replies.answers, replies.missing) == ({}, frozenset())


async def test_ack_after_broadcast(play: Stage) -> None:
    """An acknowledgement does not overtake what was broadcast before it."""
    server = club()

    @server.on("tell")
    async def tell(socket, number):
        await server.all.emit("told", number)
        return number

    js = await play(server)
    await js(FOUR, members=MEMBERS)
    assert await js("""
        const order = [];
        my.sockets.ann.on("told", (number) => order.push(`told ${number}`));
        await new Promise((resolve) => {
            for (const number of [1, 2, 3])
                my.sockets.ann.emit("tell", number, () => {
                    if (order.push(`acked ${number}`) === 6) resolve();
                });
        });
        return order;
    """) == ["told 1", "acked 1", "told 2", "acked 2", "told 3", "acked 3"]
