"""The primary is found, and found again when it is another one."""

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import trio

from tests.backplane.redis.conftest import QUICK
from tests.backplane.redis.waiting import until
from tests.parts import valkey
from tests.parts.sentinel import SERVICE, Watched, watching
from tests.parts.valkey import Valkey
from trio_rt.backplane.redis.address import Address
from trio_rt.backplane.redis.arrivals import Arrival, Gap, Message
from trio_rt.backplane.redis.dial import connect
from trio_rt.backplane.redis.sentinel import SentinelDial, check_primary
from trio_rt.backplane.redis.steady import SteadyLink
from trio_rt.backplane.redis.subscriptions import Subscriptions
from trio_rt.errors import BackplaneDown, BackplaneRefused, MisuseError

SETTINGS = attrs.evolve(QUICK, wait_timeout=30.0)


def address(port: int) -> Address:
    return Address(host="127.0.0.1", port=port)


def sentinel_dial(watched: Watched) -> SentinelDial:
    """The first of the addresses is of nobody."""
    ports = [valkey.free_port(), *[sentinel.port for sentinel in watched.sentinels]]
    return SentinelDial([address(port) for port in ports], SERVICE, settings=SETTINGS)


@pytest.fixture
def watched() -> Iterator[Watched]:
    with watching() as servers:
        yield servers


async def test_failover(watched: Watched) -> None:
    """After a failover commands and subscriptions go on at the new primary, with a gap."""
    link, dial = SteadyLink(sentinel_dial(watched), "commands"), sentinel_dial(watched)
    subscriptions = Subscriptions(dial, "subscriptions")
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        await nursery.start(subscriptions.run)
        await subscriptions.subscribe(b"a")
        assert await link.call("SET", "a", "1") == b"OK"
        assert watched.primary.client.get("a") == b"1"
        await trio.to_thread.run_sync(watched.wait_known)
        watched.primary.kill()
        await until(lambda: not link.is_up)
        with trio.fail_after(40):
            assert await link.call("SET", "a", "2") == b"OK"
            await until(lambda: subscriptions.is_up, within=30.0)
        assert watched.replica.client.get("a") == b"2"
        assert watched.replica.client.publish("a", "x") == 1
        heard: list[Arrival] = []
        while Message(b"a", b"x") not in heard:
            await subscriptions.wait()
            heard += subscriptions.receive_nowait()
        assert isinstance(heard[0], Gap)
        assert isinstance(heard[-2], Gap)
        assert heard[-2].is_over
        nursery.cancel_scope.cancel()


async def test_unknown_service(watched: Watched) -> None:
    """A name that no Sentinel knows is refused for good."""
    sentinels = [address(sentinel.port) for sentinel in watched.sentinels]
    with pytest.raises(BackplaneRefused, match="does not know 'theirs'"):
        await SentinelDial(sentinels, "theirs", settings=SETTINGS).connect("test")


async def test_two_ask_at_once(watched: Watched) -> None:
    """Who is still asking a Sentinel when another task finds one that answers asks that as well."""
    dead, alive = address(valkey.free_port()), address(watched.sentinels[0].port)
    dial: Any = SentinelDial([dead, alive], SERVICE, settings=SETTINGS)
    ask, has_found = dial._ask, trio.Event()

    async def ask_slowly(sentinel: Address, name: str) -> Address:
        if (sentinel, name) == (dead, "late"):
            await has_found.wait()
        return await ask(sentinel, name)

    async def connect_late() -> None:
        await (await dial.connect("late")).aclose()

    dial._ask = ask_slowly
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connect_late)
        await (await dial.connect("early")).aclose()
        has_found.set()


async def test_no_sentinel_answers() -> None:
    """Without any Sentinel that answers, the primary is not known now."""
    sentinels = [address(valkey.free_port()) for _ in range(2)]
    with pytest.raises(BackplaneDown, match="no Sentinel tells"):
        await SentinelDial(sentinels, "ours", settings=SETTINGS).connect("test")


def test_no_sentinels() -> None:
    """A dial without Sentinels is refused at once."""
    with pytest.raises(MisuseError, match="no Sentinels"):
        SentinelDial([], "ours")


async def test_server_is_a_replica(own_server: Valkey) -> None:
    """A server that Sentinels still take for the primary, and that knows better, is left."""
    own_server.client.replicaof("127.0.0.1", str(valkey.free_port()))
    stream = await connect(address(own_server.port), "test", 2.0)
    with pytest.raises(BackplaneDown, match="not the primary but a slave"):
        await check_primary(stream, address(own_server.port), 2.0)
    await stream.aclose()
