"""Every limit and interval of a server: its unit, its default, and where the number comes from.

Time is in seconds and sizes are in bytes. Nothing in the framework waits without one of these
deadlines, and no queue grows past one of these bounds.
"""

from typing import Any
from urllib.parse import urlsplit

import attrs
from attrs.validators import ge, gt, le, optional

from trio_rt.fields import Field, checked


def positive(default: float) -> Any:
    """A field that must be above zero."""
    return attrs.field(default=default, validator=gt(0))


def _check_path(_settings: Any, _field: Field, path: str) -> None:
    if not (path.startswith("/") and path.endswith("/")):
        raise ValueError("a path begins and ends with a slash")


def _check_origins(_settings: Any, _field: Field, origins: tuple[str, ...] | None) -> None:
    for origin in origins or ():
        parts = urlsplit(origin)
        is_one = (
            parts.scheme and parts.netloc and origin == f"{parts.scheme}://{parts.netloc}".lower()
        )
        if origin not in ("*", "null") and not is_one:
            raise ValueError(
                f"{origin!r} is no origin as browsers send it, which is a scheme, a host and a "
                f'port if there is one, and nothing behind them; "*" is any'
            )


@attrs.frozen(kw_only=True, field_transformer=checked)
class Config:
    """The settings of one server. Make changed copies with `attrs.evolve`.

    Raises:
        MisuseError: if a value has another type, or is out of its range.
    """

    path: str = attrs.field(default="/socket.io/", validator=_check_path)
    """Where Socket.IO lives on the listener, with its trailing slash (the clients' default)."""

    ping_interval: float = positive(25.0)
    """Seconds between pings (Engine.IO's default; below the usual 60 s timeout of proxies)."""

    ping_timeout: float = positive(20.0)
    """Seconds that a pong may take (Engine.IO's default)."""

    max_payload_bytes: int = positive(1_000_000)
    """Largest message that a client may send (Engine.IO's `maxPayload` default)."""

    max_attachments: int = positive(10)
    """Binary attachments in one packet (the official JavaScript parser's own limit)."""

    max_connections: int = positive(100_000)
    """Open connections of one server; more are answered 503."""

    max_namespaces: int = positive(32)
    """Namespaces that one connection may join."""

    max_dynamic_namespaces: int = positive(10_000)
    """Namespaces of one server that exist because a pattern matched a client's request."""

    max_rooms: int = positive(1_000)
    """Rooms that one socket may be in."""

    max_pending_calls: int = positive(1_000)
    """Acknowledgements that one socket may owe us."""

    max_web_connections: int = positive(1_000)
    """Open connections of the web port, which has its own limit: a full server is healthy."""

    handshake_timeout: float = positive(10.0)
    """Seconds from accept to the end of the HTTP request head (slow loris)."""

    max_head_bytes: int = positive(16_384)
    """Size of an HTTP request head (h11's and most servers' order of magnitude)."""

    connect_timeout: float = positive(45.0)
    """Seconds from the open packet until a namespace is connected (Socket.IO's default)."""

    auth_timeout: float = positive(10.0)
    """Seconds that authenticator, middleware and `on_connect` may take together; what the hooks of
    a connection take whose session is taken over comes on top."""

    disconnect_timeout: float = positive(5.0)
    """Seconds that one socket's `on_disconnect` may take."""

    close_timeout: float = positive(1.0)
    """Seconds to wait for the peer's half of a close, so that it reads our last words."""

    drain_timeout: float = positive(10.0)
    """Seconds from the signal to stop until whatever is still open is cut."""

    drain_slice: int = positive(500)
    """Connections closed at once while draining, so that they do not come back all at once."""

    outbox_messages: int = positive(1_000)
    """Messages that may wait for one slow client (Centrifugo's order of magnitude)."""

    outbox_bytes: int = positive(1_048_576)
    """Bytes that may wait for one slow client (Centrifugo's default)."""

    slow_timeout: float = positive(1.0)
    """Seconds that an emission to one slow client waits for room before the client is closed."""

    inbox_messages: int = positive(256)
    """Events that may wait behind a running handler before reading pauses."""

    inbox_bytes: int = positive(1_048_576)
    """Bytes of such events before reading pauses."""

    recovery_window: float = attrs.field(default=120.0, validator=ge(0))
    """Seconds in which a lost client may come back and get what it missed (the order of Socket.IO's
    own 120 s); 0 turns recovery off, and events go without offsets."""

    history_timeout: float = positive(180.0)
    """Seconds that an event is kept for those who come back: the window, and before it the time
    until we notice that a client is lost (`ping_interval` and `ping_timeout`)."""

    history_events: int = positive(1_000)
    """Events kept for one room; also how many one client may recover."""

    history_bytes: int = positive(67_108_864)
    """Bytes of the events that are kept for all rooms together."""

    recovery_bytes: int = positive(4_194_304)
    """Bytes that one client may recover."""

    max_lost_sessions: int = positive(100_000)
    """Lost clients that may still come back; more of them, and the oldest may not any more."""

    once_window: float = positive(120.0)
    """Seconds for which the acknowledgement of an event with an idempotency key is repeated."""

    once_results: int = positive(100_000)
    """Acknowledgements kept for that."""

    once_bytes: int = positive(16_777_216)
    """Bytes of such acknowledgements."""

    presence_grace: float = attrs.field(default=5.0, validator=ge(0))
    """Seconds that a lost client stays present, so that a reloaded page goes unnoticed."""

    compression: bool = False
    """Whether permessage-deflate is negotiated (RFC 7692). Off: it costs CPU and memory."""

    compression_threshold_bytes: int = attrs.field(default=1024, validator=ge(0))
    """Messages below this are not compressed (Engine.IO's default)."""

    origins: tuple[str, ...] | None = attrs.field(
        default=None, validator=_check_origins, metadata={"example": ("https://example.org",)}
    )
    """Origins that browsers may come from, such as `("https://example.org",)`; `("*",)` for all.
    `None` allows only pages of the same host and port."""

    web_port: int | None = attrs.field(default=None, validator=optional([ge(0), le(65_535)]))
    """Port of pages and health checks; `None`: one above the listener's (any, if there is none)."""

    share_port: bool = False
    """Serve pages and health checks on the listener's own port instead."""
