"""The supervisor: real tasks on a virtual clock."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_rt.errors import LimitError, LocalError, MisuseError
from trio_rt.machine.restarts import Restart
from trio_rt.supervisor import Child, Ended, Outcome, Supervisor

PERMANENT, TRANSIENT, TEMPORARY = Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY


class Boom(Exception):
    """What children fail with."""


@attrs.define
class Story:
    """What happened, in order: `name+` began, `name-` ended, `name: outcome` was told."""

    events: list[str] = attrs.field(factory=list)
    endings: list[Ended] = attrs.field(factory=list)

    async def on_end(self, ended: Ended) -> None:
        self.endings.append(ended)
        self.events.append(f"{ended.child.name}: {ended.outcome.value}")

    def child(self, name: str, *acts: Callable[[], Awaitable[object]], **options: Any) -> Child:
        """A child whose n-th run does the n-th act, or the last one."""
        runs = iter([*acts[:-1]])

        async def run() -> None:
            self.events.append(f"{name}+")
            try:
                await next(runs, acts[-1] if acts else trio.sleep_forever)()
            finally:
                self.events.append(f"{name}-")

        return Child(name, run, **options)


@pytest.fixture
def story() -> Story:
    return Story()


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[Supervisor]:
    """A supervisor that runs, and that is cancelled from outside in the end."""
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        try:
            yield supervisor
        finally:
            nursery.cancel_scope.cancel()


async def fail() -> None:
    await trio.sleep(1)
    raise Boom("it broke")


async def fail_at_once() -> None:
    raise Boom("it broke")


async def end() -> None:
    await trio.sleep(1)


async def fail_while_stopping() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise Boom("it broke while it stopped")


def clean_up(seconds: float) -> Callable[[], Awaitable[None]]:
    """An act that takes its time to stop."""

    async def act() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(seconds, shield=True):
                await trio.sleep_forever()

    return act


def failures(errors: list[logging.LogRecord]) -> list[str]:
    """Takes the logged failures out: which child, without the id."""
    assert all(record.exc_info for record in errors)
    told = [record.getMessage().rsplit(" (error ", 1)[0] for record in errors]
    errors.clear()
    return told


# --- The rules


async def test_permanent_returns(story: Story, autojump_clock: MockClock) -> None:
    """A permanent child runs again when it returns."""
    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        supervisor.start_soon(story.child("a", end, trio.sleep_forever))
        await trio.sleep(2)
        assert story.events == ["a+", "a-", "a+"]


@pytest.mark.parametrize("rule", [PERMANENT, TRANSIENT])
async def test_failure_is_restarted(
    rule: Restart, story: Story, errors: list[Any], autojump_clock: MockClock
) -> None:
    """A child that failed runs again, and its failure is logged once with its traceback."""
    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        supervisor.start_soon(story.child("a", fail, trio.sleep_forever, restart=rule))
        await trio.sleep(2)
        assert story.events == ["a+", "a-", "a+"]
        assert isinstance(errors[0].exc_info[1], Boom)
        assert failures(errors) == ["child a failed and runs again"]


@pytest.mark.parametrize("rule", [TRANSIENT, TEMPORARY])
async def test_return_is_done(rule: Restart, story: Story, autojump_clock: MockClock) -> None:
    """A child that may end by itself is done when it returns."""
    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        child = story.child("a", end, restart=rule)
        supervisor.start_soon(child)
        await trio.sleep(2)
        assert story.events == ["a+", "a-", "a: done"]
        assert story.endings == [Ended(child, Outcome.DONE)]
        assert "a" not in supervisor


async def test_temporary_fails(story: Story, errors: list[Any], autojump_clock: MockClock) -> None:
    """A temporary child that fails is done as well, and the failure is told."""
    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        supervisor.start_soon(story.child("a", fail, restart=TEMPORARY))
        await trio.sleep(2)
        assert story.events == ["a+", "a-", "a: done"]
        assert isinstance(story.endings[0].error, Boom)
        assert f"(error {story.endings[0].error_id})" in errors[0].getMessage()
        assert failures(errors) == ["child a failed and is done"]


async def test_delay(story: Story, errors: list[Any], autojump_clock: MockClock) -> None:
    """A child waits before each restart as long as it says."""
    async with running(Supervisor()) as supervisor:
        supervisor.start_soon(story.child("a", fail, trio.sleep_forever, delay=5.0))
        await trio.sleep(5.9)
        assert story.events == ["a+", "a-"]
        assert supervisor.names == ("a",)
        await trio.sleep(0.2)
        assert story.events == ["a+", "a-", "a+"]
    failures(errors)


# --- Giving up


async def test_give_up(story: Story, errors: list[Any], autojump_clock: MockClock) -> None:
    """A child that fails too often is given up, and its neighbours never notice."""
    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        supervisor.start_soon(story.child("b"))
        await wait_all_tasks_blocked()
        supervisor.start_soon(story.child("a", fail, intensity=2, period=10.0))
        await trio.sleep(20)
        assert story.events == ["b+", *["a+", "a-"] * 3, "a: given up"]
        assert story.endings[0].outcome is Outcome.GIVEN_UP
        assert isinstance(story.endings[0].error, Boom)
        assert supervisor.names == ("b",)
        assert failures(errors) == [
            "child a failed and runs again",
            "child a failed and runs again",
            "child a failed and is given up: more than 2 restarts within 10 s",
        ]


async def test_give_up_at_once(story: Story, errors: list[Any], autojump_clock: MockClock) -> None:
    """A child that fails before its first checkpoint is given up without starving the others."""
    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        supervisor.start_soon(story.child("b"))
        supervisor.start_soon(story.child("a", fail_at_once, intensity=1))
        await wait_all_tasks_blocked()
        assert sorted(story.events) == sorted(["b+", *["a+", "a-"] * 2, "a: given up"])
    failures(errors)


async def test_give_up_what_only_returns(
    story: Story, errors: list[Any], autojump_clock: MockClock
) -> None:
    """A permanent child that returns too often is given up, and that is told too."""
    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        child = story.child("a", end, intensity=0)
        supervisor.start_soon(child)
        await trio.sleep(2)
        assert story.endings == [Ended(child, Outcome.GIVEN_UP)]
    assert "child a returned and is given up" in errors.pop().getMessage()


async def test_escalate(story: Story, errors: list[Any], autojump_clock: MockClock) -> None:
    """What `on_end` raises ends the supervisor, after the children, and is raised as it is."""

    async def on_end(ended: Ended) -> None:
        await story.on_end(ended)
        if ended.outcome is Outcome.GIVEN_UP:
            raise Boom("escalated")

    supervisor = Supervisor(on_end=on_end)

    async def escalated() -> None:
        with pytest.raises(Boom, match=r"^escalated$"):
            await supervisor.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(escalated)
        await wait_all_tasks_blocked()
        supervisor.start_soon(story.child("b"))
        await wait_all_tasks_blocked()
        supervisor.start_soon(story.child("a", fail, intensity=0))
    assert story.events == ["b+", "a+", "a-", "a: given up", "b-", "b: stopped"]
    failures(errors)


async def test_escalate_twice(story: Story, errors: list[Any], autojump_clock: MockClock) -> None:
    """The first escalation is raised, later ones are logged."""

    async def on_end(ended: Ended) -> None:
        raise Boom(ended.child.name)

    supervisor = Supervisor(on_end=on_end)

    async def escalated() -> None:
        with pytest.raises(Boom, match=r"^a$"):
            await supervisor.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(escalated)
        await wait_all_tasks_blocked()
        supervisor.start_soon(story.child("b"))
        supervisor.start_soon(story.child("a", end, restart=TEMPORARY))
    assert failures(errors) == ["on_end failed too for child b"]


async def test_on_end_takes_too_long(errors: list[Any], autojump_clock: MockClock) -> None:
    """`on_end` has a deadline, and what it left undone is told."""

    async def on_end(ended: Ended) -> None:
        await trio.sleep_forever()

    async with running(Supervisor(on_end=on_end, stop_timeout=2.0)) as supervisor:
        supervisor.start_soon(Child("a", end, restart=TEMPORARY))
        await trio.sleep(2.9)
        assert supervisor.names == ("a",)
        await trio.sleep(0.2)
        assert supervisor.names == ()
        assert [record.getMessage() for record in errors] == [
            "on_end of child a took more than 2 s"
        ]
        errors.clear()


async def test_what_is_no_exception_climbs(autojump_clock: MockClock) -> None:
    """A KeyboardInterrupt in a child is nobody's to keep, and stops the others."""

    async def interrupted() -> None:
        raise KeyboardInterrupt

    story = Story()
    supervisor = Supervisor(on_end=story.on_end)

    async def run() -> None:
        with pytest.RaisesGroup(KeyboardInterrupt):
            await supervisor.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        supervisor.start_soon(story.child("b"))
        await wait_all_tasks_blocked()
        supervisor.start_soon(story.child("a", interrupted))
    assert story.events == ["b+", "a+", "a-", "b-", "b: stopped"]


