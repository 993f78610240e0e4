"""A room from its creation to its end, over the wire."""

import pytest
import trio

from tests.rooms.tables import players, table
from trio_rt.rooms import Player, Room, on

pytestmark = pytest.mark.usefixtures("errors")


class Chat(Room):
    """People who talk."""

    async def on_join(self, player: Player) -> None:
        await self.to(player).emit("welcome", {"to": player.name})

    @on("say")
    async def say(self, player: Player, text: str) -> str:
        await self.emit("said", {"who": player.id, "text": text})
        return "ok"


async def test_from_beginning_to_end(autojump_clock) -> None:
    """A room is created, joined, talked in, left, and over when it was empty for long enough."""
    async with table(Chat) as here:
        alice, bob = await here.guests("alice", "bob")
        view = await alice.call("room:create")
        assert players(view) == ["alice"]
        assert view["host"] == "alice"
        view = await bob.call("room:join", {"room": view["room"]})
        assert players(view) == ["alice", "bob"]
        assert await bob.hear("welcome") == {"to": "Bob"}
        joined = await alice.hear("room:joined")
        assert joined == {"room": view["room"], "player": {"id": "bob", "name": "Bob"}}
        assert await bob.call("say", "hi") == "ok"
        assert await alice.hear("said") == {"who": "bob", "text": "hi"}
        assert await bob.refused("say", 7) == "invalid"
        await bob.call("room:leave")
        left = await alice.hear("room:left")
        assert left == {"room": view["room"], "player": "bob", "reason": "left"}
        assert await bob.refused("say", "again") == "not_here"
        await alice.call("room:leave")
        assert view["room"] in here.rooms.cells
        await trio.sleep(61)
        assert not here.rooms.cells
        assert await alice.refused("room:join", {"room": view["room"]}) == "not_found"
