"""Every known attack on tokens is refused, and so is garbage."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.auth.forge import (
    EC,
    ED,
    GOOD,
    LONG_SECRET,
    RSA,
    assert_refused,
    auth_at,
    hs256,
    part,
    pem,
    signed,
)
from trio_rt.auth import JWTAuth
from trio_rt.auth.tokens import MAX_TOKEN_BYTES
from trio_rt.errors import MisuseError, Refuse


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 0, [], {}, ["HS256"]])
def test_attack_algorithm_none(alg: Any) -> None:
    """A token that says it needs no signature gets nowhere, with or without one."""
    header = json.dumps({"alg": alg}).encode()
    token = hs256(header, json.dumps(GOOD).encode())
    assert_refused(auth_at(), token)
    assert_refused(auth_at(), token.rpartition(".")[0] + ".")


def test_attack_no_algorithm_at_all() -> None:
    """There is no default algorithm."""
    assert_refused(auth_at(), hs256(b"{}", json.dumps(GOOD).encode()))


def test_attack_signature_stripped_or_changed() -> None:
    """A signature is needed, and it must be of this very token."""
    head, body, signature = signed(GOOD).split(".")
    other = part(json.dumps(GOOD | {"sub": "root"}).encode())
    auth = auth_at()
    assert_refused(auth, f"{head}.{body}.")
    assert_refused(auth, f"{head}.{body}")
    assert_refused(auth, f"{head}.{other}.{signature}")
    assert_refused(auth, f"{head}.{body}.{signature}.{signature}")
    assert_refused(auth, signed(GOOD, "another secret of thirty-two bytes and more"))


def test_attack_another_algorithm_than_configured() -> None:
    """The token does not choose: a good HS512 signature by the same key is refused."""
    token = signed(GOOD, LONG_SECRET, "HS512")
    assert_refused(auth_at(key=LONG_SECRET), token)
    several = auth_at(key=LONG_SECRET, algorithms=("HS256", "HS512"))
    assert several.verify(token).id == "ann"


def test_attack_algorithm_confusion() -> None:
    """A public key is public: HS256 with it as the secret is refused (RFC 8725, section 2.1)."""
    token = hs256(b'{"alg":"HS256"}', json.dumps(GOOD).encode(), key=pem(RSA))
    assert_refused(auth_at(key=pem(RSA), algorithms=["RS256"]), token)


@pytest.mark.parametrize("key", [RSA, EC, ED])
def test_attack_algorithm_confusion_by_configuration(key: Any) -> None:
    """A public key given as HS256's secret is a mistake that is told at once."""
    with pytest.raises(MisuseError, match="a public key is no secret"):
        JWTAuth(pem(key))


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "../../../../dev/null"},
        {"kid": "' UNION SELECT 'key"},
        {"jku": "http://attacker.example/keys.json"},
        {"x5u": "http://attacker.example/cert.pem"},
        {"jwk": {"kty": "oct", "k": part(b"attacker's secret of 32 bytes...")}},
    ],
)
def test_attack_a_token_that_brings_its_own_key(header: dict[str, Any]) -> None:
    """What a token says of keys is ignored: ours counts."""
    assert_refused(auth_at(), signed(GOOD, "attacker's secret of 32 bytes...", **header))
    assert auth_at().verify(signed(GOOD, **header)).id == "ann"


def test_attack_kid_of_a_wrong_kind() -> None:
    """A key id that is no text is malformed."""
    header = json.dumps({"alg": "HS256", "kid": {"$ne": 1}}).encode()
    assert_refused(auth_at(), hs256(header, json.dumps(GOOD).encode()))


@pytest.mark.parametrize("crit", [["exp"], ["b64"], ["http://x"], [], "b64", None, {}])
def test_attack_critical_extensions(crit: Any) -> None:
    """What must be understood and is not, is refused (RFC 7515, section 4.1.11)."""
    header = {"alg": "HS256", "crit": crit, "b64": True, "http://x": 1}
    assert_refused(auth_at(), hs256(json.dumps(header).encode(), json.dumps(GOOD).encode()))


def test_attack_detached_payload() -> None:
    """The unencoded payload of RFC 7797 is not for tokens."""
    header = json.dumps({"alg": "HS256", "crit": ["b64"], "b64": False}).encode()
    assert_refused(auth_at(), hs256(header, json.dumps(GOOD).encode()))
    assert_refused(auth_at(), hs256(header, b""))


def test_attack_nesting() -> None:
    """JSON that is all brackets is refused, in the header and in the payload."""
    deep = b"[" * 3000
    assert_refused(auth_at(), hs256(b'{"alg":"HS256"}', deep))
    assert_refused(auth_at(), hs256(b'{"alg":"HS256"}', b'{"x":' + deep + b"]" * 3000 + b"}"))
    assert_refused(auth_at(), hs256(deep, b"{}"))


def test_attack_a_huge_token() -> None:
    """A token over the bound is not even looked at."""
    token = signed(GOOD | {"x": "x" * MAX_TOKEN_BYTES})
    assert_refused(auth_at(), token, "token_too_long")


def test_attack_invalid_text() -> None:
    """A payload that is no UTF-8, and letters that no token has."""
    assert_refused(auth_at(), hs256(b'{"alg":"HS256"}', b'{"sub":"\xff\xfe","exp":9999999999}'))
    assert_refused(auth_at(), hs256(b"\xff", b"{}"))
    assert_refused(auth_at(), "\ud800.\u0430.\N{SNOWMAN}")


# Ranges instead of categories: Hypothesis takes seconds to draw up its table of those.
any_text = st.text(st.characters(exclude_categories=[]))


@given(any_text)
def test_any_text_is_refused(token: str) -> None:
    """Garbage gives a refusal and nothing else."""
    with pytest.raises(Refuse):
        auth_at().verify(token)


@given(st.binary(), st.binary(), st.binary())
def test_any_three_parts_are_refused(head: bytes, body: bytes, signature: bytes) -> None:
    """Well-cut garbage too."""
    with pytest.raises(Refuse):
        auth_at().verify(f"{part(head)}.{part(body)}.{part(signature)}")


scalars = st.none() | st.booleans() | st.integers() | st.floats() | any_text
json_values = (
    scalars | st.lists(scalars, max_size=3) | st.dictionaries(any_text, scalars, max_size=3)
)
header_names = st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jku", "x5u", "cty", "zip"])


@given(st.dictionaries(header_names, json_values), st.binary())
def test_any_header_is_refused(header: dict[str, Any], payload: bytes) -> None:
    """Any header over a good signature, with a payload that is no claims."""
    with pytest.raises(Refuse):
        auth_at().verify(hs256(json.dumps({"alg": "HS256"} | header).encode(), payload))


claim_names = st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "name", "jti"])


@given(st.dictionaries(claim_names, json_values))
def test_any_signed_claims_give_a_user_or_a_refusal(claims: dict[str, Any]) -> None:
    """Even an issuer gone mad raises nothing else."""
    token = hs256(b'{"alg":"HS256"}', json.dumps(claims).encode("utf-8", "replace"))
    try:
        user = auth_at(issuer="us").verify(token)
    except Refuse:
        return
    assert user.id == claims["sub"]