# --- Starting


async def start_slowly(*, task_status: trio.TaskStatus[str]) -> None:
    await trio.sleep(1)
    task_status.started("ready")
    await trio.sleep_forever()


async def test_start(autojump_clock: MockClock) -> None:
    """`start` waits until the child says that it has started, and returns what it says."""
    async with running(Supervisor()) as supervisor:
        assert await supervisor.start(Child("a", start_slowly)) == "ready"
        assert trio.current_time() == 1.0
        assert supervisor.names == ("a",)


async def test_crash_in_start(story: Story, autojump_clock: MockClock) -> None:
    """A child that fails before it has started is the caller's matter alone, and not run again."""
    runs = 0

    async def run(**_: object) -> None:
        nonlocal runs
        runs += 1
        raise Boom

    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        with pytest.raises(Boom):
            await supervisor.start(Child("a", run))
        assert (runs, supervisor.names, story.endings) == (1, (), [])
        assert await supervisor.start(Child("a", start_slowly)) == "ready"


async def test_crash_after_start(
    story: Story, errors: list[Any], autojump_clock: MockClock
) -> None:
    """Once it has started a child is like any other, and a restart may fail before `started`."""
    runs = 0

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal runs
        runs += 1
        if runs != 2:
            task_status.started()
        await trio.sleep(1)
        if runs < 4:
            raise Boom
        await trio.sleep_forever()

    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        await supervisor.start(Child("a", run))
        await trio.sleep(10)
        assert (runs, supervisor.names) == (4, ("a",))
    assert len(failures(errors)) == 3


