"""A node that stood still, and whose rooms may be elsewhere by now, does nothing for them any more.

The clock is one that can be put forward as the real one is while a process is stopped: everything
that was due meanwhile is due in one step of the scheduler, together with what has arrived.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.rooms.tables import GAMES, table
from tests.rooms.town import Node, town
from trio_rt import Refuse
from trio_rt.codec.room_requests import Event
from trio_rt.machine.lobby_effects import Phase
from trio_rt.rooms import Player, Room, on
from trio_rt.rooms.keeping import LEASE, MARGIN


class Busy(Room):
    """Acts in every way in which a room can act, and notes it."""

    acts: ClassVar[list[str]] = []
    inputs: ClassVar[dict[str, Any]] = {"turn": int}

    def act(self, what: str) -> None:
        self.acts.append(what)

    async def on_start(self) -> None:
        self.nursery.start_soon(self._sleep_and_act, LEASE - MARGIN - 0.5)
        self.after(LEASE - MARGIN - 0.5, self.timer)

    async def _sleep_and_act(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self.act("task")

    async def timer(self) -> None:
        self.act("timer")

    async def run(self) -> None:
        async for _ in self.ticks(hz=0.25):
            self.act("tick")

    async def on_join(self, player: Player) -> None:
        self.act("join")

    async def on_drop(self, player: Player) -> None:
        self.act("drop")

    @on("act")
    async def at_once(self, player: Player) -> str:
        self.act("handler")
        return "done"

    @on("slow")
    async def slowly(self, player: Player) -> None:
        await trio.sleep(8)
        self.act("slow handler")


class Turns(Busy):
    """Waits for somebody's turn."""

    async def on_join(self, player: Player) -> None:
        self.nursery.start_soon(self._turn, player)

    async def _turn(self, player: Player) -> None:
        await self.turn(player, within=9)
        self.act("turn")


class Ready(Busy):
    """Waits for the start of a game."""

    countdown = 9

    async def run(self) -> None:
        await self.ready_check(at_least=1)
        self.act("start")

    async def on_phase(self, phase: Phase) -> None:
        if phase is Phase.PLAYING:
            self.act("phase")


@asynccontextmanager
async def node(clock: Any, kind: type[Room]) -> AsyncGenerator[Node]:
    """The only node of a cluster, which others may join. Time goes on when it is stopped."""
    async with town(1, kind) as [here]:
        try:
            yield here
        finally:
            clock.rate = 100


async def stand_still(clock: Any) -> None:
    """The process is stopped for as long as its lease can be trusted, and wakes."""
    await wait_all_tasks_blocked()
    Busy.acts.clear()
    clock.jump(LEASE - MARGIN)


@pytest.mark.parametrize("kind", [Busy, Turns, Ready])
async def test_nothing_that_was_due(mock_clock, errors, kind: type[Room]) -> None:
    """Neither ticks, timers, tasks, turns nor phases that were due meanwhile happen."""
    async with node(mock_clock, kind) as here:
        alice = await here.guest("alice")
        id = (await alice.call("room:create"))["room"]
        if kind is Ready:
            await alice.call("room:ready")
        cell = here.room(id)
        await stand_still(mock_clock)
        await wait_all_tasks_blocked(0.01)
        assert Busy.acts == []
        assert cell.is_fenced
        assert id not in here.rooms.cells
    errors.clear()


async def test_nothing_that_waited(mock_clock, errors) -> None:
    """What waited in the inbox is left to the next owner; what had begun is said to be unknown."""
    async with node(mock_clock, Busy) as here:
        alice, bob = await here.guests("alice", "bob")
        id = (await alice.call("room:create"))["room"]
        await bob.call("room:join", {"room": id})
        cell = here.room(id)
        mock_clock.jump(1)
        await wait_all_tasks_blocked(0.01)  # a snapshot has both in it
        answers: dict[str, Any] = {}

        async def ask(event: str) -> None:
            try:
                answers[event] = await here.rooms.finder.ask(id, Event("alice", event, []))
            except Refuse as refusal:
                answers[event] = refusal.code

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "slow")
            await wait_all_tasks_blocked()
            nursery.start_soon(ask, "act")
            bob.client.close()
            await stand_still(mock_clock)
            await wait_all_tasks_blocked(0.01)
            assert Busy.acts == []
            assert cell.is_fenced
            assert answers == {"slow": "unavailable"}
            mock_clock.rate = 100
        assert answers["act"] == "done"
        assert here.room(id) is not cell
        assert "slow handler" not in Busy.acts
    errors.clear()


async def test_not_listed(mock_clock, errors) -> None:
    """It says of no such room that it is here, not even in the first moment."""
    async with node(mock_clock, Busy) as here:
        alice = await here.guest("alice")
        await alice.call("room:create")
        assert len(here.rooms.listing.here()) == 1
        mock_clock.jump(LEASE)
        assert here.rooms.listing.here() == []
    errors.clear()


async def test_renewed(autojump_clock, errors) -> None:
    """A lease that is renewed gives all tasks of the room more time, old ones and new ones."""
    async with town(1, Busy) as [here]:
        alice = await here.guest("alice")
        id = (await alice.call("room:create"))["room"]
        await trio.sleep(LEASE * 3)
        room = here.room(id)
        Busy.acts.clear()
        room.nursery.start_soon(trio.sleep_forever)
        await trio.sleep(LEASE * 3)
        assert "tick" in Busy.acts
        assert here.server.namespace(GAMES).live_rooms is not None
        assert id in here.rooms.cells
        assert len(room.nursery) == 2  # that one, and the room's `run`
    assert errors == []


async def test_renewed_too_late(mock_clock, errors) -> None:
    """A renewal that comes when the time is up does not make a crash of it: the room is stopped."""
    async with node(mock_clock, Busy) as here:
        alice = await here.guest("alice")
        id = (await alice.call("room:create"))["room"]
        cell = here.room(id)
        await stand_still(mock_clock)
        cell.renewed(attrs.evolve(cell.lease, expires=trio.current_time() + LEASE))
        await wait_all_tasks_blocked(0.01)
        assert cell.is_fenced
        assert cell.closing is None
        assert id not in here.rooms.cells
    errors.clear()


async def test_nobody_else(mock_clock, errors) -> None:
    """A node that has no others goes on as if nothing had been, however long it stood still."""
    async with table(Busy) as here:
        alice = await here.guest("alice")
        id = (await alice.call("room:create"))["room"]
        cell = here.room(id)
        await wait_all_tasks_blocked()
        Busy.acts.clear()
        mock_clock.jump(3600)
        await wait_all_tasks_blocked(0.01)
        assert {"tick", "timer", "task"} <= set(Busy.acts)
        assert here.room(id) is cell
    assert errors == []
