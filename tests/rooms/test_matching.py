"""Players who wait for others: brought together by rating, in a room with a seat for each."""

import pytest
import trio

from tests.rooms.tables import players, table
from tests.rooms.town import town
from trio_rt.machine.matchmaking import MatchRules
from trio_rt.rooms import Room


class Duel(Room):
    """A game for two."""

    seats = 2
    match = MatchRules(size=2, window=100, widen=10, give_up=120)


async def test_match(autojump_clock, errors) -> None:
    """Two of about the same rating get a room with their seats; a third one waits on."""
    async with table(Duel) as here:
        alice, bob, carol = await here.guests("alice", "bob", "carol")
        waiting = await alice.call("room:match", {"rating": 1500})
        assert waiting == {"kind": "Duel", "seconds": 120}
        assert await alice.refused("room:match", {"rating": 1500}) == "already_waiting"
        await carol.call("room:match", {"rating": 1900})
        await bob.call("room:match", {"rating": 1550})
        match = await alice.hear("room:matched")
        assert await bob.hear("room:matched") == match
        assert players(await alice.call("room:join", {"room": match["room"]})) == ["alice"]
        assert await carol.refused("room:join", {"room": match["room"]}) == "bad_invite"
        assert players(await bob.call("room:join", {"room": match["room"]})) == ["alice", "bob"]
        assert await alice.call("room:list") == {"rooms": []}
        assert carol.heard() == []
    assert errors == []


async def test_widening(autojump_clock, errors) -> None:
    """Ratings further apart match after a while."""
    async with table(Duel) as here:
        alice, bob = await here.guests("alice", "bob")
        await alice.call("room:match", {"rating": 1000})
        await bob.call("room:match", {"rating": 1300})
        await trio.sleep(19)
        assert alice.names() == []
        await trio.sleep(3)
        assert alice.names() == ["room:matched"]
    assert errors == []


async def test_nobody(autojump_clock, errors) -> None:
    """Who finds nobody in time is told, and may wait again; who gives up or goes is not matched."""
    async with table(Duel) as here:
        alice, bob, carol = await here.guests("alice", "bob", "carol")
        await alice.call("room:match")
        await alice.call("room:unmatch")
        await bob.call("room:match")
        bob.client.close()
        await trio.sleep(11)
        await carol.call("room:match")
        await trio.sleep(122)
        assert carol.heard() == [["room:unmatched", {"kind": "Duel", "code": "timeout"}]]
        assert alice.heard() == []
        await carol.call("room:match")
        await alice.call("room:match")
        assert (await carol.hear("room:matched"))["kind"] == "Duel"
    assert errors == []


async def test_closed_to_clients(autojump_clock, errors) -> None:
    """The room in which players wait is not theirs to use, list or see into."""
    async with table(Duel) as here:
        alice, bob = await here.guests("alice", "bob")
        await alice.call("room:match", {"rating": 1})
        for event, payload in [
            ("room:join", {"room": "match:Duel"}),
            ("room:watch", {"room": "match:Duel"}),
            ("room:state", {"room": "match:Duel"}),
            ("room:kick", {"room": "match:Duel", "player": "bob"}),
        ]:
            assert await alice.refused(event, payload) == "not_found"
        assert await alice.refused("room:send", "match:Duel", "room:match", 1, 1) == "not_found"
        assert await alice.refused("room:state") == "not_here"
        assert await bob.call("room:list") == {"rooms": []}
        assert await bob.refused("room:match", {"kind": "Chess"}) == "unknown_kind"
        assert await bob.refused("room:match", {"size": 3}) == "bad_ticket"
    assert errors == []


@pytest.mark.parametrize("stops", [False, True])
async def test_on_two_nodes(stops: bool, autojump_clock, errors) -> None:
    """Players on different nodes find each other, also when the one where they waited stops."""
    async with town(3, Duel) as [one, two, three]:
        zoe = await one.guest("zoe")
        await zoe.call("room:match", {"rating": 9000})
        alice, bob = await two.guest("alice"), await three.guest("bob")
        await alice.call("room:match", {"rating": 1})
        if stops:
            await trio.sleep(1)
            one.stop()
            await trio.sleep(2)
        await bob.call("room:match", {"rating": 2})
        match = await alice.hear("room:matched")
        await bob.hear("room:matched")
        await alice.call("room:join", {"room": match["room"]})
        view = await bob.call("room:join", {"room": match["room"]})
        assert players(view) == ["alice", "bob"]
    assert errors == []


async def test_bad_ticket(autojump_clock, errors) -> None:
    """Who is refused waits nowhere; who waits already goes on doing so."""
    async with table(Duel) as here:
        alice, bob = await here.guests("alice", "bob")
        assert await alice.refused("room:match", {"size": 3}) == "bad_ticket"
        await trio.sleep(1)
        assert not here.room("match:Duel").members
        assert alice.heard() == []
        await alice.call("room:match")
        assert await alice.refused("room:match", {"size": 3}) == "already_waiting"
        await bob.call("room:match")
        assert (await alice.hear("room:matched"))["kind"] == "Duel"
    assert errors == []


async def test_away_for_a_moment(autojump_clock, errors) -> None:
    """Who is away is matched with nobody, and whoever is back waits again."""
    async with table(Duel) as here:
        alice, bob = await here.guests("alice", "bob")
        await alice.call("room:match")
        await trio.sleep(3)
        alice.client.close()
        await trio.sleep(1)
        await bob.call("room:match")
        await trio.sleep(3)
        assert bob.names() == []
        alice = await here.back(alice)
        match = await alice.hear("room:matched")
        assert await bob.hear("room:matched") == match
    assert errors == []
