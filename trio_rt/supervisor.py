"""Keeps children running: each in a task and a cancel scope of its own, restarted by OTP's rules.

    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        supervisor.start_soon(Child("ticker", tick_forever))
        value = await supervisor.start(Child("room", room.run, restart=Restart.TRANSIENT))
        await supervisor.stop("room")

One for one: what happens to a child is nobody's matter but its own, and that of `on_end`, which is
told once of each child that will not run again. An exception raised there climbs: all children are
stopped and `run` raises it. That is how a parent escalates.

A child's crash stops here: `Exception` is caught, logged once with an id, and answered by
`machine/restarts.py`. What is no `Exception` climbs.
"""

import enum
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio
from attrs.validators import ge, gt

from trio_rt.errors import LimitError, LocalError, MisuseError
from trio_rt.log import log, new_error_id
from trio_rt.machine.restarts import Again, Ending, GiveUp, Restart, Restarts


def _excuse_nothing(_error: Exception) -> bool:
    return False


@attrs.frozen
class Child:
    """Something to keep running."""

    name: str
    """What it is called in logs and by `stop`; one child at a time has a name."""

    run: Callable[..., Awaitable[object]]
    """The async function that is the child's life. `start` hands it `task_status`."""

    restart: Restart = attrs.field(default=Restart.PERMANENT, kw_only=True)
    """When it runs again."""

    intensity: int = attrs.field(default=3, validator=ge(0), kw_only=True)
    """Restarts that it may have within a period."""

    period: float = attrs.field(default=10.0, validator=gt(0), kw_only=True)
    """Seconds that a restart counts."""

    delay: float = attrs.field(default=0.0, validator=ge(0), kw_only=True)
    """Seconds to wait before each restart."""

    excuses: Callable[[Exception], bool] = attrs.field(default=_excuse_nothing, kw_only=True)
    """Which failures cost nothing of that budget, because their cause is dealt with elsewhere."""


class Outcome(enum.Enum):
    """Why a child will not run again."""

    DONE = "done"
    """Its rule says that it has ended; a temporary child may have failed."""

    GIVEN_UP = "given up"
    """It used up its restarts."""

    STOPPED = "stopped"
    """Somebody stopped it, or the supervisor ended."""


@attrs.frozen
class Ended:
    """A child that will not run again."""

    child: Child
    outcome: Outcome

    error: Exception | None = None
    """How its last run failed, if it did."""

    error_id: str | None = None
    """What the log calls that failure."""


OnEnd = Callable[[Ended], Awaitable[None]]


class Supervisor:
    """Runs children, one for one.

    Args:
        on_end: awaited once for each child that will not run again, in that child's task, shielded,
            with `stop_timeout` as its deadline. The name is free again when it has returned.
            What it raises ends the supervisor.
        max_children: how many there may be at once.
        stop_timeout: seconds for all children to end in order; then those left are cancelled at
            once.
        in_order: whether the last started child has ended before the next one is stopped, when the
            supervisor ends. Children that are all alike, such as rooms, need not wait for each
            other.
    """

    def __init__(
        self,
        *,
        on_end: OnEnd | None = None,
        max_children: int = 10_000,
        stop_timeout: float = 5.0,
        in_order: bool = True,
    ) -> None:
        self._on_end = on_end
        self._max_children = max_children
        self._stop_timeout = stop_timeout
        self._in_order = in_order
        self._lives: dict[str, _Life] = {}  # in the order of their start
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._is_ending = False
        self._failure: Exception | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The children that run or wait for their restart, in the order of their start."""
        return tuple(self._lives)

    def __contains__(self, name: object) -> bool:
        return name in self._lives

    def __len__(self) -> int:
        return len(self._lives)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs the children until it is cancelled or `end` is called; then stops them in reverse.

        Children are shielded from what cancels the supervisor, so that their order is kept: they
        end when they are stopped, and this returns when the last has ended.

        Raises:
            Exception: what `on_end` raised.
        """
        if self._nursery is not None:
            raise MisuseError("a Supervisor runs once: make another one")
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                try:
                    with self._scope:
                        await trio.sleep_forever()
                finally:
                    self._is_ending = True
                    with trio.move_on_after(self._stop_timeout, shield=True):
                        await self._stop_all()
                    self._hurry()
        finally:
            if self._failure is not None:
                raise self._failure

    def end(self) -> None:
        """Makes `run` stop the children and return."""
        self._scope.cancel()

    def start_soon(self, child: Child) -> None:
        """Runs `child.run()` from now on.

        Raises:
            LocalError: if its name is taken, or the supervisor is ending.
            LimitError: if there are `max_children` already.
            MisuseError: if the supervisor does not run yet.
        """
        self._begin(_Life(child))

    async def start(self, child: Child) -> Any:
        """Runs `child.run(task_status=...)`, and waits for its `task_status.started(value)`.

        A child that fails before it has started is none: it is not run again, and `on_end` is not
        told. If this is cancelled, the child is stopped.

        Returns:
            The value.

        Raises:
            Exception: what the child raised before it had started.
            LocalError: as for `start_soon`, or if the child was stopped before it had started.
        """
        birth = _Birth()
        life = _Life(child, birth)
        self._begin(life)
        try:
            await birth.settled.wait()
        except trio.Cancelled:
            life.cancel()
            with trio.move_on_after(self._stop_timeout, shield=True):
                await life.has_ended.wait()
            raise
        if birth.error is not None:
            await life.has_ended.wait()  # so that its name is free
            raise birth.error
        return birth.value

    async def stop(self, name: str, *, timeout: float = 5.0) -> bool:
        """Cancels a child and waits until it has ended and `on_end` has been told.

        Args:
            name: the child; one that is not there has ended already.
            timeout: seconds to wait.

        Returns:
            Whether it has ended. If not, it is cancelled and cleans up still; its name stays taken.
        """
        life = self._lives.get(name)
        if life is None:
            return True
        life.cancel()
        with trio.move_on_after(timeout):
            await life.has_ended.wait()
        return life.has_ended.is_set()

    def _begin(self, life: "_Life") -> None:
        name = life.child.name
        if self._nursery is None:
            raise MisuseError("no supervisor runs: `await nursery.start(supervisor.run)` first")
        if self._is_ending:
            raise LocalError(f"the supervisor is ending: child {name!r} is not started")
        if name in self._lives:
            raise LocalError(f"child {name!r} is still there: `await supervisor.stop({name!r})`")
        if len(self._lives) >= self._max_children:
            raise LimitError(f"the supervisor has max_children={self._max_children} already")
        self._lives[name] = life
        self._nursery.start_soon(self._keep, life, name=f"child {name}")

    async def _stop_all(self) -> None:
        lives = list(reversed(self._lives.values()))
        for life in lives:
            life.cancel()
            if self._in_order:
                await life.has_ended.wait()
        for life in lives:
            await life.has_ended.wait()

    def _hurry(self) -> None:
        """Time is up: whoever is left is cancelled, and the nursery waits for its cleanup."""
        for life in self._lives.values():
            life.cancel()
        if self._lives:
            log.warning("children that take their time to stop: %s", ", ".join(self._lives))

    async def _keep(self, life: "_Life") -> None:
        try:
            ended = await life.run()
            if ended is not None and self._on_end is not None:
                await self._tell(self._on_end, ended)
        finally:
            del self._lives[life.child.name]
            life.end()

    async def _tell(self, on_end: OnEnd, ended: Ended) -> None:
        name = ended.child.name
        with trio.move_on_after(self._stop_timeout, shield=True) as scope:
            try:
                await on_end(ended)
            except Exception as error:
                if self._failure is not None:
                    log.exception("on_end failed too for child %s", name)
                    return
                self._failure = error
                self.end()
        if scope.cancelled_caught:
            log.error("on_end of child %s took more than %g s", name, self._stop_timeout)


