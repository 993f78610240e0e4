"""A bell wakes its one waiter, now or when it comes."""

import pytest
import trio
import trio.testing

from trio_rt.schedule.bell import Bell


async def test_ring_before_wait() -> None:
    """A bell that rang while nobody waited lets the next wait return at once."""
    bell = Bell()
    bell.ring()
    with trio.testing.assert_checkpoints():
        await bell.wait()


async def test_rings_before_wait_are_one(nursery: trio.Nursery) -> None:
    """However often it rang, it lets one wait return."""
    bell = Bell()
    bell.ring()
    bell.ring()
    await bell.wait()
    assert await waits(bell)


async def wait(bell: Bell) -> None:
    """Waits in the task that awaits this: `bell.wait` itself begins where it is called."""
    await bell.wait()


async def waits(bell: Bell) -> bool:
    """Whether a wait does not return by itself."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def give_up() -> None:
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()

            await bell.wait()
            nursery.cancel_scope.cancel()
    return scope.cancelled_caught


async def test_ring_after_wait(nursery: trio.Nursery) -> None:
    """A ring wakes the waiter, and is used up by that."""
    bell, woken = Bell(), []

    @nursery.start_soon
    async def waiter() -> None:
        await bell.wait()
        woken.append(1)
        await bell.wait()
        woken.append(2)

    await trio.testing.wait_all_tasks_blocked()
    assert woken == []
    bell.ring()
    await trio.testing.wait_all_tasks_blocked()
    assert woken == [1]
    bell.ring()
    await trio.testing.wait_all_tasks_blocked()
    assert woken == [1, 2]


async def test_ring_twice_while_waiting(nursery: trio.Nursery) -> None:
    """The second ring before the waiter has run is kept for its next wait."""
    bell, rounds = Bell(), []

    @nursery.start_soon
    async def waiter() -> None:
        for number in range(3):
            await bell.wait()
            rounds.append(number)

    await trio.testing.wait_all_tasks_blocked()
    bell.ring()
    bell.ring()
    await trio.testing.wait_all_tasks_blocked()
    assert rounds == [0, 1]
    nursery.cancel_scope.cancel()


async def test_wake(nursery: trio.Nursery) -> None:
    """Waking says whether somebody waited, and leaves no ring behind if nobody did."""
    bell = Bell()
    assert bell.wake() is False
    assert await waits(bell)
    nursery.start_soon(wait, bell)
    await trio.testing.wait_all_tasks_blocked()
    assert bell.wake() is True
    assert bell.wake() is False


async def test_cancel(nursery: trio.Nursery) -> None:
    """After a wait was cancelled nobody waits, and the bell is as good as new."""
    bell = Bell()
    assert await waits(bell)
    assert bell.wake() is False
    assert await waits(bell)
    bell.ring()
    await bell.wait()


async def test_cancel_after_ring(nursery: trio.Nursery) -> None:
    """A ring that came before the cancellation wins."""
    bell, woken = Bell(), []
    scope = trio.CancelScope()

    @nursery.start_soon
    async def waiter() -> None:
        with scope:
            await bell.wait()
            woken.append(True)

    await trio.testing.wait_all_tasks_blocked()
    bell.ring()
    scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert woken == [True]


async def test_one_waiter(nursery: trio.Nursery) -> None:
    """A second waiter is a bug, told at once, that does not harm the first."""
    bell = Bell()
    nursery.start_soon(wait, bell)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(AssertionError, match="one waiter"):
        bell.wait()
    assert bell.wake() is True
