"""The backplane of a cluster: all nodes share one Redis, or Valkey.

    run
    ├── links        commands, and the subscriptions of each partition    (shielded, end last)
    └── workers      heartbeat, claims ...; feed, sessions, probe ... of each partition
                                                                   (supervised, each by itself)

A `Partition` is one order of events. There is one, or in a Redis Cluster up to 64, made when the
first of their namespaces is used.

Events with a place are delivered only as they come back from Redis, on every node in the same
order, the publisher's included. `publish` returns when Redis has the event, and it has come back
here if it is for somebody here.

While Redis is away, what is local goes on; `publish` waits for `RedisSettings.wait_timeout` and
raises `BackplaneDown`; volatile events reach this node only. Two seconds after Redis is back all is
as it was, or whoever missed something is told.

It is one long file because it is the whole contract: many short methods that hand on to its parts.
"""

import secrets
import ssl
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha1
from typing import Any

import attrs
import trio
from redis.exceptions import RedisError

from trio_rt.backplane.base import (
    Answers,
    Arrival,
    Backplane,
    Envelope,
    Fenced,
    Held,
    Lease,
    NodeDown,
    Position,
    Question,
    Rejoined,
    SavedSession,
    Settled,
)
from trio_rt.backplane.redis.asking import Asking
from trio_rt.backplane.redis.claims import Claims
from trio_rt.backplane.redis.commands import RedisCommands
from trio_rt.backplane.redis.dial import Dial
from trio_rt.backplane.redis.frames import Answered, Asked, decode, encode, encode_envelope
from trio_rt.backplane.redis.keys import LogName
from trio_rt.backplane.redis.leases import RedisLeases
from trio_rt.backplane.redis.names import SCHEMA, NodeKeys
from trio_rt.backplane.redis.partition import Partition
from trio_rt.backplane.redis.registry import Beat, Registry
from trio_rt.backplane.redis.settings import RedisSettings
from trio_rt.backplane.redis.slots import HOME
from trio_rt.backplane.redis.topology import ClusterServers
from trio_rt.backplane.redis.urls import read_servers
from trio_rt.backplane.redis.wiring import wire
from trio_rt.codec import questions
from trio_rt.codec.position import Orders, Reached
from trio_rt.config import Config
from trio_rt.errors import BackplaneDown, BackplaneError, BackplaneRefused
from trio_rt.log import log
from trio_rt.schedule.bell import Bell
from trio_rt.supervisor import Child, Ended, Outcome, Supervisor

LEASE = 11.0
"""Seconds after its last heartbeat until a node is dead for the others. With `BEAT_INTERVAL` it
bounds the time in which everybody knows: 13 s. A Redis that stands still for 5 s kills nobody."""

BEAT_INTERVAL = 2.0
"""Seconds between two heartbeats."""

PAUSE = 0.2
"""Seconds after a heartbeat that failed."""

LEAVE_TIMEOUT = 2.0
"""Seconds to write what is unwritten and to say goodbye, at the end."""

PUT_DOWN_TIMEOUT = 2.0
"""Seconds that another node gets to put a connection down."""


@attrs.define(eq=False)
class _Claimed:
    """An event that runs once, in the task that runs it."""

    key: str
    is_running: bool = True
    counts: dict[str, int] = attrs.field(factory=dict[str, int])

    def name(self, frame: bytes) -> str:
        """A key for what it publishes: the same in another run of it, on another node."""
        digest = sha1(self.key.encode() + b"\0" + frame, usedforsecurity=False).hexdigest()
        count = self.counts[digest] = self.counts.get(digest, 0) + 1
        return f"{digest}{count}"


_claimed: ContextVar[_Claimed | None] = ContextVar("claimed", default=None)