class _Birth:
    """The `task_status` of a child's first run, and how `start` learns what became of it."""

    def __init__(self) -> None:
        self.settled = trio.Event()
        self.value: Any = None
        self.error: Exception | None = None

    def started(self, value: Any = None) -> None:
        self.value = value
        self.settled.set()

    def fail(self, error: Exception) -> None:
        self.error = error
        self.settled.set()


@attrs.define(eq=False)
class _Life:
    """One child from its start to its last end."""

    child: Child
    birth: _Birth | None = None
    has_ended: trio.Event = attrs.field(factory=trio.Event, init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _is_stopping: bool = attrs.field(default=False, init=False)

    def cancel(self) -> None:
        """Stops it for good, wherever it is."""
        self._is_stopping = True
        self._scope.cancel()

    async def run(self) -> Ended | None:
        """Runs the child as often as its rule says.

        Returns:
            Why it will not run again; `None` for a child that has never started.
        """
        child = self.child
        restarts = Restarts(
            child.restart, intensity=child.intensity, period=child.period, delay=child.delay
        )
        status: Any = self.birth
        while not self._is_stopped():
            error = await self._do(self._live, status)
            if self._is_unborn():
                self._fail_birth(error)
                return None
            status = trio.TASK_STATUS_IGNORED
            if self._is_stopped():
                return Ended(child, Outcome.STOPPED, error, self._log(error, "while it stopped"))
            ending = Ending.NORMAL if error is None else Ending.FAILED
            is_excused = error is not None and child.excuses(error)
            match restarts.ended(ending, trio.current_time(), is_excused=is_excused):
                case Again(delay):
                    self._log(error, "and runs again")
                    await self._do(trio.sleep, delay)
                case GiveUp(text):
                    if error is None:
                        log.error("child %s returned and is given up: %s", child.name, text)
                    error_id = self._log(error, f"and is given up: {text}")
                    return Ended(child, Outcome.GIVEN_UP, error, error_id)
                case _:
                    error_id = self._log(error, "and is done")
                    return Ended(child, Outcome.DONE, error, error_id)
        return None if self._is_unborn() else Ended(child, Outcome.STOPPED)

    def end(self) -> None:
        """It is over: tells whoever waits for it."""
        if self._is_unborn():
            self._fail_birth(None)
        self.has_ended.set()

    def _is_stopped(self) -> bool:
        return self._is_stopping  # a method, because type checkers take an attribute for constant

    async def _live(self, status: Any) -> None:
        if self.birth is None:
            await self.child.run()
        else:
            await self.child.run(task_status=status)

    async def _do(
        self, function: Callable[..., Awaitable[object]], argument: Any
    ) -> Exception | None:
        """Awaits something that `cancel` ends, and only that; returns how it failed."""
        try:
            with trio.CancelScope(shield=True) as self._scope:
                await function(argument)
        except Exception as error:
            return error
        return None

    def _is_unborn(self) -> bool:
        return self.birth is not None and not self.birth.settled.is_set()

    def _fail_birth(self, error: Exception | None) -> None:
        assert self.birth is not None
        name = self.child.name
        if error is None and self._is_stopping:
            error = LocalError(f"child {name!r} was stopped before it had started")
        elif error is None:
            error = MisuseError(f"child {name!r} ended before it called `task_status.started()`")
        self.birth.fail(error)

    def _log(self, error: Exception | None, consequence: str) -> str | None:
        """Logs a failure and what follows from it; what only returned has none."""
        if error is None:
            return None
        error_id = new_error_id()
        log.error(
            "child %s failed %s (error %s)", self.child.name, consequence, error_id, exc_info=error
        )
        return error_id
