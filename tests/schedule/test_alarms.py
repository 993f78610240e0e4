"""Alarms ring bells exactly on time, on a clock that jumps."""

import math
from collections.abc import Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_rt.schedule.alarms import Alarms
from trio_rt.schedule.bell import Bell


async def note(alarms: Alarms, deadline: float, rang: list[tuple[float, float]]) -> None:
    """Waits for one ring: notes when it was to come, and when it came."""
    bell = Bell()
    alarms.ring_at(bell, deadline)
    await bell.wait()
    rang.append((deadline, trio.current_time()))


async def ring_all(alarms: Alarms, deadlines: Sequence[float]) -> list[tuple[float, float]]:
    """Sets alarms, and waits until all have rung."""
    rang: list[tuple[float, float]] = []
    async with trio.open_nursery() as nursery:
        for deadline in deadlines:
            nursery.start_soon(note, alarms, deadline, rang)
    return rang


@pytest.fixture
def alarms(nursery: trio.Nursery) -> Alarms:
    """Alarms that run; a test that takes them takes the clock as well, so that it is used."""
    alarms = Alarms()
    nursery.start_soon(alarms.run)
    return alarms


@given(st.lists(st.floats(0.0, 100.0), max_size=20), st.floats(0.0, 1e6))
def test_ring_on_time(delays: list[float], begin: float) -> None:
    """Whatever the deadlines, each bell rings at its own: never before, and not later."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            alarms = Alarms()
            nursery.start_soon(alarms.run)
            await trio.sleep(begin)
            deadlines = [trio.current_time() + delay for delay in delays]
            for deadline, time in await ring_all(alarms, deadlines):
                assert deadline <= time <= deadline + 1e-6
            assert len(alarms) == 0
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_one_instant(alarms: Alarms, autojump_clock: MockClock) -> None:
    """Thousands of bells with one deadline ring in one step, and leave nothing behind."""
    rang = await ring_all(alarms, [1.0] * 3_000)
    assert {time for _, time in rang} == {1.0}
    assert len(alarms) == 0


async def test_earlier_deadline_while_asleep(
    alarms: Alarms, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Alarms that sleep until a late deadline still ring an earlier one on time."""
    rang: list[tuple[float, float]] = []
    nursery.start_soon(note, alarms, 100.0, rang)
    await trio.sleep(1.0)
    nursery.start_soon(note, alarms, 11.0, rang)
    await trio.sleep(200.0)
    assert rang == [(11.0, 11.0), (100.0, 100.0)]


async def test_ring_what_is_past(alarms: Alarms, autojump_clock: MockClock) -> None:
    """A deadline that has passed rings at once."""
    await trio.sleep(5.0)
    assert await ring_all(alarms, [3.0]) == [(3.0, 5.0)]


async def test_forget(alarms: Alarms, autojump_clock: MockClock) -> None:
    """A bell that was taken back does not ring, others of its instant do, and nothing stays."""
    taken, kept = Bell(), Bell()
    alarms.ring_at(taken, 1.0)
    alarms.ring_at(kept, 1.0)
    alarms.forget(taken, 1.0)
    alarms.forget(taken, 1.0)
    alarms.forget(taken, math.pi)
    assert len(alarms) == 1
    await trio.sleep(2.0)
    assert (taken.is_rung, kept.is_rung) == (False, True)
    assert len(alarms) == 0
    alarms.forget(kept, 1.0)
