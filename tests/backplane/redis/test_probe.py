"""A link that is healthy and gets nothing is found."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.backplane.redis.conftest import QUICK
from tests.backplane.redis.waiting import until
from tests.parts.valkey import Valkey
from trio_rt.backplane.redis.address import read_url
from trio_rt.backplane.redis.dial import DirectDial
from trio_rt.backplane.redis.probe import Probe
from trio_rt.backplane.redis.steady import SteadyLink
from trio_rt.backplane.redis.subscriptions import Subscriptions
from trio_rt.testing import open_proxy

CHANNEL = b"probe"


@asynccontextmanager
async def probing(
    port: int, publish_port: int, interval: float = 0.1
) -> AsyncGenerator[tuple[Probe, Subscriptions]]:
    """Subscriptions at one port, commands at another, and a probe between them."""
    link = SteadyLink(DirectDial(read_url(f"redis://127.0.0.1:{publish_port}"), QUICK), "commands")
    dial = DirectDial(read_url(f"redis://127.0.0.1:{port}"), QUICK)
    subscriptions = Subscriptions(dial, "subscriptions", CHANNEL)
    probe = Probe(link, subscriptions, CHANNEL, interval)
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        await nursery.start(subscriptions.run)
        nursery.start_soon(probe.run)
        yield probe, subscriptions
        nursery.cancel_scope.cancel()


async def test_wrong_server(server: Valkey, own_server: Valkey) -> None:
    """Subscriptions at a server where nobody publishes are made anew, and then it is well."""
    async with (
        open_proxy("127.0.0.1", own_server.port) as proxy,
        probing(proxy.port, server.port) as (probe, subscriptions),
    ):
        await until(lambda: probe.is_deaf)
        proxy.target = ("127.0.0.1", server.port)
        await until(lambda: subscriptions.heard_at > 0)
        await until(lambda: not probe.is_deaf)


async def test_quiet_and_well(server: Valkey) -> None:
    """A quiet node hears its own probes, and nothing is made anew or handed over."""
    async with (
        open_proxy("127.0.0.1", server.port) as proxy,
        probing(proxy.port, server.port, 0.4) as (probe, subscriptions),
    ):
        for _ in range(2):
            before = subscriptions.heard_at
            await until(lambda before=before: subscriptions.heard_at > before)  # type: ignore[misc]
        assert not probe.is_deaf
        assert proxy.connections == 1
        assert subscriptions.receive_nowait() == []


async def test_busy_node_needs_no_probe(server: Valkey) -> None:
    """While messages arrive no probe is published."""
    async with probing(server.port, server.port, 1.0) as (_probe, subscriptions):
        await subscriptions.subscribe(b"a", CHANNEL)
        await until(lambda: subscriptions.heard_at > 0)
        other: Any = server.client.pubsub()  # type: ignore[no-untyped-call]
        other.subscribe(CHANNEL.decode())
        for _ in range(70):
            server.client.publish("a", "x")
            await trio.sleep(0.02)
        kinds = [other.get_message() for _ in range(3)]
        assert [message["type"] for message in kinds if message] == ["subscribe"]
        other.close()
