"""Every limit and interval of the links to Redis: its unit, its default, where it comes from."""

import attrs

from trio_rt.config import positive


@attrs.frozen(kw_only=True)
class RedisSettings:
    """The settings of the links to one Redis. Make changed copies with `attrs.evolve`.

    A link whose server or network is dead is found after `ping_interval` and `reply_timeout`
    together at the latest: 3 seconds.
    """

    connect_timeout: float = positive(2.0)
    """Seconds to connect, TLS and the first commands included."""

    reply_timeout: float = positive(2.0)
    """Seconds without any part of a reply while one is due, until the link is given up."""

    ping_interval: float = positive(1.0)
    """Seconds of silence until the server is asked whether it is there."""

    wait_timeout: float = positive(5.0)
    """Seconds that a command waits for a link to come back before it is given up."""

    backoff: float = positive(0.05)
    """Seconds before the first new attempt to connect, at most; it doubles with each one."""

    max_backoff: float = positive(1.0)
    """Seconds between two attempts, at most. A server that restarts is found again in this time."""

    max_pending: int = positive(10_000)
    """Commands without a reply on one link; more wait (each costs the server's time in turn)."""

    max_pending_bytes: int = positive(8_388_608)
    """Bytes of commands that have not left yet; more wait. One alone may be larger."""

    max_waiting: int = positive(10_000)
    """Commands that may wait for a link to come back; more fail at once."""

    max_waiting_bytes: int = positive(8_388_608)
    """Bytes of such commands."""

    buffer_messages: int = positive(100_000)
    """Messages that may wait for the one who takes them (0.2 s at the fastest measured rate)."""

    buffer_bytes: int = positive(67_108_864)
    """Bytes of such messages."""

    subscribe_chunk: int = positive(512)
    """Channels in one SUBSCRIBE. All 50,000 at once stalled other clients 52 ms, so 9 ms."""
