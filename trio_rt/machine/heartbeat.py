"""Is the peer alive? The server's half of the Engine.IO heartbeat.

    state    input            next     effect
    -------  ---------------  -------  -------
    QUIET    tick at deadline WAITING  PING
    QUIET    pong             QUIET             (nobody asked: harmless)
    WAITING  pong             QUIET
    WAITING  tick at deadline EXPIRED  EXPIRE
    WAITING  excuse           WAITING           (the time we did not listen is not the peer's)
    EXPIRED  anything         EXPIRED

Pings leave one interval apart, whatever else is sent: the official clients count pings alone.
Source: Engine.IO protocol v4, "Heartbeat".
"""

import enum


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

    __slots__ = ("_interval", "_next_ping", "_timeout", "deadline", "state")

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        self._interval = interval
        self._timeout = timeout
        self._next_ping = now + interval
        self.deadline = self._next_ping
        """When `tick` wants to be called."""
        self.state = HeartbeatState.QUIET

    def pong(self) -> None:
        """A pong arrived."""
        if self.state is HeartbeatState.WAITING:
            self.state = HeartbeatState.QUIET

    def excuse(self, now: float) -> None:
        """We did not read until now, so the peer has its whole time from now on."""
        if self.state is HeartbeatState.WAITING:
            self.deadline = now + self._timeout

    def tick(self, now: float) -> Beat | None:
        """Time has passed."""
        if now < self.deadline:
            return None
        if self.state is HeartbeatState.WAITING:
            self.state = HeartbeatState.EXPIRED
            self.deadline = float("inf")
            return Beat.EXPIRE
        if self.state is HeartbeatState.EXPIRED:
            return None
        if now < self._next_ping:
            self.deadline = self._next_ping
            return None
        self.state = HeartbeatState.WAITING
        self._next_ping = now + self._interval
        self.deadline = now + self._timeout
        return Beat.PING
