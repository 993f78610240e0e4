"""What happens to a cluster's servers and slots does not happen to what is published."""

import math
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import pytest
import redis
import trio

from tests.backplane.redis.cluster import QUICK
from tests.backplane.redis.waiting import until
from tests.parts import valkey
from tests.parts.valkey import Cluster, Valkey
from trio_rt import User
from trio_rt.backplane.base import Gap, SavedSession
from trio_rt.backplane.redis import RedisBackplane
from trio_rt.backplane.redis.slots import TAGS, partition_of, slot_of
from trio_rt.codec.envelope import Envelope
from trio_rt.codec.position import Position
from trio_rt.codec.socketio import Encoded
from trio_rt.config import Config
from trio_rt.errors import BackplaneDown
from trio_rt.machine.membership import Membership

SETTINGS = attrs.evolve(QUICK, wait_timeout=8.0)

ROOM = "room"


def slot_for(namespace: str) -> int:
    """The slot of everything that belongs to a namespace."""
    return slot_of(f"{{{TAGS[partition_of(namespace)]}}}")


def spread(count: int) -> list[str]:
    """Namespaces of which each third of the slots has as many."""
    found: dict[int, list[str]] = defaultdict(list)
    number = 0
    while any(len(found[third]) < count for third in range(3)):
        name = f"/n{number}"
        third = slot_for(name) * 3 // 16_384
        if len(found[third]) < count:
            found[third].append(name)
        number += 1
    return [name for names in found.values() for name in names]


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A cluster whose servers the test may kill."""
    with valkey.running_cluster(800) as cluster:
        yield cluster


@attrs.define
class Heard:
    """What a node has got in one room, in pieces: between two of them it was told of a gap."""

    pieces: list[list[str]] = attrs.field(factory=lambda: [[]])
    places: list[Position] = attrs.field(factory=list[Position])

    @property
    def texts(self) -> list[str]:
        """All of it."""
        return [text for piece in self.pieces for text in piece]

    @property
    def newest(self) -> int:
        """The number of the last one."""
        return int(self.texts[-1]) if self.places else -1

    def check(self, accepted: list[str]) -> None:
        """Nothing came twice, or in another order, and what is missing is missing in a gap."""
        numbers = [int(text) for text in self.texts]
        assert numbers == sorted(set(numbers))
        missing = [int(text) for text in accepted if int(text) not in set(numbers)]
        before = 0
        for piece in self.pieces[:-1]:
            before += len(piece)
            last, first = [-1, *numbers[:before]][-1], [*numbers[before:], math.inf][0]
            missing = [number for number in missing if not last < number < first]
        assert missing == []


class Node:
    """A node without an app: it publishes, and takes all that arrives."""

    def __init__(self, plane: RedisBackplane) -> None:
        self.plane = plane
        self.heard: dict[tuple[str, str], Heard] = defaultdict(Heard)

    async def listen(self) -> None:
        """Takes what arrives, until it is cancelled."""
        while True:
            self.take()
            await self.plane.wait()

    def take(self) -> None:
        """Takes what has arrived. In each room places only grow."""
        for arrival in self.plane.receive_nowait():
            if isinstance(arrival, Gap):
                self.heard[arrival.namespace, arrival.room].pieces.append([])
            elif isinstance(arrival, Envelope) and arrival.position is not None:
                heard = self.heard[arrival.namespace, arrival.rooms[0]]
                assert not heard.places or heard.places[-1] < arrival.position
                heard.places.append(arrival.position)
                heard.pieces[-1].append(arrival.packet.text.decode())

    def has_heard(self, numbers: Mapping[str, int]) -> bool:
        """Whether an event that is not before a number was the newest, in each namespace."""
        return all(
            self.heard[namespace, ROOM].newest >= number for namespace, number in numbers.items()
        )

    async def publish(self, namespace: str, text: str, room: str = ROOM) -> Position:
        """Publishes to a room of a namespace."""
        event = Envelope(namespace, (room,), (), Encoded(text.encode()))
        position = await self.plane.publish(event)
        self.take()
        return position


@asynccontextmanager
async def listening(url: str, *namespaces: str) -> AsyncGenerator[tuple[Node, Node]]:
    """Two nodes in the room of each namespace."""
    planes = [RedisBackplane.from_url(url, settings=SETTINGS) for _ in range(2)]
    both = (Node(planes[0]), Node(planes[1]))
    async with trio.open_nursery() as nursery:
        for node in both:
            node.plane.open(Config())
            nursery.start_soon(node.plane.run)
        for node in both:
            await until(lambda node=node: node.plane.is_ready)  # type: ignore[misc]
            for namespace in namespaces:
                node.plane.begin_namespace(namespace)
                await node.plane.subscribe(namespace, ROOM)
            nursery.start_soon(node.listen)
        yield both
        nursery.cancel_scope.cancel()


class Load:
    """Somebody who publishes one event after the other in each namespace, and counts them."""

    def __init__(self, node: Node, namespaces: list[str]) -> None:
        self._node = node
        self._is_over = False
        self._ended = trio.Event()
        self.accepted: dict[str, list[str]] = {name: [] for name in namespaces}

    async def run(self) -> None:
        """Publishes in all namespaces at once, until `stop`."""
        async with trio.open_nursery() as nursery:
            for namespace in self.accepted:
                nursery.start_soon(self._publish, namespace)
        self._ended.set()

    async def finish(self, *nodes: Node) -> None:
        """Waits until all hear what is published now, and publishes no more; they hear the last.

        Before that, the last one could be in a gap, of which nobody hears any more.
        """
        await until(lambda: all(node.plane.is_ready for node in nodes), within=20.0)
        last = {name: int(accepted[-1]) for name, accepted in self.accepted.items()}
        await until(lambda: all(node.has_heard(last) for node in nodes), within=20.0)
        self._is_over = True
        await self._ended.wait()
        last = {name: int(accepted[-1]) for name, accepted in self.accepted.items()}
        await until(lambda: all(node.has_heard(last) for node in nodes), within=20.0)

    async def advance(self, count: int, within: float) -> None:
        """Waits until so many more were accepted in each namespace.

        Raises:
            trio.TooSlowError: if they are not within so many seconds.
        """
        wanted = {name: len(accepted) + count for name, accepted in self.accepted.items()}
        await until(
            lambda: all(len(self.accepted[name]) >= total for name, total in wanted.items()), within
        )

    async def _publish(self, namespace: str) -> None:
        number = 0
        while not self._is_over:
            try:
                await self._node.publish(namespace, f"{number}")
                self.accepted[namespace].append(f"{number}")
            except BackplaneDown:
                pass  # the next one has another number
            number += 1
            await trio.sleep(0.001)


async def test_primary_is_killed(own_cluster: Cluster) -> None:
    """When a primary dies its replica goes on: all that was accepted arrives once and in order, or
    who has missed some is told so; the other primaries do not notice."""
    namespaces = spread(2)
    slots = {namespace: slot_for(namespace) for namespace in namespaces}
    owners = {namespace: own_cluster.owner(slot) for namespace, slot in slots.items()}
    victim = owners[namespaces[0]]
    async with listening(own_cluster.url, *namespaces) as both, trio.open_nursery() as nursery:
        load = Load(both[0], namespaces)
        nursery.start_soon(load.run)
        await load.advance(50, within=20.0)
        victim.kill()
        await load.advance(50, within=30.0)
        await load.finish(*both)
        former = ("127.0.0.1", victim.port)
        links: list[Any] = [node.plane._link for node in both]
        await until(lambda: not any(former in link._primaries for link in links))
        # On a machine that stands still for a moment another one may be taken for dead as well.
        spared = [name for name in namespaces if own_cluster.owner(slots[name]) is owners[name]]
        for node in both:
            for namespace, accepted in load.accepted.items():
                heard = node.heard[namespace, ROOM]
                heard.check(accepted)
                assert namespace not in spared or len(heard.pieces) == 1


async def test_what_replication_loses_is_told(own_cluster: Cluster) -> None:
    """Accepted events that a replica had not got when its primary died are lost, and all in the
    partition are told so: who is connected, and who comes back. Others go on."""
    (namespace, safe, *_) = spread(1)
    primary = own_cluster.owner(slot_for(namespace))
    replica = own_cluster.replica_of(primary)
    async with listening(own_cluster.url, namespace, safe) as both:
        node, other = both
        lost = SavedSession("x" * 40, namespace, User("me"), Membership("x" * 20))
        kept = SavedSession("y" * 40, safe, User("me"), Membership("y" * 20))
        for session in (lost, kept):
            await node.plane.open_session(session)
            since = await node.plane.subscribe(session.namespace, ROOM)
            session.membership.join(ROOM, since)
            node.plane.lose_session(session)
        since_lost = await node.publish(namespace, "1")
        since_kept = await node.publish(safe, "1")
        await until(lambda: own_cluster.is_in_step(primary))
        replica.pause()
        primary.plain.execute_command("CLIENT KILL", "TYPE", "replica")
        for number in range(2, 6):
            await node.publish(namespace, f"{number}")
        await until(lambda: len(other.heard[namespace, ROOM].texts) == 5)
        primary.kill()
        replica.resume()
        for one in both:
            await until(lambda one=one: len(one.heard[namespace, ROOM].pieces) == 2, within=30.0)  # type: ignore[misc]
        await node.publish(namespace, "6")
        await node.publish(safe, "2")
        for one in both:
            await until(lambda one=one: one.heard[namespace, ROOM].pieces[-1] == ["6"])  # type: ignore[misc]
            assert one.heard[namespace, ROOM].pieces == [["1", "2", "3", "4", "5"], ["6"]]
        assert node.heard[safe, ROOM].pieces == [["1", "2"]]
        assert await come_back(other, lost, since_lost) is None
        assert await come_back(other, kept, since_kept) == ["2"]


async def come_back(node: Node, session: SavedSession, since: Position) -> list[str] | None:
    """What a lost session gets on a node."""
    found = await node.plane.find_session(session.namespace, session.pid)
    assert found is not None
    assert await node.plane.take_session(found)
    missed = await node.plane.recover(found, since)
    return None if missed is None else [event.packet.text.decode() for event in missed]


async def test_replica_takes_over_by_order(own_cluster: Cluster) -> None:
    """When a primary hands over to its replica, and that one back, its members are told, because
    nobody can know that it lost nothing; in the other partitions nothing is to be seen."""
    namespaces = spread(1)
    primary = own_cluster.owner(slot_for(namespaces[0]))
    replica = own_cluster.replica_of(primary)
    async with listening(own_cluster.url, *namespaces) as both, trio.open_nursery() as nursery:
        load = Load(both[0], namespaces)
        nursery.start_soon(load.run)
        for server, other in ((replica, primary), (primary, replica)):
            await load.advance(30, within=20.0)
            await until(lambda server=server, other=other: has_handed_over(server, other), 20.0)  # type: ignore[misc]
            await load.advance(30, within=20.0)
        await load.finish(*both)
        for node in both:
            for namespace, accepted in load.accepted.items():
                heard = node.heard[namespace, ROOM]
                heard.check(accepted)
                if namespace == namespaces[0]:
                    assert len(heard.pieces) > 1
                else:
                    assert heard.pieces == [accepted]


def has_handed_over(replica: Valkey, primary: Valkey) -> bool:
    """Whether a replica is the primary by now. One that is not in step yet is told so again."""
    role = replica.plain.execute_command("ROLE")
    if role[0] == b"master":
        return bool(primary.plain.execute_command("ROLE")[0] == b"slave")
    if role[3] == b"connected":
        with suppress(redis.ResponseError):  # it has just become one
            replica.plain.execute_command("CLUSTER FAILOVER")
    return False


async def test_slot_is_moving(own_cluster: Cluster) -> None:
    """What is new in a slot that is just moving is written where it moves to, and asked for there
    once it has moved; and what is moving is not in the way of new links for the other slots of its
    server."""
    slot = slot_of("{moving}")
    source = own_cluster.owner(slot)
    moved, other, *_ = [
        f"{{{tag}}}" for tag in TAGS if own_cluster.owner(slot_of(f"{{{tag}}}")) is source
    ]
    target = next(server for server in own_cluster.primaries() if server is not source)
    async with listening(own_cluster.url) as (node, _):
        own_cluster.begin_move(slot, target)
        with trio.fail_after(2.0):
            assert await node.plane.redis.set("{moving}a", "1")
            assert await node.plane.redis.get("{moving}a") == b"1"
        own_cluster.begin_move(slot_of(moved), target)
        clock = f"rt:{moved}:c"
        source.plain.execute_command("MIGRATE", "127.0.0.1", target.port, clock, 0, 5000)
        node.plane._link.reset("the test says so")
        await node.plane.redis.set(f"{other}a", "1")
        target.plain.execute_command("CLUSTER SETSLOT", slot, "NODE", own_cluster.id_of(target))
        assert target.plain.get("{moving}a") == b"1"
        source.plain.execute_command("CLUSTER SETSLOT", slot, "NODE", own_cluster.id_of(target))
        source.plain.config_resetstat()
        assert await node.plane.redis.get("{moving}a") == b"1"
        errors: Any = source.client.info("errorstats")
        assert errors.get("errorstat_MOVED", {"count": 0})["count"] <= 1


@pytest.mark.parametrize("way", ["one key after the other", "at once"])
async def test_slot_moves(own_cluster: Cluster, way: str) -> None:
    """A slot that moves while events flow takes all of them along, once and in order, untold."""
    namespaces = spread(1)
    (namespace, *_) = namespaces
    slot = slot_for(namespace)
    async with listening(own_cluster.url, *namespaces) as both, trio.open_nursery() as nursery:
        load = Load(both[0], namespaces)
        nursery.start_soon(load.run)
        first = own_cluster.owner(slot)
        others = [server for server in own_cluster.primaries() if server is not first]
        for target in (*others, first):
            await load.advance(30, within=20.0)
            if way == "at once":
                await trio.to_thread.run_sync(own_cluster.migrate, slot, target)
            else:
                await trio.to_thread.run_sync(own_cluster.move_slot, slot, target)
            assert own_cluster.owner(slot) is target
            # A probe would find that a node does not hear, too, but not in this time.
            await until(lambda target=target: is_heard_at(namespace, target), within=4.0)  # type: ignore[misc]
            # It gets to know each server that it comes to, also one where it has been before.
            await until(lambda target=target: server_of(namespace, target) == run_id(target))  # type: ignore[misc]
            await load.advance(30, within=20.0)
        await load.finish(*both)
        for node in both:
            for name, accepted in load.accepted.items():
                assert node.heard[name, ROOM].pieces == [accepted]


def is_heard_at(namespace: str, server: Valkey) -> bool:
    """Whether both nodes listen to the room of a namespace at a server."""
    channel = f"rt:{{{TAGS[partition_of(namespace)]}}}:r:{namespace}:{ROOM}"
    return bool(server.plain.execute_command("PUBSUB SHARDNUMSUB", channel)[1] == 2)


def server_of(namespace: str, server: Valkey) -> object:
    """On which server the keys of a namespace take themselves to be."""
    return server.plain.hget(f"rt:{{{TAGS[partition_of(namespace)]}}}:c", "server")


def run_id(server: Valkey) -> bytes:
    info: Any = server.client.info("server")
    return str(info["run_id"]).encode()


async def cut_in_three(cluster: Cluster, namespace: str) -> Valkey:
    """A cluster loses the shard of a namespace, and is down; returns who has to come back."""
    primary = cluster.owner(slot_for(namespace))
    cluster.replica_of(primary).kill()
    primary.kill()
    for server in cluster.primaries():
        await until(lambda server=server: is_down(server), within=20.0)  # type: ignore[misc]
    return primary


def is_down(server: Valkey) -> bool:
    """Whether a server does nothing because some slots are nobody's."""
    return "cluster_state:fail" in valkey.text(server.plain.execute_command("CLUSTER INFO"))


async def test_connected_while_the_cluster_is_down(own_cluster: Cluster) -> None:
    """A server to which links are made while its cluster takes no commands is told apart from the
    one before as soon as it takes some."""
    lost, safe, *_ = spread(1)
    server, partition = own_cluster.owner(slot_for(safe)), f"{{{TAGS[partition_of(safe)]}}}"
    async with listening(own_cluster.url, lost, safe) as (node, _):
        await node.publish(safe, "1")
        server.client.hset(f"rt:{partition}:c", "server", "another")
        primary = await cut_in_three(own_cluster, lost)
        server.client.client_kill_filter(_type="normal", skipme=True)
        await until(lambda: not node.plane._partition(safe).link.is_up)
        await trio.sleep(1.0)  # in which a link that should not be there would come
        primary.start()
        await until(lambda: len(node.heard[safe, ROOM].pieces) == 2, within=20.0)
        assert node.heard[safe, ROOM].texts == ["1"]
