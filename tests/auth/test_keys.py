"""Keys that are weak, or do not suit, are told when the server is made."""

import json
from typing import Any

import pytest

from tests.auth.forge import (
    EC,
    EC_384,
    ED,
    GOOD,
    LONG_SECRET,
    RSA,
    SECRET,
    WEAK_RSA,
    assert_refused,
    auth_at,
    part,
    pem,
    private_pem,
    signed,
)
from trio_rt.auth import JWTAuth
from trio_rt.errors import MisuseError


@pytest.mark.parametrize(("algorithm", "least"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_short_secrets(algorithm: str, least: int) -> None:
    """A secret is as long as the hash (RFC 7518, section 3.2)."""
    JWTAuth("s" * least, algorithms=(algorithm,))
    with pytest.raises(MisuseError, match=rf"has {least - 1} bytes, and {algorithm} needs {least}"):
        JWTAuth("s" * (least - 1), algorithms=(algorithm,))
    with pytest.raises(MisuseError, match="0 bytes"):
        JWTAuth("", algorithms=(algorithm,))


@pytest.mark.parametrize(
    "algorithms",
    [(), ("none",), ("HS256", "none"), ("HS256", "RS256"), ("hs256",), ("RS256", "ES256"), "none"],
)
def test_algorithms_that_cannot_share_a_key(algorithms: Any) -> None:
    """`none`, unknown ones, and symmetric beside asymmetric are refused."""
    with pytest.raises(MisuseError, match="must be some of one family"):
        JWTAuth(LONG_SECRET, algorithms=algorithms)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (RSA, "RS256"),
        (RSA, "RS512"),
        (RSA, "PS256"),
        (EC, "ES256"),
        (EC_384, "ES384"),
        (ED, "EdDSA"),
    ],
)
def test_public_keys(key: Any, algorithm: str) -> None:
    """A token that the private key signed is let in by the public one, and no other is."""
    auth = auth_at(key=pem(key), algorithms=algorithm)
    token = signed(GOOD, key, algorithm)
    assert auth.verify(token).id == "ann"
    head, _, signature = token.split(".")
    assert_refused(auth, f"{head}.{part(json.dumps(GOOD | {'sub': 'root'}).encode())}.{signature}")
    assert_refused(auth, signed(GOOD))


@pytest.mark.parametrize(
    ("key", "algorithm", "told"),
    [
        (pem(EC), "RS256", "not a public key in PEM format for RS256"),
        (pem(RSA), "ES256", "not a public key in PEM format for ES256"),
        (pem(EC_384), "ES256", "not a public key in PEM format for ES256"),
        (pem(RSA), "EdDSA", "not a public key in PEM format for EdDSA"),
        (b"garbage", "RS256", "not a public key in PEM format for RS256"),
        (SECRET, "RS256", "not a public key in PEM format for RS256"),
        (pem(WEAK_RSA), "RS256", "has 1024 bits"),
        (private_pem(RSA), "RS256", "private key"),
    ],
)
def test_keys_that_do_not_suit(key: Any, algorithm: str, told: str) -> None:
    """A key of another family, a weak one or a private one is told at once."""
    with pytest.raises(MisuseError, match=told):
        JWTAuth(key, algorithms=(algorithm,))


def test_the_crypto_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a cryptography library, the message says what to install."""
    monkeypatch.setattr("jwt.algorithms.has_crypto", False)
    with pytest.raises(MisuseError, match=r"RS256 needs .*trio-rt\[crypto\]"):
        JWTAuth(pem(RSA), algorithms=("RS256",))


def test_no_secret_in_reprs() -> None:
    """Neither the authenticator nor its key shows the secret."""
    auth = auth_at()
    assert SECRET not in repr(auth)
    assert all(SECRET not in repr(value) for value in vars(auth).values())
