"""What nodes share through Redis: leases, sessions, claims, limits and presence."""

import time
from collections.abc import AsyncGenerator

import pytest
import trio

from tests.backplane.redis.waiting import until
from tests.parts.valkey import Valkey
from trio_rt.backplane.leases import Held, Lease
from trio_rt.backplane.redis.dial import DirectDial
from trio_rt.backplane.redis.keys import Keys
from trio_rt.backplane.redis.leases import RedisLeases
from trio_rt.backplane.redis.limits import Counted, UserLimits
from trio_rt.backplane.redis.once import NEW, RUNNING, OnceStore
from trio_rt.backplane.redis.registry import Registry
from trio_rt.backplane.redis.sessions import Found, SessionStore
from trio_rt.backplane.redis.steady import SteadyLink

KEYS = Keys()


@pytest.fixture
async def link(dial: DirectDial) -> AsyncGenerator[SteadyLink]:
    link = SteadyLink(dial, "test")
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        yield link
        nursery.cancel_scope.cancel()


def make_past(server: Valkey, node: str) -> None:
    """A node's lease has ended just now."""
    server.client.zadd(KEYS.of("nodes"), {node: time.time() * 1000 - 1})


# The registry


async def test_beat(link: SteadyLink) -> None:
    """Nodes that beat know each other, and each knows until when it counts."""
    one, two = Registry(link, "one", lease=5.0), Registry(link, "two")
    began = trio.current_time()
    first = await one.beat()
    assert first is not None
    assert first.alive == {"one"}
    assert first.dead == frozenset()
    assert began + 5.0 <= first.until <= trio.current_time() + 5.0
    await two.beat()
    again = await one.beat()
    assert again is not None
    assert again.alive == {"one", "two"}


async def test_dead_node(link: SteadyLink, server: Valkey) -> None:
    """A node that did not beat in time is dead for the others, until it is forgotten."""
    one, two = Registry(link, "one"), Registry(link, "two")
    await one.beat()
    await two.beat()
    make_past(server, "two")
    beat = await one.beat()
    assert beat is not None
    assert beat.alive == {"one"}
    assert beat.dead == {"two"}
    server.client.zadd(KEYS.of("nodes"), {"two": time.time() * 1000 - 601_000})
    beat = await one.beat()
    assert beat is not None
    assert beat.dead == frozenset()


@pytest.mark.parametrize("how", ["late", "flushed"])
async def test_lost_node(link: SteadyLink, server: Valkey, how: str) -> None:
    """A node whose lease has ended is told so, and does not come back to life by itself."""
    one = Registry(link, "one")
    await one.beat()
    make_past(server, "one") if how == "late" else server.client.flushall()
    assert await one.beat() is None
    assert await one.beat() is None
    other = await Registry(link, "other").beat()
    assert other is not None
    assert other.alive == {"other"}


async def test_leaving_node(link: SteadyLink) -> None:
    """A node that leaves is neither alive nor dead."""
    one, two = Registry(link, "one"), Registry(link, "two")
    await two.beat()
    await two.leave()
    beat = await one.beat()
    assert beat is not None
    assert beat.alive == {"one"}
    assert beat.dead == frozenset()


# Leases


def taken(lease: Lease | Held) -> Lease:
    assert isinstance(lease, Lease)
    return lease


async def test_lease_of_one(link: SteadyLink) -> None:
    """One node at a time has a lease, may take it again, and the others learn who it is."""
    one, two = RedisLeases(link, "one"), RedisLeases(link, "two")
    lease = taken(await one.acquire("room", 5.0))
    assert taken(await one.acquire("room", 5.0)).token == lease.token
    held = await two.acquire("room", 5.0)
    assert isinstance(held, Held)
    assert held.node == "one"
    assert 4.0 < held.seconds <= 5.0
    assert await two.holders("ro") == {"room": "one"}
    assert await two.holders("other") == {}


