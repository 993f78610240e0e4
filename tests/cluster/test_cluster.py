"""Three nodes, 500 events a second, 28 of 40 listeners flap: nothing is lost, whatever fails."""

from collections.abc import Iterator

import pytest
import trio

from tests.backplane.redis.waiting import until
from tests.cluster.crowd import Crowd, open_crowd
from tests.parts import sentinel, valkey
from trio_rt.testing import open_proxy

SECONDS = 6.0
"""For which events are published."""

BEFORE = 1.5
"""Seconds until something fails."""

UNREPLICATED = 0.3
"""Seconds for which a primary is alone before it dies."""

SENTINELS_WITHIN = 20.0
"""Seconds until Sentinels have agreed on another primary; it takes them one or two as a rule."""

NORMAL_WITHIN = 20.0
"""Seconds after that until all is normal. It takes two on a quiet machine."""


@pytest.fixture
def own_server() -> Iterator[valkey.Valkey]:
    """A Redis that may be killed."""
    with valkey.running() as server:
        yield server


@pytest.fixture
def watched() -> Iterator[sentinel.Watched]:
    """A primary that may be killed, and Sentinels that put another one in its place."""
    with sentinel.watching() as servers:
        servers.wait_known()
        yield servers


async def finish(crowd: Crowd, seconds: float, *, may_begin_anew: bool = False) -> None:
    """Publishes to the end, and looks at what was heard."""
    await crowd.publish(seconds)
    await crowd.calm_down()
    print(crowd.report())
    crowd.check(may_begin_anew=may_begin_anew)
    assert sum(one.came_back for one in crowd.subscribers) > 28


async def test_flapping(own_server: valkey.Valkey) -> None:
    """Listeners that are cut again and again and come back elsewhere miss nothing."""
    async with open_crowd([own_server.url] * 3) as crowd:
        await finish(crowd, SECONDS)


@pytest.mark.parametrize("how", ["kill", "terminate"])
async def test_node_goes(own_server: valkey.Valkey, how: str) -> None:
    """A node that is killed, or drains, takes nothing with it."""
    async with open_crowd([own_server.url] * 3) as crowd, trio.open_nursery() as nursery:

        async def fail() -> None:
            await trio.sleep(BEFORE)
            getattr(crowd.nodes[0], how)()

        await crowd.publish(0.1)
        nursery.start_soon(fail)
        await finish(crowd, SECONDS)


async def test_redis_stands_still(own_server: valkey.Valkey) -> None:
    """A Redis that does nothing for five seconds delays everything, and loses nothing."""
    async with open_crowd([own_server.url] * 3) as crowd, trio.open_nursery() as nursery:

        async def fail() -> None:
            await trio.sleep(BEFORE)
            own_server.pause()
            try:
                await trio.sleep(5.0)
            finally:
                own_server.resume()

        await crowd.publish(0.1)
        nursery.start_soon(fail)
        await finish(crowd, SECONDS + 4.0)


async def test_redis_is_killed(own_server: valkey.Valkey) -> None:
    """A Redis that comes back empty: whoever may have missed something is told so."""
    async with open_crowd([own_server.url] * 3) as crowd, trio.open_nursery() as nursery:

        async def fail() -> None:
            await trio.sleep(BEFORE)
            own_server.kill()
            await trio.sleep(1.0)
            own_server.start()

        await crowd.publish(0.1)
        nursery.start_soon(fail)
        await finish(crowd, SECONDS, may_begin_anew=True)


async def test_link_stalls(own_server: valkey.Valkey) -> None:
    """A node whose link stalls for eight seconds and breaks is one that its clients can stand."""
    async with open_proxy("127.0.0.1", own_server.port) as proxy:
        urls = [f"redis://127.0.0.1:{proxy.port}", own_server.url, own_server.url]
        async with open_crowd(urls) as crowd, trio.open_nursery() as nursery:

            async def fail() -> None:
                await trio.sleep(BEFORE)
                proxy.stall()
                await trio.sleep(8.0)
                proxy.reset()
                proxy.resume()

            await crowd.publish(0.1)
            nursery.start_soon(fail)
            await finish(crowd, SECONDS + 6.0)


async def test_failover(watched: sentinel.Watched) -> None:
    """A primary that dies with events that no replica has: all are told that some are missing."""
    async with open_crowd([watched.url] * 3) as crowd, trio.open_nursery() as nursery:
        normal_after: list[float] = []

        async def fail() -> None:
            await trio.sleep(BEFORE)
            watched.cut_off_replica()
            await trio.sleep(UNREPLICATED)
            watched.primary.kill()
            await until(watched.has_failed_over, within=SENTINELS_WITHIN)
            begun = trio.current_time()
            await until(lambda: all(one.holes for one in crowd.subscribers), within=NORMAL_WITHIN)
            acknowledged = crowd.count_acknowledged()
            await until(lambda: crowd.count_acknowledged() > acknowledged + 100, NORMAL_WITHIN)
            normal_after.append(trio.current_time() - begun)

        await crowd.publish(0.1)
        nursery.start_soon(fail)
        await finish(crowd, SECONDS + 4.0, may_begin_anew=True)
        print(f"normal {normal_after[0]:.1f} s after the failover")
        assert all(one.began_anew for one in crowd.subscribers)
