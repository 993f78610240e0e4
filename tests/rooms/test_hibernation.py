"""Rooms in which nothing happens: no object, no task, until something happens again."""

import gc
import weakref
from typing import Any, ClassVar

import pytest
import trio

from tests.rooms.tables import players, table
from trio_rt.codec.room_requests import Event
from trio_rt.reasons import Reason
from trio_rt.rooms import Player, Room, on

pytestmark = pytest.mark.usefixtures("errors")


class Chess(Room):
    """A game in which people think for long."""

    hibernate_after = 60.0
    hold_seconds = 600.0
    objects: ClassVar["weakref.WeakSet[Chess]"] = weakref.WeakSet()
    starts: ClassVar[list[int]] = []

    def __init__(self) -> None:
        super().__init__()
        self.state = {"moves": []}
        self.objects.add(self)

    async def on_start(self) -> None:
        self.starts.append(len(self.state["moves"]))

    @on("move")
    async def move(self, player: Player, move: str) -> list[str]:
        self.state["moves"].append(move)
        return list(self.state["moves"])

    @on("remind")
    async def remind(self, player: Player) -> None:
        self.after(1000, self.emit, "remember")


@pytest.fixture(autouse=True)
def starts() -> list[int]:
    """How many moves there were at each start."""
    Chess.starts.clear()
    Chess.objects.clear()
    return Chess.starts


async def asleep(here: Any, id: str) -> bool:
    """Whether a room has neither a task nor an object."""
    await trio.sleep(61)
    gc.collect()
    return here.room(id).is_asleep and here.room(id).tasks is None and not Chess.objects


async def test_sleeps_and_wakes(autojump_clock, starts) -> None:
    """A room sleeps with its state, is listed all the same, and goes on at the next event."""
    async with table(Chess) as here:
        alice, bob = await here.guests("alice", "bob")
        id = (await alice.call("room:create"))["room"]
        await bob.call("room:join", {"room": id})
        await alice.call("move", "e4")
        assert await asleep(here, id)
        await trio.sleep(10_000)
        assert [entry["room"] for entry in (await bob.call("room:list"))["rooms"]] == [id]
        assert await bob.call("move", "e5") == ["e4", "e5"]
        assert starts == [0, 1]
        assert players(await bob.call("room:state")) == ["alice", "bob"]
        assert await asleep(here, id)
        assert await alice.call("move", "Nf3") == ["e4", "e5", "Nf3"]


async def test_time_wakes(autojump_clock, starts) -> None:
    """A room that sleeps wakes in time: a held seat is given up, and when empty it closes."""
    async with table(Chess, recovery_window=1) as here:
        alice = await here.guest("alice")
        id = (await alice.call("room:create"))["room"]
        assert await asleep(here, id)
        alice.client.close()
        await trio.sleep(1)
        assert id in here.rooms.cells
        await trio.sleep(598)
        assert id in here.rooms.cells
        await trio.sleep(65)
        assert here.rooms.cells == {}


async def test_timers_keep_it_awake(autojump_clock, starts) -> None:
    """A room with a timer of its own does not sleep before that has run."""
    async with table(Chess) as here:
        alice = await here.guest("alice")
        id = (await alice.call("room:create"))["room"]
        await alice.call("remind")
        assert not await asleep(here, id)
        await trio.sleep(940)
        assert alice.names() == ["remember"]
        assert await asleep(here, id)
        assert starts == [0]


async def test_events_while_falling_asleep(autojump_clock, starts) -> None:
    """An event that comes in the very moment is not lost."""
    async with table(Chess) as here:
        alice = await here.guest("alice")
        id = (await alice.call("room:create"))["room"]
        expected: list[str] = []
        for number in range(20):
            await trio.sleep(60 + (number - 10) * 0.001)
            expected.append(str(number))
            assert await alice.call("move", str(number)) == expected
        assert id in here.rooms.cells
        assert len(starts) > 5


async def test_closed_asleep(autojump_clock, starts) -> None:
    """A room that sleeps can be closed."""
    async with table(Chess) as here:
        alice = await here.guest("alice")
        id = (await alice.call("room:create"))["room"]
        assert await asleep(here, id)
        await here.rooms.close(id)
        assert (await alice.hear("room:closed"))["code"] == "closed"
        assert here.rooms.cells == {}


async def test_events_at_each_step_of_falling_asleep(autojump_clock, errors) -> None:
    """Whatever step of the scheduler it comes in, an event is done, and by the same room."""

    class Sleepy(Chess):
        @on("work")
        async def work(self, player: Player) -> str:
            await trio.sleep(0.01)
            return "done"

    async with table(Sleepy) as here:
        alice = await here.guest("alice")
        id = (await alice.call("room:create"))["room"]
        cell = here.room(id)

        async def work_at(bedtime: float, steps: int) -> None:
            await trio.sleep_until(bedtime)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            assert await here.rooms.finder.ask(id, Event("alice", "work", [])) == "done"

        for steps in [*range(12)] * 3:
            bedtime = cell.active_at + Chess.hibernate_after
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work_at, bedtime, steps)
                nursery.start_soon(work_at, bedtime, steps + 1)
            assert here.rooms.cells == {id: cell}
    assert errors == []


async def test_on_close_after_sleep(autojump_clock, errors) -> None:
    """A room that is closed while it sleeps wakes for its `on_close`, once."""
    closed: list[tuple[str, int]] = []

    class Saving(Chess):
        async def on_close(self, reason: Reason) -> None:
            closed.append((reason.code, len(self.state["moves"])))

    async with table(Saving) as here:
        alice = await here.guest("alice")
        id = (await alice.call("room:create"))["room"]
        await alice.call("move", "e4")
        assert await asleep(here, id)
        await here.rooms.close(id)
        assert (await alice.hear("room:closed"))["code"] == "closed"
        await trio.sleep(1)
        assert closed == [("closed", 1)]
        assert here.rooms.cells == {}
    assert errors == []


async def test_too_many_awake(autojump_clock, errors, monkeypatch) -> None:
    """A room that cannot wake says so, and wakes when it can, with what it was told meanwhile."""
    async with table(Chess) as here:
        alice, bob = await here.guests("alice", "bob")
        id = (await alice.call("room:create"))["room"]
        await bob.call("room:join", {"room": id})
        assert await asleep(here, id)
        monkeypatch.setattr(here.rooms._supervisor, "_max_children", 0)
        assert await alice.refused("move", "e4") == "busy"
        bob.client.close()
        await trio.sleep(5)
        monkeypatch.undo()
        await trio.sleep(2)
        assert (await alice.hear("room:dropped"))["player"] == "bob"
        assert await alice.call("move", "e4") == ["e4"]
    assert errors == []
