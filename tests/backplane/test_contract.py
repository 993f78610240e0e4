"""Every backplane keeps the contract."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio

from trio_rt.backplane.base import Backplane
from trio_rt.backplane.memory import MemoryBackplane
from trio_rt.config import Config
from trio_rt.testing import backplane_contract
from trio_rt.testing.backplane_contract import BACKPLANE_CHECKS, BackplaneCheck


@asynccontextmanager
async def open_memory(config: Config) -> AsyncGenerator[Backplane]:
    """A backplane of a single node."""
    backplane = MemoryBackplane()
    backplane.open(config)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(backplane.run)
        yield backplane
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("check", BACKPLANE_CHECKS, ids=lambda check: check.__name__)
async def test_memory(autojump_clock, check: BackplaneCheck) -> None:
    """The backplane in memory does what each check says."""
    await check(open_memory)


def test_no_check_is_left_out() -> None:
    """All checks that there are belong to the contract."""
    names = [name for name in vars(backplane_contract) if name.startswith("check_")]
    assert names == [check.__name__ for check in BACKPLANE_CHECKS]
