"""Rooms in a cluster: in one place at a time, used from everywhere, outliving their node."""

from typing import Any, ClassVar

import attrs
import pytest
import trio

from tests.rooms.tables import players
from tests.rooms.town import Node, town
from trio_rt.codec.room_requests import Back, Knock, Lost
from trio_rt.errors import BackplaneDown, LocalError
from trio_rt.reasons import Reason
from trio_rt.rooms import Player, Room, on
from trio_rt.rooms.cell import CHANNEL
from trio_rt.rooms.keeping import LEASE


class Shared(Room):
    """Counts, and notes where and when it acts."""

    acts: ClassVar[list[tuple[float, str]]] = []
    notes: ClassVar[list[tuple[str, str]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.state = {"count": 0}

    async def run(self) -> None:
        async for _ in self.ticks(hz=2):
            node = self.cell.rooms.backplane.node
            self.acts.append((trio.current_time(), node))

    async def on_drop(self, player: Player) -> None:
        self.notes.append(("drop", player.id))

    async def on_return(self, player: Player) -> None:
        self.notes.append(("return", player.id))

    async def on_leave(self, player: Player, reason: Reason) -> None:
        self.notes.append((reason.code, player.id))

    @on("add")
    async def add(self, player: Player, number: int) -> tuple[int, str]:
        self.state["count"] += number
        self.save()
        await self.emit("sum", self.state["count"])
        return self.state["count"], self.cell.rooms.backplane.node


class Quiet(Room):
    """Says nothing by itself."""


@pytest.fixture(autouse=True)
def notes() -> list[tuple[str, str]]:
    """What hooks have been told."""
    Shared.acts.clear()
    Shared.notes.clear()
    return Shared.notes


async def begun(one: Node, two: Node) -> tuple[Any, Any, str]:
    """Alice on one node made a room, and Bob on the other one is in it."""
    alice, bob = await one.guest("alice"), await two.guest("bob")
    id = (await alice.call("room:create"))["room"]
    assert players(await bob.call("room:join", {"room": id})) == ["alice", "bob"]
    return alice, bob, id


async def test_from_another_node(autojump_clock, errors) -> None:
    """Who is on another node than the room joins, acts, is told, is kicked, as everybody else."""
    async with town(2, Shared) as [one, two]:
        alice, bob, id = await begun(one, two)
        assert (await alice.hear("room:joined"))["player"]["id"] == "bob"
        assert await bob.call("add", 3) == (3, one.backplane.node)
        assert await alice.hear("sum") == 3
        assert await bob.hear("sum") == 3
        assert await bob.refused("add", "x") == "invalid"
        assert await bob.refused("room:kick", {"player": "alice"}) == "not_host"
        assert [entry["room"] for entry in (await bob.call("room:list"))["rooms"]] == [id]
        await alice.call("room:kick", {"player": "bob"})
        assert (await bob.hear("room:left"))["reason"] == "kicked"
        await trio.sleep(1)
        await alice.call("add", 1)
        await trio.sleep(1)
        assert "sum" not in bob.names()
        assert id not in two.rooms.cells
    assert errors == []


async def test_lost_on_another_node(autojump_clock, errors, notes) -> None:
    """Drops and returns of sockets on another node reach the room in order."""
    async with town(2, Shared) as [one, two]:
        alice, bob, id = await begun(one, two)
        for _ in range(5):
            bob.client.close()
            assert (await alice.hear("room:dropped"))["player"] == "bob"
            bob = await two.back(bob)
            assert (await bob.hear("room:state"))["room"] == id
        assert notes == [("drop", "bob"), ("return", "bob")] * 5
    assert errors == []


async def test_reports_that_overtake(autojump_clock, errors) -> None:
    """Old news of a socket, told after newer ones, changes nothing."""
    async with town(2, Shared) as [one, two]:
        _, bob, id = await begun(one, two)
        sid = next(iter(two.server.namespace("/games").sockets))
        node = two.backplane.node
        await two.rooms.finder.ask(id, Back("bob", sid, node, 10))
        await two.rooms.finder.ask(id, Lost("bob", sid, node, 9, True))
        assert one.room(id).members["bob"].connected
        await two.rooms.finder.ask(id, Back("bob", sid, "a newer node", 1))
        await two.rooms.finder.ask(id, Lost("bob", sid, node, 11, True))
        assert one.room(id).members["bob"].connected
        assert "room:dropped" not in bob.names()
        await two.rooms.finder.ask(id, Lost("bob", sid, "a newer node", 2, True))
        assert not one.room(id).members["bob"].connected
    assert errors == []


async def test_on_the_way_in(autojump_clock, errors) -> None:
    """Whoever is about to come in while members are looked for is not taken for lost."""
    async with town(2, Shared) as [one, two]:
        alice, bob, id = await begun(one, two)
        cell = one.room(id)
        carol = await two.guest("carol")
        await two.rooms.finder.ask(
            id, Knock("carol", "Carol", "a new socket", two.backplane.node, 1, watches=False)
        )
        await one.rooms.doors.look_for_members(cell)
        await trio.sleep(1)
        assert cell.members["carol"].connected
        assert cell.members["bob"].connected
        assert "room:dropped" not in alice.names() + bob.names() + carol.names()
    assert errors == []


async def test_many_at_once_want_it(autojump_clock, errors) -> None:
    """However many clients of one node want a room that is nowhere, it is activated once."""
    async with town(2, Shared) as [one, two]:
        guests = [await two.guest(f"guest {at}") for at in range(10)]
        alice = await one.guest("alice")
        id = (await alice.call("room:create"))["room"]
        await trio.sleep(1)
        one.stop()
        await trio.sleep(1)
        views: list[Any] = []

        async def join(guest: Any) -> None:
            views.append(await guest.call("room:join", {"room": id}))

        async with trio.open_nursery() as nursery:
            for guest in guests:
                nursery.start_soon(join, guest)
        assert [view for view in views if "error" in view] == []
        assert max(len(players(view)) for view in views) == 11
        assert list(two.rooms.cells) == [id]
    assert errors == []


async def test_no_word_without_a_lease(autojump_clock, errors) -> None:
    """What still runs of a room whose lease is over cannot tell anybody anything."""
    async with town(1, Shared) as [one]:
        alice = await one.guest("alice")
        cell = one.room((await alice.call("room:create"))["room"])
        lease = cell.lease
        cell.lease = attrs.evolve(lease, expires=trio.current_time())
        with pytest.raises(LocalError, match="another node"):
            _ = cell.everybody
        cell.lease = lease
        await cell.everybody.emit("sum", 1)
        assert await alice.hear("sum") == 1
    assert errors == []


async def test_node_stops(autojump_clock, errors, notes) -> None:
    """When the room's node stops in order, the room goes on elsewhere at once, with its state."""
    async with town(2, Shared) as [one, two]:
        alice, bob, id = await begun(one, two)
        await alice.call("add", 5)
        one.stop()
        await trio.sleep(2)
        assert await bob.call("add", 1) == (6, two.backplane.node)
        view = await bob.call("room:state")
        assert players(view) == ["alice", "bob"]
        assert [p["connected"] for p in view["players"]] == [False, True]
        assert view["version"] > 100_000  # so that nobody applies a patch to what was not saved
        alice = await two.guest("alice")
        await alice.call("room:join", {"room": id})
        assert ("return", "alice") in notes
        assert id in two.rooms.cells
        assert one.rooms.cells == {}
    assert errors == []


async def test_node_is_cut_off(autojump_clock, errors, notes) -> None:
    """When the room's node is cut off, it stops the room before another node has it."""
    async with town(2, Shared) as [one, two]:
        alice, bob, id = await begun(one, two)
        await alice.call("add", 5)
        await trio.sleep(1)
        first, second = one.backplane.node, two.backplane.node
        async with trio.open_nursery() as nursery:
            began = trio.current_time()
            nursery.start_soon(one.backplane.cut)
            await trio.sleep(LEASE + 3)
        assert id in two.rooms.cells
        assert id not in one.rooms.cells
        last = max(time for time, node in Shared.acts if node == first)
        next_ = min(time for time, node in Shared.acts if node == second)
        assert last <= next_ - 2
        assert next_ - began < LEASE + 3
        assert await bob.call("add", 1) == (6, second)
        assert ("drop", "alice") in notes
    assert "could not be renewed in time" in errors[0].getMessage()
    errors.clear()


async def test_backplane_away_for_a_moment(autojump_clock, errors) -> None:
    """A room outlives a backplane that is away for less than its lease."""
    async with town(2, Shared) as [one, two]:
        alice, bob, id = await begun(one, two)
        one.backplane._is_cut = True
        await trio.sleep(5)
        one.backplane._is_cut = False
        await trio.sleep(20)
        assert id in one.rooms.cells
        assert await bob.call("add", 1) == (1, one.backplane.node)
        assert alice.names()
    assert errors == []


async def test_fenced(autojump_clock, errors) -> None:
    """A node that counts as dead stops its rooms at once, without a word to their members."""
    async with town(2, Shared) as [one, two]:
        alice, bob, id = await begun(one, two)
        one.backplane.fence()  # before the snapshot that has Bob in it was saved
        await trio.sleep(1)
        assert one.rooms.cells == {}
        assert "room:closed" not in alice.names()
        lease = next(iter(one.backplane._town.leases))
        del one.backplane._town.leases[lease]
        two.rooms.node_down(one.backplane.node)
        await trio.sleep(1)
        assert id in two.rooms.cells
        await trio.sleep(1)
        assert {*players(await bob.call("room:state"))} == {"alice", "bob"}
        assert await bob.call("add", 1) == (1, two.backplane.node)
    assert errors == []


async def test_many_nodes_want_it(autojump_clock, errors) -> None:
    """However many nodes want a room that nobody has, one gets it."""
    async with town(4, Shared) as nodes:
        guests = [await node.guest(f"guest {at}") for at, node in enumerate(nodes)]
        id = (await guests[0].call("room:create"))["room"]
        for guest in guests[1:]:
            await guest.call("room:join", {"room": id})
        nodes[0].stop()
        await trio.sleep(5)
        answers: list[Any] = []

        async def add(guest: Any) -> None:
            answers.append(await guest.call("add", 1))

        async with trio.open_nursery() as nursery:
            for guest in guests[1:]:
                nursery.start_soon(add, guest)
        assert sorted(answer[0] for answer in answers) == [1, 2, 3]
        assert len({answer[1] for answer in answers}) == 1
        assert sum(id in node.rooms.cells for node in nodes) == 1
    assert errors == []


async def test_closed_everywhere(autojump_clock, errors) -> None:
    """Members on all nodes are told that a room is closed, and nothing of it is left."""
    async with town(2, Shared) as [one, two]:
        _, bob, id = await begun(one, two)
        follower = await two.guest("follower")
        await follower.call("room:list", {"live": True})
        await one.rooms.close(id, "that is all")
        assert (await bob.hear("room:closed"))["text"] == "that is all"
        assert (await follower.hear("rooms"))["gone"] == [id]
        await trio.sleep(3)
        assert not two.server.namespace("/games").rooms.get(CHANNEL + id)
        assert one.backplane._town.leases == {}
        assert one.backplane._town.states == {}
        assert await bob.refused("add", 1) == "not_here"
    assert errors == []


async def test_list_without_ghosts(autojump_clock, errors) -> None:
    """The rooms of a node that is gone are not listed, and those who follow the list are told."""
    async with town(2, Shared) as [one, two]:
        alice = await one.guest("alice")
        await alice.call("room:create")
        follower = await two.guest("follower")
        assert len((await follower.call("room:list", {"live": True}))["rooms"]) == 1
        await trio.sleep(1)
        follower.client.rest()
        one.stop()
        assert await follower.hear("rooms") in ({"all": []}, {"changed": [], "gone": []})
        assert (await follower.call("room:list"))["rooms"] == []
    assert errors == []


async def test_back_while_the_backplane_is_away(autojump_clock, errors, notes) -> None:
    """Who comes back while nothing can be sent gets the room's view as soon as that can be done."""
    async with town(1, Quiet) as [one]:
        alice, bob, id = await begun(one, one)
        bob.client.close()
        await trio.sleep(0.1)
        bob = await one.back(bob)
        one.backplane._is_cut = True
        await trio.sleep(3)
        one.backplane._is_cut = False
        assert (await bob.hear("room:state"))["room"] == id
        assert (await alice.call("room:state"))["room"] == id
    assert errors == []


async def test_gone_before_the_room_knows_that_it_is_back(
    autojump_clock, errors, notes, monkeypatch
) -> None:
    """A socket whose return is told after its next loss does not stay in the room for ever."""
    async with town(2, Shared) as [one, two]:
        _, bob, id = await begun(one, two)
        bob.client.close()
        await trio.sleep(1)
        ask = two.backplane.ask

        async def ask_late(body: bytes, **options: Any) -> Any:
            monkeypatch.undo()
            await trio.sleep(0.5)
            return await ask(body, **options)

        monkeypatch.setattr(two.backplane, "ask", ask_late)
        bob = await two.back(bob)
        bob.client.close()
        await trio.sleep(Shared.hold_seconds + 5)
        assert "bob" not in one.room(id).members
        assert notes[-1] == ("lost", "bob")
    assert errors == []


async def test_list_after_a_failure(autojump_clock, errors, monkeypatch) -> None:
    """The end of a room that could not be told is told later, to those on other nodes as well."""
    async with town(2, Shared) as [one, two]:
        _, bob, id = await begun(one, two)
        await bob.call("room:list", {"live": True})
        await trio.sleep(1)
        publish, failures = one.backplane.publish, iter(range(2))

        async def publish_later(envelope: Any) -> Any:
            if envelope.rooms == (CHANNEL,) and next(failures, None) is not None:
                raise BackplaneDown("away", outcome_unknown=False)
            return await publish(envelope)

        monkeypatch.setattr(one.backplane, "publish", publish_later)
        await one.rooms.close(id)
        while (heard := await bob.hear("rooms"))["gone"] != [id]:
            assert heard["gone"] == []
    assert errors == []


async def test_end_that_hangs(autojump_clock, errors, monkeypatch) -> None:
    """A room whose end the backplane does not take in time is not kept here for ever."""
    async with town(1, Shared) as [one]:
        alice, _, id = await begun(one, one)
        save = one.backplane.save

        async def save_slowly(lease: Any, state: bytes | None) -> bool:
            if state is None:
                await trio.sleep(60)
            return bool(await save(lease, state))

        monkeypatch.setattr(one.backplane, "save", save_slowly)
        await one.rooms.close(id)
        assert (await alice.hear("room:closed"))["code"] == "closed"
        await trio.sleep(10)
        assert one.rooms.cells == {}
    assert "took more than" in errors.pop().getMessage()
