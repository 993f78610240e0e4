"""Presence: who is in a room, told to its members and to the program."""

from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_rt import Anonymous, Authenticator, Handshake, MisuseError, PresenceDiff, Server, User
from trio_rt.testing import Client, Host, hosting


class ByName(Authenticator):
    """Believes what clients say."""

    async def authenticate(self, handshake: Handshake) -> User:
        return User(handshake.auth["name"])


def make_server(**changes: Any) -> Server:
    """A server where everybody is in the lobby."""
    server = Server(auth=ByName(), **changes)

    @server.on_connect
    async def enter(socket):
        await socket.join("lobby", presence={"mood": "fine"})

    @server.on("mood")
    async def mood(socket, mood: str):
        await socket.join("lobby", presence={"mood": mood})

    @server.on("go")
    async def go(socket):
        await socket.leave("lobby")

    return server


async def come(host: Host, name: str, **auth: Any) -> Client:
    """Somebody comes."""
    return await host.connect(auth={"name": name, **auth})


def metas(shown: dict[str, Any]) -> dict[str, list[Any]]:
    """Without the refs, of which each has its own."""
    refs = [meta.pop("ref") for user in shown.values() for meta in user["metas"]]
    assert len(set(refs)) == len(refs)
    return {name: user["metas"] for name, user in shown.items()}


async def expect_diff(client: Client, joins: Any, leaves: Any) -> None:
    """The next event is this difference."""
    room, body = await client.expect("presence_diff")
    assert room == "lobby"
    assert (metas(body["joins"]), metas(body["leaves"])) == (joins, leaves)


async def expect_state(client: Client, state: Any) -> None:
    """The next event is the whole state."""
    room, shown = await client.expect("presence_state")
    assert (room, metas(shown)) == ("lobby", state)


FINE = [{"mood": "fine"}]


async def test_state_and_diffs(autojump_clock) -> None:
    """Who is new gets the state, the others what changed, and nobody gets a thing twice."""
    async with hosting(make_server()) as host:
        ann = await come(host, "ann")
        await expect_state(ann, {"ann": FINE})
        bob = await come(host, "bob")
        await expect_diff(ann, {"bob": FINE}, {})
        await expect_state(bob, {"ann": FINE, "bob": FINE})
        await bob.call("mood", "sad")
        await expect_diff(ann, {"bob": [{"mood": "sad"}]}, {"bob": FINE})
        await expect_state(bob, {"ann": FINE, "bob": [{"mood": "sad"}]})
        await bob.call("go")
        await expect_diff(ann, {}, {"bob": [{"mood": "sad"}]})
        await bob.expect_nothing()
        await ann.expect_nothing()


async def test_tabs_are_one_user(autojump_clock) -> None:
    """Two sockets of one user are one user with two metas."""
    server = make_server()
    async with hosting(server) as host:
        tab = await come(host, "ann")
        await expect_state(tab, {"ann": FINE})
        other = await come(host, "ann")
        await expect_diff(tab, {"ann": FINE}, {})
        await expect_state(other, {"ann": FINE * 2})
        await other.leave()
        await expect_diff(tab, {}, {"ann": FINE})
        present = await server.to("lobby").presence()
        assert present.users == {"ann": ({"mood": "fine"},)}
        assert present.missing_nodes == frozenset()


async def test_wave_of_joins(autojump_clock) -> None:
    """A wave of joins is one event for each member."""
    async with hosting(make_server()) as host:
        ann = await come(host, "ann")
        await expect_state(ann, {"ann": FINE})
        for at in range(50):
            await come(host, f"user {at}")
        await expect_diff(ann, {f"user {at}": FINE for at in range(50)}, {})
        await ann.expect_nothing()


async def test_came_and_went(autojump_clock) -> None:
    """Who came and went within a moment was never seen."""
    async with hosting(make_server()) as host:
        ann = await come(host, "ann")
        await expect_state(ann, {"ann": FINE})
        bob = await come(host, "bob")
        await bob.leave()
        await ann.expect_nothing(1.0)


async def test_lost_and_back(autojump_clock) -> None:
    """Who is lost and back within the grace has never been away, and gets the state anew."""
    async with hosting(make_server(presence_grace=5.0)) as host:
        ann, bob = await come(host, "ann"), await come(host, "bob")
        await trio.sleep(1)
        ann.rest(), bob.rest()
        bob.close()
        await trio.sleep(4)
        back = await come(host, "bob", **bob.claim())
        assert back.recovered == {"/"}
        await expect_state(back, {"ann": FINE, "bob": FINE})
        await ann.expect_nothing(10)


