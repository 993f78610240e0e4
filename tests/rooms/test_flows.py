"""What players of a lobby do, over the wire: find each other, get ready, play, and play again."""

from typing import Any

import pytest
import trio

from tests.rooms.tables import GAMES, ByName, Table, players, table
from trio_rt import MisuseError, Server
from trio_rt.machine.delta import apply
from trio_rt.machine.lobby_effects import Phase
from trio_rt.rooms import Player, Room, on
from trio_rt.testing import hosting

pytestmark = pytest.mark.usefixtures("errors")


class Game(Room):
    """Players who have to be ready, and score until somebody has three points."""

    seats = 3
    inputs = {"score": int}
    options_type = dict[str, int]

    def __init__(self) -> None:
        super().__init__()
        self.state = {"points": {}}

    async def run(self) -> Any:
        await self.ready_check(at_least=2, within=3600)
        self.state = {"points": {}}
        async for tick in self.ticks(hz=10):
            for input in tick.inputs:
                points = self.state["points"]
                points[input.player.id] = points.get(input.player.id, 0) + input.value
                if points[input.player.id] >= 3:
                    await self.sync()
                    return {"winner": input.player.id}
            await self.sync()
        return None

    @on("wave", spectators=True)
    async def wave(self, player: Player) -> None:
        await self.emit("waved", player.id)

    def info(self) -> Any:
        return {"points": sum(self.state["points"].values())}


async def begun(here: Table, **options: Any) -> tuple[Any, Any, str]:
    """Two players in a room."""
    alice, bob = await here.guests("alice", "bob")
    id = (await alice.call("room:create", options))["room"]
    await bob.call("room:join", {"room": id})
    return alice, bob, id


async def play(alice: Any, bob: Any) -> None:
    """Both are ready, and the game begins."""
    await alice.call("room:ready")
    await bob.call("room:ready")
    while (await alice.hear("room:phase"))["phase"] != "playing":
        pass
    await bob.hear("room:phase")
    await bob.hear("room:phase")


# Coming in


async def test_full(autojump_clock) -> None:
    """Somebody who finds no free seat is refused, and may watch."""
    async with table(Game) as here:
        _, _, id = await begun(here, seats=2)
        carol = await here.guest("carol")
        assert await carol.refused("room:join", {"room": id}) == "full"
        view = await carol.call("room:watch", {"room": id})
        assert view["spectators"] == [{"id": "carol", "name": "Carol"}]
        await carol.call("wave")
        assert await carol.hear("waved") == "carol"
        assert await carol.refused("score", 1) == "spectator"
        assert await carol.refused("room:ready") == "not_here"


async def test_options(autojump_clock) -> None:
    """A room has the options that it was created with, if they are what they should be."""
    async with table(Game) as here:
        alice = await here.guest("alice")
        view = await alice.call("room:create", {"options": {"rounds": 3}})
        assert view["options"] == {"rounds": 3}
        assert await alice.refused("room:create", {"options": {"rounds": "three"}}) == "invalid"
        assert await alice.refused("room:create", {"kind": "Chess"}) == "unknown_kind"
        assert await alice.refused("room:create", {"seats": 0}) == "invalid"
        assert await alice.refused("room:create", {"sheets": 3}) == "invalid"


async def test_private(autojump_clock) -> None:
    """A private room is not listed, and can be joined by a code that is good for a time."""
    async with table(Game) as here:
        alice, bob, carol = await here.guests("alice", "bob", "carol")
        id = (await alice.call("room:create", {"private": True}))["room"]
        assert await bob.call("room:list") == {"rooms": []}
        assert await bob.refused("room:join", {"room": id}) == "bad_invite"
        assert await bob.refused("room:invite", {"room": id}) == "not_here"
        invite = await alice.call("room:invite")
        assert invite["seconds"] == 600
        view = await bob.call("room:join", {"room": id, "code": invite["code"]})
        assert players(view) == ["alice", "bob"]
        await trio.sleep(601)
        asked = {"room": id, "code": invite["code"]}
        assert await carol.refused("room:join", asked) == "bad_invite"


async def test_kick(autojump_clock) -> None:
    """The host puts somebody out, who is told, hears nothing more and cannot come back."""
    async with table(Game) as here:
        alice, bob, id = await begun(here)
        assert await bob.refused("room:kick", {"player": "alice"}) == "not_host"
        assert await alice.refused("room:kick", {"player": "nobody"}) == "not_here"
        await alice.call("room:kick", {"player": "bob"})
        assert await bob.hear("room:left") == {"room": id, "player": "bob", "reason": "kicked"}
        await alice.call("wave")
        await trio.sleep(1)
        assert bob.names() == []
        assert await bob.refused("room:join", {"room": id}) == "banned"


