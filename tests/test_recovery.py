"""Clients that are lost and come back, in memory: what they get, and what programs are told."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.leftovers import assert_nothing_left, memories
from tests.test_session import ENDINGS, CancelAt, End
from trio_rt import (
    Anonymous,
    Authenticator,
    Disconnected,
    Handshake,
    MisuseError,
    Refuse,
    Server,
    User,
)
from trio_rt.codec.socketio import EVENT, encode_connect
from trio_rt.machine.membership import MAX_LEFT
from trio_rt.reasons import Reason
from trio_rt.testing import Client, Host, hosting, open_link
from trio_rt.testing.hosting import open_session
from trio_rt.transport.memory import memory_wire_pair

pytestmark = pytest.mark.usefixtures("errors")

WINDOW = 120.0
"""Seconds in which a client may come back, by default."""


class ByName(Authenticator):
    """Believes everybody who shows a name."""

    async def authenticate(self, handshake: Handshake) -> User:
        """Whoever it says it is."""
        return User(handshake.auth["user"], claims={"role": handshake.auth.get("role")})


ALICE = {"user": "alice"}
MALLORY = {"user": "mallory"}


def new_server(journal: list[Any] | None = None, **changes: Any) -> Server:
    """A server whose clients are in a room, join what they want, and are written about."""
    server = Server(auth=ByName(), **changes)
    register(server, [] if journal is None else journal)
    return server


def register(registry: Any, journal: list[Any]) -> None:
    """Registers all hooks, and two events to join and leave rooms."""

    @registry.on_connect
    async def connect(socket):
        journal.append(("connect", socket.id))
        await socket.join("room")

    @registry.on_recover
    async def recover(socket):
        assert socket.connected
        assert socket.recovered
        journal.append(("recover", socket.id))

    @registry.on_disconnect
    async def disconnect(socket, reason):
        journal.append(("disconnect", socket.id, reason.code))

    @registry.on_drop
    async def drop(socket, reason):
        journal.append(("drop", socket.id, reason.code))

    @registry.on_leave
    async def leave(socket, reason):
        journal.append(("leave", socket.id, reason.code))

    @registry.on("join")
    async def join(socket, room: str):
        await socket.join(room)

    @registry.on("leave")
    async def leave_room(socket, room: str):
        await socket.leave(room)


def the_socket(server: Server) -> Any:
    """The one socket that is connected to the namespace `/`."""
    (socket,) = server.all.namespace.sockets.values()
    return socket


async def vanish(*clients: Client) -> None:
    """Clients are gone without a word, and the server has noticed."""
    for client in clients:
        client.close()
    await wait_all_tasks_blocked()


async def come_back(
    host: Host, client: Client, namespace: str = "/", auth: dict[str, Any] = ALICE, **how: Any
) -> Client:
    """The same client on another connection; it gives itself out as `auth`."""
    return await host.connect(namespace, {**auth, **client.claim(namespace)}, **how)


def got(client: Client, namespace: str = "/") -> list[Any]:
    """All events of a namespace that have arrived, as name and arguments, without offsets."""
    packets = [packet for packet in client.rest() if packet.namespace == namespace]
    assert {packet.type for packet in packets} <= {EVENT}
    return [tuple(packet.data) for packet in packets]


def numbers(*values: int) -> list[Any]:
    """Events called `n` with these numbers."""
    return [("n", value) for value in values]


# What comes back


@pytest.mark.parametrize(
    ("act", "reason"), [end for end in ENDINGS if end.id not in ("server_is_cancelled",)]
)
async def test_every_ending(
    autojump_clock, errors: list[logging.LogRecord], act: End, reason: Reason
) -> None:
    """After every ending that lets a client come back it gets all that it missed; after others a
    new session."""
    journal: list[Any] = []
    server = new_server(
        journal, max_payload_bytes=4_000, history_events=2_000, recovery_bytes=10**7
    )
    async with open_link() as link, hosting(server) as host:
        client = await host.open((link.client, link.server))
        sid = await client.connect(auth=ALICE)
        await server.to("room").emit("n", 0)
        await wait_all_tasks_blocked()
        await act(host, client, link)
        await trio.sleep(50)
        await server.to("room").emit("n", 1)
        client.resume()
        await wait_all_tasks_blocked()
        before = [event for event in got_whatever(client) if event[0] == "n"]
        link.drop()
        await trio.sleep(50)
        again = await host.open()
        assert (await again.connect(auth={**ALICE, **client.claim()}) == sid) is reason.come_back
        after = [event for event in got(again) if event[0] == "n"]
        if reason.come_back:
            assert before + after == numbers(0, 1)
            assert [entry[0] for entry in journal] == ["connect", "disconnect", "drop", "recover"]
            assert journal[1][2] == journal[2][2] == reason.code
        else:
            assert after == []
            words = ["connect", "disconnect", "leave", "connect"]
            assert [entry[0] for entry in journal] == words
            assert journal[2] == ("leave", sid, reason.code)
    errors.clear()  # one of the endings is a crash


def got_whatever(client: Client) -> list[Any]:
    """As `got`, whatever else has come."""
    return [tuple(packet.data) for packet in client.rest() if packet.type == EVENT]


async def test_what_is_restored(autojump_clock) -> None:
    """The id, the rooms, the data and the user's new claims are there when on_recover runs."""
    server = Server(auth=ByName())
    seen: list[Any] = []

    @server.on_connect
    async def enter(socket):
        assert not socket.recovered
        socket.data["score"] = 7
        await socket.join("a", "b")

    @server.on_recover
    async def recover(socket):
        seen.append((socket.id, socket.rooms, socket.data, socket.user.claims["role"]))
        seen.append(dict(socket.handshake.auth))
        await socket.emit("welcome back")

    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        sid = the_socket(server).id
        await vanish(client)
        auth = {**ALICE, "role": "judge"}
        again = await come_back(host, client, auth=auth)
        assert seen == [(sid, {"a", "b"}, {"score": 7}, "judge"), auth]
        await server.to("a").emit("n", 1)
        await server.to(sid).emit("n", 2)
        await wait_all_tasks_blocked()
        assert got(again) == [("welcome back",), *numbers(1, 2)]


