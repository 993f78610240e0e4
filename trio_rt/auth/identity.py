"""The user, what a client showed at the door, and the contract of who looks at it.

An authenticator is asked once for each namespace that a client connects to, before any middleware
or handler. It returns a `User`, or raises `Refuse`, which the client gets as CONNECT_ERROR.
"""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

from trio_rt.errors import MisuseError

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def _check_id(_user: "User", _field: Any, id: Any) -> None:
    if not isinstance(id, str) or not id:
        raise MisuseError(f"the id of a user is text, and not {id!r}. Write: User(str(id))")


@attrs.frozen
class User:
    """Who a socket belongs to. Several sockets may belong to one user.

    Raises:
        MisuseError: if its id is no text, or empty.
    """

    id: str = attrs.field(validator=_check_id)
    """The stable name of the user, unique among all."""

    name: str = ""
    """What people call the user; may be empty, and need not be unique."""

    claims: Mapping[str, Any] = attrs.field(default=_NOTHING, hash=False)
    """What the authenticator knows besides, such as the claims of a token."""

    @property
    def expires(self) -> float | None:
        """Unix time in seconds at which the user's rights end (the `exp` claim), if they do."""
        return self.claims.get("exp")


@attrs.frozen(kw_only=True, weakref_slot=False)
class Handshake:
    """What a client showed when it connected to a namespace.

    There is one per socket, so it is small: the sockets of one connection share its `query` and
    `headers`. Its `repr` leaves out what may carry secrets.
    """

    namespace: str
    """The namespace that is connected, such as `"/"`."""

    auth: Mapping[str, Any] = attrs.field(default=_NOTHING, repr=False)
    """The payload of the CONNECT packet: the client's `auth` option; empty if it has none."""

    query: Mapping[str, str] = attrs.field(default=_NOTHING, repr=False)
    """The query of the HTTP request. Proxies write it to their logs: no place for a token."""

    headers: Mapping[str, str] = attrs.field(default=_NOTHING, repr=False)
    """The headers of the HTTP request, by lower-case name."""

    address: str = ""
    """The client's address, `"host:port"`."""

    url: str = attrs.field(default="", repr=False)
    """The target of the HTTP request, with its query."""

    secure: bool = False
    """Whether the connection came in over TLS."""

    issued: float = 0.0
    """Unix time of the handshake in seconds."""


class Authenticator(ABC):
    """Decides who a client is, before anything else is done for it."""

    __slots__ = ()

    @abstractmethod
    async def authenticate(self, handshake: Handshake) -> User:
        """Tells who is there.

        It may wait, for a database say; it is cancelled when `Config.auth_timeout` is over.

        Raises:
            Refuse: if the client may not come in; the client is told its code and message, so they
                should tell a stranger nothing. Keep the cause for the log: `raise ... from error`.
        """

    def recognize(self, before: User, now: User) -> User | None:
        """Decides whether a client that comes back may have the session of `before`.

        It was authenticated as `now`, and showed the session's private id.

        Returns:
            The user that the session has from now on; None if it is somebody else's.
        """
        return now if before.id == now.id else None


class Anonymous(Authenticator):
    """Lets everyone in, each socket as a guest with a fresh id that nobody can guess."""

    __slots__ = ()

    async def authenticate(self, handshake: Handshake) -> User:
        """A new guest."""
        return User(f"guest-{secrets.token_urlsafe(12)}")

    def recognize(self, before: User, now: User) -> User | None:
        """The guest of before: the private id is all that a guest can show."""
        return before
