"""The flusher sends what waits, once a step, and lets others in between."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import trio
import trio.testing

from trio_rt.schedule.flusher import MAX_BACKLOG, Flushable, Flusher


class Member(Flushable):
    """Frames that wait for one connection, and the sends that they became."""

    def __init__(self, flusher: Flusher, log: list["Member"] | None = None) -> None:
        self.flusher = flusher
        self.waiting: list[str] = []
        self.sent: list[str] = []
        self.is_marked = False
        self.log = [] if log is None else log
        self.then: Callable[[], None] = lambda: None

    def send(self, frame: str) -> None:
        """What a connection does with a frame of a fan-out."""
        self.flusher.backlog += 1
        self.waiting.append(frame)
        if not self.is_marked:
            self.is_marked = True
            self.flusher.mark(self)

    def flush(self) -> None:
        self.is_marked = False
        self.sent.append("".join(self.waiting))
        self.waiting.clear()
        self.log.append(self)
        self.then()


@pytest.fixture
def flusher(nursery: trio.Nursery) -> Flusher:
    flusher = Flusher()
    nursery.start_soon(flusher.run)
    return flusher


def new_members(flusher: Flusher, count: int) -> list[Member]:
    """Members that share one log of who was flushed when."""
    log: list[Member] = []
    return [Member(flusher, log) for _ in range(count)]


async def test_one_send_for_many_frames(flusher: Flusher) -> None:
    """All that was sent to one connection in a step leaves in one send, in order."""
    member = Member(flusher)
    for frame in "abc":
        member.send(frame)
    assert member.sent == []
    await trio.testing.wait_all_tasks_blocked()
    assert member.sent == ["abc"]


async def test_order(flusher: Flusher) -> None:
    """Connections are flushed in the order in which they were marked."""
    members = new_members(flusher, 3 * 64)
    for member in members:
        member.send("x")
    await trio.testing.wait_all_tasks_blocked()
    assert members[0].log == members


async def test_again(flusher: Flusher) -> None:
    """What was flushed can be marked again."""
    member = Member(flusher)
    for frame in "ab":
        member.send(frame)
        await trio.testing.wait_all_tasks_blocked()
    assert member.sent == ["a", "b"]


async def test_yields(flusher: Flusher, nursery: trio.Nursery) -> None:
    """Others get their turn after every 64 sends at the latest."""
    members = new_members(flusher, 10 * 64)
    seen = [0]

    @nursery.start_soon
    async def other() -> None:
        while seen[-1] < len(members):
            await trio.lowlevel.checkpoint()
            seen.append(len(members[0].log))

    for member in members:
        member.send("x")
    await trio.testing.wait_all_tasks_blocked()
    steps = [after - before for before, after in pairwise(seen)]
    assert sum(steps) == len(members)
    # Its turn may come just before one step, and just after the next.
    assert max(steps) <= 2 * 64
    assert len([step for step in steps if step]) >= 5


async def test_tick_counts_steps(flusher: Flusher) -> None:
    """The tick moves on with each step of sends, so that direct sends are joined in it."""
    before = flusher.tick
    for member in new_members(flusher, 2 * 64 + 1):
        member.send("x")
    await trio.testing.wait_all_tasks_blocked()
    assert flusher.tick == before + 3


async def test_mark_during_flush(flusher: Flusher) -> None:
    """What is marked while a flush runs is flushed with the next one, itself included."""
    first, second = members = new_members(flusher, 2)

    def once() -> None:
        first.then = lambda: None
        first.send("again")
        second.send("late")

    first.then = once
    first.send("x")
    await trio.testing.wait_all_tasks_blocked()
    assert first.sent == ["x", "again"]
    assert second.sent == ["late"]
    assert members[0].log == [first, first, second]


async def test_join_during_flush(flusher: Flusher) -> None:
    """What is sent to somebody whose turn is yet to come leaves with what waits there."""
    first, second = new_members(flusher, 2)
    first.then = lambda: second.send("b")
    first.send("x")
    second.send("a")
    await trio.testing.wait_all_tasks_blocked()
    assert second.sent == ["ab"]


async def test_not_crowded_after_flush(flusher: Flusher) -> None:
    """A flush ends the crowd."""
    flusher.is_crowded = True
    Member(flusher).send("x")
    await trio.testing.wait_all_tasks_blocked()
    assert not flusher.is_crowded


async def test_marked_before_run(nursery: trio.Nursery) -> None:
    """What was marked before the flusher runs is flushed as soon as it does."""
    flusher = Flusher()
    member = Member(flusher)
    member.send("x")
    nursery.start_soon(flusher.run)
    await trio.testing.wait_all_tasks_blocked()
    assert member.sent == ["x"]
    nursery.cancel_scope.cancel()


# --- Waiting for room


async def test_room(flusher: Flusher) -> None:
    """With little waiting nobody has to wait."""
    flusher.backlog = MAX_BACKLOG
    with trio.CancelScope() as scope:
        scope.cancel()
        await flusher.wait_room()
    assert not scope.cancelled_caught


async def test_wait_room(flusher: Flusher, nursery: trio.Nursery) -> None:
    """Who waits for room goes on when it has left, and not before."""
    member, gone_on = Member(flusher), []

    @nursery.start_soon
    async def emitter() -> None:
        await flusher.wait_room()
        gone_on.append(list(member.sent))

    flusher.backlog = MAX_BACKLOG + 1
    await trio.testing.wait_all_tasks_blocked()
    assert gone_on == []
    member.send("x")
    await trio.testing.wait_all_tasks_blocked()
    assert gone_on == [["x"]]
    assert flusher.backlog == 0


async def test_wait_room_all(flusher: Flusher, nursery: trio.Nursery) -> None:
    """All go on who wait for room."""
    flusher.backlog = MAX_BACKLOG + 1
    gone_on = []
    for number in range(5):

        @nursery.start_soon
        async def emitter(number: int = number) -> None:
            await flusher.wait_room()
            gone_on.append(number)

    await trio.testing.wait_all_tasks_blocked()
    Member(flusher).send("x")
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(gone_on) == [0, 1, 2, 3, 4]


async def test_wait_room_for_what_a_flush_took_along(
    flusher: Flusher, nursery: trio.Nursery
) -> None:
    """Who fills the room for members that the running flush is yet to reach goes on after it."""
    members = new_members(flusher, 2 * 64)
    gone_on = []

    def fill() -> None:
        flusher.backlog += MAX_BACKLOG
        members[-1].send("y")

        @nursery.start_soon
        async def emitter() -> None:
            await flusher.wait_room()
            gone_on.append(True)

    members[0].then = fill
    for member in members:
        member.send("x")
    await trio.testing.wait_all_tasks_blocked()
    assert members[-1].sent == ["xy"]
    assert gone_on == [True]


async def test_cancel(nursery: trio.Nursery) -> None:
    """A flusher that was cancelled between two sends has flushed nobody twice or by half."""
    flusher = Flusher()
    members = new_members(flusher, 2 * 64)
    scope = trio.CancelScope()
    members[0].then = scope.cancel
    for member in members:
        member.send("x")
    with scope:
        await flusher.run()
    assert scope.cancelled_caught
    assert members[0].log == members[:64]
