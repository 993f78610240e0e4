"""URLs say where a server is and who we are there, or what is wrong with them."""

import ssl

import pytest

from trio_rt.backplane.redis.address import Address, read_url
from trio_rt.errors import MisuseError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", Address(host="localhost")),
        ("redis://example.org", Address(host="example.org")),
        ("redis://example.org:7000/3", Address(host="example.org", port=7000, db=3)),
        ("redis://example.org/?db=4", Address(host="example.org", db=4)),
        ("redis://[::1]:7000", Address(host="::1", port=7000)),
        ("redis://:s%2Fecret@h", Address(host="h", password="s/ecret")),
        ("redis://ann:pw@h", Address(host="h", username="ann", password="pw")),
        ("unix:///run/r%20.sock", Address(path="/run/r .sock")),
        (
            "unix://ann:pw@/r.sock?db=2",
            Address(path="/r.sock", username="ann", password="pw", db=2),
        ),
    ],
)
def test_read_url(url: str, address: Address) -> None:
    """A URL of each form gives its address."""
    assert read_url(url) == address


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://h", "scheme"),
        ("h:6379", "scheme"),
        ("redis://h/zero", "database"),
        ("redis://h/-1", "database"),
        ("redis://h:99999", "port"),
        ("redis://h?ssl_cert_reqs=none", "ssl.SSLContext"),
        ("redis://h?protocol=2", "unknown"),
        ("redis://h?ssl_ca_certs=f", "rediss"),
        ("unix://run/r.sock", "absolute"),
        ("unix://", "absolute"),
    ],
)
def test_bad_url(url: str, why: str) -> None:
    """A URL that would be misread is refused, and the message says why."""
    with pytest.raises(MisuseError, match=why):
        read_url(url)


def test_tls_checks_host_name() -> None:
    """A rediss:// URL checks certificate and host name."""
    tls = read_url("rediss://h").tls
    assert tls is not None
    assert tls.check_hostname
    assert tls.verify_mode is ssl.CERT_REQUIRED


def test_tls_context_needs_rediss() -> None:
    """A TLS context with a URL that would not use it is refused."""
    with pytest.raises(MisuseError, match="rediss"):
        read_url("redis://h", tls=ssl.create_default_context())


def test_no_password_shown() -> None:
    """Neither text of an address shows the password."""
    address = read_url("redis://ann:secret@h")
    assert "secret" not in f"{address} {address!r}"
    assert str(address) == "redis://h:6379"
