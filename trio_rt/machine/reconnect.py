"""One client connection that survives: when to dial, when to wait, and when to give up.

`MOVES` is the table: the machine moves by it alone, and the diagram in
docs/topics/reconnecting.md is drawn from it. What has no cell is ignored.
"""

import enum
import math
from collections.abc import Mapping, Sequence

import attrs
from attrs.validators import ge, gt, lt, optional

from trio_rt import reasons
from trio_rt.fields import checked
from trio_rt.reasons import Reason


class ConnectionState(enum.Enum):
    """Where a client's connection stands."""

    DISCONNECTED = "disconnected"
    """Nothing happens until the user opens. The beginning, and what a final ending leads to."""

    CONNECTING = "connecting"
    """A dial runs: from the question for a token to the answer to CONNECT."""

    CONNECTED = "connected"
    """The namespace is connected."""

    BACKING_OFF = "backing off"
    """The last dial or connection ended; the next dial begins at the deadline."""

    CLOSED = "closed"
    """The user is done. Nothing means anything any more."""


class Cause(enum.Enum):
    """What may move the connection, in the words of the diagram."""

    OPENED = "connect()"
    CONNECTED = "CONNECT accepted"
    ENDED = "ended, may come back"
    ENDED_FOR_GOOD = "ended for good"
    USED_UP = "ended, attempts used up"
    DUE = "time is up"
    DISCONNECTED = "disconnect()"
    CLOSED = "close()"


MOVES: Mapping[ConnectionState, Mapping[Cause, ConnectionState]] = {
    ConnectionState.DISCONNECTED: {
        Cause.OPENED: ConnectionState.CONNECTING,
        Cause.CLOSED: ConnectionState.CLOSED,
    },
    ConnectionState.CONNECTING: {
        Cause.CONNECTED: ConnectionState.CONNECTED,
        Cause.ENDED: ConnectionState.BACKING_OFF,
        Cause.DUE: ConnectionState.BACKING_OFF,
        Cause.ENDED_FOR_GOOD: ConnectionState.DISCONNECTED,
        Cause.USED_UP: ConnectionState.DISCONNECTED,
        Cause.DISCONNECTED: ConnectionState.DISCONNECTED,
        Cause.CLOSED: ConnectionState.CLOSED,
    },
    ConnectionState.CONNECTED: {
        Cause.ENDED: ConnectionState.BACKING_OFF,
        Cause.ENDED_FOR_GOOD: ConnectionState.DISCONNECTED,
        Cause.USED_UP: ConnectionState.DISCONNECTED,
        Cause.DISCONNECTED: ConnectionState.DISCONNECTED,
        Cause.CLOSED: ConnectionState.CLOSED,
    },
    ConnectionState.BACKING_OFF: {
        Cause.DUE: ConnectionState.CONNECTING,
        Cause.OPENED: ConnectionState.CONNECTING,
        Cause.DISCONNECTED: ConnectionState.DISCONNECTED,
        Cause.CLOSED: ConnectionState.CLOSED,
    },
    ConnectionState.CLOSED: {},
}


@attrs.frozen(kw_only=True, field_transformer=checked)
class ReconnectLimits:
    """How a client dials. Every time is finite, so that every wait ends."""

    backoff_base: float = attrs.field(default=1.0, validator=[gt(0), lt(math.inf)])
    """Seconds that the wait after a lost connection may take at most (the official clients'
    `reconnectionDelay`)."""

    backoff_max: float = attrs.field(default=5.0, validator=[gt(0), lt(math.inf)])
    """Seconds that no wait is longer than (the official clients' `reconnectionDelayMax`)."""

    backoff_factor: float = attrs.field(default=2.0, validator=[ge(1), lt(math.inf)])
    """By how much the longest wait grows with each dial in vain (the official clients' factor)."""

    stable_after: float = attrs.field(default=10.0, validator=[ge(0), lt(math.inf)])
    """Seconds that a connection must last for the dials to be counted anew. Twice `backoff_max`:
    a server that accepts and drops is dialled no more often than one that refuses."""

    connect_timeout: float = attrs.field(default=20.0, validator=[gt(0), lt(math.inf)])
    """Seconds that one dial may take, all included (the official clients' `timeout`)."""

    max_attempts: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """Dials in a row without a stable connection; after that many it gives up. `None`: never
    (the official clients' default)."""

    def ceiling(self, attempt: int) -> float:
        """The longest wait in seconds after this many dials in a row.

        Source: "Exponential Backoff And Jitter", full jitter; AWS Architecture Blog, 2015.
        """
        try:
            return min(self.backoff_max, self.backoff_base * self.backoff_factor**attempt)
        except OverflowError:  # floats do not become infinite by `**`
            return self.backoff_max


@attrs.frozen(eq=False)
class Dial:
    """Ask for a token, open a transport, send CONNECT. Each dial is one value, hand it back."""

    attempt: int
    """Dials in a row without a stable connection, this one included."""


