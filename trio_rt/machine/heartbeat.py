"""Is the peer alive? The server's half of the Engine.IO heartbeat.

    state    input               next     effect
    -------  ------------------  -------  -------
    QUIET    the next ping due   WAITING  PING
    QUIET    pong                QUIET             (nobody asked: harmless)
    WAITING  the next ping due   WAITING  PING     (where the timeout is longer than the interval)
    WAITING  pong                QUIET
    WAITING  the pong overdue    EXPIRED  EXPIRE
    WAITING  excuse              WAITING           (the time we did not listen is not the peer's)
    EXPIRED  anything            EXPIRED

Pings leave one interval apart, whatever else happens: the official clients count pings alone.
Source: Engine.IO protocol v4, "Heartbeat".
"""

import enum
import math


class HeartbeatState(enum.Enum):
    """Where the heartbeat stands."""

    QUIET = "quiet"
    WAITING = "waiting"
    EXPIRED = "expired"


class Beat(enum.Enum):
    """What has to be done now."""

    PING = "ping"
    EXPIRE = "expire"


class Heartbeat:
    """The heartbeat of one session.

    Args:
        interval: seconds between pings.
        timeout: seconds that a pong may take.
        now: the time of the handshake, from which the first interval counts.
    """

    __slots__ = ("_interval", "_next_ping", "_pong_by", "_timeout", "state")

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._next_ping = now + interval
        self._pong_by = math.inf
        self.state = HeartbeatState.QUIET

    @property
    def deadline(self) -> float:
        """When `tick` wants to be called."""
        return min(self._next_ping, self._pong_by)

    def pong(self) -> None:
        """A pong arrived."""
        if self.state is HeartbeatState.WAITING:
            self.state = HeartbeatState.QUIET
            self._pong_by = math.inf

    def excuse(self, now: float) -> None:
        """We did not read until now, so the peer has its whole time from now on."""
        if self.state is HeartbeatState.WAITING:
            self._pong_by = now + self._timeout

    def tick(self, now: float) -> Beat | None:
        """Time has passed."""
        if now >= self._pong_by:
            self.state = HeartbeatState.EXPIRED
            self._next_ping = self._pong_by = math.inf
            return Beat.EXPIRE
        if now < self._next_ping:
            return None
        self._next_ping = now + self._interval
        if self.state is HeartbeatState.QUIET:
            self.state = HeartbeatState.WAITING
            self._pong_by = now + self._timeout
        return Beat.PING
