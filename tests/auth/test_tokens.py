"""Who is let in by a token, and what the token may say."""

from typing import Any

import jwt
import pytest

from tests.auth.forge import GOOD, NOW, assert_refused, auth_at, hs256, signed
from trio_rt.auth import Handshake, User
from trio_rt.errors import MisuseError, Refuse


async def test_a_good_token_names_the_user() -> None:
    """`sub`, `name` and all claims arrive."""
    token = signed(GOOD | {"name": "Ann", "role": "host"})
    user = await auth_at().authenticate(Handshake(namespace="/", auth={"token": token}))
    assert user == User("ann", "Ann", GOOD | {"name": "Ann", "role": "host"})
    assert user.expires == NOW + 60


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer  "])
async def test_a_header_will_do(scheme: str) -> None:
    """The token may come as `Authorization: Bearer`."""
    handshake = Handshake(namespace="/", headers={"authorization": scheme + signed(GOOD)})
    assert (await auth_at().authenticate(handshake)).id == "ann"


async def test_the_auth_payload_wins_over_the_header() -> None:
    """A token in the CONNECT packet is the one that counts."""
    header = {"authorization": "Bearer " + signed(GOOD | {"sub": "bob"})}
    handshake = Handshake(namespace="/", auth={"token": signed(GOOD)}, headers=header)
    assert (await auth_at().authenticate(handshake)).id == "ann"


@pytest.mark.parametrize(
    ("auth", "authorization"),
    [
        (None, ""),
        ({}, ""),
        ({"token": None}, ""),
        ({"token": ""}, "Bearer "),
        ({"token": []}, "Basic YW5uOmh1c2g="),
    ],
)
async def test_no_token(auth: Any, authorization: str) -> None:
    """Without a token nobody comes in."""
    handshake = Handshake(namespace="/", auth=auth, headers={"authorization": authorization})
    with pytest.raises(Refuse) as refusal:
        await auth_at().authenticate(handshake)
    assert refusal.value.code == "token_missing"


@pytest.mark.parametrize("token", [1, True, ["x"], {"a": "b"}, b"x.y.z"])
async def test_a_token_that_is_no_text(token: Any) -> None:
    """Any other JSON value or attachment in place of the token is refused."""
    with pytest.raises(Refuse) as refusal:
        await auth_at().authenticate(Handshake(namespace="/", auth={"token": token}))
    assert refusal.value.code == "token_invalid"


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"exp": NOW + 1}, None),
        ({"exp": NOW - 29}, None),
        ({"exp": NOW - 30}, "token_expired"),
        ({"exp": 0}, "token_expired"),
        ({"exp": NOW + 60, "nbf": NOW + 30}, None),
        ({"exp": NOW + 60, "nbf": NOW + 31}, "token_not_yet_valid"),
        ({"exp": NOW + 60, "iat": NOW + 30}, None),
        ({"exp": NOW + 60, "iat": NOW + 31}, "token_not_yet_valid"),
    ],
)
def test_time(claims: dict[str, float], code: str | None) -> None:
    """`exp`, `nbf` and `iat` count, with 30 s for clocks that differ."""
    token = signed({"sub": "ann"} | claims)
    if code is None:
        assert auth_at().verify(token).id == "ann"
    else:
        assert_refused(auth_at(), token, code)


def test_no_leeway() -> None:
    """With leeway 0 a token ends when it says so."""
    assert_refused(auth_at(leeway=0), signed(GOOD | {"exp": NOW}), "token_expired")


@pytest.mark.parametrize("leeway", [-1, 30.5, float("nan"), float("inf")])
def test_a_leeway_out_of_bounds(leeway: float) -> None:
    """More than 30 s of it is a mistake."""
    with pytest.raises(MisuseError, match="leeway"):
        auth_at(leeway=leeway)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW + 60},
        {"sub": "ann"},
        GOOD | {"sub": ""},
        GOOD | {"sub": 7},
        GOOD | {"sub": None},
        GOOD | {"exp": None},
        GOOD | {"exp": True},
        GOOD | {"exp": str(NOW + 60)},
        GOOD | {"exp": [NOW + 60]},
        GOOD | {"nbf": "soon"},
        GOOD | {"iat": {}},
        GOOD | {"name": ["Ann"]},
        GOOD | {"aud": 3},
        GOOD | {"aud": [3]},
        [GOOD],
        "ann",
        None,
    ],
)
def test_claims_of_a_wrong_kind(claims: Any) -> None:
    """A missing or mistyped claim is refused even where the signature is good."""
    assert_refused(auth_at(), signed(claims))


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e999", b"9" * 500])
def test_numbers_that_are_none(number: bytes) -> None:
    """An expiry that no clock can reach is no expiry."""
    payload = b'{"sub":"ann","exp":' + number + b"}"
    assert_refused(auth_at(), hs256(b'{"alg":"HS256"}', payload))


def test_a_null_name_is_none() -> None:
    """Issuers that write `name: null` are understood."""
    assert auth_at().verify(signed(GOOD | {"name": None})).name == ""


@pytest.mark.parametrize(
    ("audience", "aud", "good"),
    [
        ("chat", "chat", True),
        ("chat", ["mail", "chat"], True),
        (["a", "chat"], "chat", True),
        ("chat", "mail", False),
        ("chat", [], False),
        ("chat", None, False),
        (None, "mail", False),
        (None, None, True),
    ],
)
def test_audience(audience: Any, aud: Any, good: bool) -> None:
    """A token counts only where it is meant to (RFC 7519, section 4.1.3)."""
    token = signed(GOOD if aud is None else GOOD | {"aud": aud})
    if good:
        assert auth_at(audience=audience).verify(token).id == "ann"
    else:
        assert_refused(auth_at(audience=audience), token)


def test_issuer() -> None:
    """Only tokens of the issuer are taken, where one is named."""
    auth = auth_at(issuer="us")
    assert auth.verify(signed(GOOD | {"iss": "us"})).id == "ann"
    assert_refused(auth, signed(GOOD | {"iss": "them"}))
    assert_refused(auth, signed(GOOD))


def test_the_log_learns_more_than_the_client() -> None:
    """The cause of a refusal is kept, and the message is the same for all."""
    with pytest.raises(Refuse, match=r"^the token is not valid$") as refusal:
        auth_at(issuer="us").verify(signed(GOOD))
    assert isinstance(refusal.value.__cause__, jwt.InvalidIssuerError)
