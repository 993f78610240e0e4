"""A steady link comes back by itself, and repeats only what does no harm."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import redis
import trio
import trio.testing

from tests.backplane.redis.conftest import QUICK
from tests.backplane.redis.waiting import until
from tests.parts import valkey
from tests.parts.valkey import Valkey
from trio_rt.backplane.redis.address import read_url
from trio_rt.backplane.redis.dial import DirectDial
from trio_rt.backplane.redis.steady import SteadyLink
from trio_rt.errors import BackplaneDown, BackplaneRefused
from trio_rt.testing import Proxy, open_proxy

DELAY = 0.25
"""Seconds that a reply is on its way, in which the test breaks the link."""

SLOW: dict[str, Any] = {"reply_timeout": 4 * DELAY}


@asynccontextmanager
async def steady(port: int, **changes: Any) -> AsyncGenerator[SteadyLink]:
    """A steady link to a port, which is up."""
    dial = DirectDial(read_url(f"redis://127.0.0.1:{port}"), attrs.evolve(QUICK, **changes))
    link = SteadyLink(dial, "test")
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        yield link
        nursery.cancel_scope.cancel()


async def outcome(call: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await call()
    except BackplaneDown as down:
        return down


async def test_server_restarts(own_server: Valkey) -> None:
    """A command given while the server is away is carried out when it is back, once."""
    async with steady(own_server.port) as link:
        own_server.kill()
        await until(lambda: not link.is_up)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.call, "INCR", "n")
            nursery.start_soon(link.call_all, [("INCR", "n"), ("INCR", "n")])
            await trio.testing.wait_all_tasks_blocked()
            await trio.to_thread.run_sync(own_server.start)
        assert own_server.client.get("n") == b"3"


async def test_waits_until_its_deadline(own_server: Valkey) -> None:
    """A command that waits in vain was not done, and the message says what is wrong."""
    async with steady(own_server.port, wait_timeout=0.2) as link:
        own_server.kill()
        await until(lambda: not link.is_up)
        began = trio.current_time()
        with pytest.raises(BackplaneDown, match="cannot connect") as down:
            await link.call("INCR", "n")
        assert not down.value.outcome_unknown
        assert 0.2 <= trio.current_time() - began < 3.0


async def test_caller_has_a_deadline(own_server: Valkey) -> None:
    """The caller's own deadline ends the wait as well."""
    async with steady(own_server.port) as link:
        own_server.kill()
        await until(lambda: not link.is_up)
        with trio.move_on_after(0.05) as scope:
            await link.call("INCR", "n")
        assert scope.cancelled_caught


@pytest.mark.parametrize("may_repeat", [False, True])
async def test_outcome_unknown(server: Valkey, may_repeat: bool) -> None:
    """A command that may have been done is repeated only where that does no harm."""
    async with open_proxy("127.0.0.1", server.port) as proxy, steady(proxy.port, **SLOW) as link:
        proxy.delay = DELAY
        results: list[Any] = []

        async def increment() -> None:
            call = lambda: link.call("INCR", "n", may_repeat=may_repeat)  # noqa: E731
            results.append(await outcome(call))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(increment)
            await until(lambda: server.client.get("n") == b"1")  # done, and the reply on its way
            proxy.reset()
            proxy.delay = 0.0
        if may_repeat:
            assert results == [2]
        else:
            assert results[0].outcome_unknown


@pytest.mark.parametrize("may_repeat", [False, True])
async def test_outcome_of_several_unknown(server: Valkey, may_repeat: bool) -> None:
    """The same holds for commands that stay together."""
    async with open_proxy("127.0.0.1", server.port) as proxy, steady(proxy.port, **SLOW) as link:
        proxy.delay = DELAY
        results: list[Any] = []

        async def increment() -> None:
            commands = [("INCR", "n"), ("INCR", "n")]
            call = lambda: link.call_all(commands, may_repeat=may_repeat)  # noqa: E731
            results.append(await outcome(call))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(increment)
            await until(lambda: server.client.get("n") == b"2")
            proxy.reset()
            proxy.delay = 0.0
        if may_repeat:
            assert results == [[3, 4]]
        else:
            assert results[0].outcome_unknown


@pytest.mark.parametrize("count", [1, 2])
async def test_stays_unknown(server: Valkey, count: int) -> None:
    """What may have been done once is not known to be undone because it was not done again."""
    async with (
        open_proxy("127.0.0.1", server.port) as proxy,
        steady(proxy.port, wait_timeout=0.3, **SLOW) as link,
    ):
        proxy.delay = DELAY
        results: list[Any] = []

        async def increment() -> None:
            if count == 1:
                call = lambda: link.call("INCR", "n", may_repeat=True)  # noqa: E731
            else:
                call = lambda: link.call_all([("INCR", "n")] * count, may_repeat=True)  # noqa: E731
            results.append(await outcome(call))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(increment)
            await until(lambda: int(server.client.get("n") or 0) == count)
            proxy.refuse()
            proxy.reset()
            proxy.delay = 0.0
        assert results[0].outcome_unknown
        assert int(server.client.get("n") or 0) == count