async def test_without_on_recover(autojump_clock) -> None:
    """A program without on_recover has its on_connect run again, with `recovered` true."""
    server = Server(auth=ByName())
    seen: list[bool] = []

    @server.on_connect
    async def enter(socket):
        seen.append(socket.recovered)

    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        await vanish(client)
        await come_back(host, client)
    assert seen == [False, True]


async def test_ten_times(autojump_clock) -> None:
    """Each return gives what was missed since the last one, with and without events between."""
    journal: list[Any] = []
    server = new_server(journal)
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        for at in range(10):
            await vanish(client)
            if at % 3:
                await server.to("room").emit("n", at)
            await trio.sleep(100)
            client = await come_back(host, client)
            assert client.recovered == {"/"}
            assert got(client) == (numbers(at) if at % 3 else [])
            if at % 2:
                await server.all.emit("n", 100 + at)
                await wait_all_tasks_blocked()
                assert got(client) == numbers(100 + at)
    kinds = [entry[0] for entry in journal]
    assert kinds == ["connect", *["disconnect", "drop", "recover"] * 10, "disconnect", "drop"]
    assert {entry[1] for entry in journal} == {journal[0][1]}


async def test_without_events(autojump_clock) -> None:
    """A session that never had an event is recovered, and what comes then is not lost."""
    server = new_server()
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        assert "offset" not in client.claim()
        await vanish(client)
        client = await come_back(host, client)
        await vanish(client)
        await server.to("room").emit("n", 1)
        client = await come_back(host, client)
        assert client.recovered == {"/"}
        assert got(client) == numbers(1)


async def test_long_silence(autojump_clock) -> None:
    """Hours in which a client hears nothing, while others talk, come and go, harm no session."""
    server = Server(auth=ByName())
    register(server, [])
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        other = await host.connect(auth=MALLORY)
        await client.call("leave", "room")
        await client.call("join", "quiet")
        for at in range(40):
            await other.call("join", f"room {at}")
            await server.to(f"room {at}").emit("n", at)
            await other.call("leave", f"room {at}")
            await trio.sleep(100)
        await vanish(client)
        await server.to("quiet").emit("n", 1)
        again = await come_back(host, client)
        assert again.recovered == {"/"}
        assert got(again) == numbers(1)


@pytest.mark.parametrize("kind", ["its own words", "words for others", "volatile words"])
async def test_long_talk_that_is_not_for_it(autojump_clock, kind: str) -> None:
    """A client that is not meant by any of thousands of events, over an hour, has missed none of
    them: it has answered pings that were sent behind them."""
    server = new_server()
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        socket = the_socket(server)
        for number in range(2_000):
            if kind == "its own words":
                await socket.to("room").emit("n", number)
            elif kind == "words for others":
                await server.to("other", "another").emit("n", number)
            else:
                await server.to("other").emit("n", number)
                await server.to("room").volatile.emit("v", number)
            await trio.sleep(2)
        client.rest()
        await vanish(client)
        await server.to("room").emit("n", 1)
        again = await come_back(host, client)
        assert again.recovered == {"/"}
        assert got(again) == numbers(1)


async def test_answered_pings_prove_nothing_that_came_behind(autojump_clock) -> None:
    """What was sent when a client had stopped reading, or still waited for it, is recovered."""
    server = new_server(ping_interval=1.0, ping_timeout=0.9)
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE, wires=memory_wire_pair(2_000))
        expected: list[Any] = []
        for number in range(20):
            await server.to("room").emit("n", number, "x" * 90)
            expected.append(("n", number, "x" * 90))
            await trio.sleep(0.3)
        events = got(client)
        client.pause()
        for number in range(20, 60):
            await server.to("room").emit("n", number, "x" * 90)
            expected.append(("n", number, "x" * 90))
            await trio.sleep(0.05)
        await trio.sleep(3)
        again = await come_back(host, client)
        assert again.recovered == {"/"}
        assert events + got(again) == expected


async def test_pings_that_our_client_has_not_come_to(autojump_clock) -> None:
    """Our own client answers pings while it does not read: they prove nothing."""
    server = new_server(ping_interval=1.0, ping_timeout=0.9)
    async with hosting(server) as host:
        client = await host.connect(auth={**ALICE, "rt": 1})
        await trio.sleep(0.1)
        client.pause()
        for number in range(5):
            await server.to("room").emit("n", number)
            await trio.sleep(1.0)
            await client.peer.send("3")
        await vanish(client)
        again = await come_back(host, client)
        assert again.recovered == {"/"}
        assert got(again) == numbers(0, 1, 2, 3, 4)


async def test_answered_pings_prove_nothing_that_was_missed(autojump_clock) -> None:
    """A ping that was answered on the way back, before what was missed was sent, proves nothing."""
    server = new_server(ping_interval=1.0, ping_timeout=0.9)

    @server.use
    async def slow(socket):
        await trio.sleep(1.5)

    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        await vanish(client)
        await server.to("room").emit("n", 1)
        again = await host.open()
        await again.send_packet(encode_connect("/", {**ALICE, **client.claim()}))
        await trio.sleep(1.2)
        assert len(again.pings) == 1
        again.pause()
        await trio.sleep(5)
        assert server.all.namespace.sockets == {}
        third = await come_back(host, client)
        assert third.recovered == {"/"}
        assert got(third) == numbers(1)