async def test_start_returns_too_early(autojump_clock: MockClock) -> None:
    """A child that returns without having started is told how to."""

    async def run(**_: object) -> None:
        pass

    async with running(Supervisor()) as supervisor:
        with pytest.raises(MisuseError, match=r"task_status\.started\(\)"):
            await supervisor.start(Child("a", run))


async def test_start_is_cancelled(story: Story, autojump_clock: MockClock) -> None:
    """Who stops waiting for a start leaves no child behind."""
    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        with trio.move_on_after(0.5):
            await supervisor.start(Child("a", start_slowly))
        assert (supervisor.names, story.endings) == ((), [])


async def test_stopped_while_starting(autojump_clock: MockClock) -> None:
    """Who waits for a child that is stopped meanwhile is told."""
    async with running(Supervisor()) as supervisor, trio.open_nursery() as nursery:

        async def start() -> None:
            with pytest.raises(LocalError, match="stopped before"):
                await supervisor.start(Child("a", start_slowly))

        nursery.start_soon(start)
        await trio.sleep(0.5)
        assert await supervisor.stop("a")


@pytest.mark.parametrize("when", [0, 1])
async def test_supervisor_ends_while_starting(when: int, autojump_clock: MockClock) -> None:
    """Whoever waits for a start does not outlast the supervisor, even before the first step."""
    supervisor = Supervisor()
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)

        async def start() -> None:
            with pytest.raises(LocalError, match="stopped before"):
                await supervisor.start(Child("a", start_slowly))
            assert trio.current_time() < 1

        nursery.start_soon(start)
        for _ in range(when):
            await wait_all_tasks_blocked()
        if when == 0:
            await trio.lowlevel.cancel_shielded_checkpoint()
        supervisor.end()


async def test_interrupted_while_starting(autojump_clock: MockClock) -> None:
    """Whoever waits for a start is let go, whatever ended the child."""

    async def run(**_: object) -> None:
        raise KeyboardInterrupt

    supervisor = Supervisor()

    async def interrupted() -> None:
        with pytest.RaisesGroup(KeyboardInterrupt):
            await supervisor.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupted)
        await wait_all_tasks_blocked()
        with trio.fail_after(1), pytest.raises(LocalError):
            await supervisor.start(Child("a", run))


# --- Stopping


async def test_stop(story: Story, autojump_clock: MockClock) -> None:
    """A child that was stopped has ended, and `on_end` has been told, when `stop` returns."""
    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        supervisor.start_soon(story.child("b"))
        supervisor.start_soon(story.child("a"))
        await wait_all_tasks_blocked()
        story.events.clear()
        assert await supervisor.stop("a") is True
        assert story.events == ["a-", "a: stopped"]
        assert supervisor.names == ("b",)


