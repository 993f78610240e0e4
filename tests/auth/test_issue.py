"""Tokens of our own, and settings from the environment."""

from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.auth.forge import ED, LONG_SECRET, NOW, RSA, SECRET, assert_refused, auth_at, pem, signed
from trio_rt.auth import JWTAuth, User
from trio_rt.auth.tokens import MAX_TOKEN_BYTES
from trio_rt.errors import MisuseError


def test_what_is_issued_is_let_in() -> None:
    """A token of our own names its user, for its lifetime."""
    options: dict[str, Any] = {"audience": ("chat", "mail"), "issuer": "us", "leeway": 0}
    token = auth_at(**options).issue("ann", "Ann", 60, role="host")
    user = auth_at(NOW + 59, **options).verify(token)
    assert user == User(
        "ann",
        "Ann",
        {
            "sub": "ann",
            "name": "Ann",
            "iat": NOW,
            "exp": NOW + 60,
            "iss": "us",
            "aud": "chat",
            "role": "host",
        },
    )
    assert_refused(auth_at(NOW + 60, **options), token, "token_expired")


# No surrogates, which UTF-8 cannot say.
valid_text = st.text(st.characters(exclude_categories=[], max_codepoint=0xD7FF), max_size=200)


@given(valid_text.filter(bool), valid_text)
def test_any_user_comes_back(user_id: str, name: str) -> None:
    """verify(issue(x)) is x."""
    user = auth_at().verify(auth_at().issue(user_id, name))
    assert (user.id, user.name) == (user_id, name)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"lifetime": 0}, "lifetime"),
        ({"exp": 1}, "exp: say"),
        ({"x": "x" * MAX_TOKEN_BYTES}, "of at most 8192"),
    ],
)
def test_tokens_that_nobody_would_take(arguments: Any, told: str) -> None:
    """Such a token is not made."""
    with pytest.raises(MisuseError, match=told):
        auth_at().issue("ann", **arguments)
    with pytest.raises(MisuseError, match="needs a user id"):
        auth_at().issue("")


def test_a_public_key_cannot_issue() -> None:
    """Signing needs a secret."""
    with pytest.raises(MisuseError, match="cannot sign"):
        JWTAuth(pem(RSA), algorithms=("RS256",)).issue("ann")


def test_from_env() -> None:
    """All settings are taken."""
    environ = {
        "TRIO_RT_JWT_SECRET": LONG_SECRET,
        "TRIO_RT_JWT_ALGORITHMS": "HS512, HS256",
        "TRIO_RT_JWT_AUDIENCE": "chat,mail",
        "TRIO_RT_JWT_ISSUER": "us",
    }
    auth = JWTAuth.from_env(environ)
    token = auth.issue("ann")
    assert jwt.get_unverified_header(token)["alg"] == "HS512"
    assert auth.verify(token).claims["aud"] == "chat"
    assert_refused(JWTAuth.from_env(environ | {"TRIO_RT_JWT_ISSUER": "them"}), token)
    assert_refused(JWTAuth.from_env(environ | {"TRIO_RT_JWT_AUDIENCE": ""}), token)


def test_from_env_with_a_public_key(tmp_path: Path) -> None:
    """The PEM file is read."""
    path = tmp_path / "key.pem"
    path.write_bytes(pem(ED))
    environ = {"TRIO_RT_JWT_PUBLIC_KEY_FILE": str(path), "TRIO_RT_JWT_ALGORITHMS": "EdDSA"}
    token = signed({"sub": "ann", "exp": 9_999_999_999}, ED, "EdDSA")
    assert JWTAuth.from_env(environ).verify(token).id == "ann"


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, "trio-rt token --new-secret"),
        ({"TRIO_RT_JWT_SECRET": ""}, "TRIO_RT_JWT_SECRET"),
        ({"TRIO_RT_JWT_SECRET": "short"}, "has 5 bytes"),
        ({"TRIO_RT_JWT_SECRET": SECRET, "TRIO_RT_JWT_PUBLIC_KEY_FILE": "x"}, "not both"),
        ({"TRIO_RT_JWT_SECRET": SECRET, "TRIO_RT_JWT_ALGORITHMS": "none"}, "one family"),
        ({"TRIO_RT_JWT_PUBLIC_KEY_FILE": "x"}, "TRIO_RT_JWT_ALGORITHMS"),
        (
            {"TRIO_RT_JWT_PUBLIC_KEY_FILE": "/no/such", "TRIO_RT_JWT_ALGORITHMS": "RS256"},
            "cannot be read",
        ),
    ],
)
def test_an_environment_without_a_good_key(environ: dict[str, str], told: str) -> None:
    """What is missing is named, with what to do."""
    with pytest.raises(MisuseError, match=told):
        JWTAuth.from_env(environ)