async def test_several_namespaces(autojump_clock) -> None:
    """Each namespace of a connection is recovered on its own, and what it missed with it."""
    journal: dict[str, list[Any]] = {"/": [], "/a": [], "/b": []}
    server = new_server(journal["/"])
    for name in ("/a", "/b"):
        register(server.namespace(name), journal[name])
    async with hosting(server) as host:
        client = await host.open()
        for name in journal:
            await client.connect(name, ALICE)
        await vanish(client)
        for number, name in enumerate(journal):
            await server.namespace(name).to("room").emit("n", number)  # type: ignore[attr-defined]
        again = await host.open()
        await again.connect("/", {**ALICE, **client.claim("/")})
        await again.connect("/b", {**ALICE, **client.claim("/b")})
        await again.connect("/a", {**ALICE, **client.claim("/b")})  # not what belongs there
        await wait_all_tasks_blocked()
        assert again.recovered == {"/", "/b"}
        events = [(p.namespace, *p.data) for p in again.rest()]
        assert events == [("/", "n", 0), ("/b", "n", 2)]


async def test_namespace_that_a_pattern_made(autojump_clock) -> None:
    """A namespace that ended with its last client begins again, and the client has missed nothing
    that was sent while it was gone."""
    server = Server(auth=ByName())
    journal: list[Any] = []
    register(server.namespace(lambda name: name.startswith("/game-")), journal)
    async with hosting(server) as host:
        client = await host.connect("/game-1", ALICE)
        kept = server.find_namespace("/game-1")
        assert kept is not None
        await vanish(client)
        await kept.to("room").emit("n", 1)
        client = await come_back(host, client, "/game-1")
        assert client.recovered == {"/game-1"}
        assert got(client, "/game-1") == numbers(1)
        await vanish(client)
        await trio.sleep(WINDOW + 2)
        assert [entry[0] for entry in journal][-1] == "leave"
    await assert_nothing_left(server)


# Who was meant


async def test_rooms_joined_and_left(autojump_clock) -> None:
    """A client gets what went to a room while it was in it, and not what came before or after."""
    server = new_server()
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        socket = the_socket(server)
        claim = client.claim()
        await server.to("late").emit("n", 1)
        await client.call("join", "late")
        await server.to("late").emit("n", 2)
        await client.call("leave", "late")
        await server.to("late").emit("n", 3)
        await client.call("join", "late")
        await server.to("late").emit("n", 4)
        await vanish(client)
        await server.to("late").emit("n", 5)
        await socket.leave("late")  # the program may still put it out of rooms
        await server.to("late").emit("n", 6)
        again = await host.connect(auth={**ALICE, **claim})  # as if nothing had arrived
        assert again.recovered == {"/"}
        assert got(again) == numbers(2, 4, 5)
        assert the_socket(server).rooms == {"room"}


@pytest.mark.parametrize(("count", "is_whole"), [(MAX_LEFT - 1, True), (MAX_LEFT + 1, False)])
async def test_many_rooms_left(autojump_clock, count: int, is_whole: bool) -> None:
    """Who may have missed something in a room that it left too long ago is not told a lie."""
    server = new_server()
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        socket, claim = the_socket(server), client.claim()
        for number in range(count):
            await socket.join("other")
            await server.to("other").emit("n", number)
            await socket.leave("other")
        await vanish(client)
        again = await host.connect(auth={**ALICE, **claim})
        assert again.recovered == ({"/"} if is_whole else set())
        assert got(again) == (numbers(*range(count)) if is_whole else [])


async def test_all_targets(autojump_clock) -> None:
    """Whatever it is sent by, an event for a client that is away waits for it, once, in order."""
    server = new_server()
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        other = await host.connect(auth=MALLORY)
        sid = next(iter(server.all.namespace.sockets))
        socket = server.all.namespace.sockets[sid]
        await client.call("join", "second")
        await vanish(client)
        await server.to("room").emit("n", 0)
        await server.to("room", "second").emit("n", 1)
        await server.all.emit("n", 2)
        await server.to(sid).emit("n", 3)
        await socket.emit("n", 4)
        await server.to(sid, "room").emit("n", 5)
        await server.all.except_("nobody").emit("n", 6)
        await server.to("other").emit("never", 1)
        await server.to("room").except_(sid).emit("never", 2)
        await server.to("room").except_("second").emit("never", 3)
        await server.all.except_("second").emit("never", 4)
        await socket.to("room").emit("never", 5)
        await server.to("room").volatile.emit("never", 6)
        server.all.emit_nowait("never", 7)
        assert socket.emit_nowait("never", 8) is False
        await server.to("room").emit("n", 7)
        again = await come_back(host, client)
        assert got(again) == numbers(*range(8))
        assert not [event for event in got(other) if event in numbers(3, 4)]


async def test_sender_left_out(autojump_clock) -> None:
    """What a client said to its room, without itself, is not told to it when it is back."""
    server = new_server()

    @server.on("say")
    async def say(socket, number: int):
        await socket.to("room").emit("n", number)

    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        claim = client.claim()
        other = await host.connect(auth=MALLORY)
        await client.call("say", 1)
        await other.call("say", 2)
        await vanish(client)
        await other.call("say", 3)
        again = await host.connect(auth={**ALICE, **claim})
        assert got(again) == numbers(2, 3)
        assert got(other) == numbers(1)


async def test_bytes(autojump_clock) -> None:
    """Binary events are recovered with their bytes, in order with others."""
    server = new_server()
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        await vanish(client)
        await server.to("room").emit("n", b"\0\xff", {"more": b"bytes"})
        await server.to("room").emit("n", "x")
        await server.to("room").emit("n", b"")
        again = await come_back(host, client)
        assert got(again) == [("n", b"\0\xff", {"more": b"bytes"}), ("n", "x"), ("n", b"")]
        await server.to("room").emit("n", b"live", "text")
        await vanish(again)
        await server.to("room").emit("n", b"again")
        third = await come_back(host, again)
        assert got(third) == [("n", b"live", "text"), ("n", b"again")]


