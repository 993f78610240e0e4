"""The wheel rings bells on time, on a clock that jumps."""

import math
from itertools import pairwise

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_rt.schedule.bell import Bell
from trio_rt.schedule.wheel import SLOT, Wheel

ROUNDING = 1e-6
"""Seconds that a float may be off by."""


class Alarm:
    """A bell on a wheel, and the time at which it rang."""

    def __init__(self, wheel: Wheel, deadline: float) -> None:
        self.bell, self.deadline = Bell(), deadline
        self.rang_at = math.nan
        self.slot = wheel.ring_at(self.bell, deadline)

    async def note(self) -> None:
        await self.bell.wait()
        self.rang_at = trio.current_time()

    def assert_on_time(self) -> None:
        assert -ROUNDING <= self.rang_at - self.deadline <= SLOT + ROUNDING


@pytest.fixture
def wheel(nursery: trio.Nursery) -> Wheel:
    """A wheel that runs; a test that takes it takes the clock as well, so that it is used."""
    wheel = Wheel()
    nursery.start_soon(wheel.run)
    return wheel


async def ring_all(wheel: Wheel, *seconds: float) -> list[Alarm]:
    """Sets alarms in so many seconds from now, and waits until all have rung."""
    alarms = [Alarm(wheel, trio.current_time() + delay) for delay in seconds]
    async with trio.open_nursery() as nursery:
        for alarm in alarms:
            nursery.start_soon(alarm.note)
    return alarms


@pytest.mark.parametrize("delay", [0.0, 0.001, SLOT, 0.14, 0.58, 1.0, 25.0, 86_400.0])
async def test_ring_on_time(wheel: Wheel, autojump_clock: MockClock, delay: float) -> None:
    """A bell rings at its deadline or up to one slot later."""
    [alarm] = await ring_all(wheel, delay)
    alarm.assert_on_time()
    assert len(wheel) == 0


