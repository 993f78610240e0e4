"""Things at the same moment: nobody is half in a room, and each hook has its counterpart."""

from typing import Any, ClassVar

import pytest
import trio

from tests.rooms.tables import GAMES, Guest, Table, players, table
from trio_rt import Refuse
from trio_rt.reasons import SERVER_SHUTDOWN, Reason
from trio_rt.rooms import Player, Room, on

Notes = list[tuple[str, str]]


class Cafe(Room):
    """Notes who comes and goes, and can be kept busy."""

    hold_seconds = 5.0
    linger = 20.0
    reservation_seconds = 5.0
    inputs: ClassVar[dict[str, Any]] = {"push": int}
    notes: ClassVar[Notes] = []
    is_choosy: ClassVar[bool] = False

    async def on_join(self, player: Player) -> None:
        self.notes.append(("join", player.id))
        if type(self).is_choosy:
            raise Refuse("no", "not today")

    async def on_drop(self, player: Player) -> None:
        self.notes.append(("drop", player.id))

    async def on_return(self, player: Player) -> None:
        self.notes.append(("return", player.id))

    async def on_leave(self, player: Player, reason: Reason) -> None:
        self.notes.append((reason.code, player.id))

    @on("think")
    async def think(self, player: Player, seconds: float) -> None:
        await trio.sleep(seconds)


@pytest.fixture(autouse=True)
def notes() -> Notes:
    """What hooks have been told."""
    Cafe.notes.clear()
    Cafe.is_choosy = False
    return Cafe.notes


async def begun(here: Table, kind: str = "Cafe") -> tuple[Guest, Guest, Guest, str]:
    """Alice and Bob have seats, Carol has come to the door."""
    alice, bob, carol = await here.guests("alice", "bob", "carol")
    id = (await alice.call("room:create", {"kind": kind}))["room"]
    await bob.call("room:join", {"room": id})
    Cafe.notes.clear()
    return alice, bob, carol, id


async def assert_closes_when_empty(here: Table, *guests: Guest) -> None:
    """Nobody is left in the room when these have left."""
    for guest in guests:
        await guest.call("room:leave")
    await trio.sleep(Cafe.linger + 1)
    assert here.rooms.cells == {}


async def test_comes_when_the_hold_is_over(autojump_clock, errors, notes) -> None:
    """Who comes back to a busy room after the seat was given up is gone, and then there anew."""
    async with table(Cafe) as here:
        alice, bob, _, id = await begun(here)
        bob.client.close()
        await trio.sleep(1)
        await alice.client.ask("think", 6.0, namespace=GAMES)
        await trio.sleep(5)
        bob = await here.guest("bob")
        assert players(await bob.call("room:join", {"room": id})) == ["alice", "bob"]
        assert notes == [("drop", "bob"), ("lost", "bob"), ("join", "bob")]
        await assert_closes_when_empty(here, alice, bob)
    assert errors == []


async def test_spectator_does_not_take_the_seat(autojump_clock, errors, notes) -> None:
    """A spectator for whom a seat was kept watches on when that time is over."""
    async with table(Cafe) as here:
        alice, bob, carol, id = await begun(here)
        await carol.call("room:watch", {"room": id})
        await alice.call("room:reserve", {"player": "carol"})
        await trio.sleep(6)
        assert (await carol.hear("room:unreserved")) == {"room": id, "player": "carol"}
        view = await carol.call("room:state")
        assert [spectator["id"] for spectator in view["spectators"]] == ["carol"]
        assert view["reserved"] == []
        assert notes == [("join", "carol")]
        await assert_closes_when_empty(here, alice, bob, carol)
    assert errors == []


async def test_spectator_with_a_reservation_goes(autojump_clock, errors, notes) -> None:
    """A spectator for whom a seat is kept leaves once."""
    async with table(Cafe) as here:
        alice, _, carol, id = await begun(here)
        await carol.call("room:watch", {"room": id})
        await alice.call("room:reserve", {"player": "carol"})
        await carol.call("room:leave")
        await trio.sleep(1)
        assert alice.names().count("room:left") == 1
        assert notes == [("join", "carol"), ("left", "carol")]
    assert errors == []