@attrs.frozen
class HangUp:
    """Stop this dial, or close the connection that it made."""

    dial: Dial
    reason: Reason


@attrs.frozen
class Changed:
    """The state is another one."""

    before: ConnectionState
    after: ConnectionState
    reason: Reason | None
    """The last ending; `None` when nothing has ended, or all is well again."""


@attrs.frozen
class GiveUp:
    """The connection does not come back by itself: tell whoever waits for it."""

    reason: Reason


Effect = Dial | HangUp | Changed | GiveUp
"""Carried out in order: what ends comes first, then `Changed`, then what follows from it."""

NOTHING: Sequence[Effect] = ()


class Reconnect:
    """One client connection, through all its dials.

    `dice` is a random number from 0 to just below 1, fresh for each call.

    Args:
        limits: how it dials.
    """

    __slots__ = ("_dial", "_limits", "_stable_at", "attempt", "deadline", "reason", "state")

    def __init__(self, limits: ReconnectLimits) -> None:
        self._limits = limits
        self._dial: Dial | None = None  # while connecting or connected
        self._stable_at = math.inf
        self.state = ConnectionState.DISCONNECTED
        self.reason: Reason | None = None
        """Why it is not connected: the last ending, if there was one since `open`."""
        self.attempt = 0
        """Dials since `open`, or since a stable connection was lost."""
        self.deadline = math.inf
        """When `tick` wants to be called."""

    def open(self, now: float) -> Sequence[Effect]:
        """The user wants a connection, and if one is being waited for: now."""
        if self.state is ConnectionState.DISCONNECTED:
            self.attempt = 0
            self.reason = None
        return self._begin(Cause.OPENED, now)

    def connected(self, dial: Dial, now: float) -> Sequence[Effect]:
        """The server has accepted the CONNECT of a dial.

        Returns:
            Nothing if the dial was hung up meanwhile: its connection is not wanted.
        """
        if dial is not self._dial or self.state is not ConnectionState.CONNECTING:
            return NOTHING
        self._stable_at = now + self._limits.stable_after
        return self._move(Cause.CONNECTED, None)

    def ended(self, dial: Dial, reason: Reason, now: float, dice: float) -> Sequence[Effect]:
        """A dial failed or was refused, or the connection that it made was lost.

        Whether to come back is the reason's to say. An ending that was asked for by `HangUp`
        means nothing any more.
        """
        if dial is not self._dial:
            return NOTHING
        self._dial = None
        if now >= self._stable_at:
            self.attempt = 0
        cause = Cause.ENDED if reason.come_back else Cause.ENDED_FOR_GOOD
        return self._end(cause, reason, now, dice)

    def disconnect(self, reason: Reason = reasons.CLIENT_DISCONNECT) -> Sequence[Effect]:
        """The user wants no connection until the next `open`."""
        return (*self._hang_up(reason), *self._move(Cause.DISCONNECTED, reason))

    def close(self, reason: Reason = reasons.CLIENT_DISCONNECT) -> Sequence[Effect]:
        """The user is done with it for ever."""
        return (*self._hang_up(reason), *self._move(Cause.CLOSED, reason))

    def tick(self, now: float, dice: float) -> Sequence[Effect]:
        """Time has passed."""
        if now < self.deadline:
            return NOTHING
        if self.state is ConnectionState.BACKING_OFF:
            return self._begin(Cause.DUE, now)
        reason = reasons.CONNECT_TIMEOUT
        return (*self._hang_up(reason), *self._end(Cause.DUE, reason, now, dice))

    def _begin(self, cause: Cause, now: float) -> Sequence[Effect]:
        """Dials, if the cause leads there."""
        effects = self._move(cause, self.reason)
        if not effects:
            return NOTHING
        self.attempt += 1
        self.deadline = now + self._limits.connect_timeout
        self._stable_at = math.inf
        self._dial = Dial(self.attempt)
        return (*effects, self._dial)

    def _end(self, cause: Cause, reason: Reason, now: float, dice: float) -> Sequence[Effect]:
        """Waits for the next dial, if there is one."""
        most = self._limits.max_attempts
        if most is not None and self.attempt >= most:
            cause = Cause.USED_UP
        effects = self._move(cause, reason)
        if self.state is not ConnectionState.BACKING_OFF:
            return (*effects, GiveUp(reason))
        self.deadline = now + dice * self._limits.ceiling(self.attempt)
        return effects

    def _hang_up(self, reason: Reason) -> Sequence[Effect]:
        dial, self._dial = self._dial, None
        return NOTHING if dial is None else (HangUp(dial, reason),)

    def _move(self, cause: Cause, reason: Reason | None) -> Sequence[Effect]:
        """Goes where the table says."""
        before, after = self.state, MOVES[self.state].get(cause)
        if after is None:
            return NOTHING
        self.state, self.reason, self.deadline = after, reason, math.inf
        return (Changed(before, after, reason),)
