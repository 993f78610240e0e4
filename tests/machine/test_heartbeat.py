"""The heartbeat, row by row and against a naive model."""

import math

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_rt.machine.heartbeat import Beat, Heartbeat, HeartbeatState

QUIET, WAITING, EXPIRED = HeartbeatState.QUIET, HeartbeatState.WAITING, HeartbeatState.EXPIRED
INTERVAL, TIMEOUT = 10.0, 4.0


def quiet(timeout: float = TIMEOUT) -> Heartbeat:
    """A heartbeat whose next ping is due at 10."""
    return Heartbeat(INTERVAL, timeout, 0.0)


def waiting(timeout: float = TIMEOUT) -> Heartbeat:
    """A heartbeat that pinged at 10: its pong is due at 14, its next ping at 20."""
    heartbeat = quiet(timeout)
    assert heartbeat.tick(10.0) is Beat.PING
    return heartbeat


def expired() -> Heartbeat:
    """A heartbeat that gave its peer up at 14."""
    heartbeat = waiting()
    assert heartbeat.tick(14.0) is Beat.EXPIRE
    return heartbeat


def assert_is(heartbeat: Heartbeat, state: HeartbeatState, deadline: float) -> None:
    assert (heartbeat.state, heartbeat.deadline) == (state, deadline)


def test_begins_quiet() -> None:
    """The first ping is due one interval after the handshake."""
    assert_is(Heartbeat(INTERVAL, TIMEOUT, 100.0), QUIET, 110.0)


# --- The table


def test_quiet_before_the_ping_is_due() -> None:
    """Nothing is due before its time."""
    heartbeat = quiet()
    assert heartbeat.tick(9.99) is None
    assert_is(heartbeat, QUIET, 10.0)


def test_quiet_ping_due() -> None:
    """A ping leaves at its time, and its pong is awaited."""
    heartbeat = quiet()
    assert heartbeat.tick(10.0) is Beat.PING
    assert_is(heartbeat, WAITING, 14.0)


def test_quiet_pong() -> None:
    """A pong that nobody asked for is harmless, and does not move the next ping."""
    heartbeat = quiet()
    heartbeat.pong()
    assert_is(heartbeat, QUIET, 10.0)


def test_quiet_excuse() -> None:
    """Where nothing is awaited there is nothing to excuse."""
    heartbeat = quiet()
    heartbeat.excuse(9.0)
    assert_is(heartbeat, QUIET, 10.0)


def test_waiting_ping_due() -> None:
    """With a long timeout pings go on, and the first pong is still due at its own time."""
    heartbeat = waiting(timeout=25.0)
    assert_is(heartbeat, WAITING, 20.0)
    assert heartbeat.tick(20.0) is Beat.PING
    assert_is(heartbeat, WAITING, 30.0)
    assert heartbeat.tick(30.0) is Beat.PING
    assert_is(heartbeat, WAITING, 35.0)
    assert heartbeat.tick(35.0) is Beat.EXPIRE


def test_waiting_pong() -> None:
    """A pong ends the waiting; the next ping leaves an interval after the last one."""
    heartbeat = waiting()
    heartbeat.pong()
    assert_is(heartbeat, QUIET, 20.0)


def test_waiting_pong_not_due() -> None:
    """The peer has its whole time."""
    heartbeat = waiting()
    assert heartbeat.tick(13.99) is None
    assert_is(heartbeat, WAITING, 14.0)


def test_waiting_pong_overdue() -> None:
    """Who does not answer in time is given up, and nothing is due any more."""
    heartbeat = waiting()
    assert heartbeat.tick(14.0) is Beat.EXPIRE
    assert_is(heartbeat, EXPIRED, math.inf)


def test_waiting_pong_overdue_when_a_ping_is_due_too() -> None:
    """Who is given up gets no ping."""
    assert waiting().tick(20.0) is Beat.EXPIRE


