"""The server's part of the opening handshake (RFC 6455, section 4.2), as pure functions.

Reading the request and sending the answer is somebody else's work: here is what has to be in them.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha1
from types import MappingProxyType

import attrs

from trio_rt.errors import MisuseError

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # 1.3

# Sixteen bytes in base64 (4.1).
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")

# RFC 9110, section 5: a token, and text without control characters, so that no header of the
# response can smuggle in another one.
_HEADER_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]*")


@attrs.frozen
class Upgrade:
    """A request for a WebSocket that may be accepted."""

    key: str
    """The client's `Sec-WebSocket-Key`."""

    extensions: str = ""
    """The client's `Sec-WebSocket-Extensions`, for `deflate.negotiate`."""


@attrs.frozen
class Refusal:
    """What is wrong with a request for a WebSocket."""

    status: int
    """The HTTP status to answer with."""

    message: str
    """One sentence for the body, without the peer's own bytes."""

    headers: Mapping[str, str] = MappingProxyType({})
    """What the answer must say besides."""


# What a client has to send, told to one that did not (4.4; RFC 9110, 15.5.22).
_WANTED = MappingProxyType(
    {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
)


def read_upgrade(method: str, http_version: str, headers: Mapping[str, str]) -> Upgrade | Refusal:
    """Decides whether a request can become a WebSocket (4.2.1).

    The `Origin` is not looked at: whose pages may connect is no matter of the protocol.

    Args:
        method: of the request, such as `"GET"`.
        http_version: such as `"1.1"`.
        headers: by lower-case name; of one that was sent several times, the values joined by
            commas.
    """
    if method != "GET":
        return Refusal(405, "a WebSocket is opened by GET", {"allow": "GET"})
    if http_version != "1.1":
        return Refusal(400, "a WebSocket is opened over HTTP/1.1")
    if not headers.get("host"):
        return Refusal(400, "the Host header is missing")
    if "websocket" not in _tokens(headers, "upgrade"):
        return Refusal(426, "the Upgrade header must name websocket", _WANTED)
    if "upgrade" not in _tokens(headers, "connection"):
        return Refusal(400, "the Connection header must name Upgrade")
    if headers.get("sec-websocket-version", "").strip() != "13":
        return Refusal(426, "the Sec-WebSocket-Version must be 13", _WANTED)
    key = headers.get("sec-websocket-key", "").strip()
    if not _KEY.fullmatch(key):
        return Refusal(400, "the Sec-WebSocket-Key must be 16 bytes in base64")
    return Upgrade(key, headers.get("sec-websocket-extensions", ""))


def accept_key(key: str) -> str:
    """The `Sec-WebSocket-Accept` that proves we have read `key` (4.2.2)."""
    return b64encode(sha1((key + _GUID).encode(), usedforsecurity=False).digest()).decode()


def upgrade_response(
    upgrade: Upgrade, *, extensions: str | None = None, headers: Iterable[tuple[str, str]] = ()
) -> bytes:
    """The whole 101 response; WebSocket frames follow its last byte (4.2.2).

    Args:
        upgrade: what `read_upgrade` made of the request.
        extensions: what `deflate.negotiate` agreed to.
        headers: more to send, such as a cookie.

    Raises:
        MisuseError: if one of the headers cannot be sent.
    """
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(upgrade.key)}",
    ]
    if extensions is not None:
        lines.append(f"Sec-WebSocket-Extensions: {extensions}")
    for name, value in headers:
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise MisuseError(f"{name!r}: {value!r} is no valid HTTP header")
        lines.append(f"{name}: {value}")
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def _tokens(headers: Mapping[str, str], name: str) -> set[str]:
    """The elements of a comma-separated header, which have no case here (4.2.1)."""
    return {token.strip().lower() for token in headers.get(name, "").split(",")}
