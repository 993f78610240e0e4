"""Keys that sign tokens or prove them, each bound to the algorithms it may be used with.

What can be wrong with a key is told when the server is made, not when somebody attacks it: a short
secret, a public key that would serve as a secret (algorithm confusion, RFC 8725 section 2.1), a
private key where a public one is enough. What a token says of algorithms chooses among those given
here and nothing else; what it says of keys (`kid`, `jku`, `jwk`, `x5u`) is never followed.
"""

from collections.abc import Sequence
from typing import Any

import attrs
import jwt
from jwt.algorithms import HMACAlgorithm

from trio_rt.errors import MisuseError

NEW_SECRET = "make one with `trio-rt token --new-secret`"

_SECRET = {
    "HS256": HMACAlgorithm.SHA256,
    "HS384": HMACAlgorithm.SHA384,
    "HS512": HMACAlgorithm.SHA512,
}
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_FAMILIES = (tuple(_SECRET), _RSA, ("ES256", "ES384", "ES512"), ("EdDSA",))
_MIN_RSA_BITS = 2048  # RFC 7518, section 3.3


@attrs.frozen
class Key:
    """A key together with the only algorithms that it is used with."""

    algorithms: tuple[str, ...]
    """What may have signed a token; the first one signs ours."""

    can_sign: bool
    """Whether it is a secret, and not a public key."""

    _jws: jwt.PyJWS
    _material: Any = attrs.field(repr=False)

    @classmethod
    def of(cls, material: str | bytes, algorithms: Sequence[str]) -> "Key":
        """A key that was checked.

        Args:
            material: the secret for HS256, HS384, HS512; a public key in PEM format for the others.
            algorithms: one or several of one family.

        Raises:
            MisuseError: if the key does not suit the algorithms, or is too weak.
        """
        if not isinstance(material, str | bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MisuseError(
                f"the key is a {type(material).__name__}, and must be text or bytes: {NEW_SECRET}"
            )
        names = tuple(algorithms)
        is_secret = _family_of(names) is _FAMILIES[0]
        prepare = _prepare_secret if is_secret else _prepare_public_key
        jws, prepared = prepare(
            material.encode("utf-8", "surrogateescape") if isinstance(material, str) else material,
            names,
        )
        return cls(names, is_secret, jws, prepared)

    def sign(self, payload: bytes) -> str:
        """A token with this payload."""
        return self._jws.encode(payload, self._material, self.algorithms[0])

    def payload_of(self, token: str) -> bytes:
        """The payload of a token that this key proves.

        Raises:
            jwt.PyJWTError: if the token is malformed, or signed otherwise.
            ValueError: if it has characters that no token has.
            RecursionError: if its header is nested too deeply.
        """
        parts = self._jws.decode_complete(
            token.encode("ascii"), self._material, algorithms=self.algorithms
        )
        if "crit" in parts["header"]:  # RFC 7515, section 4.1.11: we understand no extension
            raise jwt.InvalidTokenError("the token has critical extensions")
        payload: bytes = parts["payload"]
        return payload


class _PreparedHMAC(HMACAlgorithm):
    """HMAC with a secret that was checked before.

    For every token, PyJWT asks anew whether the secret is a public key in one of the many formats:
    that was 11 of 27 us. `_prepare_secret` asks once.
    """

    def prepare_key(self, key: Any) -> Any:
        return key


def _family_of(algorithms: Sequence[str]) -> Sequence[str]:
    for family in _FAMILIES:
        if algorithms and set(algorithms) <= set(family):
            return family
    known = "; ".join(", ".join(family) for family in _FAMILIES)
    raise MisuseError(f"algorithms is {algorithms!r}, and must be some of one family of: {known}")


def _prepare_secret(secret: bytes, algorithms: Sequence[str]) -> tuple[jwt.PyJWS, bytes]:
    jws = jwt.PyJWS(())
    for name in algorithms:
        _check_secret(secret, name)
        jws.register_algorithm(name, _PreparedHMAC(_SECRET[name]))
    return jws, secret


def _check_secret(secret: bytes, name: str) -> None:
    least = _SECRET[name]().digest_size  # RFC 7518, section 3.2
    if len(secret) < least:
        raise MisuseError(
            f"the secret has {len(secret)} bytes, and {name} needs {least}: {NEW_SECRET}"
        )
    try:
        HMACAlgorithm(_SECRET[name]).prepare_key(secret)
    except jwt.InvalidKeyError as error:  # whoever has the public key could sign with it
        raise MisuseError(
            f"a public key is no secret for {name}: name its own algorithm, such as "
            f'algorithms=("RS256",), or {NEW_SECRET}'
        ) from error


def _prepare_public_key(pem: bytes, algorithms: Sequence[str]) -> tuple[jwt.PyJWS, Any]:
    if b"PRIVATE KEY" in pem:
        raise MisuseError(
            "that is a private key, and a server needs the public one only: openssl pkey -pubout"
        )
    jws = jwt.PyJWS(algorithms)
    keys = [_read_public_key(jws, pem, name) for name in algorithms]
    bits = keys[0].key_size if algorithms[0] in _RSA else _MIN_RSA_BITS
    if bits < _MIN_RSA_BITS:
        raise MisuseError(f"the RSA key has {bits} bits, and must have {_MIN_RSA_BITS}")
    return jws, keys[0]


def _read_public_key(jws: jwt.PyJWS, pem: bytes, name: str) -> Any:
    try:
        return jws.get_algorithm_by_name(name).prepare_key(pem)
    except NotImplementedError as error:
        raise MisuseError(
            f"{name} needs a cryptography library: pip install 'trio-rt[crypto]'"
        ) from error
    except Exception as error:  # a parser of keys may raise anything
        raise MisuseError(f"the key is not a public key in PEM format for {name}") from error
