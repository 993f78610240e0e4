"""Namespaces that live on different primaries of a cluster are parts of one server."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import attrs
import pytest
import trio

from tests.backplane.redis.cluster import QUICK, backplane_of, new_node
from tests.backplane.redis.test_cluster_faults import slot_for, spread
from tests.backplane.redis.waiting import until
from tests.parts.valkey import Cluster, Valkey
from trio_rt import Server, Socket
from trio_rt.backplane.base import Lease
from trio_rt.backplane.leases import Held
from trio_rt.backplane.redis import RedisBackplane, RedisSettings
from trio_rt.backplane.redis.slots import slot_of
from trio_rt.codec.envelope import Envelope
from trio_rt.codec.socketio import Encoded
from trio_rt.errors import BackplaneRefused, MisuseError
from trio_rt.testing import Client, Host, hosting

NAMESPACES = spread(1)
"""One on each primary."""


def make_server(url: str) -> Server:
    """A server with three namespaces besides its own, all alike."""
    server = new_node(url, attrs.evolve(QUICK, reply_timeout=5.0))  # no link breaks here
    for name in NAMESPACES:
        namespace = server.namespace(name)

        @namespace.on_connect
        async def hello(socket: Socket) -> None:
            await socket.join("lobby")

        @namespace.on("say")
        async def say(socket: Socket, text: str, *rooms: str) -> int:
            await socket.namespace.to(*rooms or ("lobby",)).emit("said", text)
            return (await socket.namespace.to("lobby").count()).count

        @namespace.on("show")
        async def show(socket: Socket) -> None:
            await socket.join("shown", presence={"mood": "fine"})

        @namespace.on("hide")
        async def hide(socket: Socket) -> None:
            await socket.leave("shown")

        @namespace.on("shout")
        async def shout(socket: Socket, text: str) -> None:
            await socket.namespace.all.emit("said", text)

    return server


@pytest.fixture
async def both(cluster: Cluster):
    async with hosting(make_server(cluster.url)) as one, hosting(make_server(cluster.url)) as two:
        hosts = [one, two]
        await until(lambda: all(len(backplane_of(host).nodes) == 2 for host in hosts))
        yield hosts


async def visit(host: Host) -> Client:
    """A client that is in all namespaces, and in their lobbies."""
    client = await host.open()
    for name in NAMESPACES:
        await client.connect(name, {"user": "ann"})
        await client.call("say", "hello", "nobody", namespace=name)
    return client


async def said(client: Client, name: str, count: int) -> list[str]:
    """The next texts in a namespace."""
    return [await client.expect("said", namespace=name) for _ in range(count)]


def test_spread(cluster: Cluster) -> None:
    """The three namespaces of these tests are on three primaries."""
    assert len({cluster.owner(slot_for(name)).port for name in NAMESPACES}) == 3


async def test_rooms_and_counts(both: list[Host]) -> None:
    """Rooms, everybody and single sockets are reached in each namespace on both nodes; a question
    to all nodes counts them."""
    one, other = await visit(both[0]), await visit(both[1])
    for name in NAMESPACES:
        sid = other.claim(name)["pid"][:20]
        assert await one.call("say", f"{name} room", namespace=name) == 2
        await one.call("shout", f"{name} all", namespace=name)
        await one.call("say", f"{name} you", sid, namespace=name)
        assert await said(other, name, 3) == [f"{name} room", f"{name} all", f"{name} you"]
        assert await said(one, name, 2) == [f"{name} room", f"{name} all"]


async def test_recovery(both: list[Host]) -> None:
    """A client that was in all three comes back on the other node, and gets what it has missed in
    each of them, by an offset of each."""
    one, other = await visit(both[0]), await visit(both[1])
    for name in NAMESPACES:
        await other.call("say", "seen", namespace=name)
        assert await said(one, name, 1) == ["seen"]
    claims = {name: one.claim(name) for name in NAMESPACES}
    one.close()
    for name in NAMESPACES:
        await other.call("say", f"{name} missed", namespace=name)
        await other.call("say", f"{name} you", claims[name]["pid"][:20], namespace=name)
    back = await both[1].open()
    for name in NAMESPACES:
        await back.connect(name, {"user": "ann", **claims[name]})
        assert name in back.recovered
        assert await said(back, name, 2) == [f"{name} missed", f"{name} you"]


async def test_presence(both: list[Host]) -> None:
    """Who comes and goes is told in each namespace on the other node."""
    one, other = await visit(both[0]), await visit(both[1])
    for name in NAMESPACES:
        await one.call("show", namespace=name)
        await one.expect("presence_state", namespace=name)
        await other.call("show", namespace=name)
        _room, diff = await one.expect("presence_diff", namespace=name)
        assert diff["joins"]["ann"]["metas"][-1]["mood"] == "fine"
        await other.call("hide", namespace=name)
        _room, diff = await one.expect("presence_diff", namespace=name)
        assert list(diff["leaves"]) == ["ann"]


@asynccontextmanager
async def running(url: str, settings: RedisSettings = QUICK) -> AsyncGenerator[RedisBackplane]:
    """A node without an app."""
    plane = RedisBackplane.from_url(url, settings=settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(plane.run)
        await until(lambda: plane.is_ready)
        yield plane
        nursery.cancel_scope.cancel()


async def test_leases(cluster: Cluster) -> None:
    """A lease is one node's, and all nodes know whose."""
    async with running(cluster.url) as one, running(cluster.url) as other:
        lease = await one.acquire("room:a", 5.0)
        assert isinstance(lease, Lease)
        assert isinstance(await other.acquire("room:a", 5.0), Held)
        assert await one.save(lease, b"state")
        assert await other.load("room:a") == b"state"
        assert await other.holders("room:") == {"room:a": one.node}