@given(st.lists(st.floats(0.0, 100.0), max_size=20), st.floats(0.0, 1e6))
def test_ring_all_on_time(delays: list[float], begin: float) -> None:
    """Whatever the deadlines, each bell rings at its own."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            wheel = Wheel()
            nursery.start_soon(wheel.run)
            await trio.sleep(begin)
            for alarm in await ring_all(wheel, *delays):
                alarm.assert_on_time()
            assert len(wheel) == 0
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_ring_what_is_past(wheel: Wheel, autojump_clock: MockClock) -> None:
    """A deadline that has passed rings at once."""
    await trio.sleep(5.0)
    before = trio.current_time()
    [alarm] = await ring_all(wheel, -3.0)
    assert alarm.rang_at - before <= SLOT


async def test_earlier_deadline_while_asleep(
    wheel: Wheel, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """A wheel that sleeps until a late deadline still rings an earlier one on time."""
    late = Alarm(wheel, trio.current_time() + 100.0)
    nursery.start_soon(late.note)
    await trio.sleep(1.0)
    [early] = await ring_all(wheel, 10.0)
    early.assert_on_time()
    await trio.sleep(100.0)
    late.assert_on_time()


async def test_ring_again(wheel: Wheel, autojump_clock: MockClock) -> None:
    """Whoever is woken may wait for the next deadline at once, for ever."""
    bell, times = Bell(), []
    for _ in range(5):
        wheel.ring_at(bell, trio.current_time() + 1.0)
        await bell.wait()
        times.append(trio.current_time())
    gaps = [after - before for before, after in pairwise(times)]
    assert all(1.0 - ROUNDING <= gap <= 1.0 + SLOT + ROUNDING for gap in gaps)


async def test_one_slot_for_many(wheel: Wheel, autojump_clock: MockClock) -> None:
    """Thousands of bells of one slot ring in one step, and leave nothing behind."""
    alarms = await ring_all(wheel, *[1.0] * 3_000)
    assert len({alarm.rang_at for alarm in alarms}) == 1
    assert len(wheel) == 0


async def test_thousands_of_slots(
    wheel: Wheel, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """Thousands of deadlines each ring on time."""
    for alarm in await ring_all(wheel, *[number * 0.013 for number in range(2_000)]):
        alarm.assert_on_time()
    assert len(wheel) == 0


async def test_forget(wheel: Wheel, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """A bell that was taken back does not ring, others of its slot do, and nothing stays."""
    deadline = trio.current_time() + 1.0
    taken, kept = Alarm(wheel, deadline), Alarm(wheel, deadline)
    assert len(wheel) == 2
    wheel.forget(taken.bell, taken.slot)
    assert len(wheel) == 1
    nursery.start_soon(taken.note)
    nursery.start_soon(kept.note)
    await trio.sleep(10.0)
    assert math.isnan(taken.rang_at)
    kept.assert_on_time()
    assert len(wheel) == 0
    nursery.cancel_scope.cancel()


async def test_forget_what_is_gone(wheel: Wheel, autojump_clock: MockClock) -> None:
    """To take a bell back after it has rung, or twice, is harmless."""
    [alarm] = await ring_all(wheel, 1.0)
    wheel.forget(alarm.bell, alarm.slot)
    wheel.forget(alarm.bell, alarm.slot)
    assert len(wheel) == 0


async def test_forget_leaves_no_deadline_of_its_own(
    wheel: Wheel, autojump_clock: MockClock
) -> None:
    """After all were taken back, new bells ring on time as ever."""
    for _ in range(100):
        alarm = Alarm(wheel, trio.current_time() + 1.0)
        wheel.forget(alarm.bell, alarm.slot)
    assert len(wheel) == 0
    for alarm in await ring_all(wheel, 1.0, 0.5):
        alarm.assert_on_time()


async def test_no_deadline(wheel: Wheel, autojump_clock: MockClock) -> None:
    """A bell without a deadline never rings, is taken back like others, and holds nobody up."""
    alarm = Alarm(wheel, math.inf)
    assert len(wheel) == 0
    for other in await ring_all(wheel, 1.0):
        other.assert_on_time()
    wheel.forget(alarm.bell, alarm.slot)


async def test_set_before_run(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """What was set before the wheel runs rings as soon as it does."""
    wheel = Wheel()
    alarms = [Alarm(wheel, trio.current_time() + delay) for delay in (1.0, 10.0)]
    for alarm in alarms:
        nursery.start_soon(alarm.note)
    await trio.sleep(5.0)
    nursery.start_soon(wheel.run)
    await trio.testing.wait_all_tasks_blocked()
    assert alarms[0].rang_at == 5.0
    await trio.sleep(10.0)
    alarms[1].assert_on_time()


async def test_cancel(autojump_clock: MockClock) -> None:
    """A wheel whose run was cancelled can run again, and has forgotten nothing."""
    wheel = Wheel()
    alarm = Alarm(wheel, trio.current_time() + 10.0)
    with trio.move_on_after(5.0) as scope:
        await wheel.run()
    assert scope.cancelled_caught
    assert len(wheel) == 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wheel.run)
        await alarm.note()
        nursery.cancel_scope.cancel()
    alarm.assert_on_time()


async def test_sleeps_when_there_is_nothing(wheel: Wheel, autojump_clock: MockClock) -> None:
    """A wheel without bells takes no turns of the scheduler: the clock can jump over it."""
    await trio.testing.wait_all_tasks_blocked()
    before = trio.lowlevel.current_statistics()
    assert before.seconds_to_next_deadline == math.inf


async def test_never_early(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """No bell rings before its deadline, however near to a slot's edge that is."""
    wheel, bell = Wheel(), Bell()
    nursery.start_soon(wheel.run)
    for slot in range(1, 2_000, 7):
        for deadline in (slot * SLOT, math.nextafter(slot * SLOT, math.inf)):
            if deadline > trio.current_time():
                wheel.ring_at(bell, deadline)
                await bell.wait()
                assert trio.current_time() >= deadline
