"""One URL says which kind of Redis it is, and where."""

import ssl

import pytest

from trio_rt.backplane.redis.dial import DirectDial
from trio_rt.backplane.redis.sentinel import SentinelDial
from trio_rt.backplane.redis.topology import ClusterServers
from trio_rt.backplane.redis.urls import read_servers
from trio_rt.errors import MisuseError


def test_cluster() -> None:
    """Several servers of a cluster, with one user for all of them."""
    servers = read_servers("redis+cluster://me:word@a:1,b,[::1]:3")
    assert isinstance(servers, ClusterServers)
    assert [(one.host, one.port) for one in servers.seeds] == [("a", 1), ("b", 6379), ("::1", 3)]
    assert {(one.username, one.password, one.tls) for one in servers.seeds} == {
        ("me", "word", None)
    }


def test_cluster_by_tls() -> None:
    """All servers of a cluster share one context."""
    context = ssl.create_default_context()
    servers = read_servers("rediss+cluster://a,b", tls=context)
    assert isinstance(servers, ClusterServers)
    assert [one.tls for one in servers.seeds] == [context, context]


@pytest.mark.parametrize(
    ("url", "kind"), [("redis://a", DirectDial), ("redis+sentinel://a,b/ours", SentinelDial)]
)
def test_one_server(url: str, kind: type) -> None:
    """Whatever is no cluster leads to one server at a time."""
    assert type(read_servers(url)) is kind


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+cluster://", "addresses of some"),
        ("redis+cluster://a:x", "port"),
        ("redis+cluster://a/1", "database 0"),
        ("redis+cluster://a?x=1", "unknown in a Redis URL: x"),
        ("unix+cluster://a", "scheme"),
        ("redis://a:1,b:2", "redis.cluster"),
        ("redis://a:1,[::1]:2", "redis.cluster"),
        ("redis+cluster://a,[::1", "Invalid IPv6"),
        ("redis+sentinel://[::1,a/ours", "Invalid IPv6"),
    ],
)
def test_misuse(url: str, why: str) -> None:
    """What is no such URL is refused with what is wrong with it."""
    with pytest.raises(MisuseError, match=why):
        read_servers(url)