async def test_readiness(cluster: Cluster) -> None:
    """A namespace that is new here does not make the node unready while its links are made."""
    async with running(cluster.url) as plane:
        for name in NAMESPACES:
            plane.begin_namespace(name)
            assert plane.is_ready
            await plane.publish(Envelope(name, (), (), Encoded(b'2["a"]')))
            assert plane.is_ready


async def test_no_readiness(cluster: Cluster) -> None:
    """A node that hears nothing of one of its namespaces any more is not ready, also if nobody has
    asked for that before; and it is as soon as it hears all of them."""
    async with running(cluster.url) as plane:
        for name in NAMESPACES:
            plane.begin_namespace(name)
            await plane.subscribe(name, "room")
        plane._partition(NAMESPACES[0]).subscriptions.reset("the test says so")
        assert not plane.is_ready
        await until(lambda: plane.is_ready)


async def test_new_namespace_while_it_gets_another_name(cluster: Cluster) -> None:
    """A namespace that is new on a node which is just taken for dead is heard as all others."""
    settings = attrs.evolve(QUICK, wait_timeout=3.0)
    async with running(cluster.url, settings) as plane:
        home, name = plane._home, plane.node
        listen_as = home.listen_as

        async def begin_and_listen(node: str) -> None:
            await listen_as(node)
            plane.begin_namespace(NAMESPACES[0])
            await until(lambda: plane._partition(NAMESPACES[0]).feed.is_whole)

        home.listen_as = begin_and_listen  # type: ignore[method-assign]
        cluster.owner(slot_of("{0}")).client.zrem("rt:{0}:nodes", name)
        await until(lambda: plane.node != name)
        await plane.subscribe(NAMESPACES[0], "room")
        await plane.publish(Envelope(NAMESPACES[0], ("room",), (), Encoded(b'2["a"]')))
        assert [event.rooms for event in plane.receive_nowait() if isinstance(event, Envelope)]


async def test_partitions_that_come_late(cluster: Cluster) -> None:
    """Partitions that come to a server while a link to it is made, or are not quite there yet when
    they are told of it, are told until they are."""
    plane = RedisBackplane.from_url(cluster.url, settings=QUICK)
    link: Any = plane._link
    enter, enter_moved = link._epochs.enter, link._epochs.enter_moved
    refused: list[set[str]] = []

    async def enter_none(stream: trio.abc.Stream) -> Any:
        server, _ = await enter(stream)
        return server, set[str]()

    async def enter_late(to: Any, server: Any, tags: set[str]) -> set[str]:
        if not refused:
            refused.append(tags)
            return set()
        return cast("set[str]", await enter_moved(to, server, tags))

    link._epochs.enter, link._epochs.enter_moved = enter_none, enter_late
    async with trio.open_nursery() as nursery:
        nursery.start_soon(plane.run)
        await until(lambda: plane.is_ready and refused)
        primaries = link._primaries.values()
        await until(lambda: all(link._tags_at(one.place) == one.dial.entered for one in primaries))
        nursery.cancel_scope.cancel()


