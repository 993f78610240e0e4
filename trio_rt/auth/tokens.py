"""JSON Web Tokens: who shows a signed, unexpired one is let in (RFC 7519, RFC 8725).

PyJWT takes the token apart and proves the signature; the claims are checked here, by one table of
types and one clock that tests can set. The messages of refusals tell a stranger nothing, and the
cause is kept for the log.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import jwt
import msgspec

from trio_rt.auth.identity import Authenticator, Handshake, User
from trio_rt.auth.keys import NEW_SECRET, Key
from trio_rt.errors import MisuseError, Refuse

MAX_TOKEN_BYTES = 8192
"""Size of a token that is looked at (the usual limit of one HTTP header)."""

MAX_LEEWAY = 30.0
"""Seconds that the clocks of issuer and server may differ."""


class JWTAuth(Authenticator):
    """Lets in who has a token: `io(url, {auth: {token}})`, or `Authorization: Bearer`.

    `exp` and `sub` are required, `nbf` and `iat` are honoured. `sub` becomes `User.id`, `name`
    becomes `User.name`, and all claims are `User.claims`.

    Refusals: `token_missing`, `token_too_long`, `token_expired`, `token_not_yet_valid`, and
    `token_invalid` for everything else.

    Args:
        key: the secret for HS256, HS384, HS512; the public key in PEM format for RS*, PS*, ES* and
            EdDSA, which need the extra `trio-rt[crypto]`. Keys are not fetched: no JWKS.
        algorithms: one or several of one family, such as `("RS256",)`.
        audience: the names of this server, one of which `aud` must have. Without it, a token that
            is meant for somebody is refused.
        issuer: whose tokens are taken: `iss` must equal it.
        leeway: seconds that the clocks of issuer and server may differ, at most 30.
        clock: tells the time in Unix seconds.

    Raises:
        MisuseError: if the key is too weak, or does not suit the algorithms.
    """

    def __init__(
        self,
        key: str | bytes,
        *,
        algorithms: Sequence[str] = ("HS256",),
        audience: str | Sequence[str] | None = None,
        issuer: str | None = None,
        leeway: float = MAX_LEEWAY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(leeway, int | float) or not 0 <= leeway <= MAX_LEEWAY:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MisuseError(f"leeway is {leeway!r} s, and must be from 0 to {MAX_LEEWAY:.0f}")
        self._key = Key.of(key, _texts("algorithms", algorithms))
        self._audiences = _texts("audience", audience or ())
        if issuer is not None and not isinstance(issuer, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MisuseError(f"issuer={issuer!r} is no text, which `iss` is compared with")
        self._issuer = issuer
        self._leeway = leeway
        self._clock = clock

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Made from the environment, `os.environ` if none is given. An empty value counts as none.

        `TRIO_RT_JWT_SECRET`, or `TRIO_RT_JWT_PUBLIC_KEY_FILE` (the path of a PEM file);
        `TRIO_RT_JWT_ALGORITHMS` and `TRIO_RT_JWT_AUDIENCE`, each one or several with commas
        between; `TRIO_RT_JWT_ISSUER`.

        Raises:
            MisuseError: if there is no key, or if it cannot be used.
        """
        if environ is None:  # no default argument: help() would show all that is in it
            environ = os.environ
        algorithms = _listed(environ, "TRIO_RT_JWT_ALGORITHMS")
        return cls(
            _key_from_env(environ, algorithms),
            algorithms=algorithms or ("HS256",),
            audience=_listed(environ, "TRIO_RT_JWT_AUDIENCE"),
            issuer=environ.get("TRIO_RT_JWT_ISSUER") or None,
        )

    async def authenticate(self, handshake: Handshake) -> User:
        """The user that the handshake's token names. Never waits.

        Raises:
            Refuse: if there is no token, or if it is not good.
        """
        return self.verify(_token_of(handshake))

    def verify(self, token: str) -> User:
        """The user that a token names, for pages and tools that have the token itself.

        Raises:
            Refuse: if the token is not good.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise Refuse("token_too_long", f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        try:
            claims = _claims_decoder.decode(self._key.payload_of(token))
            known = msgspec.convert(claims, _Claims)
        except (jwt.PyJWTError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise _invalid() from error
        self._check(known)
        return User(known.sub, known.name or "", claims)

    def issue(self, user_id: str, /, name: str = "", lifetime: float = 3600, **claims: Any) -> str:
        """A token for a user, signed with the secret: for tests, tools and login pages.

        Args:
            user_id: becomes `sub`, and `User.id` of whoever shows the token.
            name: becomes `User.name`.
            lifetime: seconds until it expires.
            claims: what else the token says, as JSON values.

        Raises:
            MisuseError: if only a public key is known, or if no server would take the token.
        """
        if not self._key.can_sign:
            raise MisuseError("a public key cannot sign: let the issuer do it, who has the other")
        if type(user_id) is not str or not user_id:
            raise MisuseError(f"a token needs a user id, as text, not {user_id!r}")
        if not isinstance(lifetime, int | float) or not lifetime > 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MisuseError(f"a token needs a lifetime above 0 s, not {lifetime!r}")
        if taken := claims.keys() & {"sub", "iat", "exp"}:
            raise MisuseError(f"{', '.join(sorted(taken))}: say issue(user_id, lifetime=...)")
        payload = self._own_claims(user_id, name, lifetime) | claims
        token = self._key.sign(msgspec.json.encode(payload))
        if len(token) > MAX_TOKEN_BYTES:
            raise MisuseError(f"the token has {len(token)} bytes, of at most {MAX_TOKEN_BYTES}")
        return token

    def _check(self, claims: "_Claims") -> None:
        now = self._clock()
        if claims.exp <= now - self._leeway:
            raise Refuse("token_expired", "the token has expired")
        if max(claims.nbf, claims.iat) > now + self._leeway:
            raise Refuse("token_not_yet_valid", "the token is not valid yet")
        if self._issuer is not None and claims.iss != self._issuer:
            raise _invalid() from jwt.InvalidIssuerError("iss is not the issuer that we trust")
        audiences = _several(claims.aud)
        if (audiences or self._audiences) and set(audiences).isdisjoint(self._audiences):
            raise _invalid() from jwt.InvalidAudienceError("aud does not name this server")

    def _own_claims(self, user_id: str, name: str, lifetime: float) -> dict[str, Any]:
        now = int(self._clock())
        own = {"sub": user_id, "name": name, "iat": now, "exp": now + lifetime}
        own |= {"iss": self._issuer, "aud": next(iter(self._audiences), None)}
        return {claim: value for claim, value in own.items() if value not in (None, "")}


class _Claims(msgspec.Struct, frozen=True):
    """The claims that mean something here, by their types (RFC 7519, section 4.1)."""

    sub: Annotated[str, msgspec.Meta(min_length=1)]
    exp: float
    nbf: float = 0.0
    iat: float = 0.0
    iss: str | None = None
    aud: str | list[str] = []
    name: str | None = None


_claims_decoder = msgspec.json.Decoder(dict[str, Any])


def _invalid() -> Refuse:
    return Refuse("token_invalid", "the token is not valid")


def _token_of(handshake: Handshake) -> str:
    token = (handshake.auth or {}).get("token") or _bearer(handshake.headers)
    if not token:
        raise Refuse("token_missing", "a token is needed")
    if not isinstance(token, str):
        raise _invalid()
    return token


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _key_from_env(environ: Mapping[str, str], algorithms: Sequence[str]) -> str | bytes:
    secret = environ.get("TRIO_RT_JWT_SECRET")
    path = environ.get("TRIO_RT_JWT_PUBLIC_KEY_FILE")
    if secret and path:
        raise MisuseError("set TRIO_RT_JWT_SECRET or TRIO_RT_JWT_PUBLIC_KEY_FILE, not both")
    if secret:
        return secret
    if not path:
        raise MisuseError(
            f"no key for tokens: set TRIO_RT_JWT_SECRET to a secret of 32 bytes or more "
            f"({NEW_SECRET}), or TRIO_RT_JWT_PUBLIC_KEY_FILE to the path of a PEM file"
        )
    if not algorithms:
        raise MisuseError(
            "TRIO_RT_JWT_PUBLIC_KEY_FILE needs TRIO_RT_JWT_ALGORITHMS too, such as RS256"
        )
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise MisuseError(f"TRIO_RT_JWT_PUBLIC_KEY_FILE cannot be read: {error}") from error


def _listed(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    values = (value.strip() for value in environ.get(name, "").split(","))
    return tuple(value for value in values if value)


def _several(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    """An argument of one text or several; raises MisuseError if it is none."""
    several: tuple[Any, ...] = _several(value) if hasattr(value, "__iter__") else (value,)
    if not all(isinstance(one, str) for one in several):
        raise MisuseError(f"{name}={value!r} is no text, and no list of texts")
    return several