async def test_reservation(autojump_clock) -> None:
    """A reserved seat waits for its player for a time, and for nobody else."""
    async with table(Game) as here:
        alice, bob = await here.guests("alice", "bob")
        id = (await alice.call("room:create", {"seats": 2}))["room"]
        reserved = await alice.call("room:reserve", {"player": "carol"})
        assert reserved == {"seconds": 30}
        assert await bob.refused("room:join", {"room": id}) == "full"
        await trio.sleep(31)
        assert (await bob.call("room:join", {"room": id}))["reserved"] == []
        assert await bob.refused("room:reserve", {"player": "dave"}) == "not_host"


async def test_another_tab(autojump_clock) -> None:
    """A user is one player however many sockets it has, and is lost with the last of them."""
    async with table(Game) as here:
        alice, bob, id = await begun(here)
        tab = await here.guest("bob")
        view = await tab.call("room:join", {"room": id})
        assert players(view) == ["alice", "bob"]
        await bob.client.aclose()
        await trio.sleep(1)
        assert "room:dropped" not in alice.names()
        await tab.client.aclose()
        assert (await alice.hear("room:dropped"))["player"] == "bob"


async def test_several_rooms(autojump_clock) -> None:
    """A socket in several rooms names the one that it means."""
    async with table(Game) as here:
        alice, _, id = await begun(here)
        other = (await alice.call("room:create"))["room"]
        assert await alice.refused("wave") == "which_room"
        assert await alice.refused("room:ready") == "which_room"
        await alice.call("room:send", id, "wave")
        await alice.call("room:ready", {"room": other})
        view = await alice.call("room:state", {"room": other})
        assert view["players"][0]["ready"] is True
        assert await alice.refused("room:send", id, "dance") == "unknown_event"
        assert await alice.refused("room:join", {"room": "x" * 100}) == "not_found"


# The game


async def test_game(autojump_clock) -> None:
    """All get ready, the game runs by ticks, ends with a result, and there is a rematch."""
    async with table(Game) as here:
        alice, bob, id = await begun(here)
        await play(alice, bob)
        assert await bob.refused("room:ready") == "wrong_phase"
        await bob.call("score", 2)
        await alice.call("score", 1)
        state: Any = {}
        while state.get("points") != {"bob": 2, "alice": 1}:
            state = apply(state, (await alice.hear("room:patch"))["patch"])
        await bob.call("score", 1)
        ended = await alice.hear("room:ended")
        assert ended == {"room": id, "result": {"winner": "bob"}, "seconds": 120}
        assert await bob.refused("room:rematch") == "not_host"
        await alice.call("room:rematch")
        assert (await bob.hear("room:phase"))["phase"] == "open"
        bob.client.rest()
        await play(alice, bob)
        await alice.call("score", 3)
        assert (await bob.hear("room:ended"))["result"] == {"winner": "alice"}
        await trio.sleep(121)
        closed = await bob.hear("room:closed")
        assert closed["code"] == "ended"
        assert id not in here.rooms.cells


async def test_countdown_stops(autojump_clock) -> None:
    """Somebody who is not ready after all stops the countdown."""
    async with table(Game) as here:
        alice, bob, id = await begun(here)
        await alice.call("room:ready")
        await bob.call("room:ready")
        phase = await alice.hear("room:phase")
        assert phase == {"room": id, "phase": "countdown", "seconds": 3}
        await bob.call("room:unready")
        assert (await alice.hear("room:phase"))["phase"] == "open"
        await trio.sleep(5)
        assert here.room(id).lobby.phase is Phase.OPEN


async def test_host_starts(autojump_clock) -> None:
    """The host starts without waiting for everybody, and ends; nobody else can."""
    async with table(Game) as here:
        alice, bob, _ = await begun(here)
        assert await bob.refused("room:start") == "not_host"
        await alice.call("room:start")
        assert (await bob.hear("room:phase"))["phase"] == "playing"
        carol = await here.guest("carol")
        id = next(iter(here.rooms.cells))
        assert await carol.refused("room:join", {"room": id}) == "wrong_phase"
        await alice.call("room:end")
        assert (await bob.hear("room:ended"))["result"] is None


async def test_nobody_ready(autojump_clock) -> None:
    """A game that nobody starts in time is closed, and all are told why."""

    class Impatient(Game):
        async def run(self) -> Any:
            await self.ready_check(at_least=2, within=60)

    async with table(Impatient) as here:
        alice, _, _ = await begun(here)
        assert (await alice.call("room:state"))["at_least"] == 2
        await trio.sleep(61)
        assert (await alice.hear("room:closed"))["code"] == "not ready"
        assert not here.rooms.cells


