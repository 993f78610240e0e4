"""A real server, and how links get to it.

Time is real where the server is, so the limits of links are short.
"""

from collections.abc import Iterator

import pytest

from tests.parts import redis8, valkey
from trio_rt.backplane.redis.address import read_url
from trio_rt.backplane.redis.dial import DirectDial
from trio_rt.backplane.redis.settings import RedisSettings

QUICK = RedisSettings(
    connect_timeout=2.0, reply_timeout=0.4, ping_interval=0.1, wait_timeout=3.0, max_backoff=0.1
)
"""Finds a dead link in half a second."""


@pytest.fixture(scope="session")
def shared_server() -> Iterator[valkey.Valkey]:
    """A server that all tests use which leave it as it was."""
    with valkey.running() as server:
        yield server


@pytest.fixture(scope="session")
def shared_redis8() -> Iterator[valkey.Valkey]:
    """The same, but a Redis 8."""
    with valkey.running(program=redis8.executable()) as server:
        yield server


@pytest.fixture(params=["shared_server", "shared_redis8"])
def either_server(request: pytest.FixtureRequest) -> valkey.Valkey:
    """A running server without any data: a Valkey, and then a Redis 8."""
    server: valkey.Valkey = request.getfixturevalue(request.param)
    server.client.flushall()
    return server


@pytest.fixture
def server(shared_server: valkey.Valkey) -> valkey.Valkey:
    """A running server without any data."""
    shared_server.client.flushall()
    return shared_server


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[valkey.Cluster]:
    """A cluster that all tests use which leave it as it was."""
    with valkey.running_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: valkey.Cluster) -> valkey.Cluster:
    """A running cluster without any data."""
    shared_cluster.flush()
    return shared_cluster


@pytest.fixture
def own_server() -> Iterator[valkey.Valkey]:
    """A running server that the test may kill."""
    with valkey.running() as server:
        yield server


@pytest.fixture
def dial(server: valkey.Valkey) -> DirectDial:
    """Connects to `server`."""
    return DirectDial(read_url(server.url), QUICK)
