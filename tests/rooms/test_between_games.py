"""Rooms that crash between two games: that one is over, and there may be another one."""

import logging
from typing import Any

import trio

from tests.rooms.tables import Table, table
from trio_rt.rooms import Player, Room, on


class Short(Room):
    """Games of a second, and a handler that fails."""

    seats = 2
    rematch_seconds = 60.0

    async def run(self) -> Any:
        await self.ready_check(at_least=1)
        await trio.sleep(1)
        return "over"

    @on("fail")
    async def fail(self, player: Player) -> None:
        raise RuntimeError("on purpose")


async def crashed(here: Table, errors: list[logging.LogRecord]) -> tuple[Any, str]:
    """Somebody in a room that has crashed after its first game."""
    alice = await here.guest("alice")
    id = (await alice.call("room:create"))["room"]
    await alice.call("room:start")
    await alice.hear("room:ended")
    assert await alice.refused("fail") == "internal"
    await trio.sleep(1)
    assert len(errors) == 1
    errors.clear()
    return alice, id


async def test_rematch(autojump_clock, errors) -> None:
    """The room is there after the crash, and another game can be played in it."""
    async with table(Short) as here:
        alice, _ = await crashed(here, errors)
        view = await alice.call("room:state")
        assert view["phase"] == "ended"
        await alice.call("room:rematch")
        assert (await alice.hear("room:ready_check"))["at_least"] == 1
        await alice.call("room:ready")
        assert (await alice.hear("room:ended"))["result"] == "over"


async def test_no_rematch(autojump_clock, errors) -> None:
    """A room in which nobody wants another game is closed in time, as if it had not crashed."""
    async with table(Short) as here:
        alice, id = await crashed(here, errors)
        await trio.sleep(60)
        assert (await alice.hear("room:closed"))["code"] == "ended"
        assert id not in here.rooms.cells
