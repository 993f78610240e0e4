"""Presence over several nodes stays true, whatever was missed meanwhile."""

from contextlib import AsyncExitStack
from typing import Any

import trio

from tests.backplane.redis.cluster import backplane_of, new_node, nodes
from tests.backplane.redis.test_backplane import come_back
from tests.backplane.redis.waiting import until
from tests.parts.valkey import Valkey
from trio_rt.testing import Client, Host, hosting, open_proxy

ROOM = "shown"


async def visit(host: Host, user: str) -> Client:
    """Somebody who shows itself."""
    client = await host.connect(auth={"user": user})
    await client.call("show", ROOM, {"mood": "fine"})
    return client


def seen(host: Host) -> dict[str, int]:
    """Who is there, and with how many tabs, as a node with members knows it."""
    presence: Any = host.app.get_namespace("/").presence
    roster = presence._rosters.get(ROOM)
    return {} if roster is None else {key: len(metas) for key, metas in roster.state().items()}


def where(host: Host, user: str) -> list[str]:
    """The nodes on which a user is shown."""
    presence: Any = host.app.get_namespace("/").presence
    roster = presence._rosters.get(ROOM)
    return [ref.partition(":")[0] for ref in (roster.metas(user) if roster else ())]


async def all_see(hosts: list[Host], users: dict[str, int], within: float = 5.0) -> None:
    try:
        await until(lambda: all(seen(host) == users for host in hosts), within)
    except trio.TooSlowError as error:
        raise AssertionError(f"{list(map(seen, hosts))} and not {users}") from error


async def test_back_on_another_node(server: Valkey) -> None:
    """Who comes back on another node is there once, on all nodes, at all times."""
    async with nodes(server.url, 3, presence_grace=60.0) as hosts:
        for number, host in enumerate(hosts):
            await visit(host, f"u{number}")
        others = {"u0": 1, "u1": 1, "u2": 1}
        client = await visit(hosts[0], "ann")
        await all_see(hosts, {**others, "ann": 1})
        for host in (hosts[1], hosts[2], hosts[0]):
            claim = client.claim()
            client.close()
            client, is_same = await come_back({**claim, "user": "ann"}, host)
            assert is_same
            node = backplane_of(host).node
            await until(lambda: all(where(one, "ann") == [node] for one in hosts))  # noqa: B023
            await all_see(hosts, {**others, "ann": 1})
        await client.call("leave", ROOM)
        await all_see(hosts, others)


async def test_kept_anew(server: Valkey) -> None:
    """A node whose last member has left, and that has one again, is heard as before."""
    async with nodes(server.url) as hosts:
        here, there = hosts
        await visit(here, "ann")
        for _ in range(3):
            bob = await visit(there, "bob")
            await all_see(hosts, {"ann": 1, "bob": 1})
            await bob.call("leave", ROOM)
            await all_see([here], {"ann": 1})
            await until(lambda: seen(there) == {})


async def test_taken_for_dead(server: Valkey) -> None:
    """The members of a node that has another name now are there again."""
    async with nodes(server.url) as hosts:
        here, there = hosts
        await visit(here, "ann")
        await visit(there, "bob")
        await all_see(hosts, {"ann": 1, "bob": 1})
        name = backplane_of(here).node
        server.client.zrem("rt:{0}:nodes", name)
        await all_see([there], {"bob": 1}, within=10.0)
        await all_see(hosts, {"ann": 1, "bob": 1}, within=10.0)
        assert backplane_of(here).node != name


async def test_cut_off(server: Valkey) -> None:
    """A node whose link was dead learns who has left meanwhile, and tells who left on it."""
    async with open_proxy("127.0.0.1", server.port) as proxy, AsyncExitStack() as stack:
        urls = [server.url, f"redis://127.0.0.1:{proxy.port}"]
        hosts = [await stack.enter_async_context(hosting(new_node(url))) for url in urls]
        await until(lambda: all(len(backplane_of(host).nodes) == 2 for host in hosts))
        there = hosts[1]
        users = {f"{name}{number}": host for number, host in enumerate(hosts) for name in "abc"}
        clients = {user: await visit(host, user) for user, host in users.items()}
        await all_see(hosts, dict.fromkeys(users, 1))
        proxy.stall()
        for user in ("a0", "a1"):
            await clients[user].call("leave", ROOM)
        await until(lambda: not backplane_of(there).is_ready)
        for user in ("b0", "b1"):
            await clients[user].call("leave", ROOM)
        proxy.reset()
        proxy.resume()
        await all_see(hosts, {"c0": 1, "c1": 1}, within=10.0)


async def test_commands_were_cut_off(server: Valkey) -> None:
    """What a node could not tell while only its commands had no link is told later."""
    async with nodes(server.url) as hosts:
        here, there = hosts
        await visit(here, "ann")
        bob = await visit(there, "bob")
        await all_see(hosts, {"ann": 1, "bob": 1})
        outgoing: Any = backplane_of(there)._home.outgoing

        def drop(*_: Any) -> bool:  # as it does while there is no link
            outgoing.dropped += 1
            return False

        give, outgoing.give = outgoing.give, drop
        await bob.call("leave", ROOM)
        await until(lambda: outgoing.dropped)
        outgoing.give = give
        await all_see([here], {"ann": 1}, within=6.0)


async def test_node_without_the_room(server: Valkey) -> None:
    """A node that keeps a room no more, and says so when asked, has nobody there."""
    async with nodes(server.url) as hosts:
        here, there = hosts
        await visit(here, "ann")
        bob = await visit(there, "bob")
        await all_see(hosts, {"ann": 1, "bob": 1})
        presence: Any = there.app.get_namespace("/").presence
        del presence._rosters[ROOM]  # and its last word is lost
        bob.close()
        ours: Any = here.app.get_namespace("/").presence
        ours.rejoined()
        await all_see([here], {"ann": 1})


async def test_subscriptions_were_cut_off(server: Valkey) -> None:
    """What a node did not hear while only its subscriptions had no link is asked for."""
    async with nodes(server.url) as hosts:
        here, there = hosts
        await visit(here, "ann")
        bob = await visit(here, "bob")
        await visit(there, "cy")
        await all_see(hosts, {"ann": 1, "bob": 1, "cy": 1})
        plane: Any = backplane_of(there)
        home = plane._home
        take, home.take_message = home.take_message, lambda *_: None
        await bob.call("leave", ROOM)
        await all_see([here], {"ann": 1, "cy": 1})
        await trio.sleep(0.1)  # nobody tells that nothing came
        home.take_message = take
        home.subscriptions.reset("the test says so")
        await all_see(hosts, {"ann": 1, "cy": 1})
