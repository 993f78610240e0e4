"""Attempts to connect come ever more slowly, within their bounds."""

import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.backplane.redis.conftest import QUICK
from tests.backplane.redis.waiting import until
from tests.parts.valkey import Valkey
from trio_rt.backplane.redis.address import read_url
from trio_rt.backplane.redis.dial import DirectDial
from trio_rt.backplane.redis.redial import Redial, pick_delay
from trio_rt.backplane.redis.settings import RedisSettings


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_within_bounds(attempt: int, number: float) -> None:
    """No delay is longer than the longest one, nor than the attempt's own."""
    delay = pick_delay(attempt, RedisSettings(), number)
    assert 0 <= delay <= 1.0
    assert delay <= 0.05 * 2.0 ** min(attempt, 10)


def test_doubles() -> None:
    """The longest delay doubles with each failure, up to a second."""
    delays = [pick_delay(attempt, RedisSettings(), 1.0) for attempt in range(6)]
    assert delays == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]


async def test_one_line_for_each_change(own_server: Valkey, caplog) -> None:
    """A server that is away is told of once, however often it is tried; and so is its return."""
    redial = Redial(DirectDial(read_url(own_server.url), QUICK), "test")
    own_server.kill()
    async with trio.open_nursery() as nursery:

        async def connect() -> None:
            await trio.aclose_forcefully(await redial.connect())

        nursery.start_soon(connect)
        await until(lambda: redial.failed > 5)
        own_server.start()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "cannot connect" in lines[0]
    assert "connected" in lines[1]


async def test_given_up(server: Valkey) -> None:
    """A connection that is lost at once delays the next attempt, unless it was given up."""
    redial = Redial(DirectDial(read_url(server.url), QUICK), "test")
    failed: list[int] = []
    for is_given_up in (False, False, True, False):
        await trio.aclose_forcefully(await redial.connect())
        if is_given_up:
            redial.give_up()
        failed.append(redial.failed)
    await trio.aclose_forcefully(await redial.connect())
    failed.append(redial.failed)
    assert failed == [0, 1, 2, 0, 1]