async def test_one_tab_of_a_spectator(autojump_clock, errors, notes) -> None:
    """One of a spectator's two tabs is lost and back: it watches on, until both are gone."""
    async with table(Cafe) as here:
        alice, bob, _, id = await begun(here)
        tab, other = await here.guests("dan", "dan")
        for client in (tab, other):
            await client.call("room:watch", {"room": id})
        tab.client.close()
        await trio.sleep(0.1)
        tab = await here.back(tab)
        assert (await tab.hear("room:state"))["room"] == id
        tab.client.close()
        await trio.sleep(0.1)
        assert notes == [("join", "dan")]
        other.client.close()
        await trio.sleep(0.1)
        assert notes == [("join", "dan"), ("lost", "dan")]
        await assert_closes_when_empty(here, alice, bob)
    assert errors == []


async def test_refused_by_the_hook(autojump_clock, errors, notes) -> None:
    """Who was announced, and then refused by `on_join`, is told to be gone again."""
    async with table(Cafe) as here:
        alice, _, carol, id = await begun(here)
        alice.heard()
        Cafe.is_choosy = True
        assert await carol.refused("room:join", {"room": id}) == "no"
        await trio.sleep(0.1)
        assert alice.names() == ["room:joined", "room:left"]
        assert carol.names() == []
        assert notes == [("join", "carol")]
    assert errors == []


async def test_seat_refused_by_the_hook(autojump_clock, errors, notes) -> None:
    """A spectator whom `on_join` refuses a seat is sent away, which is told to all and to it."""
    async with table(Cafe) as here:
        alice, _, carol, id = await begun(here)
        await carol.call("room:watch", {"room": id})
        alice.heard()
        Cafe.is_choosy = True
        assert await carol.refused("room:join", {"room": id}) == "no"
        await trio.sleep(0.1)
        assert alice.names() == ["room:joined", "room:left"]
        assert notes == [("join", "carol"), ("join", "carol"), ("left", "carol")]
        assert await carol.refused("room:state", {"room": id}) == "not_here"
    assert errors == []


@pytest.mark.parametrize("first", ["room:watch", None])
async def test_kicked_on_the_way_to_a_seat(autojump_clock, errors, notes, first: str) -> None:
    """Who is put out between the door and the seat leaves only if it was there before."""
    async with table(Cafe) as here:
        alice, _, carol, id = await begun(here)
        if first is not None:
            await carol.call(first, {"room": id})
        alice.heard()
        notes.clear()
        lobby, knock = here.room(id).lobby, here.room(id).lobby.join

        def join_and_kick(player: str, now: float, *, code: str | None = None) -> Any:
            lobby_effects = knock(player, now, code=code)
            return lobby_effects + lobby.kick(None, player, now)

        here.room(id).lobby = Watched(lobby, join_and_kick)
        assert await carol.refused("room:join", {"room": id}) == "not_here"
        await trio.sleep(0.1)
        assert alice.names() == (["room:left"] if first else [])
        assert notes == ([("kicked", "carol")] if first else [])
        assert "carol" not in here.room(id).members
    assert errors == []


class Watched:
    """A lobby in which something happens right behind a `join`."""

    def __init__(self, lobby: Any, join: Any) -> None:
        self._lobby = lobby
        self.join = join

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lobby, name)


async def test_turn_of_one_who_left_and_came(autojump_clock, errors) -> None:
    """A turn is over when its player leaves, however soon the same user is there again."""
    moves: list[Any] = []

    class Turns(Cafe):
        async def run(self) -> Any:
            await trio.sleep(3)
            moves.append(await self.turn(self.players[-1], within=60))
            await trio.sleep_forever()

    async with table(Turns) as here:
        _, bob, _, id = await begun(here, "Turns")
        await trio.sleep(4)
        await bob.client.ask("room:leave", {"room": id}, namespace=GAMES)
        await bob.client.ask("room:join", {"room": id}, namespace=GAMES)
        await trio.sleep(1)
        assert moves == [None]
    assert errors == []


