"""What members, hooks and the list are told, and when: no sooner than it is so, with time left."""

from typing import Any, ClassVar

import pytest
import trio

from tests.rooms.tables import GAMES, players, table
from tests.rooms.test_flows import Game, begun, play
from trio_rt import MisuseError, Server
from trio_rt.machine.lobby_effects import Phase
from trio_rt.reasons import Reason
from trio_rt.rooms import Player, Room, on

pytestmark = pytest.mark.usefixtures("errors")


# Inputs


class Race(Room):
    """Counts pushes."""

    seats = 2
    inputs: ClassVar[dict[str, Any]] = {"push": int}

    async def run(self) -> Any:
        await self.ready_check(at_least=1)
        pushes = []
        async for tick in self.ticks(hz=10):
            pushes += [input.value for input in tick.inputs]
            if 0 in pushes:
                return pushes
        return None


@pytest.mark.parametrize("how", ["room:ready", "room:start"])
async def test_pushed_too_early(autojump_clock, how: str) -> None:
    """What is sent before a game begins, or after it has ended, counts in none."""
    async with table(Race) as here:
        alice = await here.guest("alice")
        await alice.call("room:create")
        for _ in range(2):
            for _ in range(40):
                assert await alice.call("push", 1) is None
            await alice.call(how)
            for _ in range(40):
                assert await alice.call("push", 0 if how == "room:ready" else 2) is None
            await trio.sleep(5)
            await alice.call("push", 3)
            await alice.call("push", 0)
            result = (await alice.hear("room:ended"))["result"]
            assert result == ([3, 0] if how == "room:ready" else [*[2] * 40, 3, 0])
            assert await alice.refused("push", "x") == "invalid"
            assert await alice.call("push", 0) is None
            await alice.call("room:rematch")


async def test_without_a_game(autojump_clock) -> None:
    """In a room that has ticks and no games, inputs count from the first tick on."""
    seen: list[int] = []

    class Late(Race):
        async def run(self) -> Any:
            await trio.sleep(1)
            async for tick in self.ticks(hz=10):
                seen.extend(input.value for input in tick.inputs)

    async with table(Late) as here:
        alice = await here.guest("alice")
        await alice.call("room:create")
        await alice.call("push", 1)
        await trio.sleep(2)
        await alice.call("push", 2)
        await trio.sleep(1)
        assert seen == [2]


# Phases


async def test_phase_in_hooks(autojump_clock) -> None:
    """A hook sees the phase that it is told of, however far the lobby is."""
    seen: list[tuple[str, Phase]] = []

    class Hasty(Game):
        countdown = 0.0

        async def on_phase(self, phase: Phase) -> None:
            seen.append((phase.value, self.phase))
            await trio.sleep(1)
            seen.append((phase.value, self.phase))

        async def on_leave(self, player: Player, reason: Reason) -> None:
            seen.append((reason.code, self.phase))

        async def run(self) -> Any:
            await self.ready_check(at_least=2)
            seen.append(("run", self.phase))

    async with table(Hasty) as here:
        alice, bob, _ = await begun(here)
        await alice.call("room:ready")
        await bob.call("room:ready")
        await bob.call("room:leave")
    assert [(name, phase.value) for name, phase in seen] == [
        *[("countdown", "countdown")] * 2,
        *[("playing", "playing")] * 2,
        ("run", "playing"),
        *[("ended", "ended")] * 2,
        ("left", "ended"),
    ]


# The list


async def test_first_entry(autojump_clock) -> None:
    """A room is not listed before it has begun; its first entry is one that it has made."""

    class Careful(Game):
        async def on_start(self) -> None:
            await trio.sleep(3)

        async def run(self) -> Any:
            self.state = {"points": {"first line": 7}}
            await self.ready_check(at_least=2)

    async with table(Careful) as here:
        alice, bob = await here.guests("alice", "bob")
        await bob.call("room:list", {"live": True})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.call, "room:create")
            await trio.sleep(2)
            assert here.rooms.cells
            assert (await bob.call("room:list"))["rooms"] == []
        [entry] = (await bob.hear("rooms"))["changed"]
        assert entry["info"] == {"points": 7}


async def test_shown_and_gone(autojump_clock) -> None:
    """Whoever was shown a room is told that it is gone, however soon that is."""
    async with table(Game) as here:
        alice, bob = await here.guests("alice", "bob")
        await bob.call("room:list", {"live": True})
        id = (await alice.call("room:create"))["room"]
        await trio.sleep(1)
        bob.client.rest()
        here.rooms.listing._told.clear()  # as if no change of it had been told yet
        await bob.call("room:list", {"live": True})
        await here.rooms.close(id)
        assert (await bob.hear("rooms"))["gone"] == [id]


# Time left


async def test_seconds_of_phases(autojump_clock) -> None:
    """The view says how long a phase will last, if that is known."""

    class Timed(Game):
        async def run(self) -> Any:
            await self.ready_check(at_least=2, within=60)
            await trio.sleep_forever()

    async with table(Timed) as here:
        alice, bob, _ = await begun(here)

        async def left() -> tuple[str, Any]:
            view = await bob.call("room:state")
            return view["phase"], view["seconds"] and round(view["seconds"])

        await trio.sleep(10)
        assert await left() == ("open", 50)
        await alice.call("room:ready")
        await bob.call("room:ready")
        await trio.sleep(1)
        assert await left() == ("countdown", 2)
        await trio.sleep(3)
        assert await left() == ("playing", None)
        await alice.call("room:end")
        await trio.sleep(20)
        assert await left() == ("ended", 100)


async def test_seconds_of_a_hold(autojump_clock) -> None:
    """The view says how long the seat of a lost player is held."""
    async with table(Game) as here:
        alice, bob, _ = await begun(here)
        bob.client.close()
        await alice.hear("room:dropped")
        await trio.sleep(12)
        view = await alice.call("room:state")
        assert [player["seconds"] for player in view["players"]] == [None, pytest.approx(18)]


async def test_seconds_of_a_turn(autojump_clock) -> None:
    """The view says whose turn it is, and how long that will be."""

    class Turns(Game):
        async def run(self) -> Any:
            await self.ready_check(at_least=2)
            await self.turn(self.players[1], within=10)
            await trio.sleep_forever()

    async with table(Turns) as here:
        alice, bob, _ = await begun(here)
        assert (await alice.call("room:state"))["turn"] is None
        await play(alice, bob)
        await trio.sleep(4)
        turn = (await alice.call("room:state"))["turn"]
        assert turn == {"player": "bob", "seconds": pytest.approx(6, abs=0.1)}
        await bob.call("score", 1)
        view = await alice.call("room:state")
        assert view["turn"] is None
        assert players(view) == ["alice", "bob"]


# Misuse


def test_misuse_of_a_handler() -> None:
    """A handler of a room that cannot be called is shown as it has to be written."""

    class Wrong(Room):
        @on("push")
        async def push(self) -> None: ...

    with pytest.raises(MisuseError) as caught:
        Server().namespace(GAMES, rooms=[Wrong])
    assert "@on('push')\nasync def push(self, player, payload)" in str(caught.value)
    assert "Wrong.push cannot be called with a player and an event" in str(caught.value)
