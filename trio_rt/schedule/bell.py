"""A bell that one task waits for: the smallest way to wake a parked task."""

from collections.abc import Awaitable

import trio


class Bell:
    """Wakes its one waiter. Rung while nobody waits, it stays rung for the next wait.

    It says that something may have changed, never what: look at the state it stands for, before
    and after. It holds no queue and costs one reschedule (measured: 2.2 to 2.8 us), where a memory
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
        trio.lowlevel.reschedule(task)
        return True

    def wait(self) -> Awaitable[None]:
        """Waits for a ring, and uses it up. Await it at once; always a checkpoint.

        A wait that is cancelled uses nothing up.

        Not an async function, because the frame of one would cost each parked task 300 bytes.
        """
        if self._is_rung:
            return self._use_up()
        assert self._task is None, "a bell has one waiter"
        self._task = trio.lowlevel.current_task()
        return trio.lowlevel.wait_task_rescheduled(self._abort)  # noqa: ASYNC105

    async def _use_up(self) -> None:
        await trio.lowlevel.checkpoint()
        self._is_rung = False  # now, so that a cancelled wait loses no ring

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
