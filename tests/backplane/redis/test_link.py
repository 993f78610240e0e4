"""A shared link gives each command its own reply, and a broken one fails them all, truthfully."""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from redis.exceptions import ResponseError

from tests.backplane.redis.conftest import QUICK
from tests.backplane.redis.waiting import until
from tests.parts.valkey import Valkey
from trio_rt.backplane.redis.address import read_url
from trio_rt.backplane.redis.dial import DirectDial
from trio_rt.backplane.redis.link import Link, open_blocking, open_link
from trio_rt.backplane.redis.resp import pack
from trio_rt.backplane.redis.settings import RedisSettings
from trio_rt.errors import BackplaneDown, MisuseError
from trio_rt.testing import Proxy, open_proxy


class Script:
    """A server that answers what the test says."""

    def __init__(self, stream: trio.abc.Stream, writes: list[int]) -> None:
        self.stream = stream
        self.writes = writes
        """How many bytes each write of the link had."""

    async def expect(self, *commands: tuple[Any, ...]) -> None:
        """These commands came, in one write."""
        assert await self.stream.receive_some() == b"".join(map(pack, commands))

    async def answer(self, data: bytes) -> None:
        await self.stream.send_all(data)


@asynccontextmanager
async def scripted(**settings: Any) -> AsyncGenerator[tuple[Link, Script]]:
    """A link to a server that the test plays."""
    ours, theirs = trio.testing.memory_stream_pair()
    writes: list[int] = []
    send_all = ours.send_stream.send_all

    async def record(data: bytes) -> None:
        writes.append(len(data))
        await send_all(data)

    ours.send_stream.send_all = record  # type: ignore[method-assign, assignment]
    link = Link(ours, attrs.evolve(RedisSettings(), **settings))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        yield link, Script(theirs, writes)
        link.close()


async def gather(*calls: Callable[[], Awaitable[Any]]) -> list[Any]:
    """What each of several calls gives that begin at the same time; errors are values."""
    results: list[Any] = [None] * len(calls)

    async def work(index: int, call: Callable[[], Awaitable[Any]]) -> None:
        try:
            results[index] = await call()
        except (BackplaneDown, ResponseError) as error:
            results[index] = error

    async with trio.open_nursery() as nursery:
        for index, call in enumerate(calls):
            nursery.start_soon(work, index, call)
    return results


def stop_the_process(seconds: float) -> None:
    """As a suspended machine or a long collection of garbage does."""
    time.sleep(seconds)


async def ping_until_it_breaks(link: Link) -> None:
    while True:
        await link.call("PING")


# On a virtual clock, with a server that the test plays.