@pytest.mark.parametrize("way", [Proxy.cut, Proxy.reset, Proxy.stall])
async def test_network_breaks(server: Valkey, way: Callable[[Proxy], None]) -> None:
    """Whichever way the network breaks, the link comes back, and nothing is done twice."""
    async with open_proxy("127.0.0.1", server.port) as proxy, steady(proxy.port) as link:
        results: list[Any] = []

        async def work(number: int) -> None:
            while len(results) < 300:
                results.append(await outcome(lambda: link.call("INCR", "n")))
                await trio.sleep(0.002 * number)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(work, number)
            await until(lambda: len(results) > 50)
            way(proxy)
            await until(lambda: proxy.connections > 1)
            proxy.resume()
        done = [result for result in results if isinstance(result, int)]
        unknown = [result for result in results if not isinstance(result, int)]
        assert all(down.outcome_unknown for down in unknown)
        assert len(set(done)) == len(done)
        assert len(done) <= int(server.client.get("n") or 0) <= len(done) + len(unknown)


async def test_refused_connections(server: Valkey) -> None:
    """The link comes back after a time in which nobody accepted connections."""
    async with open_proxy("127.0.0.1", server.port) as proxy, steady(proxy.port) as link:
        proxy.refuse()
        proxy.cut()
        await until(lambda: not link.is_up)
        with trio.move_on_after(0.3):
            await link.call("PING")
        proxy.accept()
        assert await link.call("PING") == b"PONG"


async def test_server_becomes_a_replica(server: Valkey, own_server: Valkey) -> None:
    """A server that may not write any more is left, and the command is given to the next one."""
    async with open_proxy("127.0.0.1", own_server.port) as proxy, steady(proxy.port) as link:
        own_server.client.replicaof("127.0.0.1", str(valkey.free_port()))
        proxy.target = ("127.0.0.1", server.port)  # as a name that now means another server
        assert await link.call("INCR", "n") == 1
        assert server.client.get("n") == b"1"
        assert await link.call_all([("INCR", "n"), ("GET", "n")]) == [2, b"2"]


async def test_some_done(server: Valkey, own_server: Valkey) -> None:
    """Of commands that stay together none is given again if the server has done any: the others'
    errors are told. The next one goes to another server."""
    async with open_proxy("127.0.0.1", own_server.port) as proxy, steady(proxy.port) as link:
        own_server.client.set("n", "7")
        own_server.client.replicaof("127.0.0.1", str(valkey.free_port()))
        proxy.target = ("127.0.0.1", server.port)
        done, refused = await link.call_all([("GET", "n"), ("INCR", "n")], may_repeat=True)
        assert done == b"7"
        assert isinstance(refused, redis.ReadOnlyError)
        assert server.client.get("n") is None
        assert await link.call("INCR", "n") == 1


async def test_stays_a_replica(own_server: Valkey) -> None:
    """While no server may write, a command ends at its deadline, and was not done."""
    async with steady(own_server.port, wait_timeout=0.3) as link:
        own_server.client.replicaof("127.0.0.1", str(valkey.free_port()))
        with trio.fail_after(5), pytest.raises(BackplaneDown) as down:
            await link.call("INCR", "n")
        assert not down.value.outcome_unknown


async def test_bounded_while_down(own_server: Valkey) -> None:
    """Only so many commands wait for a link; one more fails at once, undone."""
    async with steady(own_server.port, max_waiting=3) as link:
        own_server.kill()
        await until(lambda: not link.is_up)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(link.call, "PING")
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(BackplaneDown, match="3 commands of 42 bytes wait") as down:
                await link.call("PING")
            assert not down.value.outcome_unknown
            nursery.cancel_scope.cancel()


async def test_refused_at_the_start(own_server: Valkey) -> None:
    """A link that is refused for good at its first connection says so and ends."""
    own_server.client.config_set("requirepass", "secret")
    link = SteadyLink(DirectDial(read_url(own_server.url), QUICK), "test")
    with pytest.raises(BackplaneRefused, match="let us in"):
        await link.run()


async def test_refused_later(own_server: Valkey, errors: list[Any]) -> None:
    """A password that changes later is an error in the log, until it is right again."""
    async with steady(own_server.port) as link:
        own_server.client.config_set("requirepass", "secret")
        own_server.client.client_kill_filter(skipme=True)
        await until(lambda: errors)
        assert "let us in" in errors[0].getMessage()
        with redis.Redis(port=own_server.port, password="secret") as client:
            client.config_set("requirepass", "")
        assert await link.call("PING") == b"PONG"
        errors.clear()


async def test_closed(server: Valkey) -> None:
    """A command given after the end was not done."""
    async with steady(server.port) as link:
        pass
    with pytest.raises(BackplaneDown, match="closed"):
        await link.call("PING")
