"""A bell that one task waits for: the smallest way to wake a parked task."""

from collections.abc import AsyncGenerator, Awaitable, Generator
from typing import TypeVar, final

import trio
from outcome import Outcome
from trio.lowlevel import Abort, current_task, reschedule, wait_task_rescheduled

T = TypeVar("T")


@final
class Woken(Outcome[None]):
    """What a task is woken with: nothing, again and again.

    One for all wakes: the outcome that Trio makes for each and marks as used costs 0.5 us of 1.7.
    """

    __slots__ = ()

    def unwrap(self) -> None:
        """See `Outcome`."""

    def send(self, gen: Generator[T, None, object]) -> T:
        """See `Outcome`."""
        return gen.send(None)

    async def asend(self, agen: AsyncGenerator[T, None]) -> T:
        """See `Outcome`."""
        return await agen.asend(None)


_WOKEN = Woken()


class Bell:
    """Wakes its one waiter. Rung while nobody waits, it stays rung for the next wait.

    It says that something may have changed, never what: look at the state it stands for, before
    and after. It holds no queue and costs one reschedule (measured: 1.3 to 2.2 us), where a memory
    channel costs 3.3 us and 1.7 kB.
    """

    __slots__ = ("_is_rung", "_task")

    def __init__(self) -> None:
        self._is_rung = False
        self._task: trio.lowlevel.Task | None = None

    def ring(self) -> None:
        """Wakes the waiter, or lets the next `wait` return at once."""
        if not self.wake():
            self._is_rung = True

    @property
    def is_rung(self) -> bool:
        """Whether the next `wait` returns at once."""
        return self._is_rung

    def take(self) -> bool:
        """Uses a ring up without waiting. False if it is not rung."""
        was_rung, self._is_rung = self._is_rung, False
        return was_rung

    def wake(self) -> bool:
        """Wakes the waiter. False, and nothing happens, if nobody waits."""
        task = self._task
        if task is None:
            return False
        self._task = None
        reschedule(task, _WOKEN)
        return True

    def wait(self) -> Awaitable[None]:
        """Waits for a ring, and uses it up. Await it at once; always a checkpoint.

        A wait that is cancelled uses nothing up.

        Not an async function, because the frame of one would cost each parked task 300 bytes.
        """
        if self._is_rung:
            return self._use_up()
        assert self._task is None, "a bell has one waiter"
        self._task = current_task()
        return wait_task_rescheduled(self._abort)  # noqa: ASYNC105

    async def _use_up(self) -> None:
        await trio.lowlevel.checkpoint()
        self._is_rung = False  # now, so that a cancelled wait loses no ring

    def _abort(self, _raise_cancel: object) -> Abort:
        self._task = None
        return Abort.SUCCEEDED
