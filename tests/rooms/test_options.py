"""What rooms are created with is of the type that their class says, in whatever way they begin."""

from typing import Annotated

import attrs
import pytest
from msgspec import Meta

from tests.rooms.tables import table
from trio_rt.rooms import Room

pytestmark = pytest.mark.usefixtures("errors")


@attrs.frozen
class Settings:
    """All of it may be left out."""

    rounds: Annotated[int, Meta(ge=1)] = 3


class Quiz(Room):
    """Shows its options in the list."""

    options_type = Settings

    def info(self) -> int:
        return self.options.rounds


@pytest.mark.parametrize("asked", [{}, {"options": None}, {"options": {}}])
async def test_left_out(autojump_clock, asked) -> None:
    """Options that are left out have their defaults, as an object of their type."""
    async with table(Quiz) as here:
        alice = await here.guest("alice")
        view = await alice.call("room:create", asked)
        assert view["options"] == {"rounds": 3}
        assert here.room(view["room"]).options == Settings()
        [entry] = (await alice.call("room:list"))["rooms"]
        assert entry["info"] == 3


async def test_needed(autojump_clock) -> None:
    """A room whose options cannot be left out is not created without them."""

    @attrs.frozen
    class Board:
        size: int

    kind = type("Chess", (Room,), {"options_type": Board})
    async with table(kind) as here:
        alice = await here.guest("alice")
        assert await alice.refused("room:create") == "invalid"
        assert await alice.refused("room:create", {"options": {"size": "big"}}) == "invalid"
        view = await alice.call("room:create", {"options": {"size": 8}})
        assert here.room(view["room"]).options == Board(8)
