"""Three nodes: who is there is seen on all of them, in time, and told once."""

import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from statistics import median
from typing import Any

import pytest
import trio

from tests.backplane.redis.waiting import until
from tests.cluster.crowd import Node, open_nodes
from tests.cluster.visitor import Visitor
from tests.parts import valkey

ROOM = "shown"
ROUNDS = 5

SOON = 1.0
"""Seconds within which everybody sees who comes, leaves or is cut, as a rule."""

GONE_WITHIN = 15.0
"""Seconds within which the members of a node that was killed are gone."""

PATIENCE = 30.0
"""Seconds for what takes a moment, on a machine that has other things to do."""


class Guest(Visitor):
    """Shows itself in the room, and keeps what it is told of the others."""

    def __init__(self, name: str, nodes: list[Node]) -> None:
        super().__init__(name, self._ports_of, random.Random(name))
        self.nodes = nodes
        self.users: dict[str, set[str]] = {}
        """Refs, by user."""
        self.tabs: dict[str, int] = {}
        """The most that a user had at once."""
        self.goodbyes: list[str] = []
        """Users, as they left."""
        self.answers: dict[int, Any] = {}
        self._number = 0

    def _ports_of(self) -> list[int]:
        return [node.port for node in self.nodes if node.is_open]

    async def settle(self) -> None:
        """Shows itself; who is back does so by itself."""
        if not self.came_back:
            await self.send(f'420["show","{ROOM}","{self.name}.show"]')

    def take_presence(self, name: str, room: str, shown: dict[str, Any]) -> None:
        """See `Visitor`."""
        assert room == ROOM
        if name == "presence_state":
            self.users = {user: refs(entry) for user, entry in shown.items()}
        else:
            before = set(self.users)
            for user, entry in shown["joins"].items():
                self.users.setdefault(user, set()).update(refs(entry))
            for user, entry in shown["leaves"].items():
                self.users.setdefault(user, set()).difference_update(refs(entry))
            self.users = {user: found for user, found in self.users.items() if found}
            self.goodbyes += sorted(before - set(self.users))
        for user, found in self.users.items():
            self.tabs[user] = max(self.tabs.get(user, 0), len(found))

    def take_ack(self, id: int, answer: Any) -> None:
        """See `Visitor`."""
        self.answers[id] = answer

    async def ask(self, event: str) -> Any:
        """Has something done in the room."""
        self._number += 1
        await self.send(f'42{self._number}["{event}","{ROOM}","{self.name}.{self._number}"]')
        await until(lambda: self._number in self.answers, within=PATIENCE)
        return self.answers[self._number]

    def go(self) -> None:
        """Its connection breaks, and it does not come back."""
        self.has_ended = True
        self.cut()


def refs(entry: dict[str, Any]) -> set[str]:
    return {meta["ref"] for meta in entry["metas"]}


class Party:
    """A guest on each node that stays, and others."""

    def __init__(self, nodes: list[Node], nursery: trio.Nursery) -> None:
        self.nodes = nodes
        self.hosts = [Guest(f"host{number}", [node]) for number, node in enumerate(nodes)]
        self._nursery = nursery

    async def open(self) -> None:
        """The first guests come."""
        for host in self.hosts:
            self._nursery.start_soon(host.run)
        await self.all_see({host.name for host in self.hosts})

    def come(self, name: str, *nodes: Node) -> Guest:
        """One more, on one of these nodes."""
        guest = Guest(name, list(nodes))
        self._nursery.start_soon(guest.run)
        return guest

    async def all_see(self, users: set[str], within: float = PATIENCE) -> float:
        """Waits until the guests that stay see these users. How long that took."""
        begun = trio.current_time()
        hosts = [host for host in self.hosts if host.nodes[0].is_open]
        try:
            await until(lambda: all(host.users.keys() == users for host in hosts), within)
        except trio.TooSlowError as error:
            raise AssertionError(f"{[set(host.users) for host in hosts]}, not {users}") from error
        return trio.current_time() - begun


@pytest.fixture
def own_server() -> Iterator[valkey.Valkey]:
    with valkey.running() as server:
        yield server


@asynccontextmanager
async def open_party(server: valkey.Valkey) -> AsyncGenerator[Party]:
    async with open_nodes([server.url] * 3) as nodes, trio.open_nursery() as nursery:
        party = Party(nodes, nursery)
        await party.open()
        yield party
        nursery.cancel_scope.cancel()


async def test_seen_everywhere(own_server: valkey.Valkey) -> None:
    """Who comes, leaves or is cut is seen on all nodes within a second, and told once."""
    async with open_party(own_server) as party:
        hosts = {host.name for host in party.hosts}
        times: dict[str, list[float]] = {"join": [], "leave": [], "cut": []}
        for number in range(ROUNDS):
            node = party.nodes[number % 3]
            one = party.come(f"one{number}", node)
            times["join"].append(await party.all_see({*hosts, one.name}))
            other = party.come(f"other{number}", node)
            times["join"].append(await party.all_see({*hosts, one.name, other.name}))
            await one.ask("leave")
            times["leave"].append(await party.all_see({*hosts, other.name}))
            other.go()
            times["cut"].append(await party.all_see(hosts))
            one.go()
        print({kind: f"median {median(found):.2f} s" for kind, found in times.items()})
        assert all(median(found) < SOON for found in times.values()), times
        for host in party.hosts:
            gone = [f"{name}{number}" for number in range(ROUNDS) for name in ("one", "other")]
            assert host.goodbyes == gone
            assert set(host.tabs.values()) == {1}


async def test_node_is_killed(own_server: valkey.Valkey) -> None:
    """Whoever was on a node that is killed is gone in time, once, unless it comes back elsewhere;
    and nobody waits for that node."""
    async with open_party(own_server) as party:
        hosts = {host.name for host in party.hosts}
        guests = [party.come(f"lost{number}", party.nodes[2]) for number in range(3)]
        lost = {guest.name for guest in guests}
        back = party.come("back", party.nodes[2])
        await party.all_see({*hosts, *lost, "back"})
        back.nodes[:] = party.nodes
        party.nodes[2].kill()
        for guest in (*guests, party.hosts[2]):
            guest.go()
        killed_at = trio.current_time()
        ((there, missing),) = await party.hosts[0].ask("count")
        assert (there in {2, 3}, missing) == (True, 1)  # the one that comes back may be there
        assert trio.current_time() - killed_at < SOON * 2  # a query may take five
        await until(lambda: back.came_back, within=PATIENCE)
        stay = {"host0", "host1", "back"}
        left = killed_at + GONE_WITHIN - trio.current_time()
        await party.all_see(stay, within=left)
        for host in party.hosts[:2]:
            assert sorted(host.goodbyes) == ["host2", *sorted(lost)]
            assert set(host.tabs.values()) == {1}
        assert await party.hosts[1].ask("count") == [[3, 0]]
        newcomer = party.come("newcomer", *party.nodes[:2])
        await until(lambda: newcomer.users.keys() == {*stay, "newcomer"}, within=PATIENCE)