class RedisBackplane(Backplane):
    """Joins the nodes that use the same Redis, database and prefix.

    Make one with `from_url`.

    Args:
        servers: where connections come from: those of one server, or a cluster.
        prefix: what all keys and channels begin with.
    """

    def __init__(self, servers: Dial | ClusterServers, *, prefix: str = "rt") -> None:
        self._servers = servers
        self._prefix = prefix
        self.open(Config())

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = "rt",
        settings: RedisSettings | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> "RedisBackplane":
        """A backplane on the Redis or Valkey at a URL.

        Args:
            url: `redis://[user:password@]host[:port][/db]`, `rediss://...`, `unix:///path`,
                `redis+sentinel://host1:port,host2:port,host3:port/service`, or
                `redis+cluster://host1:port,host2:port,host3:port`; see `urls.py`.
            prefix: what all keys and channels begin with, so that programs can share a Redis.
            settings: limits and intervals of the links.
            tls: used by rediss:// instead of the system's authorities.

        Raises:
            MisuseError: if it is no such URL.
        """
        return cls(read_servers(url, settings=settings, tls=tls), prefix=prefix)

    def open(self, config: Config) -> None:
        """See `Backplane`. Begins under another name, with nothing: its sessions are lost ones."""
        node = secrets.token_urlsafe(9)
        self._config = config
        self._wiring = wiring = wire(self._servers, node, self._prefix, self._look_anew)
        self._link = wiring.link
        self._keys = NodeKeys(self._prefix, HOME, wiring.is_sharded)
        self._namespaces: set[str] = set()
        self._bell = Bell()
        self._partitions: dict[int, Partition] = {}
        self._new_partitions: tuple[Bell, Bell] = (Bell(), Bell())  # for links, for workers
        self._unsent = 0  # what was dropped, as far as the others were told
        self._name_parts(node)
        self._nodes = frozenset({node})
        self._home = self._partition_at(wiring.tags.index(HOME))
        self._asking = Asking(self._home.link, self._keys)
        self._claims = Claims(self._link, self._keys, config)
        self._contexts: dict[str, _Claimed] = {}
        self.redis = RedisCommands(self._link)
        """Commands of yours, over the link that this node has anyway. Another one in each life."""

    def _name_parts(self, node: str) -> None:
        """What knows this node's name."""
        self._node = node
        home = self._wiring.link_at(HOME)
        self._registry = Registry(home, node, self._keys, LEASE)
        self._leases = RedisLeases(home, node, self._keys)

    def _partition(self, namespace: str) -> Partition:
        """The partition that a namespace belongs to."""
        number = self._wiring.choose(namespace)
        return self._partitions.get(number) or self._partition_at(number)

    def _partition_at(self, number: int) -> Partition:
        """A partition that there was not: its tasks begin as soon as those who run them look."""
        partition = self._partitions[number] = Partition(
            self._wiring,
            attrs.evolve(self._keys, tag=self._wiring.tags[number]),
            self._config,
            node=self._node,
            namespaces=self._namespaces,
            bell=self._bell,
            put_down=self._put_down,
            take=self._take_message,
        )
        partition.keeper.alive = self._nodes
        for bell in self._new_partitions:
            bell.ring()
        return partition

    @property
    def is_ready(self) -> bool:
        """Whether events reach this node and leave it: proven by an echo where all is quiet."""
        return self._home.is_ready and not any(
            partition.has_failed for partition in self._partitions.values()
        )

    # Its life

    def begin_namespace(self, namespace: str) -> None:
        """See `Backplane`."""
        self._namespaces.add(namespace)
        self._partition(namespace)

    def end_namespace(self, namespace: str) -> None:
        """See `Backplane`. Nothing is kept of it but what Redis has."""
        self._namespaces.discard(namespace)
        self._partition(namespace).feed.end_namespace(namespace)

    async def run(self) -> None:
        """See `Backplane`.

        Raises:
            BackplaneRefused: if Redis does not let us in, or is not what is needed.
        """
        async with trio.open_nursery() as nursery:
            links = trio.CancelScope(shield=True)  # the last words of this node have to leave
            nursery.start_soon(self._run_links, links)
            try:
                await self._check_server()
                await self._work()
            finally:
                with trio.move_on_after(LEAVE_TIMEOUT, shield=True):
                    await self._leave()
                links.cancel()

    async def _run_links(self, scope: trio.CancelScope) -> None:
        bell, begun = self._new_partitions[0], set[int]()
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._wiring.run)
                while True:
                    for number, partition in self._partitions.items():
                        if number not in begun:
                            begun.add(number)
                            nursery.start_soon(partition.subscriptions.run)
                    await bell.wait()

    def _look_anew(self, tag: str) -> None:
        """A partition is on another server: what arrives has to come from there, too."""
        partition = self._partitions.get(self._wiring.tags.index(tag))
        if partition is not None:
            partition.subscriptions.reset("its keys are on another server, or one started anew")

    async def _check_server(self) -> None:
        """Looks whether this Redis is right for us, as soon as it is there."""
        version = self._keys.version()
        while True:
            try:
                await self._link.call("SET", version, SCHEMA, "NX", may_repeat=True)
                found = await self._link.call("GET", version, may_repeat=True)
                memory = await self._look_at_memory()
                break
            except BackplaneDown as down:
                log.warning("no backplane yet: %s", down)
                await trio.sleep(PAUSE)
            except RedisError as error:
                raise BackplaneRefused(f"Redis does not do what is needed: {error}") from error
        if found != SCHEMA.encode():
            raise BackplaneRefused(
                f"the keys in this Redis are of schema {found!r}, and ours of {SCHEMA}: "
                f"use another prefix than {self._keys.prefix!r}"
            )
        if memory not in ("", "noeviction"):
            log.warning(
                "Redis's maxmemory-policy is %s: it may drop sessions and history while clients "
                "still need them. Set it to noeviction",
                memory,
            )

    async def _look_at_memory(self) -> str:
        """The maxmemory-policy of a server that drops keys; else of any; empty if we may not
        know."""
        try:
            infos: list[Any] = await self._link.everywhere("INFO", "memory")
        except (BackplaneDown, RedisError):  # it matters less than that the node serves
            return ""
        policies = sorted({_read_policy(info) for info in infos}, key="noeviction".__eq__)
        return policies[0]

    async def _work(self) -> None:
        """Everything but the links, each part restarted by itself if it fails."""
        await self._register()
        keys, home = self._keys, self._home
        await home.subscriptions.subscribe(
            keys.wide().encode(), keys.everyone().encode(), home.feed.channel
        )
        home.outgoing.give(keys.publish, keys.everyone(), b"h" + self._node.encode())
        supervisor = Supervisor(on_end=_climb)
        bell, begun = self._new_partitions[1], set[int]()
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            await trio.lowlevel.checkpoint_if_cancelled()  # it takes no children any more then
            for name, part in (
                ("heartbeat", self._beat),
                ("results", self._claims.write),
                ("claims", self._claims.keep),
            ):
                supervisor.start_soon(Child(f"backplane's {name}", part, delay=PAUSE))
            while True:
                for number, partition in self._partitions.items():
                    if number not in begun:
                        begun.add(number)
                        for child in partition.parts():
                            supervisor.start_soon(child)
                await bell.wait()

    async def _leave(self) -> None:
        """Writes what is unwritten, and says goodbye."""
        try:
            async with trio.open_nursery() as nursery:
                for partition in self._partitions.values():
                    if partition.link.is_up:
                        nursery.start_soon(partition.write_last)
            if not self._home.link.is_up:
                return
            await self._claims.flush()
            await self._registry.leave()
            await self._home.link.call(
                self._keys.publish,
                self._keys.everyone(),
                b"d" + self._node.encode(),
                may_repeat=True,
            )
        except (BackplaneDown, RedisError) as error:
            log.warning("this node goes without a word: %s", error)

    # Events

    def position(self, namespace: str) -> Position:
        """See `Backplane`."""
        return self._partition(namespace).feed.position

    @property
    def reached(self) -> Reached:
        """See `Backplane`."""
        if not self._wiring.is_sharded:
            return self._home.feed.position
        positions = {number: one.feed.position for number, one in self._partitions.items()}
        return Orders(positions, self._wiring.choose)

    async def publish(self, envelope: Envelope) -> Position:
        """See `Backplane`.

        Raises:
            BackplaneDown: if Redis does not have it in time. What may be there all the same has
                `outcome_unknown`.
            BackplaneError: if Redis refuses it.
        """
        rooms = envelope.rooms
        room = LogName(envelope.namespace, rooms[0] if len(rooms) == 1 else "")
        frame = encode_envelope(envelope)
        claimed = _claimed.get()
        key = claimed.name(frame) if claimed is not None and claimed.is_running else ""
        try:
            return await self._partition(envelope.namespace).publish(room, frame, key)
        except RedisError as error:
            raise BackplaneError(f"Redis refuses an event: {error}") from error

    def publish_nowait(self, envelope: Envelope) -> None:
        """See `Backplane`. It reaches this node at once, and the others if Redis is there."""
        self._partition(envelope.namespace).publish_nowait(envelope)

    async def subscribe(self, namespace: str, room: str) -> Position:
        """See `Backplane`.

        Raises:
            BackplaneDown: if Redis cannot be told in time.
        """
        with self._in_time(f"room {room!r} not subscribed"), _no_refusal():
            return await self._partition(namespace).rooms.subscribe(LogName(namespace, room))

    def unsubscribe(self, namespace: str, room: str) -> None:
        """See `Backplane`. It is listened to for a few seconds more."""
        self._partition(namespace).rooms.unsubscribe(LogName(namespace, room))

    def receive_nowait(self) -> list[Arrival]:
        """See `Backplane`."""
        if len(self._partitions) == 1:
            return self._home.feed.receive_nowait()
        arrived: list[Arrival] = []
        for partition in self._partitions.values():
            if partition.feed.has_arrived:
                arrived += partition.feed.receive_nowait()
        return arrived

    async def wait(self) -> None:
        """See `Backplane`."""
        await self._bell.wait()

    # Sessions

    async def open_session(self, session: SavedSession) -> None:
        """See `Backplane`. While Redis is away it is kept here, and written later."""
        await self._partition(session.namespace).keeper.open(session)

    def change_session(self, session: SavedSession) -> None:
        """See `Backplane`. Written at once, without waiting for it."""
        self._partition(session.namespace).keeper.change(session)

    def lose_session(self, session: SavedSession) -> None:
        """See `Backplane`. The logs of its rooms are in Redis, whoever listens to them."""
        self._partition(session.namespace).keeper.lose(session)

    async def find_session(self, namespace: str, pid: str) -> SavedSession | None:
        """See `Backplane`. One whose node is dead is lost.

        Raises:
            BackplaneDown: if Redis cannot be asked in time.
        """
        with _no_refusal():
            return await self._partition(namespace).keeper.find(namespace, pid)

    async def take_session(self, session: SavedSession) -> bool:
        """See `Backplane`. A connection that it has on another node is ended first.

        Raises:
            BackplaneDown: if Redis cannot be asked in time.
        """
        with _no_refusal():
            return await self._partition(session.namespace).keeper.take(session)

    async def recover(self, session: SavedSession, since: Position) -> list[Envelope] | None:
        """See `Backplane`.

        Raises:
            BackplaneDown: if Redis cannot be asked in time.
        """
        with self._in_time(f"session {session.membership.sid} not recovered"), _no_refusal():
            return await self._partition(session.namespace).keeper.recover(session, since)

    @contextmanager
    def _in_time(self, failure: str) -> Generator[None]:
        """Gives up what waits for events to arrive, as commands are given up."""
        seconds = self._servers.settings.wait_timeout
        with trio.move_on_after(seconds) as scope:
            yield
        if scope.cancelled_caught:
            raise BackplaneDown(f"{failure} in {seconds:g} s", outcome_unknown=False)

    def keep_session(self, session: SavedSession) -> None:
        """See `Backplane`."""
        self._partition(session.namespace).keeper.change(session)

    async def end_session(self, session: SavedSession) -> bool:
        """See `Backplane`."""
        return await self._partition(session.namespace).keeper.end(session)

    async def _put_down(self, node: str, session: SavedSession) -> bool:
        """Asks a node to end the connection of a session whose client is here."""
        sid = session.membership.sid
        body = questions.encode(questions.LetGo(session.namespace, (sid,), ()))
        answers = await self.ask(body, nodes=[node], timeout=PUT_DOWN_TIMEOUT)
        return node in answers.bodies

    # Events that run once

    async def claim(self, key: str) -> Settled | None:
        """See `Backplane`. What it publishes while it runs is published once as well, even if
        this node dies and it runs again elsewhere."""
        settled = await self._claims.claim(key)
        if settled is None:
            claimed = self._contexts[key] = _Claimed(key)
            _claimed.set(claimed)
        return settled

    def settle(self, key: str, result: Settled) -> None:
        """See `Backplane`."""
        self._contexts.pop(key).is_running = False
        self._claims.settle(key, result)

    def release(self, key: str) -> None:
        """See `Backplane`."""
        self._contexts.pop(key).is_running = False
        self._claims.release(key)

    # Nodes

    @property
    def node(self) -> str:
        """See `Nodes`."""
        return self._node

    @property
    def nodes(self) -> frozenset[str]:
        """See `Nodes`."""
        return self._nodes

    async def ask(
        self, body: bytes, *, nodes: Iterable[str] | None = None, timeout: float
    ) -> Answers:
        """See `Nodes`."""
        return await self._asking.ask(
            body, node=self._node, alive=self._nodes, nodes=nodes, timeout=timeout
        )

    def answer(self, question: Question, body: bytes) -> None:
        """See `Nodes`."""
        message = b"a" + encode(Answered(question.id, self._node, body))
        self._home.outgoing.give(self._keys.publish, self._keys.node(question.node), message)

    def tell(self, namespace: str, room: str, body: bytes) -> None:
        """See `Nodes`."""
        self._partition(namespace).tell(namespace, room, body)

    def _take_message(self, kind: bytes, data: bytes) -> None:
        """A message of another node that is about no namespace."""
        if kind == b"q":
            asked = decode(Asked, data)
            if asked.node != self._node and (not asked.nodes or self._node in asked.nodes):
                self._home.feed.put(Question(asked.id, asked.node, asked.body))
        elif kind == b"a":
            self._asking.take(decode(Answered, data))
        elif kind == b"h":
            self._set_nodes(self._nodes | {data.decode("ascii", "replace")})
        elif kind == b"d":
            self._set_nodes(self._nodes - {data.decode("ascii", "replace")} | {self._node})
        else:
            raise BackplaneError(f"a message of an unknown kind: {kind!r}")

    async def _register(self) -> None:
        """Makes this node known, however often it has to try."""
        while True:
            try:
                beat = await self._registry.beat()
            except (BackplaneDown, RedisError) as error:
                log.warning("node %s is not known yet: %s", self._node, error)
                await trio.sleep(PAUSE)
                continue
            assert beat is not None, "a name that is new is nobody's yet"
            self._take_beat(beat)
            return

    async def _beat(self) -> None:
        """Renews this node's lease, until it is cancelled."""
        while True:
            try:
                beat = await self._registry.beat()
                if beat is None:
                    await self._begin_anew()
                else:
                    self._take_beat(beat)
                    await self._write_names()
            except (BackplaneDown, RedisError) as error:
                log.warning("no heartbeat: %s", error)
                await trio.sleep(PAUSE)
            else:
                await trio.sleep(BEAT_INTERVAL)

    async def _begin_anew(self) -> None:
        """The others take this node for dead: it goes on under another name."""
        old, node = self._node, secrets.token_urlsafe(9)
        log.error("node %s was taken for dead: it is %s from here on", old, node)
        async with trio.open_nursery() as nursery:
            for partition in self._partitions.values():
                nursery.start_soon(partition.listen_as, node)
        self._name_parts(node)
        for partition in self._partitions.values():
            partition.rename(node)
        self._nodes = self._nodes - {old} | {node}
        self._home.feed.put(Fenced())
        await self._register()
        await self._write_names()
        self._home.outgoing.give(self._keys.publish, self._keys.everyone(), b"h" + node.encode())

    async def _write_names(self) -> None:
        for partition in list(self._partitions.values()):
            await partition.write_names()

    def _take_beat(self, beat: Beat) -> None:
        self._set_nodes(beat.alive | {self._node})
        dropped = sum(one.outgoing.dropped for one in self._partitions.values())
        if dropped != self._unsent:
            self._unsent = dropped
            self._home.feed.put(Rejoined())

    def _set_nodes(self, nodes: frozenset[str]) -> None:
        gone = self._nodes - nodes
        self._nodes = nodes
        for partition in self._partitions.values():
            partition.keeper.alive = nodes
        for node in gone:
            log.warning("node %s is gone", node)
            self._asking.lose(node)
            self._home.feed.put(NodeDown(node))

    # Leases

    async def acquire(self, name: str, seconds: float) -> Lease | Held:
        """See `Leases`."""
        with _no_refusal():
            return await self._leases.acquire(name, seconds)

    async def renew(self, lease: Lease, seconds: float) -> Lease | None:
        """See `Leases`."""
        with _no_refusal():
            return await self._leases.renew(lease, seconds)

    async def give_back(self, lease: Lease) -> None:
        """See `Leases`."""
        with _no_refusal():
            await self._leases.give_back(lease)

    async def save(self, lease: Lease, state: bytes | None) -> bool:
        """See `Leases`."""
        with _no_refusal():
            return await self._leases.save(lease, state)

    async def load(self, name: str) -> bytes | None:
        """See `Leases`."""
        with _no_refusal():
            return await self._leases.load(name)

    async def holders(self, prefix: str) -> dict[str, str]:
        """See `Leases`."""
        with _no_refusal():
            return await self._leases.holders(prefix)


@contextmanager
def _no_refusal() -> Generator[None]:
    """A Redis that does not do what it is asked, as one that is full, is as good as away."""
    try:
        yield
    except RedisError as error:
        raise BackplaneDown(f"Redis refuses: {error}", outcome_unknown=False) from error


def _read_policy(info: str | bytes) -> str:
    """The maxmemory-policy in an answer to INFO; empty if it is not there."""
    text = info if isinstance(info, str) else bytes(info).decode("ascii", "replace")
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "maxmemory_policy":
            return value.strip()
    return ""


async def _climb(ended: Ended) -> None:
    """A part that fails again and again ends the backplane."""
    if ended.outcome is Outcome.GIVEN_UP:
        raise BackplaneError(f"{ended.child.name} failed too often") from ended.error
