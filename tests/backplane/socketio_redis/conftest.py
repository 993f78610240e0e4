"""A real Redis, and a cluster on it: a server of ours, and one of Socket.IO's own in Node."""

import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.backplane.redis.waiting import until
from tests.backplane.socketio_redis.cluster import Both, new_node
from tests.interop.official import Page
from tests.parts import PartMissing, node, valkey
from trio_rt.testing import hosting

SCRIPT = node.FOLDER / "cluster.mjs"


@pytest.fixture(scope="session")
def server() -> Iterator[valkey.Valkey]:
    """A server that all tests use: each of them has a key of its own."""
    with valkey.running() as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[valkey.Valkey]:
    """A running server that the test may kill."""
    with valkey.running() as running:
        yield running


@pytest.fixture(scope="session")
def driver(server: valkey.Valkey) -> Iterator[int]:
    """The port at which Node takes pieces of JavaScript."""
    node.install()
    with subprocess.Popen(
        [node.executable(), SCRIPT, server.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        port = process.stdout.readline()
        if not port:
            raise PartMissing(f"Node does not start {SCRIPT}: see its words above")
        yield int(port)
        process.stdin.close()
        process.wait(timeout=5)


@pytest.fixture
def key() -> str:
    """The key of a cluster that nobody else is in."""
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
async def js(driver: int) -> AsyncIterator[Page]:
    """JavaScript in Node; `my.io` is for the server that a test makes."""
    page = Page(driver, "")
    yield page
    await page.close()


@pytest.fixture
async def both(server: valkey.Valkey, js: Page, key: str) -> AsyncIterator[Both]:
    """A server of ours and one in Node, `my.io`, that know each other."""
    await js("my.io = await server(key)", key=key)
    async with hosting(new_node(server.url, key)) as host:
        cluster = Both(host, js, key)
        await until(lambda: cluster.backplane.is_ready)
        await until(lambda: cluster.count(server) == 2)
        yield cluster
