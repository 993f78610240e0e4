"""Keys, tokens good and forged, and what must become of them."""

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from trio_rt.auth import JWTAuth
from trio_rt.errors import Refuse

SECRET = "a secret of more than thirty-two bytes"
LONG_SECRET = "s" * 64
NOW = 1_700_000_000.0
GOOD = {"sub": "ann", "exp": NOW + 60}

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
WEAK_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC = ec.generate_private_key(ec.SECP256R1())
EC_384 = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()


def auth_at(now: float = NOW, key: str | bytes = SECRET, **options: Any) -> JWTAuth:
    return JWTAuth(key, clock=lambda: now, **options)


def signed(claims: Any, key: Any = SECRET, algorithm: str = "HS256", **headers: Any) -> str:
    return jwt.PyJWS().encode(json.dumps(claims).encode(), key, algorithm, headers)


def part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def hs256(header: bytes, payload: bytes, key: bytes = SECRET.encode()) -> str:
    """A token whose parts are whatever we like, with a signature that is right."""
    body = f"{part(header)}.{part(payload)}"
    return f"{body}.{part(hmac.digest(key, body.encode(), hashlib.sha256))}"


def pem(key: Any) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def private_pem(key: Any) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def assert_refused(auth: JWTAuth, token: str, code: str = "token_invalid") -> None:
    with pytest.raises(Refuse) as refusal:
        auth.verify(token)
    assert refusal.value.code == code
    assert refusal.value.details is None
    assert token[:20] not in refusal.value.message