# The offset


@pytest.mark.parametrize(
    ("event", "arguments"),
    [("bare", ()), ("text", ("words",)), ("several", (1, "words")), ("quoted", ('a"]',))],
)
async def test_volatile_with_a_text_at_the_end(
    autojump_clock, event: str, arguments: tuple[Any, ...]
) -> None:
    """What a client would take for an offset, though it is none, does not break its recovery."""
    server = new_server()
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        sends: list[Callable[[], Awaitable[Any]]] = [
            lambda: server.all.volatile.emit(event, *arguments),
            lambda: server.to("room").volatile.emit(event, *arguments),
            lambda: server.to("room").local.emit(event, *arguments),
            lambda: the_socket(server).volatile.emit(event, *arguments),
        ]
        for number, send in enumerate(sends):
            await server.to("room").emit("n", number)
            await send()
            await wait_all_tasks_blocked()
            assert got(client) == [("n", number), (event, *arguments)]
            await vanish(client)
            await server.to("room").emit("missed", number)
            client = await come_back(host, client)
            assert client.recovered == {"/"}
            assert got(client) == [("missed", number)]


async def test_volatile_without_a_text_at_the_end(autojump_clock) -> None:
    """Volatile events get no offset where nobody could take their end for one."""
    server = new_server()
    async with hosting(server) as host:
        client = await host.open()
        client.takes_offsets = False
        await client.connect(auth=ALICE)
        for tail in (1, None, {"a": "b"}, ["c"], b"bytes"):
            await server.all.volatile.emit("e", tail)
            await wait_all_tasks_blocked()
            assert got(client) == [("e", tail)]
        await server.all.volatile.emit("e", "text")
        await server.all.emit("e", 1)
        await wait_all_tasks_blocked()
        assert [len(event) for event in got(client)] == [3, 3]


@pytest.mark.parametrize("arguments", [(), ("text",), (1,)])
async def test_call_has_no_offset(autojump_clock, arguments: tuple[Any, ...]) -> None:
    """An event that asks for an acknowledgement carries no offset, and is not recovered."""
    server = new_server()
    async with hosting(server) as host, trio.open_nursery() as nursery:
        client = await host.connect(auth=ALICE)
        await server.all.emit("n", 1)
        claim_before = None
        for call in (the_socket(server).call, server.to("room").call):
            nursery.start_soon(call, "question", *arguments)
            await wait_all_tasks_blocked()
            *_, question = client.rest()
            assert question.data == ["question", *arguments]
            assert claim_before in (None, client.claim())
            claim_before = client.claim()
            await client.acknowledge(question, "answer")
            await wait_all_tasks_blocked()
        await vanish(client)
        again = await come_back(host, client)
        assert got(again) == []


async def test_offset_of_an_earlier_session(autojump_clock) -> None:
    """A client that kept the offset of a session before gets everything of the new one."""
    server = new_server()
    async with hosting(server) as host:
        first = await host.connect(auth=ALICE)
        await server.to("room").emit("n", 1)
        await wait_all_tasks_blocked()
        await first.leave()
        offset = first.claim()["offset"]
        await wait_all_tasks_blocked()
        await host.connect(auth=MALLORY)
        await server.to("room").emit("n", 2)
        await server.all.emit("n", 2)
        second = await host.connect(auth=ALICE)
        await vanish(second)
        await server.to("room").emit("n", 3)
        again = await host.connect(auth={**ALICE, **second.claim(), "offset": offset})
        assert again.recovered == {"/"}
        assert got(again) == numbers(3)


