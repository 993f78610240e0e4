"""Players whose events make a room fail: they are told, and put out before the room is spent."""

from typing import Any

import pytest
import trio

from tests.rooms.tables import Table, players, table
from trio_rt import Refuse
from trio_rt.machine.restarts import Restart
from trio_rt.rooms import Player, Room, on


class Fragile(Room):
    """Fails when it is told so."""

    inputs = {"push": int}

    async def run(self) -> None:
        async for tick in self.ticks(hz=10):
            for input in tick.inputs:
                self.state["share"] = 1 / input.value

    @on("fail", spectators=True)
    async def fail(self, player: Player, how: str = "crash") -> None:
        if how == "refuse":
            raise Refuse("no")
        if how == "hang":
            await trio.sleep_forever()
        raise ZeroDivisionError(how)

    @on("add")
    async def add(self, player: Player) -> str:
        return "ok"


async def begun(here: Table) -> tuple[Any, Any, Any, str]:
    """Three players in a room."""
    alice, bob, eve = await here.guests("alice", "bob", "eve")
    id = (await alice.call("room:create"))["room"]
    for guest in (bob, eve):
        await guest.call("room:join", {"room": id})
    return alice, bob, eve, id


async def crash(guest: Any, times: int, *how: str) -> None:
    for _ in range(times):
        assert await guest.refused("fail", *how) == "internal"


@pytest.mark.parametrize("how", ["crash", "hang"])
async def test_put_out(autojump_clock, errors, how: str) -> None:
    """Who makes a room fail again and again is put out for good, and the room goes on."""

    class Quick(Fragile):
        handler_timeout = 1.0

    async with table(Quick) as here:
        alice, bob, eve, id = await begun(here)
        await crash(eve, 2, how)
        assert players(await bob.call("room:state")) == ["alice", "bob", "eve"]
        await crash(eve, 1, how)
        assert await eve.hear("room:left") == {"room": id, "player": "eve", "reason": "faulty"}
        assert await alice.hear("room:left") == {"room": id, "player": "eve", "reason": "faulty"}
        assert await eve.refused("fail") == "not_here"
        assert await eve.refused("room:join", {"room": id}) == "banned"
        assert await eve.refused("room:watch", {"room": id}) == "banned"
        assert await bob.call("add") == "ok"
    assert len(errors) == 3
    errors.clear()


async def test_a_gang(autojump_clock, errors) -> None:
    """However many do so, nothing of the room's budget is used up."""
    async with table(Fragile) as here:
        alice, _, _, id = await begun(here)
        gang = await here.guests(*(f"mallory {number}" for number in range(5)))
        for one in gang:
            await one.call("room:watch" if one is gang[0] else "room:join", {"room": id})
        for one in gang:
            await crash(one, 3)
        assert players(await alice.call("room:state")) == ["alice", "bob", "eve"]
        assert await alice.call("add") == "ok"
        for _ in range(3):  # of its own it may still fail as often as it says
            await alice.call("push", 0)
            await trio.sleep(0.2)
        assert await alice.call("add") == "ok"
        await alice.call("push", 0)
        assert (await alice.hear("room:closed"))["code"] == "crashed"
    assert len(errors) == 15 + 4
    errors.clear()


async def test_now_and_then(autojump_clock, errors) -> None:
    """Who makes it fail less often than that stays."""
    async with table(Fragile) as here:
        _, _, eve, _ = await begun(here)
        for _ in range(6):
            await crash(eve, 1)
            await trio.sleep(Fragile.period / 2 + 0.1)
        assert await eve.call("add") == "ok"
    assert len(errors) == 6
    errors.clear()


async def test_refusals_do_not_count(autojump_clock, errors) -> None:
    """What is refused, or not valid, never counts."""
    async with table(Fragile) as here:
        _, _, eve, _ = await begun(here)
        for _ in range(10):
            assert await eve.refused("fail", "refuse") == "no"
            assert await eve.refused("fail", 7) == "invalid"
            assert await eve.refused("push", "x") == "invalid"
            assert await eve.refused("what", "x") == "unknown_event"
        assert await eve.call("add") == "ok"
    assert errors == []


@pytest.mark.parametrize(("rule", "limit"), [(Restart.TEMPORARY, 3), (Restart.TRANSIENT, 0)])
async def test_as_otp(autojump_clock, errors, rule: Restart, limit: int) -> None:
    """A temporary room ends with its first crash; without a limit all crashes are the room's."""

    class Plain(Fragile):
        restart = rule
        crashes_per_player = limit

    async with table(Plain) as here:
        alice, _, eve, _ = await begun(here)
        crashes = 1 if rule is Restart.TEMPORARY else 4
        await crash(eve, crashes)
        assert (await alice.hear("room:closed"))["code"] == "crashed"
    assert len(errors) == crashes
    errors.clear()