async def test_keys_are_where_they_belong(cluster: Cluster) -> None:
    """All keys of a namespace are on one primary, and each primary has some."""
    async with running(cluster.url) as plane:
        for name in NAMESPACES:
            await plane.publish(Envelope(name, ("a",), (), Encoded(b'2["a"]')))
    for name in NAMESPACES:
        for server in cluster.primaries():
            found = [key for key in server.client.scan_iter() if b":h:%b:a" % name.encode() in key]
            assert len(found) == (server is cluster.owner(slot_for(name)))


async def test_commands(cluster: Cluster) -> None:
    """Commands of the program go where their keys are, whatever they look like."""
    async with running(cluster.url) as plane:
        redis = plane.redis
        for number in range(20):
            await redis.set(f"key {number}", number)
            assert await redis.get(f"key {number}") == b"%d" % number
        await redis.mset({"{a}1": 1, "{a}2": 2})
        assert await redis.mget("{a}1", "{a}2") == [b"1", b"2"]
        assert await redis.zadd("z", {"x": 1.0}) == 1
        assert await redis.zunionstore("{z}u", {"{z}u": 1, "z": 2}) == 1
        assert await redis.xadd("s", {"a": "b"})
        assert await redis.xgroup_create("s", "group")
        assert await redis.object("encoding", "z")
        script = redis.register_script("return redis.call('GET', KEYS[1])")
        assert [await script(keys=[f"key {number}"]) for number in range(6)] == [
            b"%d" % number for number in range(6)
        ]
        assert await redis.ping()
        with pytest.raises(MisuseError, match="'a' and 'b' are in different slots"):
            await redis.mget("a", "b")
        with pytest.raises(MisuseError, match="KEYS is about one server"):
            await redis.keys("*")
        with pytest.raises(MisuseError, match="a link of its own"):
            await redis.blpop(["a"], timeout=1)


RIGHTS = (
    *("-@all", "+@read", "+@write", "+@scripting", "+@pubsub", "+@connection", "-@dangerous"),
    *("+info", "+time", "+role", "+cluster|slots", "+cluster|myshardid", "~rt:*", "&rt:*"),
)
"""What a node needs."""


async def test_rights(cluster: Cluster) -> None:
    """A user with a password and no more rights than the documented ones is enough; one with a
    wrong password is refused at the start."""
    for server in cluster.servers:
        server.plain.execute_command("ACL SETUSER", "app", "reset", "on", ">secret", *RIGHTS)
    url = cluster.url.replace("://", "://app:secret@")
    name = NAMESPACES[0]
    async with running(url) as plane:
        await plane.subscribe(name, "room")
        await plane.publish(Envelope(name, ("room",), (), Encoded(b'2["a"]')))
        assert [event.rooms for event in plane.receive_nowait()] == [("room",)]  # type: ignore[union-attr]
        assert isinstance(await plane.acquire("lease", 5.0), Lease)
        assert await plane.claim("once") is None
        plane.release("once")
    plane = RedisBackplane.from_url(url.replace("secret", "wrong"), settings=QUICK)
    with pytest.RaisesGroup(
        pytest.RaisesExc(BackplaneRefused, match="does not let us in"), flatten_subgroups=True
    ):
        await plane.run()


async def test_no_cluster(server: Valkey) -> None:
    """A server that is in no cluster is refused at the start, with the reason."""
    url = f"redis+cluster://127.0.0.1:{server.port}"
    plane = RedisBackplane.from_url(url, settings=QUICK)
    with pytest.RaisesGroup(
        pytest.RaisesExc(BackplaneRefused, match="cluster support disabled"),
        flatten_subgroups=True,
    ):
        await plane.run()


async def test_first_seeds_are_dead(cluster: Cluster) -> None:
    """A cluster is found by any server of it that answers."""
    port = cluster.servers[5].port
    settings = attrs.evolve(QUICK, wait_timeout=5.0)
    plane = RedisBackplane.from_url(
        f"redis+cluster://127.0.0.1:1,127.0.0.1:{port}", settings=settings
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(plane.run)
        await until(lambda: plane.is_ready)
        nursery.cancel_scope.cancel()