async def test_offset_of_the_future(autojump_clock) -> None:
    """An offset that was not reached yet, as from a server whose clock is ahead, hides no hole."""
    server = new_server()
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        await vanish(client)
        await server.to("room").emit("n", 1)
        again = await host.connect(auth={**ALICE, **client.claim(), "offset": "99999999999999-0"})
        assert again.recovered == set() or got(again) == numbers(1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(pid=json_values, offset=json_values, rt=json_values, has_pid=st.booleans())
def test_any_claim(pid: object, offset: object, rt: object, has_pid: bool) -> None:
    """Whatever a client shows to come back, it is connected, and nobody else is harmed."""

    async def show() -> None:
        server = new_server()
        async with hosting(server) as host:
            owner = await host.connect(auth=ALICE)
            real = owner.claim()["pid"]
            shown = {**ALICE, "pid": real if has_pid else pid, "offset": offset, "rt": rt}
            if has_pid:
                await vanish(owner)
            stranger = await host.open()
            stranger._offsets["/"] = "0-0"  # what it shows is not what it has
            await stranger.connect(auth=shown)
            assert stranger.recovered == set() or has_pid
            if not has_pid:
                await server.to("room").emit("n", 1)
                await wait_all_tasks_blocked()
                assert got(owner) == got(stranger) == numbers(1)

    trio.run(show, clock=MockClock(autojump_threshold=0))


# Too late, too much


async def test_too_late(autojump_clock) -> None:
    """When the window is over a client gets a new session, and on_leave has run once."""
    journal: list[Any] = []
    server = new_server(journal)
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        sid = the_socket(server).id
        await vanish(client)
        await trio.sleep(WINDOW - 1)
        assert [entry[0] for entry in journal] == ["connect", "disconnect", "drop"]
        await trio.sleep(2.5)
        assert journal[3:] == [("leave", sid, "transport close")]
        again = await come_back(host, client)
        assert again.recovered == set()
        assert the_socket(server).id != sid
        await trio.sleep(2 * WINDOW)
        assert [entry[0] for entry in journal[4:]] == ["connect"]


async def test_emit_to_one_that_is_gone_for_good(autojump_clock) -> None:
    """An event for a client that was away raises nothing; for one that has left it does."""
    server = new_server()
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        socket = the_socket(server)
        await vanish(client)
        await socket.emit("n", 1)
        await trio.sleep(WINDOW + 2)
        with pytest.raises(Disconnected):
            await socket.emit("n", 2)


@pytest.mark.parametrize(
    ("limits", "count", "size"),
    [
        pytest.param({"history_events": 10}, 11, 1, id="events"),
        pytest.param({"recovery_bytes": 10_000}, 11, 1_000, id="bytes of one"),
        pytest.param({"history_bytes": 10_000}, 11, 1_000, id="bytes of all"),
        pytest.param({"history_timeout": 5.0}, 7, 1, id="age"),
    ],
)
async def test_too_much(autojump_clock, limits: Any, count: int, size: int) -> None:
    """What cannot be given whole is told as a new session, and the old one has left."""
    journal: list[Any] = []
    server = new_server(journal, **limits)
    async with hosting(server) as host:
        clients = [await host.connect(auth=ALICE), await host.connect(auth=MALLORY)]
        await vanish(clients[0])
        for number in range(count):
            await server.to("room").emit("n", number, "x" * size)
            await trio.sleep(1)
        await vanish(clients[1])
        await server.to("room").emit("n", count, "x" * size)
        journal.clear()
        missed_much = await come_back(host, clients[0])
        missed_little = await come_back(host, clients[1], auth=MALLORY)
        assert (missed_much.recovered, missed_little.recovered) == (set(), {"/"})
        assert [entry[0] for entry in journal] == ["leave", "connect", "recover"]
        assert [event[1] for event in got(missed_little)] == [count]
        await server.to("room").emit("n", count + 1)
        await wait_all_tasks_blocked()
        assert got(missed_much) == got(missed_little) == numbers(count + 1)
        await trio.sleep(2 * WINDOW)
        assert [entry[0] for entry in journal] == ["leave", "connect", "recover"]


async def test_too_many_lost(autojump_clock) -> None:
    """When too many are lost, the oldest of them have left."""
    journal: list[Any] = []
    server = new_server(journal, max_lost_sessions=3)
    async with hosting(server) as host:
        clients = [await host.connect(auth=ALICE) for _ in range(5)]
        for client in clients:
            await vanish(client)
        await trio.sleep(2)
        assert [entry[0] for entry in journal].count("leave") == 2
        recovered = [(await come_back(host, client)).recovered for client in clients]
        assert recovered == [set(), set(), {"/"}, {"/"}, {"/"}]


# Off


async def test_off(autojump_clock) -> None:
    """With a window of 0 there is no private id, no offset and nothing kept; on_leave runs at
    once."""
    journal: list[Any] = []
    server = new_server(journal, recovery_window=0)
    async with hosting(server) as host:
        client = await host.open()
        await client.connect(auth=ALICE)
        with pytest.raises(KeyError):
            client.claim()
        socket = the_socket(server)
        await server.to("room").emit("n", 1)
        await socket.emit("n", "text")
        await server.all.volatile.emit("n", "text")
        await wait_all_tasks_blocked()
        assert got(client) == [("n", 1), ("n", "text"), ("n", "text")]
        await vanish(client)
        assert [entry[0] for entry in journal] == ["connect", "disconnect", "leave"]
        assert memories(server) == {}
        assert len(server.backplane._history) == 0  # type: ignore[attr-defined]
        with pytest.raises(Disconnected):
            await socket.emit("n", 2)


async def test_not_wanted(autojump_clock) -> None:
    """A client that asks for `?recovery=0` gets no private id and no offset; others do."""
    journal: list[Any] = []
    server = new_server(journal)
    async with hosting(server) as host:
        other = await host.connect(auth=MALLORY)
        client = await host.connect(auth=ALICE, query={"recovery": "0"})
        with pytest.raises(KeyError):
            client.claim()
        await server.to("room").emit("n", "text")
        await wait_all_tasks_blocked()
        assert got(client) == got(other) == [("n", "text")]
        assert "offset" in other.claim()
        await vanish(client)
        assert [entry[0] for entry in journal][2:] == ["disconnect", "leave"]


async def test_not_wanted_any_more(autojump_clock) -> None:
    """A client that shows a private id and asks for `?recovery=0` gets a new session."""
    server = new_server()
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        await vanish(client)
        await server.to("room").emit("n", 1)
        again = await come_back(host, client, query={"recovery": "0"})
        assert again.recovered == set()
        assert got(again) == []


# Whose it is


@pytest.mark.parametrize("is_lost", [True, False], ids=["lost", "connected"])
async def test_stolen(autojump_clock, caplog: Any, is_lost: bool) -> None:
    """Another user who shows a private id gets a new session, and its owner is not harmed."""
    journal: list[Any] = []
    server = new_server(journal)
    async with hosting(server) as host:
        owner = await host.connect(auth=ALICE)
        if is_lost:
            await vanish(owner)
        journal.clear()
        thief = await come_back(host, owner, auth=MALLORY)
        assert thief.recovered == set()
        await server.to(journal[0][1]).emit("n", 0)
        await server.to("room").emit("n", 1)
        if is_lost:
            owner = await come_back(host, owner)
            assert owner.recovered == {"/"}
        await wait_all_tasks_blocked()
        assert got(owner) == numbers(1)
        assert got(thief) == numbers(0, 1)
        assert [entry[0] for entry in journal] == ["connect", *(["recover"] * is_lost)]
        assert owner.claim()["pid"] not in caplog.text


async def test_wrong_secret(autojump_clock) -> None:
    """The public id is not enough: the whole private one has to be right."""
    server = new_server()
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        await vanish(client)
        pid = client.claim()["pid"]
        for wrong in (pid[:20], pid[:-1], pid + "x", pid[:-1] + "é", pid.swapcase()):
            other = await host.connect(auth={**ALICE, "pid": wrong})
            assert other.recovered == set()
            await other.aclose()
        assert (await come_back(host, client)).recovered == {"/"}


async def test_guests(autojump_clock) -> None:
    """A guest who comes back is the guest of before."""
    server = Server(auth=Anonymous())
    async with hosting(server) as host:
        client = await host.connect()
        before = the_socket(server).user
        await vanish(client)
        again = await come_back(host, client, auth={})
        assert again.recovered == {"/"}
        assert the_socket(server).user == before
        other = await host.connect()
        users = {socket.user.id for socket in server.all.namespace.sockets.values()}
        assert len(users) == 2
        assert not other.recovered


# Who may still say no


@pytest.mark.parametrize("how", ["refuses", "fails", "hangs"])
@pytest.mark.parametrize("is_live", [False, True], ids=["lost", "connected"])
async def test_refused_on_return(
    autojump_clock, errors: list[logging.LogRecord], how: str, is_live: bool
) -> None:
    """Who is refused when it comes back may come back later, within the window."""
    journal: list[Any] = []
    server = new_server(journal, auth_timeout=3.0)
    is_closed = False

    @server.use
    async def gate(socket):
        if is_closed and how == "hangs":
            await trio.sleep_forever()
        if is_closed:
            raise Refuse("not_now") if how == "refuses" else ValueError("a bug")

    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        sid = the_socket(server).id
        if not is_live:
            await vanish(client)
        is_closed = True
        for _ in range(2):
            with pytest.raises(Refuse):
                await come_back(host, client)
        await server.to("room").emit("n", 1)
        is_closed = False
        await trio.sleep(50)
        again = await come_back(host, client)
        assert again.recovered == {"/"}
        assert got(again) == numbers(1)
        assert [entry[0] for entry in journal] == ["connect", "disconnect", "drop", "recover"]
        assert {entry[1] for entry in journal} == {sid}
    errors.clear()


@pytest.mark.parametrize("is_let_in", [True, False])
async def test_window_ends_during_the_return(autojump_clock, is_let_in: bool) -> None:
    """Who comes back just in time is let in; if it is refused then, its time is over and it has
    left."""
    journal: list[Any] = []
    server = new_server(journal)
    is_slow = False

    @server.use
    async def gate(socket):
        if is_slow:
            await trio.sleep(5)
            if not is_let_in:
                raise Refuse("no")

    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        await vanish(client)
        is_slow = True
        await trio.sleep(WINDOW - 2)
        again = await host.open()
        await again.send_packet(encode_connect("/", {**ALICE, **client.claim()}))
        await trio.sleep(4)
        assert [entry[0] for entry in journal] == ["connect", "disconnect", "drop"]
        await trio.sleep(4)
        assert journal[-1][0] == ("recover" if is_let_in else "leave")
        assert len(journal) == 4
        if is_let_in:
            await trio.sleep(WINDOW)
            assert len(journal) == 4
            await vanish(again)
            await trio.sleep(WINDOW + 2)
        assert journal[-1][0] == "leave"
        assert "lost sessions" not in memories(server)
        assert not server.backplane._sessions  # type: ignore[attr-defined]


# Still connected, as we see it


async def test_back_before_the_loss_was_noticed(autojump_clock) -> None:
    """A client that is back while its old connection seems to live takes its session over: the old
    one is told first that it has ended."""
    journal: list[Any] = []
    server = new_server(journal)
    async with open_link() as link, hosting(server) as host:
        client = await host.connect(auth=ALICE, wires=(link.client, link.server))
        other = await host.connect(auth=MALLORY)
        journal.clear()
        link.stall()
        await server.to("room").emit("n", 1)
        await wait_all_tasks_blocked()
        again = await come_back(host, client)
        assert again.recovered == {"/"}
        await server.to("room").emit("n", 2)
        await wait_all_tasks_blocked()
        assert got(again) == got(other) == numbers(1, 2)
        assert [entry[0] for entry in journal] == ["disconnect", "drop", "recover"]
        assert journal[0][2] == "transport close"
        await trio.sleep(2)
        assert len(server.sessions) == 2
        assert {len(members) for members in server.all.namespace.rooms.values()} == {2}
        await trio.sleep(2 * WINDOW)
        assert len(journal) == 3
        await server.to("room").emit("n", 3)
        await wait_all_tasks_blocked()
        assert got(again) == numbers(3)


@pytest.mark.parametrize(("own", "is_in_time"), [(0.9, True), (1.1, False)])
async def test_slow_hooks_at_a_takeover(autojump_clock, own: float, is_in_time: bool) -> None:
    """What the hooks of the old connection take is not taken from the time that the new one has."""
    server = Server(auth=ByName(), auth_timeout=1.0, disconnect_timeout=1.6)

    @server.on_disconnect
    async def disconnect(socket, reason):
        await trio.sleep(1.5)

    @server.on_drop
    async def drop(socket, reason):
        await trio.sleep(1.5)

    @server.use
    async def look_up(socket):
        await trio.sleep(own if socket.handshake.auth.get("again") else 0)

    async with open_link() as link, hosting(server) as host:
        client = await host.connect(auth=ALICE, wires=(link.client, link.server))
        link.stall()
        began = trio.current_time()
        returning = {**ALICE, "again": True}
        if is_in_time:
            again = await come_back(host, client, auth=returning)
            assert again.recovered == {"/"}
            assert trio.current_time() - began == pytest.approx(3.0 + own)
        else:
            with pytest.raises(Refuse, match="took too long"):
                await come_back(host, client, auth=returning)


@pytest.mark.parametrize("is_live", [False, True], ids=["lost", "connected"])
@pytest.mark.parametrize(("seconds", "result"), [(1.0, "done"), (9.0, "cancelled")])
async def test_taken_over_while_a_handler_runs(
    autojump_clock, is_live: bool, seconds: float, result: str
) -> None:
    """A handler that runs when its client is back on another connection may finish what it does,
    within the same grace as after a loss, and its `Socket` reaches the client."""
    server = new_server()
    ended: list[str] = []

    @server.on("work")
    async def work(socket):
        try:
            await trio.sleep(seconds)
            await socket.emit("n", 1)
            ended.append("done")
        except trio.Cancelled:
            ended.append("cancelled")
            raise

    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        await client.emit("work")
        await wait_all_tasks_blocked()
        if not is_live:
            await vanish(client)
        again = await come_back(host, client)
        assert again.recovered == {"/"}
        await trio.sleep(6)
        assert ended == [result]
        assert got(again) == (numbers(1) if result == "done" else [])


async def test_old_socket_leaves_a_room(autojump_clock) -> None:
    """A program that puts a socket of before out of a room means the client that is back."""
    server = new_server()
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        old = the_socket(server)
        await vanish(client)
        again = await come_back(host, client)
        await old.leave("room")
        assert the_socket(server).rooms == set()
        await server.to("room").emit("n", 1)
        await wait_all_tasks_blocked()
        assert got(again) == []
        assert server.all.namespace.rooms == {}
        await vanish(again)
    await assert_nothing_left(server)


@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_back_while_it_comes_back(autojump_clock, pause: float) -> None:
    """When several connections show the same private id, one gets the session, the others end."""
    journal: list[Any] = []
    server = new_server(journal)

    @server.use
    async def slow(socket):
        await trio.sleep(0.1)

    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        await vanish(client)
        await server.to("room").emit("n", 1)
        rivals = [await host.open() for _ in range(3)]
        for rival in rivals:
            await rival.send_packet(encode_connect("/", {**ALICE, **client.claim()}))
            await trio.sleep(pause)
        await trio.sleep(2)
        await server.to("room").emit("n", 2)
        await wait_all_tasks_blocked()
        (winner,) = [rival for rival in rivals if not rival.has_ended]
        assert winner is rivals[-1] or not pause
        event, reply, *events = [packet.data for packet in winner.rest()]
        assert reply["pid"] == client.claim()["pid"]
        assert [event, *events] == [["n", 1], ["n", 2]]
        assert [rival.rest() for rival in rivals if rival is not winner] == [[], []]
        assert [entry[0] for entry in journal[3:]] == ["recover"]


# While it comes back


class Returns:
    """What a client got, and will show, whatever became of its attempts to come back."""

    def __init__(self, client: Client) -> None:
        self.claim = client.claim()
        self.events: list[Any] = []

    def note(self, client: Client) -> None:
        """Keeps what has arrived, and where it ended."""
        self.events += [tuple(p.data) for p in client.rest() if p.type == EVENT]
        offset = client._offsets.get("/")
        if offset is not None:
            self.claim["offset"] = offset


@pytest.mark.parametrize("first", range(5))
async def test_cancelled_anywhere_on_the_way_back(autojump_clock, first: int) -> None:
    """Wherever a return is cancelled, the next one still gets all that was missed, once."""
    count = first + 1
    while await return_cancelled_at(count):
        count += 5
    assert count > 10


async def return_cancelled_at(count: int) -> bool:
    """A return whose session is cancelled at one step. False if it was back before."""
    journal: list[Any] = []
    server = new_server(journal)

    @server.use
    async def slow(socket):
        await trio.sleep(0.01)

    scope = trio.CancelScope()
    instrument = CancelAt(count, scope)
    async with hosting(server) as host, trio.open_nursery() as nursery:
        first = await host.connect(auth=ALICE)
        sid = the_socket(server).id
        if count % 2:
            await vanish(first)  # else it is taken over
        await server.to("room").emit("n", 1)
        returns = Returns(first)
        if not count % 2:
            await wait_all_tasks_blocked()
            returns.note(first)
        ours, theirs = memory_wire_pair()
        session = open_session(server, theirs)

        @nursery.start_soon
        async def serve():
            instrument.top = trio.lowlevel.current_task()
            trio.lowlevel.add_instrument(instrument)
            with scope:
                await session.run()
            trio.lowlevel.remove_instrument(instrument)

        client = Client(ours)
        client._offsets.update({"/": returns.claim["offset"]} if "offset" in returns.claim else {})
        nursery.start_soon(client.run)
        await client.send_packet(encode_connect("/", {**ALICE, **returns.claim}))
        await trio.sleep(0.1)
        await server.to("room").emit("n", 2)
        await wait_all_tasks_blocked()
        returns.note(client)
        client.close()
        await trio.sleep(20)
        again = await host.connect(auth={**ALICE, **returns.claim})
        assert again.recovered == {"/"}
        assert the_socket(server).id == sid
        await server.to("room").emit("n", 3)
        await wait_all_tasks_blocked()
        assert [*returns.events, *got(again)] == numbers(1, 2, 3)
        recovers = [entry[0] for entry in journal].count("recover")
        assert recovers in (1, 2)
    await assert_nothing_left(server)
    return instrument.has_cancelled


async def test_more_than_the_outbox_holds(autojump_clock) -> None:
    """A client that reads slowly gets all that it missed, though it is more than may wait for it
    otherwise."""
    server = new_server(outbox_messages=10, outbox_bytes=10_000, history_events=500)
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        await vanish(client)
        for number in range(300):
            await server.to("room").emit("n", number, "x" * 1_000)
        again = await host.open(memory_wire_pair(2_000))
        again.pause()
        await again.send_packet(encode_connect("/", {**ALICE, **client.claim()}))
        await wait_all_tasks_blocked()
        for number in range(300, 305):
            await server.to("room").emit("n", number, "x" * 1_000)
        again.resume()
        await wait_all_tasks_blocked()
        events = [packet.data for packet in again.rest() if packet.type == EVENT]
        assert [event[1] for event in events] == [*range(305)]


async def test_slow_again_and_again(autojump_clock) -> None:
    """A client that is too slow for what is sent comes back until it has got it all, once."""
    server = new_server(outbox_messages=20, slow_timeout=0.01, max_rooms=5)
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE, wires=memory_wire_pair(500))
        events: list[Any] = []
        for number in range(200):
            if number % 50 == 10:
                client.pause()
            await server.to("room").emit("n", number)
            await wait_all_tasks_blocked()
            if number % 50 == 49:
                client.resume()
                await trio.sleep(2)
                assert client.has_ended
                events += [packet.data[1] for packet in client.rest()]
                client = await come_back(host, client, wires=memory_wire_pair(500))
                assert client.recovered == {"/"}
        await wait_all_tasks_blocked()
        assert events + [event[1] for event in got(client)] == [*range(200)]


