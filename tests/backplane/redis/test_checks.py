"""A server whose settings would lose what we keep there is found out at the start."""

from collections.abc import AsyncGenerator

import pytest
import trio

from tests.backplane.redis.conftest import QUICK
from tests.parts.valkey import Valkey
from trio_rt.backplane.redis.address import read_url
from trio_rt.backplane.redis.checks import check_schema, find_risk
from trio_rt.backplane.redis.dial import DirectDial
from trio_rt.backplane.redis.keys import Keys
from trio_rt.backplane.redis.steady import SteadyLink
from trio_rt.errors import BackplaneRefused


@pytest.fixture
async def link(own_server: Valkey) -> AsyncGenerator[SteadyLink]:
    link = SteadyLink(DirectDial(read_url(own_server.url), QUICK), "test")
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        yield link
        nursery.cancel_scope.cancel()


async def test_eviction(link: SteadyLink, own_server: Valkey) -> None:
    """A server that may drop keys is a risk; one that may not, or has no limit, is none."""
    assert await find_risk(link) is None
    own_server.client.config_set("maxmemory-policy", "allkeys-lru")
    assert await find_risk(link) is None
    own_server.client.config_set("maxmemory", "100mb")
    risk = await find_risk(link)
    assert risk is not None
    assert "noeviction, not allkeys-lru" in risk
    own_server.client.config_set("maxmemory-policy", "noeviction")
    assert await find_risk(link) is None


async def test_no_right_to_look(link: SteadyLink, own_server: Valkey) -> None:
    """Where we may not look, that is the risk."""
    own_server.client.acl_setuser("default", commands=["-info"])
    assert "no right" in str(await find_risk(link))


async def test_schema(link: SteadyLink, own_server: Valkey) -> None:
    """Keys of another version are refused; those of ours, and new ones, are not."""
    await check_schema(link)
    await check_schema(link)
    own_server.client.set(Keys().of("ver"), "0")
    with pytest.raises(BackplaneRefused, match="another prefix"):
        await check_schema(link)
    await check_schema(link, Keys("other"))