def test_waiting_excuse() -> None:
    """When we did not read, the peer has its whole time from then on."""
    heartbeat = waiting()
    heartbeat.excuse(13.0)
    assert_is(heartbeat, WAITING, 17.0)
    assert heartbeat.tick(16.99) is None
    assert heartbeat.tick(17.0) is Beat.EXPIRE


def test_waiting_excuse_when_overdue() -> None:
    """An excuse helps until the peer has been given up."""
    heartbeat = waiting()
    heartbeat.excuse(15.0)
    assert heartbeat.tick(15.0) is None
    assert_is(heartbeat, WAITING, 19.0)


@pytest.mark.parametrize(
    "act",
    [
        lambda heartbeat: heartbeat.pong(),
        lambda heartbeat: heartbeat.excuse(15.0),
        lambda heartbeat: heartbeat.tick(15.0),
        lambda heartbeat: heartbeat.tick(1e9),
    ],
    ids=["pong", "excuse", "tick", "late tick"],
)
def test_expired(act) -> None:
    """Nothing brings a peer back that was given up."""
    heartbeat = expired()
    assert act(heartbeat) is None
    assert_is(heartbeat, EXPIRED, math.inf)


# --- Against a model


class HeartbeatModel(RuleBasedStateMachine):
    """The model remembers what happened when, and looks everything up in that."""

    @initialize(interval=st.integers(1, 30), timeout=st.integers(1, 70), now=st.integers(0, 99))
    def begin(self, interval: int, timeout: int, now: int) -> None:
        self.interval, self.timeout, self.now = interval, timeout, now
        self.heartbeat = Heartbeat(interval, timeout, now)
        self.pinged = [now]  # the handshake counts as a ping that needs no answer
        self.overdue_at: int | None = None
        self.gave_up = False

    @rule()
    def pong(self) -> None:
        self.heartbeat.pong()
        self.overdue_at = None

    @rule()
    def excuse(self) -> None:
        self.heartbeat.excuse(self.now)
        if self.overdue_at is not None:
            self.overdue_at = self.now + self.timeout

    @rule(seconds=st.integers(0, 120))
    def time_passes_unnoticed(self, seconds: int) -> None:
        """As when the program does not give the loop a turn."""
        self.now += seconds

    @rule()
    def tick(self) -> None:
        self.check_tick()

    @precondition(lambda self: not self.gave_up)
    @rule()
    def tick_at_the_deadline(self) -> None:
        """As it is usually called: nothing may be due before, and something must be due then."""
        if self.heartbeat.deadline > self.now:
            before = self.heartbeat.deadline - 0.5
            if before >= self.now:
                assert self.heartbeat.tick(before) is None
            self.now = int(self.heartbeat.deadline)
        assert self.check_tick() is not None

    def check_tick(self) -> Beat | None:
        beat = self.heartbeat.tick(self.now)
        if self.gave_up:
            expected = None
        elif self.overdue_at is not None and self.now >= self.overdue_at:
            expected, self.gave_up, self.overdue_at = Beat.EXPIRE, True, None
        elif self.now - self.pinged[-1] >= self.interval:
            expected = Beat.PING
            self.pinged.append(self.now)
            if self.overdue_at is None:
                self.overdue_at = self.now + self.timeout
        else:
            expected = None
        assert beat is expected
        assert self.heartbeat.deadline > self.now  # or it would be called again at once, for ever
        return beat

    @invariant()
    def is_as_the_model(self) -> None:
        if not hasattr(self, "heartbeat"):
            return
        if self.gave_up:
            assert_is(self.heartbeat, EXPIRED, math.inf)
        elif self.overdue_at is not None:
            next_ping = self.pinged[-1] + self.interval
            assert_is(self.heartbeat, WAITING, min(next_ping, self.overdue_at))
        else:
            assert_is(self.heartbeat, QUIET, self.pinged[-1] + self.interval)


TestHeartbeatModel = HeartbeatModel.TestCase