async def test_lease_ends(link: SteadyLink, server: Valkey) -> None:
    """A lease that was not renewed is free, and its next holder has a greater token."""
    one, two = RedisLeases(link, "one"), RedisLeases(link, "two")
    lease = taken(await one.acquire("room", 0.05))
    await until(lambda: not server.client.exists(KEYS.of("l", "room")))
    assert await one.holders("") == {}
    assert await one.renew(lease, 5.0) is None
    later = taken(await two.acquire("room", 5.0))
    assert later.token > lease.token
    await one.give_back(lease)  # harmless
    assert await one.holders("") == {"room": "two"}


async def test_lease_renewed(link: SteadyLink, server: Valkey) -> None:
    """A renewed lease lasts longer, with the same token."""
    one = RedisLeases(link, "one")
    lease = taken(await one.acquire("room", 10.0))
    renewed = await one.renew(lease, 50.0)
    assert renewed is not None
    assert renewed.token == lease.token
    assert renewed.expires > lease.expires + 40
    assert server.client.pttl(KEYS.of("l", "room")) > 40_000


async def test_lease_given_back(link: SteadyLink) -> None:
    """A lease that was given back is free at once."""
    one, two = RedisLeases(link, "one"), RedisLeases(link, "two")
    lease = taken(await one.acquire("room", 5.0))
    await one.give_back(lease)
    assert await one.holders("") == {}
    assert taken(await two.acquire("room", 5.0)).token > lease.token


async def test_tokens_grow_over_a_flush(link: SteadyLink, server: Valkey) -> None:
    """Tokens grow even where the server has forgotten those before."""
    one = RedisLeases(link, "one")
    tokens = []
    for _ in range(3):
        tokens += [taken(await one.acquire(name, 5.0)).token for name in ("a", "b")]
        server.client.flushall()
        now = time.time()
        await until(lambda now=now: time.time() > now + 0.002)  # type: ignore[misc]
    assert tokens == sorted(set(tokens))


async def test_state_is_fenced(link: SteadyLink) -> None:
    """A holder who was asleep cannot write over what a later one wrote, nor before it does."""
    one, two = RedisLeases(link, "one"), RedisLeases(link, "two")
    old = taken(await one.acquire("room", 5.0))
    assert await one.save(old, b"\x00one")
    assert await two.load("room") == b"\x00one"
    await one.give_back(old)
    new = taken(await two.acquire("room", 5.0))
    assert not await one.save(old, b"late")
    assert not await one.save(old, None)
    assert await two.load("room") == b"\x00one"
    assert await two.save(new, None)
    assert await two.load("room") is None
    assert not await one.save(old, b"late")


async def test_no_litter(link: SteadyLink, server: Valkey) -> None:
    """Names without a state are forgotten after a time, those with one are not."""
    one = RedisLeases(link, "one")
    bare, kept = taken(await one.acquire("bare", 5.0)), taken(await one.acquire("kept", 5.0))
    await one.save(kept, b"state")
    assert server.client.ttl(KEYS.of("ls", "kept")) == -1
    assert server.client.ttl(KEYS.of("ls", "bare")) > 0
    await one.save(bare, b"state")
    await one.save(bare, None)
    assert server.client.ttl(KEYS.of("ls", "bare")) > 0


# Sessions


