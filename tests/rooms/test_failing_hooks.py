"""A failure in whatever the program wrote is a crash like any other; its end has a reason."""

from collections import Counter
from typing import Any, ClassVar

import pytest
import trio

from tests.rooms.tables import players, table
from trio_rt.machine.lobby_effects import Phase
from trio_rt.reasons import Reason
from trio_rt.rooms import Player, Room, on


class Broken(Exception):
    """Raised on purpose."""


class Fragile(Room):
    """Fails once in the place that it is told of; what it counts is in its snapshot."""

    seats = 4
    countdown = 1.0
    linger = 30.0
    crashes_per_player = 0
    place: ClassVar[str] = ""
    called: ClassVar[Counter[str]] = Counter()
    reasons: ClassVar[list[str]] = []

    def __init__(self) -> None:
        super().__init__()
        self.state = {"count": 0}

    def reach(self, place: str) -> None:
        self.called[place] += 1
        if place == type(self).place:
            type(self).place = ""
            raise Broken(place)

    async def on_start(self) -> None:
        self.reach("on_start")

    async def run(self) -> Any:
        self.reach("run")
        await self.ready_check(at_least=1, within=600)
        self.reach("game")
        await trio.sleep(5)
        return {"count": self.state["count"]}

    async def on_phase(self, phase: Phase) -> None:
        self.reach(phase.value)

    async def on_drop(self, player: Player) -> None:
        self.reach("on_drop")

    async def on_close(self, reason: Reason) -> None:
        self.reasons.append(reason.code)
        self.reach("on_close")

    def snapshot(self) -> Any:
        self.reach("snapshot")
        return self.state

    def restore(self, snapshot: Any) -> None:
        self.reach("restore")
        self.state = snapshot

    def info(self) -> Any:
        self.reach("info")
        return self.state["count"]

    @on("add")
    async def add(self, player: Player, number: int) -> int:
        self.state["count"] += number
        self.save()
        return int(self.state["count"])

    @on("fail")
    async def fail(self, player: Player) -> None:
        raise Broken("fail")


@pytest.fixture(autouse=True)
def reasons() -> list[str]:
    """What rooms were closed for."""
    Fragile.place = ""
    Fragile.called.clear()
    Fragile.reasons.clear()
    return Fragile.reasons


PLACES = ["on_start", "run", "game", "countdown", "playing", "ended", "snapshot", "restore", "info"]


@pytest.mark.parametrize("place", PLACES)
async def test_goes_on(autojump_clock, errors, place: str) -> None:
    """Members and state survive it, and the game that was to be played is played to its end."""
    async with table(Fragile) as here:
        alice, bob = await here.guests("alice", "bob")
        id = (await alice.call("room:create"))["room"]
        await bob.call("room:join", {"room": id})
        assert await alice.call("add", 7) == 7
        await trio.sleep(1)
        Fragile.place = place
        is_rerun = place in ("on_start", "run", "restore")  # these come with a life
        if is_rerun:
            await alice.call("fail")
        assert players(await bob.call("room:state")) == ["alice", "bob"]
        await alice.call("room:ready")
        await bob.call("room:ready")
        await trio.sleep(15)
        assert (await bob.hear("room:ended"))["result"] == {"count": 7}
        await trio.sleep(1)
        assert Fragile.place == ""
        assert await alice.call("add", 1) == 8
        assert players(await bob.call("room:state")) == ["alice", "bob"]
        [entry] = (await bob.call("room:list"))["rooms"]
        assert entry["phase"] == "ended"
    assert len(errors) == 1 + is_rerun
    errors.clear()


@pytest.mark.parametrize(
    ("how", "code"),
    [("ended", "ended"), ("empty", "empty"), ("not ready", "not ready"), ("closed", "closed")],
)
async def test_reasons(autojump_clock, errors, reasons, how: str, code: str) -> None:
    """`on_close` and whoever is there are told why a room is over, and nobody finds it again."""
    async with table(Fragile) as here:
        alice, bob = await here.guests("alice", "bob")
        id = (await alice.call("room:create"))["room"]
        await bob.call("room:list", {"live": True})
        if how == "ended":
            await alice.call("room:start")
            await trio.sleep(5 + Fragile.rematch_seconds + 1)
        elif how == "empty":
            await alice.call("room:leave")
            await trio.sleep(Fragile.linger + 1)
        elif how == "not ready":
            await trio.sleep(601)
        else:
            await here.rooms.close(id)
            await trio.sleep(1)
        assert reasons == [code]
        if how != "empty":
            closed = await alice.hear("room:closed")
            assert (closed["room"], closed["code"]) == (id, code)
        while (heard := await bob.hear("rooms"))["gone"] != [id]:
            assert heard["gone"] == []
        assert await bob.refused("room:join", {"room": id}) == "not_found"
    assert errors == []


@pytest.mark.parametrize("wrong", ["\ud800", 10**30, [[object()]]])
@pytest.mark.parametrize("place", ["info", "state"])
async def test_what_cannot_be_sent(autojump_clock, errors, place: str, wrong: Any) -> None:
    """What no client could be sent is its room's failure: others are listed and served."""

    class Odd(Room):
        kind = "odd"
        value: ClassVar[Any] = None

        def info(self) -> Any:
            return self.value if place == "info" else None

        @on("show")
        async def show(self, player: Player) -> None:
            if place == "state":
                self.state["value"] = self.value
                await self.sync()
            self.save()

    async with table(Odd, Fragile) as here:
        alice, bob = await here.guests("alice", "bob")
        id = (await alice.call("room:create", {"kind": "odd"}))["room"]
        await bob.call("room:list", {"live": True})
        await trio.sleep(1)
        Odd.value = wrong
        await alice.call("show")
        await trio.sleep(1)
        Odd.value = None
        assert errors
        errors.clear()
        await trio.sleep(20)
        assert (await bob.call("room:create", {"kind": "Fragile"}))["kind"] == "Fragile"
        entries = (await bob.call("room:list"))["rooms"]
        assert len(entries) == len(here.rooms.cells)
        if id in here.rooms.cells:
            assert (await alice.call("room:state", {"room": id}))["state"] == {}
