"""Rooms on two nodes that are joined by a real Valkey, in real time."""

from collections.abc import Iterator
from typing import Any

import pytest
import trio

from tests.backplane.redis.cluster import QUICK
from tests.backplane.redis.waiting import until
from tests.parts import valkey
from tests.rooms.tables import players
from tests.rooms.test_nodes import Shared
from tests.rooms.town import Node, serve
from trio_rt.backplane.redis import RedisBackplane

pytestmark = pytest.mark.usefixtures("errors")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Of a server that only these tests use."""
    with valkey.running() as server:
        yield server.url


async def begin(nursery: trio.Nursery, url: str, count: int = 2) -> list[Node]:
    """Nodes that know each other."""
    nodes: list[Any] = []
    for _ in range(count):
        backplane = RedisBackplane.from_url(url, settings=QUICK)
        nodes.append(await nursery.start(serve, backplane, [Shared], {}))
    for node in nodes:
        await until(lambda node=node: node.backplane.is_ready)
        await until(lambda node=node: len(node.backplane.nodes) == count)
    return nodes


async def test_two_nodes(url: str) -> None:
    """A room is used from another node, goes on there when its own stops, and ends for all."""
    async with trio.open_nursery() as nursery:
        one, two = await begin(nursery, url)
        alice, bob = await one.guest("alice"), await two.guest("bob")
        id = (await alice.call("room:create"))["room"]
        assert players(await bob.call("room:join", {"room": id})) == ["alice", "bob"]
        assert (await alice.hear("room:joined"))["player"]["id"] == "bob"
        assert await bob.call("add", 3) == (3, one.backplane.node)
        assert await alice.hear("sum") == 3
        assert await bob.hear("sum") == 3
        assert [entry["room"] for entry in (await bob.call("room:list"))["rooms"]] == [id]
        bob.client.close()
        assert (await alice.hear("room:dropped"))["player"] == "bob"
        bob = await two.back(bob)
        assert (await bob.hear("room:state"))["state"] == {}
        await trio.sleep(0.5)
        one.stop()
        await until(lambda: id in two.rooms.cells)
        assert await bob.call("add", 1) == (4, two.backplane.node)
        alice = await two.guest("alice")
        await alice.call("room:join", {"room": id})
        await two.rooms.close(id, "that is all")
        assert (await bob.hear("room:closed"))["text"] == "that is all"
        assert (await alice.hear("room:closed"))["text"] == "that is all"
        await until(lambda: not two.rooms.cells)
        assert await two.backplane.holders("room:") == {}
        two.stop()


async def test_kicked_on_another_node(url: str) -> None:
    """Who is kicked by a room on another node is told, and hears nothing more of it."""
    async with trio.open_nursery() as nursery:
        one, two = await begin(nursery, url)
        alice, bob = await one.guest("alice"), await two.guest("bob")
        id = (await alice.call("room:create"))["room"]
        await bob.call("room:join", {"room": id})
        await alice.call("room:kick", {"player": "bob"})
        assert (await bob.hear("room:left"))["reason"] == "kicked"
        await until(lambda: "^" + id not in two.server.namespace("/games").rooms)
        await alice.call("add", 1)
        await trio.sleep(0.2)
        assert "sum" not in bob.names()
        one.stop()
        two.stop()