async def test_session_of_one_node(link: SteadyLink) -> None:
    """A session is taken when it is lost, by the first who asks, and then is that node's own."""
    one, two, three = (SessionStore(link, node) for node in ("one", "two", "three"))
    assert await one.find("sid") is None
    assert await one.save("sid", b"\x00a", 60.0)
    assert await two.take("sid", 60.0) is None
    assert await one.save("sid", b"b", 60.0, is_lost=True)
    assert await three.find("sid") == Found("one", True, b"b")
    results: list[bytes | None] = []

    async def take(store: SessionStore) -> None:
        results.append(await store.take("sid", 60.0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, two)
        nursery.start_soon(take, three)
    assert set(results) == {None, b"b"}
    assert not await one.save("sid", b"late", 60.0)
    assert not await one.end("sid")
    found = await one.find("sid")
    assert found is not None
    assert found.node in ("two", "three")
    assert not found.is_lost
    assert await SessionStore(link, found.node).end("sid")
    assert not await SessionStore(link, found.node).end("sid")


async def test_session_of_a_dead_node(link: SteadyLink) -> None:
    """A session whose node died without a word is taken by whoever knows that."""
    one, two = SessionStore(link, "one"), SessionStore(link, "two")
    await one.save("sid", b"a", 60.0)
    assert await two.take("sid", 60.0, dead=["other"]) is None
    assert await two.take("sid", 60.0, dead=["other", "one"]) == b"a"


async def test_session_is_forgotten(link: SteadyLink, server: Valkey) -> None:
    """A session lives as long as it was told, and longer if it is touched."""
    store = SessionStore(link, "one")
    await store.save("short", b"a", 0.05)
    await store.save("long", b"a", 10.0)
    await store.touch(["long"], 60.0)
    await until(lambda: not server.client.exists(KEYS.of("s", "short")))
    assert await store.find("short") is None
    assert await store.find("long") is not None


# What runs once


async def test_once(link: SteadyLink) -> None:
    """What is claimed runs once; the others wait for its result and get it."""
    store = OnceStore(link)
    first, second = store.ticket(), store.ticket()
    assert await store.claim("key", first) == NEW
    assert await store.claim("key", first) == NEW  # as after a reply that was lost
    assert await store.claim("key", second) == RUNNING
    assert not await store.settle("key", second, b"wrong")
    assert await store.settle("key", first, b"\x00result")
    assert await store.claim("key", second) == b"\x00result"


async def test_once_given_up(link: SteadyLink, server: Valkey) -> None:
    """What was given up, or whose node died, runs again."""
    store, brief = OnceStore(link), OnceStore(link, window=0.05)
    assert await store.claim("key", "first") == NEW
    assert not await store.release("key", "second")
    assert await store.release("key", "first")
    assert await brief.claim("key", "second") == NEW
    await until(lambda: not server.client.exists(KEYS.of("once", "key")))
    assert await store.claim("key", "third") == NEW
    assert not await store.settle("key", "second", b"late")


# Limits


async def test_rate(link: SteadyLink, server: Valkey) -> None:
    """A burst may happen at once, then one event after the other; each user has an own rate."""
    limits = UserLimits(link, "one")

    async def spend(user: str = "ann", rule: str = "say", cost: int = 1) -> float:
        return await limits.spend(user, rule, per_second=0.1, burst=3, cost=cost)

    assert [await spend() for _ in range(3)] == [0, 0, 0]
    wait = await spend()
    assert 5 < wait <= 10
    assert await spend("ben") == 0
    assert await spend(rule="other") == 0
    server.client.decrby(KEYS.of_user("ann", "rl", "say"), round(wait * 1_000_000))  # it passes
    assert await spend() == 0
    assert await spend() > 0
    assert await spend("carl", cost=3) == 0
    assert 15 < await spend("carl", cost=2) <= 20


async def test_rate_is_forgotten(link: SteadyLink, server: Valkey) -> None:
    """A rate that is not used leaves nothing behind."""
    await UserLimits(link, "one").spend("ann", "say", per_second=100, burst=3)
    await until(lambda: server.client.dbsize() == 0)


async def test_connections(link: SteadyLink, server: Valkey) -> None:
    """A user's connections count over all nodes, and those of a dead node only for a time."""
    one, two = UserLimits(link, "one"), UserLimits(link, "two")
    assert await one.count("ann", 2, at_most=3, seconds=60) == Counted(True, 2)
    assert await two.count("ann", 1, at_most=3, seconds=60) == Counted(True, 3)
    assert await one.count("ann", 1, at_most=3, seconds=60) == Counted(False, 3)
    assert await one.count("ben", 1, at_most=3, seconds=60) == Counted(True, 1)
    server.client.hset(KEYS.of_user("ann", "cn"), "two", "1:1")  # which ended long ago
    assert await one.count("ann", 1, at_most=3, seconds=60) == Counted(True, 3)
    assert await one.count("ann", -2, at_most=1, seconds=60) == Counted(True, 1)
    assert await one.count("ann", 0, at_most=1, seconds=60) == Counted(True, 1)
    assert await one.count("ann", -5, at_most=1, seconds=60) == Counted(True, 0)
    assert server.client.hgetall(KEYS.of_user("ann", "cn")) == {}
