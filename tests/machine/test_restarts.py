"""Restarts, cell by cell and against a naive model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_rt.machine.restarts import Again, Done, Ending, GiveUp, Restart, Restarts

NORMAL, FAILED = Ending.NORMAL, Ending.FAILED

# --- The table

TABLE = {
    (Restart.PERMANENT, NORMAL): Again,
    (Restart.PERMANENT, FAILED): Again,
    (Restart.TRANSIENT, NORMAL): Done,
    (Restart.TRANSIENT, FAILED): Again,
    (Restart.TEMPORARY, NORMAL): Done,
    (Restart.TEMPORARY, FAILED): Done,
}


@pytest.mark.parametrize(("rule", "ending"), TABLE, ids=lambda value: value.name)
def test_table(rule: Restart, ending: Ending) -> None:
    """Each ending means, under each rule, what the table says."""
    assert type(Restarts(rule).ended(ending, 1.0)) is TABLE[rule, ending]


@pytest.mark.parametrize(("rule", "ending"), TABLE, ids=lambda value: value.name)
def test_table_without_a_budget(rule: Restart, ending: Ending) -> None:
    """Where nothing may be run again, what should be is given up."""
    expected = GiveUp if TABLE[rule, ending] is Again else Done
    assert type(Restarts(rule, intensity=0).ended(ending, 1.0)) is expected


# --- The budget


def verdicts(restarts: Restarts, *times: float) -> list[type]:
    """What is said of failures at these times."""
    return [type(restarts.ended(FAILED, time)) for time in times]


def test_intensity() -> None:
    """As many restarts as the intensity says are made, and one more is not."""
    restarts = Restarts(Restart.PERMANENT, intensity=2, period=10.0)
    assert verdicts(restarts, 0.0, 1.0, 2.0) == [Again, Again, GiveUp]


def test_period_slides() -> None:
    """A restart counts for one period from its own time, its last moment included."""
    restarts = Restarts(Restart.PERMANENT, intensity=2, period=10.0)
    assert verdicts(restarts, 0.0, 9.0, 10.01, 19.0) == [Again, Again, Again, GiveUp]
    edge = Restarts(Restart.PERMANENT, intensity=1, period=10.0)
    assert verdicts(edge, 0.0, 10.0) == [Again, GiveUp]


def test_normal_endings_use_the_budget_up() -> None:
    """A permanent child that only returns is given up as well."""
    restarts = Restarts(Restart.PERMANENT, intensity=1, period=10.0)
    assert type(restarts.ended(NORMAL, 0.0)) is Again
    assert type(restarts.ended(NORMAL, 0.0)) is GiveUp


def test_give_up_tells_the_budget() -> None:
    """Who reads the log sees which budget was used up."""
    verdict = Restarts(Restart.TRANSIENT, intensity=0, period=2.5).ended(FAILED, 0.0)
    assert verdict == GiveUp("more than 0 restarts within 2.5 s")


def test_delay() -> None:
    """The delay is handed on with each restart."""
    restarts = Restarts(Restart.TRANSIENT, delay=1.5)
    assert [restarts.ended(FAILED, time) for time in (0.0, 2.0)] == [Again(1.5), Again(1.5)]


def test_a_slow_failure_is_never_given_up() -> None:
    """A child that is restarted as rarely as its budget allows runs forever."""
    restarts = Restarts(Restart.PERMANENT, intensity=2, period=10.0)
    assert set(verdicts(restarts, *(step * 5.01 for step in range(1000)))) == {Again}


# --- Against a model


@given(
    intensity=st.integers(0, 4),
    period=st.integers(1, 20),
    gaps=st.lists(st.integers(0, 15), max_size=30),
)
def test_model(intensity: int, period: int, gaps: list[int]) -> None:
    """A naive model keeps all times and counts those of the last period."""
    restarts = Restarts(Restart.PERMANENT, intensity=intensity, period=period)
    made: list[int] = []
    now = 0
    for gap in gaps:
        now += gap
        may_restart = sum(now - time <= period for time in made) < intensity
        verdict = restarts.ended(FAILED, now)
        assert type(verdict) is (Again if may_restart else GiveUp)
        if not may_restart:
            return
        made.append(now)
