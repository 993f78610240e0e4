"""A server whose settings or keys are not right for us is found out at the start."""

import logging

import pytest
import trio

from tests.backplane.redis.conftest import QUICK
from tests.backplane.redis.waiting import until
from tests.parts.valkey import Valkey
from trio_rt.backplane.redis import RedisBackplane
from trio_rt.config import Config
from trio_rt.errors import BackplaneRefused


async def start(server: Valkey) -> None:
    """Runs a node until it is ready."""
    plane = RedisBackplane.from_url(server.url, settings=QUICK)
    plane.open(Config())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(plane.run)
        await until(lambda: plane.is_ready)
        nursery.cancel_scope.cancel()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_eviction(own_server: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    """A server that may drop keys is warned of; one that may not is not."""
    await start(own_server)
    assert not any("maxmemory" in line for line in warnings(caplog))
    own_server.client.config_set("maxmemory-policy", "allkeys-lru")
    await start(own_server)
    assert sum("maxmemory-policy is allkeys-lru" in line for line in warnings(caplog)) == 1


async def test_schema(own_server: Valkey) -> None:
    """Keys of another version are refused; those of ours, and new ones, are not."""
    await start(own_server)
    await start(own_server)
    own_server.client.set("rt:ver", "0")
    with pytest.RaisesGroup(
        pytest.RaisesExc(BackplaneRefused, match="another prefix"), flatten_subgroups=True
    ):
        await start(own_server)