# The server's own life


async def test_drained_and_back(autojump_clock) -> None:
    """Clients of a server that drains come back to it, if it goes on, with their sessions."""
    journal: list[Any] = []
    server = new_server(journal)
    async with hosting(server) as host:
        client = await host.connect(auth=ALICE)
        host.stop()
        await trio.sleep(5)
        assert client.has_ended
        await server.to("room").emit("n", 1)
        again = await come_back(host, client)
        assert again.recovered == {"/"}
        assert got(again) == numbers(1)
        assert journal[1][2] == "server shutting down"


@pytest.mark.parametrize("is_same", [True, False], ids=["same", "another"])
async def test_server_begins_anew(autojump_clock, is_same: bool) -> None:
    """A server that begins anew knows nobody: clients get new sessions, and nothing of before
    comes in between."""
    journal: list[Any] = []
    first = new_server(journal)
    async with hosting(first) as host:
        lost = await host.connect(auth=ALICE)
        await first.to("room").emit("n", 1)
        await wait_all_tasks_blocked()
        await vanish(lost)
        connected = await host.connect(auth=ALICE)
        socket = the_socket(first)
    assert [entry[0] for entry in journal].count("leave") == 0
    journal.clear()
    second = first if is_same else new_server(journal)
    async with hosting(second) as host:
        for client in (lost, connected):
            again = await come_back(host, client)
            assert again.recovered == set()
            await second.to("room").emit("n", 2)
            await wait_all_tasks_blocked()
            assert got(again) == numbers(2)
        if is_same:
            with pytest.raises(Disconnected):
                await socket.emit("n", 3)
        await trio.sleep(2 * WINDOW)
        assert [entry[0] for entry in journal] == ["connect", "connect"]