async def test_stop_before_the_first_step(story: Story) -> None:
    """A child that is stopped before it ran never runs."""
    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        supervisor.start_soon(story.child("a"))
        assert await supervisor.stop("a") is True
        assert story.events == ["a: stopped"]


async def test_stop_a_stranger() -> None:
    """A child that is not there has ended already."""
    async with running(Supervisor()) as supervisor:
        assert await supervisor.stop("a") is True


async def test_stop_deadline(story: Story, autojump_clock: MockClock) -> None:
    """A child that takes too long to stop is told as such, and keeps its name until it is gone."""
    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        supervisor.start_soon(story.child("a", clean_up(3.0)))
        await wait_all_tasks_blocked()
        assert await supervisor.stop("a", timeout=2.0) is False
        assert trio.current_time() == 2.0
        with pytest.raises(LocalError, match="'a' is still there"):
            supervisor.start_soon(story.child("a"))
        await trio.sleep(1.1)
        assert story.events == ["a+", "a-", "a: stopped"]
        supervisor.start_soon(story.child("a"))


async def test_stop_twice(story: Story, autojump_clock: MockClock) -> None:
    """Two may stop one child, and both wait for it."""
    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        supervisor.start_soon(story.child("a", clean_up(1.0)))
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.stop, "a")
            nursery.start_soon(supervisor.stop, "a")
        assert trio.current_time() == 1.0
        assert len(story.endings) == 1


async def test_stop_itself(story: Story, autojump_clock: MockClock) -> None:
    """A child may stop itself, and is gone at once."""
    supervisor = Supervisor(on_end=story.on_end)

    async def stop() -> None:
        await supervisor.stop("a")

    async with running(supervisor):
        supervisor.start_soon(story.child("a", stop))
        await wait_all_tasks_blocked()
        assert story.events == ["a+", "a-", "a: stopped"]
        assert trio.current_time() == 0


async def test_crash_while_stopping(
    story: Story, errors: list[Any], autojump_clock: MockClock
) -> None:
    """A child that fails while it is stopped is logged, and not run again."""
    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        supervisor.start_soon(story.child("a", fail_while_stopping))
        await wait_all_tasks_blocked()
        assert await supervisor.stop("a")
        assert story.events == ["a+", "a-", "a: stopped"]
        assert isinstance(story.endings[0].error, Boom)
        assert failures(errors) == ["child a failed while it stopped"]


async def test_crash_in_a_nursery_while_stopping(
    story: Story, errors: list[Any], autojump_clock: MockClock
) -> None:
    """A failure among cancelled tasks of a child's own nursery is found as well."""

    async def act() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(fail_while_stopping)

    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        supervisor.start_soon(story.child("a", act))
        await wait_all_tasks_blocked()
        assert await supervisor.stop("a")
        assert story.endings[0].outcome is Outcome.STOPPED
        assert failures(errors) == ["child a failed while it stopped"]


async def test_stop_while_waiting_for_the_restart(
    story: Story, errors: list[Any], autojump_clock: MockClock
) -> None:
    """A child that waits for its restart is stopped at once."""
    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        supervisor.start_soon(story.child("a", fail, delay=60.0))
        await trio.sleep(2)
        assert await supervisor.stop("a")
        assert trio.current_time() == 2.0
        assert story.events == ["a+", "a-", "a: stopped"]
    failures(errors)


async def test_start_after_stop(story: Story, errors: list[Any], autojump_clock: MockClock) -> None:
    """A child that is started anew has its whole budget again."""
    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        for _ in range(2):
            supervisor.start_soon(story.child("a", fail, trio.sleep_forever, intensity=1))
            await trio.sleep(2)
            assert await supervisor.stop("a")
        assert [ended.outcome for ended in story.endings] == [Outcome.STOPPED] * 2
    failures(errors)


# --- The supervisor's own end


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_reverse_order(is_cancelled: bool, story: Story, autojump_clock: MockClock) -> None:
    """Children end one after the other, the last started first, whatever ends the supervisor."""
    supervisor = Supervisor(on_end=story.on_end)
    async with trio.open_nursery() as nursery:
        await nursery.start(supervisor.run)
        for name in "abc":
            supervisor.start_soon(story.child(name, clean_up(1.0)))
        await wait_all_tasks_blocked()
        story.events.clear()
        if is_cancelled:
            nursery.cancel_scope.cancel()
        else:
            supervisor.end()
    assert story.events == ["c-", "c: stopped", "b-", "b: stopped", "a-", "a: stopped"]
    assert trio.current_time() == 3.0
    assert len(supervisor) == 0


