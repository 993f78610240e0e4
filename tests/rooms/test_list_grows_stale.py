"""A list of rooms that is out of date again while it is being told."""

import pytest
import trio

from tests.rooms.tables import table
from trio_rt.rooms import Room
from trio_rt.rooms.listing import Listing


class Hall(Room):
    """Is there."""


async def test_stale_again_meanwhile(
    autojump_clock, errors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that goes while others are asked because of another one has the list told again."""
    collect, collected = Listing.all, 0

    async def collect_and_lose_a_node(listing: Listing, kind: str | None = None) -> object:
        nonlocal collected
        collected += 1
        entries = await collect(listing, kind)
        if collected == 2:  # 1 is Alice's own
            listing.node_down()
        return entries

    monkeypatch.setattr(Listing, "all", collect_and_lose_a_node)
    async with table(Hall) as here:
        alice = await here.guest("alice")
        await alice.call("room:list", {"live": True})
        here.rooms.listing.node_down()
        await trio.sleep(5)
        assert alice.heard() == [["rooms", {"all": []}]] * 2
    assert errors == []