@pytest.mark.parametrize("is_undone", [False, True])
async def test_ready_at_the_last_moment(autojump_clock, errors, is_undone: bool) -> None:
    """A countdown that has begun in time leads to a game, or the room is closed without one."""

    class Game(Cafe):
        countdown = 3.0

        async def run(self) -> Any:
            await self.ready_check(at_least=2, within=10)
            await trio.sleep(100)

    async with table(Game) as here:
        alice, bob, _, id = await begun(here, "Game")
        await alice.call("room:ready")
        await trio.sleep(9)
        await bob.call("room:ready")
        await trio.sleep(2)
        assert here.room(id).phase.value == "countdown"
        if is_undone:
            await bob.call("room:unready")
            assert (await bob.hear("room:closed"))["code"] == "not ready"
        else:
            await trio.sleep(2)
            assert here.room(id).phase.value == "playing"
    assert errors == []


async def test_crash_after_a_kick(autojump_clock, errors) -> None:
    """A handler that puts its player out and then fails has failed: it is logged and told."""

    class Strict(Cafe):
        crashes_per_player = 1

        @on("cheat")
        async def cheat(self, player: Player) -> None:
            self.kick(player)
            raise ValueError("no such card")

    async with table(Strict) as here:
        _, bob, _, _ = await begun(here, "Strict")
        assert await bob.refused("cheat") == "internal"
        await trio.sleep(1)
        assert await bob.refused("think", 0) == "not_here"
    assert "and runs again" in errors.pop().getMessage()


@pytest.mark.parametrize("ends", ["cut", "fails"])
async def test_gone_at_the_door(autojump_clock, errors, notes, ends: str) -> None:
    """Who asked for a place, and is not told that it has one, has none for long."""

    class Fails(Cafe):
        async def on_phase(self, phase: Any) -> None:
            raise ValueError("trouble")

    async with table(Fails) as here:
        alice, bob, carol, id = await begun(here, "Fails")
        cell = here.room(id)
        await alice.client.ask("think", 3.0, namespace=GAMES)
        await trio.sleep(0.1)
        await carol.client.ask("room:join", {"room": id}, namespace=GAMES)
        await trio.sleep(0.1)
        if ends == "cut":
            [socket] = [s for s in cell.rooms.namespace.sockets.values() if s.user.id == "carol"]
            socket.connection.end(SERVER_SHUTDOWN)  # at once: no handler has its grace
        else:
            knocked = cell.lobby

            def join_and_start(player: str, now: float, *, code: str | None = None) -> Any:
                effects = knocked.join(player, now, code=code)
                cell.lobby = knocked
                return effects + knocked.start(None, now)

            cell.lobby = Watched(knocked, join_and_start)
        await trio.sleep(5)
        assert set(cell.members) == set(cell.lobby.players) == {"alice", "bob"}
        assert not [what for what, who in notes if who == "carol"]
        await assert_closes_when_empty(here, alice, bob)
    assert len(errors) == (2 if ends == "fails" else 0)  # the game's start, and its end
    errors.clear()


async def test_leaves_a_busy_room(autojump_clock, errors, notes) -> None:
    """Who could not leave is still there, hears what happens, and can leave later."""

    class Crowded(Cafe):
        max_waiting = 1

    async with table(Crowded) as here:
        alice, bob, carol, id = await begun(here, "Crowded")
        await alice.client.ask("think", 1.0, namespace=GAMES)
        await trio.sleep(0.1)
        await carol.client.ask("room:join", {"room": id}, namespace=GAMES)
        await trio.sleep(0.1)
        assert await bob.refused("room:leave") == "busy"
        assert (await bob.hear("room:joined"))["player"]["id"] == "carol"
        await assert_closes_when_empty(here, alice, bob, carol)
    assert errors == []


async def test_back_in_a_room_that_fails(autojump_clock, errors, notes) -> None:
    """Who comes back while the room fails is told how the room is as soon as it goes on."""

    class Fails(Cafe):
        has_failed: ClassVar[bool] = False

        async def on_return(self, player: Player) -> None:
            if not Fails.has_failed:
                Fails.has_failed = True
                raise ValueError("trouble")

    async with table(Fails) as here:
        alice, bob, _, id = await begun(here, "Fails")
        bob.client.close()
        await trio.sleep(0.1)
        bob = await here.back(bob)
        assert (await bob.hear("room:state"))["room"] == id
        await alice.call("room:ready")
        assert (await bob.hear("room:ready"))["player"] == "alice"
        await assert_closes_when_empty(here, alice, bob)
    assert "and runs again" in errors.pop().getMessage()
