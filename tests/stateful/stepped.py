"""A Trio run that moves only while a rule of a state machine says so.

Hypothesis calls the rules of a machine from sync code, one after the other; Trio wants to be in
charge as well. In guest mode neither has to give in: this is the host loop, a queue of ticks that
is worked off while a step is taken, and stands still between two steps. No thread is ever needed,
because the clock is virtual, and the main task is always ready to run.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio
from outcome import Error, Outcome, Value
from trio.testing import MockClock

LONGEST = 3_600.0
"""Virtual seconds that one step may take. A step that waits for what never comes fails by it."""


class SteppedRun:
    """A Trio run with a nursery, on a virtual clock that jumps where everybody waits.

    Between two steps no task runs and no time passes. What crashes in the nursery is raised by the
    step in which it did. Always `end` it.
    """

    nursery: trio.Nursery

    def __init__(self) -> None:
        self._ticks: deque[Callable[[], object]] = deque()
        self._order: Callable[[], Awaitable[Any]] | None = None
        self._result: Outcome[Any] | None = None
        self._outcome: Outcome[None] | None = None
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._ticks.append,
            done_callback=self._has_ended,
            clock=MockClock(autojump_threshold=0),
        )
        self.step(trio.lowlevel.checkpoint)

    def step(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Runs an async function to its end; all other tasks run while it waits."""
        self._order, self._result = partial(function, *args), None
        while self._result is None:
            if self._outcome is not None:
                self._outcome.unwrap()
                raise RuntimeError("the run has ended")
            self._ticks.popleft()()
        return self._result.unwrap()

    def end(self, *, quietly: bool) -> None:
        """Cancels all tasks, and waits for them; raises what crashed, if not quietly."""
        if self._outcome is None:
            self._order = self._cancel
            while self._outcome is None:
                self._ticks.popleft()()
        if not quietly:
            self._outcome.unwrap()

    async def _main(self) -> None:
        async with trio.open_nursery() as self.nursery:
            while True:
                await trio.lowlevel.checkpoint()
                order, self._order = self._order, None
                if order is not None:
                    self._result = await self._take(order)

    async def _take(self, order: Callable[[], Awaitable[Any]]) -> Outcome[Any]:
        try:
            with trio.fail_after(LONGEST):
                return Value(await order())
        except Exception as error:
            return Error(error)

    async def _cancel(self) -> None:
        self.nursery.cancel_scope.cancel()

    def _has_ended(self, outcome: Outcome[None]) -> None:
        self._outcome = outcome