async def test_batched(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    """Commands of the same step leave in one write."""
    async with scripted() as (link, server):
        for name in ("A", "B", "C"):
            nursery.start_soon(link.call, name)
        with trio.fail_after(0.5):
            data = await server.stream.receive_some()
        commands = [pack((name,)) for name in ("A", "B", "C")]
        assert sorted(data.split(b"*1")[1:]) == [command[2:] for command in commands]
        await server.answer(b"+OK\r\n" * 3)
        await trio.testing.wait_all_tasks_blocked()


async def test_dead_while_busy(autojump_clock: trio.testing.MockClock) -> None:
    """A server that does not answer is given up 2 seconds after it was asked."""
    async with scripted() as (link, _server):
        await trio.sleep(0.5)
        with pytest.raises(BackplaneDown, match="no reply within 2 s") as down:
            await link.call("GET", "a")
        assert down.value.outcome_unknown
        assert trio.current_time() == pytest.approx(2.5)


async def test_dead_while_idle(autojump_clock: trio.testing.MockClock) -> None:
    """A dead link is noticed within 3 seconds though nobody uses it."""
    ours, _theirs = trio.testing.memory_stream_pair()
    link = Link(ours, RedisSettings())
    await link.run()
    assert link.ended is not None
    assert "no reply within 2 s" in link.ended
    assert trio.current_time() == pytest.approx(3.0)


async def test_idle_is_asked(autojump_clock: trio.testing.MockClock) -> None:
    """A quiet link is asked each second whether the server is there, and then goes on."""
    async with scripted() as (link, server):
        for second in (1, 2, 3):
            await server.expect(("PING",))
            assert trio.current_time() == pytest.approx(second)
            await server.answer(b"+PONG\r\n")
        await trio.testing.wait_all_tasks_blocked()
        assert link.ended is None


async def test_slow_but_alive(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """A server that answers one command after the other, each in time, is not given up."""
    async with scripted() as (link, server):
        done: list[Any] = []

        @nursery.start_soon
        async def ask() -> None:
            done.append(await link.call_all([("GET", str(n)) for n in range(4)]))

        await trio.testing.wait_all_tasks_blocked()
        for number in range(4):
            await trio.sleep(1.9)
            await server.answer(b":%d\r\n" % number)
        await trio.testing.wait_all_tasks_blocked()
        assert done == [[0, 1, 2, 3]]


async def test_long_reply(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    """A reply that takes long to arrive is waited for as long as some of it does arrive."""
    async with scripted() as (link, server):
        done: list[Any] = []

        @nursery.start_soon
        async def ask() -> None:
            done.extend(await gather(lambda: link.call("GET", "a"), lambda: link.call("GET", "b")))

        await trio.testing.wait_all_tasks_blocked()
        for part in (b"$20\r\n", b"x" * 10, b"x" * 10, b"\r\n$20\r\n", b"x" * 10):
            await trio.sleep(1.9)
            await server.answer(part)
        await trio.sleep(2.1)
        assert b"x" * 20 in done  # whichever of them was the first
        assert [type(one) for one in done if one != b"x" * 20] == [BackplaneDown]


@pytest.mark.parametrize("limit", [{"max_pending": 3}, {"max_pending_bytes": 60}])
async def test_bounded(
    limit: dict[str, int], nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Commands beyond the limit wait until there is room, and all are answered."""
    async with scripted(**limit) as (link, server):
        got: list[Any] = []

        async def ask(number: int) -> None:
            got.append((number, await link.call("ECHO", str(number))))

        for number in range(20):
            nursery.start_soon(ask, number)
        answered = 0
        while answered < 20:
            await trio.testing.wait_all_tasks_blocked()
            data = await server.stream.receive_some()
            numbers = data.split(b"\r\n")[4::5]
            assert max(server.writes) <= 3 * 22
            answered += len(numbers)
            await server.answer(b"".join(b":%s\r\n" % number for number in numbers))
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(got) == [(number, number) for number in range(20)]


async def test_waiting_for_room_fails_undone(autojump_clock: trio.testing.MockClock) -> None:
    """When the link breaks, who still waited for room is told that nothing was done."""
    async with scripted(max_pending=1) as (link, _server):
        first, second = await gather(lambda: link.call("A"), lambda: link.call("B"))
        assert {first.outcome_unknown, second.outcome_unknown} == {True, False}


async def test_broken_link_raises(autojump_clock: trio.testing.MockClock) -> None:
    """Whatever is given to a link that has ended was not done."""
    async with scripted() as (link, _server):
        link.close()
        with pytest.raises(BackplaneDown) as down:
            await link.call("A")
        assert not down.value.outcome_unknown


async def test_no_redis(autojump_clock: trio.testing.MockClock) -> None:
    """A server that speaks something else breaks the link."""
    async with scripted() as (link, server):
        await server.answer(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        assert link.ended is not None
        assert "broke" in link.ended


@pytest.mark.parametrize(
    "command",
    [
        ("BLPOP", "a", 0),
        ("blpop", "a", 0),
        (b"BLPOP", "a", 0),
        ("XREAD", "COUNT", 1, "BLOCK", 0, "STREAMS", "a", "$"),
        ("XREAD", "block", 0, "STREAMS", "a", "$"),
        ("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "a", ">"),
        ("SUBSCRIBE", "a"),
        ("MULTI",),
        ("SELECT", 1),
        ("CLIENT REPLY", "OFF"),
        ("CLIENT", "reply", "OFF"),
        ("CLIENT", b"REPLY", "OFF"),
    ],
)
async def test_blocking_refused(
    command: tuple[Any, ...], autojump_clock: trio.testing.MockClock
) -> None:
    """A command that would hold up or change the link for others is refused, and not sent."""
    async with scripted() as (link, server):
        with pytest.raises(MisuseError, match="open_blocking"):
            await link.call(*command)
        with pytest.raises(MisuseError, match="open_blocking"):
            await link.call_all([("PING",), command])
        await server.expect(("PING",))  # the first one, of the idle link
        await server.answer(b"+PONG\r\n")


# With a real server.


async def test_commands(dial: DirectDial) -> None:
    """Commands of all kinds of words are carried out."""
    async with open_link(dial, "test") as link:
        assert await link.call("SET", "a", b"\x00\xff") == b"OK"
        assert await link.call(b"GET", "a") == b"\x00\xff"
        assert await link.call("INCRBY", "n", 5) == 5
        assert await link.call("HSET", "h", "f", 1.5) == 1
        assert await link.call("HGETALL", "h") == {b"f": b"1.5"}
        assert await link.call("CLIENT GETNAME") == b"test"
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await link.call("INCR", "h")
        replies = await link.call_all([("GET", "n"), ("INCR", "h"), ("GET", "n")])
        assert replies[::2] == [b"5", b"5"]
        assert isinstance(replies[1], ResponseError)
        assert await link.call_all([]) == []


async def test_many_tasks(dial: DirectDial) -> None:
    """A thousand tasks on one link each get their own reply, whatever its size."""
    async with open_link(dial, "test") as link:

        def ask(number: int) -> Callable[[], Awaitable[Any]]:
            return lambda: link.call("ECHO", str(number) * number)

        replies = await gather(*[ask(number) for number in range(1000)])
        assert replies == [(str(number) * number).encode() for number in range(1000)]


async def test_cancelled_commands_mispair_nothing(server: Valkey) -> None:
    """Of commands cancelled with the reply outstanding all are done, and no reply goes astray."""
    settings = attrs.evolve(QUICK, reply_timeout=2.0)
    async with (
        open_proxy("127.0.0.1", server.port) as proxy,
        open_link(DirectDial(read_url(f"redis://127.0.0.1:{proxy.port}"), settings), "t") as link,
    ):
        proxy.delay = 0.05
        for number in range(20):
            with trio.move_on_after(0.02) as scope:
                await link.call("INCRBY", "n", number)
            assert scope.cancelled_caught
            if number % 3 == 0:
                assert await link.call("ECHO", f"e{number}") == f"e{number}".encode()
        proxy.delay = 0.0
        assert await link.call("ECHO", "last") == b"last"
        assert await link.call("GET", "n") == b"%d" % sum(range(20))
        assert proxy.connections == 1


async def test_kill_server(own_server: Valkey) -> None:
    """A killed server fails all commands under way with an unknown outcome."""
    async with open_link(DirectDial(read_url(own_server.url), QUICK), "test") as link:
        own_server.pause()

        async def kill() -> None:
            await trio.testing.wait_all_tasks_blocked()
            own_server.kill()

        *errors, _ = await gather(*[lambda: link.call("INCR", "n")] * 20, kill)
        assert [error.outcome_unknown for error in errors] == [True] * 20
        with pytest.raises(BackplaneDown) as down:
            await link.call("INCR", "n")
        assert not down.value.outcome_unknown


async def test_paused_server(own_server: Valkey) -> None:
    """A server that stands still is noticed in time, though its connections stay."""
    async with open_link(DirectDial(read_url(own_server.url), QUICK), "test") as link:
        own_server.pause()
        began = trio.current_time()
        with pytest.raises(BackplaneDown, match="no reply"):
            await link.call("PING")
        assert trio.current_time() - began < 3.0


async def test_standing_still_ourselves(server: Valkey) -> None:
    """A process that stood still does not take a reply that is here for one that is missing."""
    settings = attrs.evolve(QUICK, reply_timeout=0.4, ping_interval=0.1)
    async with open_link(DirectDial(read_url(server.url), settings), "test") as link:

        async def stand_still() -> None:
            await trio.testing.wait_all_tasks_blocked()
            stop_the_process(settings.reply_timeout * 1.5)

        for _ in range(3):  # the reader is sometimes the first to go on, whatever we do
            reply, _ = await gather(lambda: link.call("ECHO", "here"), stand_still)
            assert reply == b"here"
        assert link.ended is None


async def test_client_kill(server: Valkey, dial: DirectDial) -> None:
    """A connection that the server ends breaks the link at once."""
    async with open_link(dial, "test") as link:
        ident = await link.call("CLIENT ID")
        server.client.client_kill_filter(_id=ident)
        with trio.fail_after(5), pytest.raises(BackplaneDown):
            await ping_until_it_breaks(link)


@pytest.mark.parametrize("way", [Proxy.cut, Proxy.reset, Proxy.stall])
async def test_network_breaks(server: Valkey, way: Callable[[Proxy], None]) -> None:
    """Whichever way the network breaks, commands under way fail in time."""
    async with (
        open_proxy("127.0.0.1", server.port) as proxy,
        open_link(DirectDial(read_url(f"redis://127.0.0.1:{proxy.port}"), QUICK), "t") as link,
    ):
        proxy.delay = 0.1

        async def break_it() -> None:
            await trio.testing.wait_all_tasks_blocked()
            way(proxy)

        with trio.fail_after(5):
            error, _ = await gather(lambda: link.call("INCR", "n"), break_it)
        assert error.outcome_unknown


async def test_blocking_link(server: Valkey, dial: DirectDial) -> None:
    """A command that waits in the server gets its reply when there is one."""
    async with open_blocking(dial, "test") as link:

        async def push() -> None:
            await trio.sleep(0.01)
            server.client.rpush("q", "x")

        got, _ = await gather(lambda: link.call("BLPOP", "q", 5, blocks=5), push)
        assert got == [b"q", b"x"]
        with pytest.raises(ResponseError):
            await link.call("NONSENSE")
        assert link.is_open


async def test_cancelled_blocking_command(server: Valkey, dial: DirectDial) -> None:
    """A blocking command that is cancelled ends in the server too, by closing its link."""
    async with open_blocking(dial, "test") as link:
        with trio.move_on_after(0.1):
            await link.call("BLPOP", "q", 0, blocks=60)
        assert not link.is_open
        await until(lambda: not server.client.info("clients")["blocked_clients"])
        with pytest.raises(BackplaneDown):
            await link.call("PING")


async def test_blocking_link_of_two(dial: DirectDial) -> None:
    """A blocking link that one task uses refuses another."""
    async with open_blocking(dial, "test") as link, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: link.call("BLPOP", "q", 0, blocks=60))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(MisuseError, match="one task"):
            await link.call("PING")
        nursery.cancel_scope.cancel()


async def test_blocking_link_to_a_dead_server(own_server: Valkey) -> None:
    """A blocking command whose server stands still is late as soon as its time has passed."""
    async with open_blocking(DirectDial(read_url(own_server.url), QUICK), "test") as link:
        own_server.pause()
        with trio.fail_after(5), pytest.raises(BackplaneDown, match="in time") as down:
            await link.call("BLPOP", "q", 0.1, blocks=0.1)
        assert down.value.outcome_unknown