async def test_lost_for_longer(autojump_clock) -> None:
    """Who is lost for longer leaves after the grace, and comes anew with what it showed."""
    async with hosting(make_server(presence_grace=5.0)) as host:
        ann, bob = await come(host, "ann"), await come(host, "bob")
        await trio.sleep(1)
        ann.rest()
        bob.close()
        await ann.expect_nothing(4.9)
        await expect_diff(ann, {}, {"bob": FINE})
        await trio.sleep(20)
        back = await come(host, "bob", **bob.claim())
        assert back.recovered == {"/"}
        await expect_diff(ann, {"bob": FINE}, {})


@pytest.mark.parametrize("grace", [0.0, 5.0])
async def test_put_out(autojump_clock, grace: float) -> None:
    """Who is put out, or leaves, leaves at once."""
    server = make_server(presence_grace=grace)
    async with hosting(server) as host:
        ann, _ = await come(host, "ann"), await come(host, "bob")
        await trio.sleep(1)
        ann.rest()
        start = trio.current_time()
        bob = next(s for s in server.all.namespace.sockets.values() if s.user.id == "bob")
        await bob.disconnect()
        await expect_diff(ann, {}, {"bob": FINE})
        assert trio.current_time() - start < 0.2


async def test_hook(autojump_clock) -> None:
    """The hook hears what changed since it was last run, and never twice at once."""
    server = make_server()
    heard: list[tuple[str, set[str], set[str]]] = []
    go_on = trio.Event()

    @server.on_presence("lob*")
    async def online(room, diff: PresenceDiff):
        heard.append((room.name, set(diff.arrived), set(diff.departed)))
        await go_on.wait()

    async with hosting(server) as host:
        await come(host, "ann")
        await trio.sleep(1)
        bob = await come(host, "bob")
        await come(host, "cid")
        await trio.sleep(1)
        await bob.leave()
        await trio.sleep(1)
        assert heard == [("lobby", {"ann"}, set())]
        go_on.set()
        await trio.sleep(1)
        assert heard[1:] == [("lobby", {"cid"}, set())]


async def test_failing_hook(autojump_clock, errors) -> None:
    """A hook that fails, or hangs, is logged, and hears the next change all the same."""
    server = make_server(disconnect_timeout=2.0)
    calls = 0

    @server.on_presence("lobby")
    async def online(room, diff):
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("a bug of the program's")
        await trio.sleep_forever()

    async with hosting(server) as host:
        for name in ("ann", "bob", "cid"):
            await come(host, name)
            await trio.sleep(5)
    texts = [errors.pop(0).getMessage() for _ in range(3)]
    assert "on_presence failed" in texts[0]
    assert all("was cancelled" in text for text in texts[1:])


async def test_nothing_is_left(autojump_clock) -> None:
    """When all have left, nothing is kept for a room."""
    server = make_server(presence_grace=1.0)
    async with hosting(server) as host:
        ann, bob = await come(host, "ann"), await come(host, "bob")
        await trio.sleep(1)
        assert len(server.all.namespace.presence) == 1
        ann.close()
        await bob.leave()
        await trio.sleep(2)
        assert len(server.all.namespace.presence) == 0
        await wait_all_tasks_blocked()


async def test_misuse(autojump_clock) -> None:
    """What is no presence, and whose presence cannot be told, is misuse."""
    server = Server(auth=Anonymous())

    @server.on_connect
    async def enter(socket):
        for wrong in ("text", ["list"], 1, {"ref": 1}):
            with pytest.raises(MisuseError):
                await socket.join("lobby", presence=wrong)
        await socket.join("lobby", presence=Shown("ann"))

    with pytest.raises(MisuseError):
        server.on_presence("lobby")(lambda room, diff: None)
    with pytest.raises(MisuseError):
        await server.to("a", "b").presence()
    with pytest.raises(MisuseError):
        await server.all.presence()
    async with hosting(server) as host:
        await host.connect()
        await trio.sleep(1)
        users = (await server.to("lobby").presence()).users
        assert [*users.values()] == [({"name": "ann"},)]
        assert (await server.to("nowhere").presence()).users == {}


@attrs.frozen
class Shown:
    name: str


@pytest.mark.parametrize("wrong", ["9" * 30, '"\\ud800"'])
async def test_cannot_be_told(autojump_clock, errors, wrong: str) -> None:
    """What a client shows of itself, and cannot be told to others, is refused to it alone."""
    server = Server(auth=ByName())

    @server.on("show")
    async def show(socket, value: Any):
        if type(value) is str:
            value = "\ud800"  # clients cannot send one, programs can
        await socket.join("lobby", presence={"value": value})

    async with hosting(server) as host:
        ann, bob = await come(host, "ann"), await come(host, "bob")
        await ann.peer.send(f'421["show",{wrong}]')
        assert (await ann.expect_acknowledgement(1))["error"]["code"] == "internal"
        await trio.sleep(1)
        await bob.call("show", 1)
        await expect_state(bob, {"bob": [{"value": 1}]})
    assert "show" in errors.pop().getMessage()
