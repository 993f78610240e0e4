"""URLs lead to a server, or to the primary that Sentinels know."""

import ssl

import pytest

from trio_rt.backplane.redis import RedisBackplane
from trio_rt.backplane.redis.address import Address
from trio_rt.backplane.redis.dial import DirectDial
from trio_rt.backplane.redis.dials import make_dial
from trio_rt.backplane.redis.sentinel import SentinelDial
from trio_rt.errors import MisuseError

PLAIN = Address(host="-")


@pytest.mark.parametrize(
    ("url", "sentinels", "service", "server"),
    [
        ("redis+sentinel://a/ours", [Address(host="a", port=26379)], "ours", PLAIN),
        (
            "redis+sentinel://a:1,b,[::1]:3/ours/4",
            [Address(host="a", port=1), Address(host="b", port=26379), Address(host="::1", port=3)],
            "ours",
            Address(host="-", db=4),
        ),
        (
            "redis+sentinel://ann:p%40w@a:6379/our%20s?db=2&sentinel_password=s%2Fw",
            [Address(host="a", port=6379, password="s/w")],
            "our s",
            Address(host="-", username="ann", password="p@w", db=2),
        ),
        (
            "redis+sentinel://[::1]/s?sentinel_username=bob&sentinel_password=%26",
            [Address(host="::1", port=26379, username="bob", password="&")],
            "s",
            PLAIN,
        ),
    ],
)
def test_sentinels(url: str, sentinels: list[Address], service: str, server: Address) -> None:
    """A URL of Sentinels gives them, and who we are at the primary."""
    dial = make_dial(url)
    assert isinstance(dial, SentinelDial)
    assert dial.sentinels == sentinels
    assert dial.service == service
    assert dial.server == server


def test_tls() -> None:
    """The Sentinels and the primary are both reached by TLS, with a context of one's own."""
    context = ssl.create_default_context()
    dial = make_dial("rediss+sentinel://a,b/ours", tls=context)
    assert isinstance(dial, SentinelDial)
    assert [address.tls for address in (*dial.sentinels, dial.server)] == [context] * 3


def test_one_server() -> None:
    """Any other URL is that of one server."""
    dial = make_dial("redis://a:7")
    assert isinstance(dial, DirectDial)
    assert dial.address == Address(host="a", port=7)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel://a:1,b:2", "name of the service"),
        ("redis+sentinel:///ours", "addresses"),
        ("redis+sentinel://a:x/ours", "port"),
        ("redis+sentinel://a/ours/x", "database"),
        ("redis+sentinel://a/ours?x=1", "unknown in a Redis URL: x"),
        ("unix+sentinel://a/ours", "scheme"),
    ],
)
def test_misuse(url: str, why: str) -> None:
    """What is no such URL is refused with what is wrong with it."""
    with pytest.raises(MisuseError, match=why):
        RedisBackplane.from_url(url)
