"""Two nodes on one Redis, or one cluster, are one server to their clients."""

import logging
from typing import Any

import pytest
import trio

from tests.backplane.redis.cluster import backplane_of, nodes
from tests.parts.valkey import Cluster, Valkey
from trio_rt.testing import Client, Host


@pytest.fixture(params=["server", "cluster"])
async def both(request: pytest.FixtureRequest):
    place: Valkey | Cluster = request.getfixturevalue(request.param)
    async with nodes(place.url) as hosts:
        yield hosts


async def come_back(claim: dict[str, str], host: Host) -> tuple[Client, bool]:
    """A client that was lost comes back on a node. Whether it is the same one."""
    back = await host.open()
    await back.connect(auth=claim)
    return back, back.claim()["pid"] == claim["pid"]


async def visit(host: Host, **options: Any) -> Client:
    """A new client that is in its room: `on_connect` has run."""
    client = await host.connect(**options)
    await client.call("kept", "")
    return client


async def texts(client: Client, count: int) -> list[str]:
    return [await client.expect("said") for _ in range(count)]


async def test_room(both: list[Host]) -> None:
    """An event for a room reaches its members on all nodes, in one order."""
    clients = [await visit(host) for host in both for _ in range(2)]
    async with trio.open_nursery() as nursery:

        async def speak(client: Client, name: str) -> None:
            for number in range(50):
                await client.call("say", f"{name}{number}")

        for index, client in enumerate(clients):
            nursery.start_soon(speak, client, "abcd"[index])
    heard = [await texts(client, 200) for client in clients]
    assert heard[0] == heard[1] == heard[2] == heard[3]
    for name in "abcd":
        assert [text for text in heard[0] if text[0] == name] == [f"{name}{n}" for n in range(50)]


async def test_acknowledgement_does_not_overtake(both: list[Host]) -> None:
    """Who speaks to its own room, or to itself, hears itself before the acknowledgement."""
    client = await visit(both[0])
    sid = client.claim()["pid"][:20]
    for number in range(50):
        id = await client.ask("say", str(number), "lobby" if number % 2 else sid)
        assert await client.expect("said") == str(number)
        await client.expect_acknowledgement(id)


async def test_everybody(both: list[Host]) -> None:
    """An event for everybody, or for several rooms, reaches each one once."""
    one, other = await visit(both[0]), await visit(both[1])
    await one.call("join", "a")
    await other.call("join", "b")
    await one.call("shout", "to all")
    await one.call("say", "to rooms", "a", "b", "lobby")
    for client in (one, other):
        assert await texts(client, 2) == ["to all", "to rooms"]
        await client.expect_nothing()


async def test_single_socket(both: list[Host]) -> None:
    """An event for one socket reaches it on whatever node it is, and nobody else."""
    one, other = await visit(both[0]), await visit(both[1])
    sid = other.claim()["pid"][:20]
    await one.call("say", "psst", sid)
    await other.call("say", "myself", sid)
    assert await texts(other, 2) == ["psst", "myself"]
    await one.expect_nothing()


async def test_socket_without_session(both: list[Host]) -> None:
    """A client that wants no recovery is reached by the id of its socket all the same."""
    one = await visit(both[0])
    other = await visit(both[1], query={"recovery": "0"})
    (sid,) = both[1].app.get_namespace("/").sockets
    await one.call("say", "psst", sid)
    assert await other.expect("said") == "psst"


async def test_left_room(both: list[Host]) -> None:
    """Who has left a room does not hear it any more, and who joins again does."""
    one, other = await visit(both[0]), await visit(both[1])
    await other.call("leave", "lobby")
    await one.call("say", "alone")
    await other.expect_nothing()
    await other.call("join", "lobby")
    await one.call("say", "together")
    assert await other.expect("said") == "together"


async def test_volatile(both: list[Host]) -> None:
    """A volatile event reaches all nodes, once."""
    one, other = await visit(both[0]), await visit(both[1])
    await one.call("whisper", "lobby", "psst")
    await one.call("whisper", other.claim()["pid"][:20], "you")
    await other.call("whisper", other.claim()["pid"][:20], "me")
    assert sorted(await texts(other, 3)) == ["me", "psst", "you"]
    assert await texts(one, 1) == ["psst"]
    await one.expect_nothing()


async def test_recover_elsewhere(both: list[Host]) -> None:
    """Who comes back on the other node gets what it missed of all kinds, in order, and its data."""
    one, other = await visit(both[0]), await visit(both[1])
    await one.call("join", "mine")
    await one.call("keep", "colour", "blue")
    await other.call("say", "seen")
    assert await one.expect("said") == "seen"
    sid = one.claim()["pid"][:20]
    claim = one.claim()
    one.close()
    for text, rooms in (("1", ["lobby"]), ("2", ["mine"]), ("3", [sid]), ("4", ["mine", "x"])):
        await other.call("say", text, *rooms)
    await other.call("shout", "5")
    back = await both[1].open()
    await back.connect(auth=claim)
    assert back.claim()["pid"] == claim["pid"]
    assert await texts(back, 5) == ["1", "2", "3", "4", "5"]
    assert await back.call("kept", "colour") == "blue"
    await other.call("say", "6", "mine")
    await other.call("say", "7", sid)
    assert await texts(back, 2) == ["6", "7"]
    await back.expect_nothing()


async def test_back_and_forth(both: list[Host]) -> None:
    """A client that comes back again and again, with nothing missed or something, stays itself."""
    client, other = await visit(both[0]), await visit(both[1])
    for number in range(10):
        claim = client.claim()
        client.close()
        if number % 2:
            await other.call("say", str(number))
        client, is_back = await come_back(claim, both[(number + 1) % 2])
        assert is_back
        if number % 2:
            assert await client.expect("said") == str(number)
    await other.call("say", "end")
    assert await client.expect("said") == "end"


async def test_back_while_still_connected(
    both: list[Host], caplog: pytest.LogCaptureFixture
) -> None:
    """A client whose old connection seems alive on another node comes back, and that one ends."""
    one = await visit(both[0])
    claim = one.claim()
    back = await both[1].open()
    with caplog.at_level(logging.INFO):
        await back.connect(auth=claim)
    assert "taken all the same" not in caplog.text
    assert back.claim()["pid"] == claim["pid"]
    assert not both[0].app.sessions or one.has_ended
    await back.call("say", "here")
    assert await back.expect("said") == "here"


async def test_only_one_gets_it(both: list[Host]) -> None:
    """Of two that show the same session at the same time, one gets it."""
    one = await visit(both[0])
    claim = one.claim()
    one.close()
    found: list[bool] = []

    async def try_it(host: Host) -> None:
        client = await host.open()
        await client.connect(auth=claim)
        found.append(client.claim()["pid"] == claim["pid"])

    for _ in range(5):
        found.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(try_it, both[0])
            nursery.start_soon(try_it, both[1])
        assert any(found)
        assert len(backplane_of(both[0]).nodes) == 2


async def test_somebody_elses(both: list[Host]) -> None:
    """A private id of another user's session opens nothing, on any node."""
    one = await visit(both[0], auth={"user": "alice"})
    claim = one.claim()
    for host in both:
        thief = await host.open()
        await thief.connect(auth={"user": "mallory", **claim})
        assert thief.claim()["pid"] != claim["pid"]
        guess = await host.open()
        await guess.connect(auth={"user": "alice", "pid": claim["pid"].swapcase()})
        assert guess.claim()["pid"] != claim["pid"]