@pytest.mark.parametrize("seconds", [1.0, 100.0], ids=["slow", "hangs"])
async def test_slow_on_leave(
    autojump_clock, errors: list[logging.LogRecord], seconds: float
) -> None:
    """While on_leave takes its time for some, nobody is seen off before its time."""
    server = Server(auth=ByName())
    left: list[str] = []

    @server.on_leave
    async def leave(socket, reason):
        left.append(socket.id)
        await trio.sleep(seconds)

    async with hosting(server) as host:
        clients = [await host.connect(auth=ALICE) for _ in range(3)]
        await vanish(*clients)
        await trio.sleep(WINDOW + 0.5)
        assert len(left) == 1
        (position,) = [
            at for at, client in enumerate(clients) if client.claim()["pid"][:20] not in left
        ][-1:]
        last = clients[position]
        again = await come_back(host, last)  # late, but before we have looked
        await vanish(again)
        await trio.sleep(WINDOW - 10)
        assert last.claim()["pid"][:20] not in left
        again = await come_back(host, last)
        assert again.recovered == {"/"}
    errors.clear()


async def test_nobody_reads_for_another(autojump_clock) -> None:
    """A room cannot have the name of a socket: what is for that alone stays with it."""
    server = Server(auth=Anonymous())

    @server.on("join")
    async def join(socket, room: str) -> None:
        with pytest.raises(MisuseError):
            await socket.join(room)

    async with hosting(server) as host:
        victim, thief = await host.connect(), await host.connect()
        sid = next(iter(server.all.namespace.sockets))
        victim.close()
        await trio.sleep(1)
        await thief.call("join", sid)
        await server.to(sid).emit("secret")
        await thief.expect_nothing()


async def test_put_out_while_lost(autojump_clock) -> None:
    """Who is put out while it is away does not come back, and has left at once."""
    server = Server(auth=Anonymous())
    left: list[str] = []

    @server.on_leave
    async def leave(socket, reason) -> None:
        left.append(socket.id)

    async with hosting(server) as host:
        client = await host.connect()
        socket = next(iter(server.all.namespace.sockets.values()))
        client.close()
        await trio.sleep(1)
        await socket.disconnect()
        assert left == [socket.id]
        again = await host.connect(auth=client.claim())
        assert again.recovered == set()


async def test_put_out_by_its_old_socket(autojump_clock) -> None:
    """A handler that kept the socket of before puts out the client that came back."""
    server = Server(auth=Anonymous())
    async with hosting(server) as host:
        client = await host.connect()
        old = next(iter(server.all.namespace.sockets.values()))
        client.close()
        await trio.sleep(1)
        again = await host.connect(auth=client.claim())
        assert again.recovered == {"/"}
        await old.disconnect()
        await again.expect_put_out()
        assert not server.all.namespace.sockets
