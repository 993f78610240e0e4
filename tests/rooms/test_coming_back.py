"""Players whose connection is lost: the seat is held, and they get it back in time, or never."""

from typing import Any, ClassVar

import pytest
import trio

from tests.rooms.tables import GAMES, Table, players, table
from trio_rt.reasons import Reason
from trio_rt.rooms import Player, Room, on

pytestmark = pytest.mark.usefixtures("errors")


class Kept(Room):
    """Notes who comes and goes."""

    notes: ClassVar[list[tuple[str, str]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.state = {"number": 0}

    async def on_join(self, player: Player) -> None:
        self.notes.append(("join", player.id))

    async def on_drop(self, player: Player) -> None:
        self.notes.append(("drop", player.id))
        if player.data.get("patient"):
            await self.hold(player, seconds=300)

    async def on_return(self, player: Player) -> None:
        self.notes.append(("return", player.id))
        await self.to(player).emit("again", player.data)

    async def on_leave(self, player: Player, reason: Reason) -> None:
        self.notes.append((reason.code, player.id))

    @on("wait for me")
    async def wait_for_me(self, player: Player) -> None:
        player.data["patient"] = True

    @on("count")
    async def count(self, player: Player) -> None:
        self.state["number"] += 1
        await self.sync()


@pytest.fixture(autouse=True)
def notes() -> list[tuple[str, str]]:
    """What hooks have been told."""
    Kept.notes.clear()
    return Kept.notes


async def begun(here: Table) -> tuple[Any, Any, str]:
    alice, bob = await here.guests("alice", "bob")
    id = (await alice.call("room:create"))["room"]
    await bob.call("room:join", {"room": id})
    Kept.notes.clear()
    return alice, bob, id


async def test_session_comes_back(autojump_clock, notes) -> None:
    """A client that is back with its session has its seat, and the whole state of the room."""
    async with table(Kept) as here:
        alice, bob, id = await begun(here)
        bob.client.close()
        dropped = await alice.hear("room:dropped")
        assert dropped == {"room": id, "player": "bob", "seconds": 30}
        await alice.call("count")
        bob = await here.back(bob)
        view = await bob.hear("room:state")
        assert view["state"] == {"number": 1}
        assert players(view) == ["alice", "bob"]
        assert (await alice.hear("room:returned"))["player"] == "bob"
        await bob.call("count")
        assert (await bob.hear("room:patch"))["patch"] == {"number": 2}
        assert notes == [("drop", "bob"), ("return", "bob")]


async def test_user_comes_back(autojump_clock, notes) -> None:
    """The same user with a new socket joins, and gets the seat that is held."""
    async with table(Kept) as here:
        alice, bob, id = await begun(here)
        bob.client.close()
        await alice.hear("room:dropped")
        bob = await here.guest("bob")
        view = await bob.call("room:join", {"room": id})
        assert players(view) == ["alice", "bob"]
        assert (await bob.hear("again")) == {}
        assert notes == [("drop", "bob"), ("return", "bob")]


async def test_too_late(autojump_clock, notes) -> None:
    """Who comes back too late has lost the seat, is told so, and hears nothing more."""
    async with table(Kept) as here:
        alice, bob, id = await begun(here)
        bob.client.close()
        await trio.sleep(31)
        left = await alice.hear("room:left")
        assert left == {"room": id, "player": "bob", "reason": "lost"}
        bob = await here.back(bob)
        assert (await bob.hear("room:left"))["reason"] == "lost"
        await alice.call("count")
        await trio.sleep(1)
        assert "room:patch" not in bob.names()
        assert await bob.refused("count") == "not_here"
        assert notes == [("drop", "bob"), ("lost", "bob")]


async def test_hold(autojump_clock, notes) -> None:
    """A room may hold the seat of one player for longer."""
    async with table(Kept, recovery_window=600, history_timeout=700) as here:
        alice, bob, _ = await begun(here)
        await bob.call("wait for me")
        bob.client.close()
        await trio.sleep(200)
        bob = await here.back(bob)
        assert await bob.hear("again") == {"patient": True}
        assert [name for name, _ in notes] == ["drop", "return"]
        assert (await alice.hear("room:returned"))["player"] == "bob"


async def test_leaving_is_for_good(autojump_clock, notes) -> None:
    """A client that disconnects from the namespace has left: nothing is held."""
    async with table(Kept) as here:
        alice, bob, _ = await begun(here)
        await bob.client.leave(GAMES)
        assert (await alice.hear("room:left"))["reason"] == "left"
        assert notes == [("left", "bob")]


async def test_flapping(autojump_clock, notes) -> None:
    """However often a client is lost and back, it has its one seat, and each is told in order."""
    async with table(Kept) as here:
        alice, bob, id = await begun(here)
        for _ in range(20):
            bob.client.close()
            bob = await here.back(bob)
        await trio.sleep(1)
        assert here.room(id).members["bob"].connected
        assert [name for name, who in notes if who == "bob"] == ["drop", "return"] * 20
        assert players(await alice.call("room:state")) == ["alice", "bob"]


async def test_back_during_a_crash(autojump_clock, notes, errors) -> None:
    """Whoever comes back while the room crashes has the seat in its next life."""

    class Fragile(Kept):
        @on("fail")
        async def fail(self, player: Player) -> None:
            raise RuntimeError("on purpose")

    async with table(Fragile) as here:
        alice, bob, id = await begun(here)
        bob.client.close()
        await alice.hear("room:dropped")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.call, "fail")
            bob = await here.back(bob)
        assert players(await bob.hear("room:state")) == ["alice", "bob"]
        assert here.room(id).members["bob"].connected
    assert len(errors) == 1
    errors.clear()


async def test_spectators_are_not_held(autojump_clock, notes) -> None:
    """A spectator who is lost is gone."""
    async with table(Kept) as here:
        alice, bob, id = await begun(here)
        carol = await here.guest("carol")
        await carol.call("room:watch", {"room": id})
        carol.client.close()
        left = await alice.hear("room:left")
        assert left == {"room": id, "player": "carol", "reason": "lost"}
        assert bob.names()[-1] == "room:left"


async def test_spectator_takes_a_seat(autojump_clock, notes) -> None:
    """A spectator who joins has a seat, and does not watch any more."""
    async with table(Kept) as here:
        _, _, id = await begun(here)
        carol = await here.guest("carol")
        await carol.call("room:watch", {"room": id})
        view = await carol.call("room:join", {"room": id})
        assert players(view) == ["alice", "bob", "carol"]
        assert view["spectators"] == []


async def test_everybody_gone(autojump_clock, notes) -> None:
    """A room whose players are all lost ends when their time, and the time to linger, is over."""
    async with table(Kept) as here:
        alice, bob, id = await begun(here)
        alice.client.close()
        bob.client.close()
        await trio.sleep(89)
        assert id in here.rooms.cells
        await trio.sleep(3)
        assert not here.rooms.cells
