"""The backplane on Redis keeps the contract of all backplanes."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.backplane.redis.cluster import QUICK
from tests.parts.valkey import Cluster, Valkey
from trio_rt.backplane.base import Backplane
from trio_rt.backplane.redis import RedisBackplane
from trio_rt.config import Config
from trio_rt.testing.backplane_contract import BACKPLANE_CHECKS, BackplaneCheck


@pytest.mark.parametrize("check", BACKPLANE_CHECKS, ids=lambda check: check.__name__)
async def test_contract(either_server: Valkey, check: BackplaneCheck) -> None:
    """The backplane on a real server does what each check says."""
    await keeps(check, either_server.url)


@pytest.mark.parametrize("check", BACKPLANE_CHECKS, ids=lambda check: check.__name__)
async def test_contract_of_cluster(cluster: Cluster, check: BackplaneCheck) -> None:
    """The backplane on a real cluster does what each check says."""
    await keeps(check, cluster.url)


async def keeps(check: BackplaneCheck, url: str) -> None:
    """The backplane at a URL does what a check says."""

    @asynccontextmanager
    async def open_redis(config: Config) -> AsyncGenerator[Backplane]:
        backplane = RedisBackplane.from_url(url, settings=QUICK)
        backplane.open(config)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backplane.run)
            yield backplane
            nursery.cancel_scope.cancel()

    await check(open_redis)