async def test_a_restart_keeps_the_place(
    story: Story, errors: list[Any], autojump_clock: MockClock
) -> None:
    """A child that was run again stands where it stood."""
    async with running(Supervisor(on_end=story.on_end)) as supervisor:
        for name, act in [("a", fail), ("b", trio.sleep_forever)]:
            supervisor.start_soon(story.child(name, act, trio.sleep_forever))
        await trio.sleep(2)
        assert supervisor.names == ("a", "b")
    assert [ended.child.name for ended in story.endings] == ["b", "a"]
    failures(errors)


async def test_all_at_once(story: Story, autojump_clock: MockClock) -> None:
    """Children that are all alike need not wait for each other."""
    async with running(Supervisor(on_end=story.on_end, in_order=False)) as supervisor:
        for name in "abc":
            supervisor.start_soon(story.child(name, clean_up(1.0)))
        await wait_all_tasks_blocked()
    assert trio.current_time() == 1.0
    assert len(story.endings) == 3


async def test_stop_timeout(
    story: Story, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """When the time for an orderly end is up, whoever is left is cancelled at once, and named."""
    async with running(Supervisor(on_end=story.on_end, stop_timeout=4.0)) as supervisor:
        for name in "abcd":
            supervisor.start_soon(story.child(name, clean_up(3.0)))
        await wait_all_tasks_blocked()
    assert trio.current_time() == 7.0
    assert "take their time to stop: a, b, c" in caplog.text
    assert len(story.endings) == 4


async def test_no_start_while_ending(story: Story, autojump_clock: MockClock) -> None:
    """A supervisor that is ending takes no more children."""
    supervisor = Supervisor(on_end=story.on_end)

    async def start_another() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with pytest.raises(LocalError, match="'b' is not started"):
                supervisor.start_soon(story.child("b"))

    async with running(supervisor):
        supervisor.start_soon(story.child("a", start_another))
        await wait_all_tasks_blocked()
    assert story.events == ["a+", "a-", "a: stopped"]


async def test_cancelled_everywhere(errors: list[Any]) -> None:
    """Wherever the supervisor is when it is cancelled, every child ends and is told once."""
    for step in range(40):
        story = Story()
        supervisor = Supervisor(on_end=story.on_end)
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            started = [
                story.child("a", fail_at_once, intensity=1),
                story.child("b", trio.lowlevel.checkpoint, intensity=2),
                story.child("c", clean_up(0), fail_at_once),
                story.child("d", trio.lowlevel.checkpoint, restart=TEMPORARY),
            ]
            for child in started:
                supervisor.start_soon(child)
            nursery.start_soon(supervisor.stop, "c")
            for _ in range(step):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert sorted(ended.child.name for ended in story.endings) == ["a", "b", "c", "d"]
        assert len(supervisor) == 0
        for name in "abcd":
            assert story.events.count(f"{name}+") == story.events.count(f"{name}-")
    assert errors
    errors.clear()


# --- Bounds and misuse


async def test_max_children(story: Story) -> None:
    """There are never more children than the limit says."""
    async with running(Supervisor(max_children=1)) as supervisor:
        supervisor.start_soon(story.child("a"))
        with pytest.raises(LimitError, match="max_children=1"):
            supervisor.start_soon(story.child("b"))
        await supervisor.stop("a")
        supervisor.start_soon(story.child("b"))


async def test_not_running(story: Story) -> None:
    """To start a child too early is told with the right call."""
    with pytest.raises(MisuseError, match=r"nursery\.start\(supervisor\.run\)"):
        Supervisor().start_soon(story.child("a"))


async def test_runs_once() -> None:
    """A supervisor that runs, or has run, does not run again."""
    async with running(Supervisor()) as supervisor:
        with pytest.raises(MisuseError, match="runs once"):
            await supervisor.run()
    with pytest.raises(MisuseError, match="runs once"):
        await supervisor.run()


@pytest.mark.parametrize("options", [{"intensity": -1}, {"period": 0}, {"delay": -1}])
def test_bad_limits(options: dict[str, Any]) -> None:
    """A budget that means nothing is refused where it is written."""
    with pytest.raises(ValueError, match=next(iter(options))):
        Child("a", end, **options)
