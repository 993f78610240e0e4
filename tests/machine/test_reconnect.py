"""The connection that survives, cell by cell. Against a model it is in tests/stateful."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_rt import reasons
from trio_rt.errors import MisuseError
from trio_rt.machine.reconnect import (
    MOVES,
    Cause,
    Changed,
    ConnectionState,
    Dial,
    Effect,
    GiveUp,
    HangUp,
    Reconnect,
    ReconnectLimits,
)
from trio_rt.reasons import Reason

DISCONNECTED = ConnectionState.DISCONNECTED
CONNECTING = ConnectionState.CONNECTING
CONNECTED = ConnectionState.CONNECTED
BACKING_OFF = ConnectionState.BACKING_OFF
CLOSED = ConnectionState.CLOSED

LIMITS = ReconnectLimits(
    backoff_base=1.0, backoff_max=5.0, stable_after=10.0, connect_timeout=20.0, max_attempts=3
)
LOST, REFUSED = reasons.TRANSPORT_CLOSE, reasons.REFUSED
LEFT, TIMEOUT = reasons.CLIENT_DISCONNECT, reasons.CONNECT_TIMEOUT


class Line:
    """A connection as its user sees it, with the last dial at hand."""

    def __init__(self, limits: ReconnectLimits = LIMITS) -> None:
        self.machine = Reconnect(limits)
        self.dial = Dial(0)  # nobody's

    def keep(self, effects: Sequence[Effect]) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Dial):
                self.dial = effect
        return list(effects)

    def open(self, now: float = 0.0) -> list[Effect]:
        return self.keep(self.machine.open(now))

    def connected(self, now: float = 0.0) -> list[Effect]:
        return self.keep(self.machine.connected(self.dial, now))

    def ended(self, reason: Reason = LOST, now: float = 0.0, dice: float = 0.5) -> list[Effect]:
        return self.keep(self.machine.ended(self.dial, reason, now, dice))

    def tick(self, now: float, dice: float = 0.5) -> list[Effect]:
        return self.keep(self.machine.tick(now, dice))

    def disconnect(self) -> list[Effect]:
        return self.keep(self.machine.disconnect())

    def close(self) -> list[Effect]:
        return self.keep(self.machine.close())

    def fail(self, times: int) -> None:
        """Dials in vain so often, each at its time, by the largest dice."""
        for _ in range(times):
            self.ended(now=self.machine.deadline - LIMITS.connect_timeout, dice=1.0)
            self.tick(self.machine.deadline)


def disconnected() -> Line:
    return Line()


def connecting() -> Line:
    """Its first dial began at 0 and may take until 20."""
    line = Line()
    line.open()
    return line


def connecting_at_last() -> Line:
    """As connecting, but it is the last dial allowed."""
    line = Line(ReconnectLimits(max_attempts=1))
    line.open()
    return line


def connected() -> Line:
    """Connected at 0, and stable from 10 on."""
    line = connecting()
    line.connected()
    return line


def connected_at_last() -> Line:
    """As connected, by the last dial allowed."""
    line = connecting_at_last()
    line.connected()
    return line


def backing_off() -> Line:
    """Its first dial failed at 0, by dice 0.5: the second is due at 1."""
    line = connecting()
    line.ended()
    return line


def closed() -> Line:
    """Closed while it was connected."""
    line = connected()
    line.close()
    return line


# --- The table. A cell has the next state and what is to be done but for Changed, in order.

INPUTS: dict[str, Callable[[Line], list[Effect]]] = {
    "open": lambda line: line.open(0.0),
    "connected": lambda line: line.connected(),
    "ended": lambda line: line.ended(LOST),
    "ended for good": lambda line: line.ended(REFUSED),
    "tick": lambda line: line.tick(20.0),
    "disconnect": lambda line: line.disconnect(),
    "close": lambda line: line.close(),
}
_: Any = None  # ignored
DIAL, UP, RETRY = (CONNECTING, [Dial]), (CONNECTED, []), (BACKING_OFF, [])
LATE, TOO_LATE = (BACKING_OFF, [HangUp]), (DISCONNECTED, [HangUp, GiveUp])
OVER, DOWN, DOWN_AT_ONCE = (DISCONNECTED, [GiveUp]), (DISCONNECTED, [HangUp]), (DISCONNECTED, [])
DONE, DONE_AT_ONCE = (CLOSED, [HangUp]), (CLOSED, [])

TABLE: dict[Callable[[], Line], list[Any]] = {
    # open, connected, ended, ended for good, tick, disconnect, close
    disconnected: [DIAL, _, _, _, _, _, DONE_AT_ONCE],
    connecting: [_, UP, RETRY, OVER, LATE, DOWN, DONE],
    connecting_at_last: [_, UP, OVER, OVER, TOO_LATE, DOWN, DONE],
    connected: [_, _, RETRY, OVER, _, DOWN, DONE],
    connected_at_last: [_, _, OVER, OVER, _, DOWN, DONE],
    backing_off: [DIAL, _, _, _, DIAL, DOWN_AT_ONCE, DONE_AT_ONCE],
    closed: [_, _, _, _, _, _, _],
}


@pytest.mark.parametrize("make", TABLE, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", INPUTS)
def test_table(make: Callable[[], Line], name: str) -> None:
    """Each input means, in each state, what the table says."""
    expected = TABLE[make][list(INPUTS).index(name)]
    line = make()
    before, deadline = line.machine.state, line.machine.deadline
    effects = INPUTS[name](line)
    if expected is _:
        assert effects == []
        assert (line.machine.state, line.machine.deadline) == (before, deadline)
        return
    after, kinds = expected
    assert line.machine.state is after
    [changed] = [effect for effect in effects if isinstance(effect, Changed)]
    assert changed == Changed(before, after, line.machine.reason)
    assert [type(effect) for effect in effects if effect is not changed] == kinds
    # What ends comes before the change, what begins or is told comes after it.
    assert effects.index(changed) == kinds.count(HangUp)


def test_moves_are_whole() -> None:
    """Each state has a row; only the last one has no way out; who may wait for ever may be left."""
    assert set(MOVES) == set(ConnectionState)
    assert [state for state in MOVES if not MOVES[state]] == [CLOSED]
    for state in set(MOVES) - {CLOSED}:
        assert MOVES[state][Cause.CLOSED] is CLOSED
        assert Cause.DUE in MOVES[state] or Cause.OPENED in MOVES[state] or state is CONNECTED


# --- Dials


def test_dials_are_counted() -> None:
    """The first dial has the number 1; dials in vain go on counting."""
    line = Line(ReconnectLimits())
    line.open()
    assert line.dial.attempt == 1
    line.fail(2)
    assert (line.dial.attempt, line.machine.attempt) == (3, 3)


def test_a_dial_has_its_time() -> None:
    """A dial is hung up at its deadline and not before, and the next one waits its turn."""
    line = Line()
    line.open(100.0)
    assert line.machine.deadline == 120.0
    assert line.tick(119.99) == []
    assert line.tick(121.0) == [
        HangUp(line.dial, TIMEOUT),
        Changed(CONNECTING, BACKING_OFF, TIMEOUT),
    ]
    assert line.machine.deadline == 122.0  # half of two seconds from then on


def test_the_wait_is_over() -> None:
    """The next dial begins at the deadline and not before."""
    line = backing_off()
    assert line.machine.deadline == 1.0
    assert line.tick(0.99) == []
    effects = line.tick(1.0)
    assert effects == [Changed(BACKING_OFF, CONNECTING, LOST), line.dial]
    assert line.machine.deadline == 21.0


def test_open_spares_the_wait() -> None:
    """A user who does not want to wait dials at once, and the dials go on counting."""
    line = backing_off()
    assert line.open(0.25) == [Changed(BACKING_OFF, CONNECTING, LOST), line.dial]
    assert (line.dial.attempt, line.machine.deadline) == (2, 20.25)


@pytest.mark.parametrize("name", ["connected", "ended", "ended for good"])
@pytest.mark.parametrize("make", [connecting, connected, backing_off, disconnected, closed])
def test_an_old_dial(make: Callable[[], Line], name: str) -> None:
    """What comes from a dial that was hung up means nothing, whatever goes on now."""
    line = make()
    before = (line.machine.state, line.machine.deadline)
    line.dial = Dial(1)  # alike, but another one
    assert INPUTS[name](line) == []
    assert (line.machine.state, line.machine.deadline) == before


def test_connected_twice() -> None:
    """A second answer changes nothing, and does not put stability off."""
    line = connected()
    assert line.connected(9.0) == []
    line.ended(now=10.0)
    assert line.machine.attempt == 0


# --- Reasons


def test_reason() -> None:
    """It says why there is no connection, as long as there is none."""
    line = connecting()
    assert line.machine.reason is None
    line.ended(LOST)
    assert line.machine.reason is LOST
    line.tick(1.0)
    assert line.machine.reason is LOST
    line.connected()
    assert line.machine.reason is None
    line.ended(REFUSED)
    assert line.machine.reason is REFUSED
    line.open()
    assert line.machine.reason is None
    line.close()
    assert line.machine.reason is LEFT


@pytest.mark.parametrize(
    "reason",
    [value for value in vars(reasons).values() if isinstance(value, Reason)],
    ids=lambda reason: reason.code,
)
@pytest.mark.parametrize("make", [connecting, connected])
def test_the_reason_says_whether_to_come_back(make: Callable[[], Line], reason: Reason) -> None:
    """Of all reasons there are, those come back that say so."""
    line = make()
    line.ended(reason)
    assert line.machine.state is (BACKING_OFF if reason.come_back else DISCONNECTED)


def test_hung_up_for_the_users_reason() -> None:
    """A reason of the user's own is told everywhere."""
    line, reason = connected(), LEFT.because("the program is done")
    effects = line.machine.close(reason)
    assert list(effects) == [HangUp(line.dial, reason), Changed(CONNECTED, CLOSED, reason)]


