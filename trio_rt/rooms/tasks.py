"""The tasks of one life of a room: they end with it, the last started first.

All of them end by themselves at a time that is known, and put off, beforehand: that of the lease.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from trio_rt.errors import LimitError, LocalError
from trio_rt.log import log

MAX_TASKS = 1_000
"""Tasks and timers that one room may have."""

STOP_TIMEOUT = 5.0
"""Seconds for all tasks to end in order; then those left are cancelled at once."""


@attrs.define(eq=False)
class _Task:
    name: str
    scope: trio.CancelScope
    """The program's, to cancel this task."""
    shield: trio.CancelScope
    """Keeps the order of ending, and ends at the nursery's time."""
    ended: trio.Event = attrs.field(factory=trio.Event)


class RoomNursery:
    """Starts tasks that end with the room's life. One that crashes makes the room crash."""

    def __init__(self) -> None:
        self._tasks: dict[_Task, None] = {}
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope()
        self._until = math.inf
        self._failure: Exception | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    def start_soon(
        self,
        function: Callable[..., Awaitable[object]],
        *arguments: Any,
        name: str | None = None,
    ) -> trio.CancelScope:
        """Runs `function(*arguments)` in a task of its own until the room ends or crashes.

        Returns:
            A scope that cancels this task alone.

        Raises:
            LocalError: if the room is not running, or ends.
            LimitError: if it has too many tasks already.
        """
        if self._nursery is None or self._scope.cancel_called:
            raise LocalError("the room is not running: use self.nursery in its hooks and handlers")
        if len(self._tasks) >= MAX_TASKS:
            raise LimitError(f"a room has more than {MAX_TASKS} tasks and timers")
        scope = trio.CancelScope()
        shield = trio.CancelScope(shield=True, deadline=self._until)
        task = _Task(name or str(getattr(function, "__name__", function)), scope, shield)
        self._tasks[task] = None
        self._nursery.start_soon(self._run, task, function, arguments, name=task.name)
        return scope

    async def run(self, main: Callable[[], Awaitable[object]]) -> None:
        """Runs `main()`, and the tasks until it returns, or something fails.

        Raises:
            Exception: the first failure, in no group of ours.
        """
        async with trio.open_nursery() as self._nursery:
            try:
                with self._scope:
                    await main()
            except Exception as error:
                self._failure = self._failure or error
            finally:
                self._scope.cancel()
                with trio.move_on_after(STOP_TIMEOUT, shield=True):
                    await self._stop_all()
                self._hurry()
        if self._failure is not None:
            raise self._failure

    def run_until(self, deadline: float) -> None:
        """From this time on nothing goes on here, whatever it waits for."""
        self._until = self._scope.deadline = deadline
        for task in self._tasks:
            task.shield.deadline = deadline

    def end(self) -> None:
        """Makes `run` stop everything and return."""
        self._scope.cancel()

    async def _stop_all(self) -> None:
        for task in reversed(list(self._tasks)):
            task.scope.cancel()
            await task.ended.wait()

    def _hurry(self) -> None:
        for task in self._tasks:
            task.scope.cancel()
        if self._tasks:
            names = ", ".join(task.name for task in self._tasks)
            log.warning("tasks of a room that take their time to stop: %s", names)

    async def _run(
        self, task: _Task, function: Callable[..., Awaitable[object]], arguments: tuple[Any, ...]
    ) -> None:
        try:
            with task.shield, task.scope:
                await function(*arguments)
        except Exception as error:
            self._failure = self._failure or error
            self._scope.cancel()
        finally:
            del self._tasks[task]
            task.ended.set()
