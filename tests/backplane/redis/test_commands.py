"""redis-py's typed commands give on a link what redis-py's own client gives."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
from redis.exceptions import DataError, ResponseError, WatchError

from tests.parts.valkey import Valkey
from trio_rt.backplane.redis.commands import RedisCommands
from trio_rt.backplane.redis.dial import DirectDial
from trio_rt.backplane.redis.link import open_link
from trio_rt.errors import MisuseError


@pytest.fixture
async def commands(dial: DirectDial) -> AsyncGenerator[RedisCommands]:
    async with open_link(dial, "test") as link:
        yield RedisCommands(link)


CALLS: list[Callable[[Any], Any]] = [
    lambda c: c.set("a", "1"),
    lambda c: c.set("a", "2", nx=True),
    lambda c: c.set("a", "2", xx=True, get=True),
    lambda c: c.get("a"),
    lambda c: c.get("nothing"),
    lambda c: c.mget("a", "nothing"),
    lambda c: c.incrbyfloat("f", 1.5),
    lambda c: c.expire("a", 100),
    lambda c: c.ttl("a"),
    lambda c: c.exists("a", "nothing"),
    lambda c: c.hset("h", mapping={"x": 1, "y": 2}),
    lambda c: c.hgetall("h"),
    lambda c: c.hmget("h", "x", "nothing"),
    lambda c: c.hscan("h"),
    lambda c: c.sadd("s", "m"),
    lambda c: c.smembers("s"),
    lambda c: c.zadd("z", {"m": 1.5, "n": 2}),
    lambda c: c.zrange("z", 0, -1, withscores=True),
    lambda c: c.zscore("z", "m"),
    lambda c: c.zpopmin("z"),
    lambda c: c.rpush("l", 1, 2, 3),
    lambda c: c.lrange("l", 0, -1),
    lambda c: c.xadd("x", {"f": "v"}, id="1-1"),
    lambda c: c.xrange("x"),
    lambda c: c.xread({"x": 0}),
    lambda c: c.xinfo_stream("x"),
    lambda c: c.geoadd("g", (13.4, 52.5, "berlin")),
    lambda c: c.geopos("g", "berlin"),
    lambda c: c.eval("return {KEYS[1], ARGV[1], 3}", 1, "k", "v"),
    lambda c: c.publish("ch", "x"),
    lambda c: c.pubsub_numsub("ch"),
    lambda c: c.client_getname(),
    lambda c: c.config_get("maxmemory-policy"),
    lambda c: c.object("encoding", "a"),
    lambda c: c.command_count(),
    lambda c: c.scan(count=1000),
    lambda c: c.type("a"),
    lambda c: c.delete("a", "h"),
    lambda c: c.dbsize(),
    lambda c: c.role(),
    lambda c: c.ping(),
]


async def test_same_as_redis_py(commands: RedisCommands, server: Valkey) -> None:
    """Each command returns the very value that redis-py's client returns for the same data."""
    server.client.client_setname("test")
    expected = [call(server.client) for call in CALLS]
    server.client.flushall()
    got = [await call(commands) for call in CALLS]
    for index, (ours, theirs) in enumerate(zip(got, expected, strict=True)):
        if isinstance(theirs, tuple) and isinstance(theirs[-1], list):  # SCAN has no order
            ours, theirs = sorted(ours[-1]), sorted(theirs[-1])  # noqa: PLW2901
        assert ours == theirs, f"call {index}"
        assert type(ours) is type(theirs), f"call {index}"


async def test_scan_iter(commands: RedisCommands) -> None:
    """Iterators that are built on commands work."""
    for number in range(50):
        await commands.set(f"key{number}", number)
    found = {key async for key in commands.scan_iter(match="key*", count=7)}
    assert found == {b"key%d" % number for number in range(50)}


async def test_script_reload(commands: RedisCommands) -> None:
    """A registered script that the server has forgotten is loaded again."""
    script = commands.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert await script(["n"], [2]) == 2
    await commands.script_flush()
    assert await script(["n"], [3]) == 5


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.blpop("q", 1),
        lambda c: c.xread({"x": "$"}, block=100),
        lambda c: c.execute_command("MULTI"),
        lambda c: c.client_reply("OFF"),
    ],
)
async def test_needs_own_link(
    commands: RedisCommands, call: Callable[[Any], Awaitable[Any]]
) -> None:
    """What would hold up or change a shared link is refused."""
    with pytest.raises(MisuseError, match="open_blocking"):
        await call(commands)


async def test_errors(commands: RedisCommands) -> None:
    """Errors are redis-py's: those of the server, and those of a command that cannot be packed."""
    await commands.set("a", "text")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await commands.hget("a", "b")
    with pytest.raises(DataError, match="SET"):
        await commands.set("a", object())  # type: ignore[arg-type]
    assert not issubclass(ResponseError, WatchError)