# --- The wait


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(0, 1.0), (1, 2.0), (2, 4.0), (3, 5.0), (4, 5.0), (10**6, 5.0)]
)
def test_ceiling(attempt: int, seconds: float) -> None:
    """It doubles with each dial in vain up to its largest value, also when numbers overflow."""
    assert LIMITS.ceiling(attempt) == seconds


@given(
    base=st.floats(0, 1e300, exclude_min=True),
    most=st.floats(0, 1e300, exclude_min=True),
    factor=st.floats(1, 1e300),
    attempt=st.integers(0, 10**9),
)
def test_ceiling_is_bounded(base: float, most: float, factor: float, attempt: int) -> None:
    """It is a positive number within its bound for all limits, and never shrinks."""
    limits = ReconnectLimits(backoff_base=base, backoff_max=most, backoff_factor=factor)
    assert 0 < limits.ceiling(attempt) <= most
    assert limits.ceiling(attempt) <= limits.ceiling(attempt + 1)


@pytest.mark.parametrize("dice", [0.0, 0.25, 0.5, math.nextafter(1, 0)])
def test_wait_after_failures(dice: float) -> None:
    """The wait is the dice's part of the longest one: 2, 4, 5 and 5 s."""
    line = Line(ReconnectLimits())
    line.open()
    for longest in (2.0, 4.0, 5.0, 5.0):
        line.ended(now=100.0, dice=dice)
        assert line.machine.deadline == 100.0 + dice * longest
        line.tick(line.machine.deadline)


