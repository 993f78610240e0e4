"""Real servers for the tests of this folder, and the pages of the official client on them."""

from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from tests.interop.official import running_driver
from tests.interop.stage import Stage


@pytest.fixture(scope="session")
def driver() -> Iterator[int]:
    """The port of Node's driver, which all tests share because starting Node takes a while."""
    with running_driver() as port:
        yield port


@pytest.fixture
async def play(driver: int, nursery: trio.Nursery) -> AsyncIterator[Stage]:
    """Serve a server and open a page on it: `js = await play(server)`."""
    stage = Stage(driver, nursery)
    yield stage
    await stage.close()