async def test_host_leaves(autojump_clock) -> None:
    """When the host leaves, the player who has been there longest is the host."""
    async with table(Game) as here:
        alice, bob, id = await begun(here)
        carol = await here.guest("carol")
        await carol.call("room:join", {"room": id})
        await alice.call("room:leave")
        assert await carol.hear("room:host") == {"room": id, "host": "bob"}
        await bob.call("room:kick", {"player": "carol"})


async def test_turns(autojump_clock) -> None:
    """A turn waits for its player's input and nobody else's, and for no longer than it says."""
    moves: list[Any] = []

    class Turns(Game):
        async def run(self) -> Any:
            await self.ready_check(at_least=2, within=60)
            for _ in range(2):
                for player in self.players:
                    move = await self.turn(player, within=10)
                    moves.append((player.id, move and move.value))

    async with table(Turns) as here:
        alice, bob, id = await begun(here)
        await play(alice, bob)
        turn = await alice.hear("room:turn")
        assert turn == {"room": id, "player": "alice", "seconds": 10}
        await bob.call("score", 99)
        await alice.call("score", 1)
        assert (await alice.hear("room:turn"))["player"] == "bob"
        await bob.call("score", 2)
        await trio.sleep(11)
        await bob.call("score", 4)
        await bob.hear("room:ended")
        assert moves == [("alice", 1), ("bob", 2), ("alice", None), ("bob", 4)]


# The list


async def test_live_list(autojump_clock) -> None:
    """The list shows what there is, and tells what has changed, until it is not wanted any more."""
    async with table(Game) as here:
        dave = await here.guest("dave")
        assert await dave.call("room:list", {"live": True}) == {"rooms": []}
        alice, bob, id = await begun(here)
        await trio.sleep(1)
        news = [event[1] for event in dave.heard()]
        assert news[-1]["changed"][0]["players"] == 2
        [entry] = (await dave.call("room:list", {"kind": "Game"}))["rooms"]
        assert entry == {
            "room": id,
            "kind": "Game",
            "phase": "open",
            "players": 2,
            "seats": 3,
            "free": 1,
            "spectators": 0,
            "info": {"points": 0},
        }
        assert await dave.call("room:list", {"kind": "Chess"}) == {"rooms": []}
        await here.rooms.close(id)
        assert await dave.hear("rooms") == {"changed": [], "gone": [id]}
        await dave.call("room:unlist")
        await alice.call("room:create")
        await trio.sleep(1)
        assert dave.heard() == []
        assert bob.heard()[-1][0] == "room:closed"


async def test_too_many_rooms(autojump_clock) -> None:
    """One user cannot fill a node with rooms."""
    async with table(Game) as here:
        alice, bob = await here.guests("alice", "bob")
        for _ in range(10):
            await alice.call("room:create", {"join": False})
        assert await alice.refused("room:create") == "limit"
        assert players(await bob.call("room:create")) == ["bob"]


# Misuse


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"run": lambda self: None}, "has to be async"),
        ({"inputs": {"room:x": int}}, "do not begin with"),
        ({"inputs": {"x": object()}}, "x"),
        ({"seats": 0}, "seats"),
        ({"restart": "transient"}, "Restart.TRANSIENT"),
        ({"inputs": {"wave": int}}, "has a handler, too"),
    ],
)
def test_misuse(members: dict[str, Any], words: str) -> None:
    """A class of rooms that can never work is refused when it is registered."""
    wrong = type("Wrong", (Game,), members)
    with pytest.raises(MisuseError, match=words):
        Server().namespace(GAMES, rooms=[wrong])


def test_misuse_of_namespaces() -> None:
    """Rooms are given once, to a namespace with a name, without handlers that are in their way."""
    server = Server()
    games = server.namespace(GAMES)
    games.on("wave")(lambda_handler)
    with pytest.raises(MisuseError, match="wave"):
        server.namespace(GAMES, rooms=[Game])
    server.namespace("/other", rooms=[Game])
    with pytest.raises(MisuseError, match="once"):
        server.namespace("/other", rooms=[Game])
    with pytest.raises(MisuseError, match="one namespace"):
        server.namespace(lambda name: True, rooms=[Game])  # type: ignore[call-overload]
    with pytest.raises(MisuseError, match="two kinds"):
        server.namespace("/third", rooms=[Game, Game])


async def lambda_handler(socket: Any) -> None: ...


async def test_as_soon_as_it_serves(autojump_clock) -> None:
    """A program may create rooms as soon as its server has started."""
    server = Server(auth=ByName())
    games = server.namespace(GAMES, rooms=[Game])
    async with hosting(server):
        assert games.live_rooms is not None
        id = await games.live_rooms.create(Game)
        assert [entry["room"] for entry in await games.live_rooms.all()] in ([], [id])