def test_wait_after_a_stable_connection() -> None:
    """Whoever loses a stable connection waits one second at most, whatever was before."""
    line = Line(ReconnectLimits())
    line.open()
    line.fail(5)
    line.connected(100.0)
    line.ended(now=110.0)
    assert (line.machine.attempt, line.machine.deadline) == (0, 110.5)
    line.tick(110.5)
    assert line.dial.attempt == 1


def test_wait_after_an_unstable_connection() -> None:
    """A connection that does not last counts as a dial in vain."""
    line = Line(ReconnectLimits())
    line.open()
    line.connected(0.0)
    line.ended(now=9.99, dice=0.0)
    assert line.machine.attempt == 1
    line.tick(9.99)
    line.connected(9.99)
    line.ended(now=15.0)
    assert (line.machine.attempt, line.machine.deadline) == (2, 17.0)


def test_stability_is_not_inherited() -> None:
    """A dial that takes long is not stable, nor is one after a stable connection."""
    line = connected()
    line.ended(now=15.0, dice=0.0)
    line.tick(15.0)
    line.ended(now=30.0, dice=0.0)
    assert line.machine.attempt == 1


# --- Giving up


@pytest.mark.parametrize("ends", [Line.ended, lambda line: line.tick(line.machine.deadline)])
def test_attempts_used_up(ends: Callable[[Line], list[Effect]]) -> None:
    """After so many dials in a row it gives up, for the reason of the last one."""
    line = connecting()
    line.fail(2)
    assert line.dial.attempt == 3
    effects = ends(line)
    assert line.machine.state is DISCONNECTED
    assert effects[-1] == GiveUp(line.machine.reason)
    assert line.machine.deadline == math.inf


def test_attempts_after_giving_up() -> None:
    """Whoever opens again has all dials again."""
    line = connecting()
    line.fail(2)
    line.ended()
    line.open(100.0)
    assert line.dial.attempt == 1
    line.ended(now=100.0)
    assert line.machine.state is BACKING_OFF


def test_attempts_after_a_stable_connection() -> None:
    """A stable connection gives all dials again."""
    line = connecting()
    line.fail(2)
    line.connected(100.0)
    line.ended(now=110.0)
    assert line.machine.state is BACKING_OFF


# --- Limits


@pytest.mark.parametrize(
    "name", ["backoff_base", "backoff_max", "backoff_factor", "stable_after", "connect_timeout"]
)
@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_limits_are_finite(name: str, value: float) -> None:
    """No wait is endless or negative, whatever is configured."""
    with pytest.raises(MisuseError, match=name):
        ReconnectLimits(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backoff_base", 0.0),
        ("backoff_max", 0.0),
        ("backoff_factor", 0.99),
        ("connect_timeout", 0.0),
        ("max_attempts", 0),
    ],
)
def test_limits_make_sense(name: str, value: float) -> None:
    """No limit may make dialling impossible, or endless work."""
    with pytest.raises(MisuseError, match=name):
        ReconnectLimits(**{name: value})
