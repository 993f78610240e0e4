"""The backplane of a cluster: all nodes share one Redis, or Valkey.

    run
    ├── links        commands, subscriptions                       (shielded, end last)
    └── workers      feed, heartbeat, sessions, claims, probe ...  (supervised, each by itself)

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
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha1
from typing import Any

import attrs
import trio
from redis.exceptions import RedisError

from trio_rt.backplane.base import (
    SID_CHARS,
    Answers,
    Arrival,
    Backplane,
    Envelope,
    Fenced,
    Held,
    Lease,
    NodeDown,
    Note,
    Position,
    Question,
    SavedSession,
    Settled,
)
from trio_rt.backplane.redis.asking import Asking
from trio_rt.backplane.redis.claims import Claims
from trio_rt.backplane.redis.commands import RedisCommands
from trio_rt.backplane.redis.dial import Dial
from trio_rt.backplane.redis.dials import make_dial
from trio_rt.backplane.redis.epoch import EpochDial
from trio_rt.backplane.redis.feed import Feed
from trio_rt.backplane.redis.frames import (
    Answered,
    Asked,
    Told,
    decode,
    decode_envelope,
    encode,
    encode_envelope,
)
from trio_rt.backplane.redis.keeper import SessionKeeper
from trio_rt.backplane.redis.keys import LogName
from trio_rt.backplane.redis.leases import RedisLeases
from trio_rt.backplane.redis.log import EventLog, LogLimits
from trio_rt.backplane.redis.names import SCHEMA, NodeKeys, SocketLog
from trio_rt.backplane.redis.outgoing import Outgoing
from trio_rt.backplane.redis.probe import Probe
from trio_rt.backplane.redis.registry import Beat, Registry
from trio_rt.backplane.redis.rooms import Rooms
from trio_rt.backplane.redis.scripts import load
from trio_rt.backplane.redis.settings import RedisSettings
from trio_rt.backplane.redis.steady import SteadyLink
from trio_rt.backplane.redis.subscriptions import Subscriptions
from trio_rt.codec import questions
from trio_rt.codec.position import parse_position
from trio_rt.config import Config
from trio_rt.errors import BackplaneDown, BackplaneError, BackplaneRefused
from trio_rt.log import log
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

RETRY_WINDOW = 15.0
"""Seconds for which an event is known by its own key: longer than `publish` tries again."""

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
        dial: where connections come from.
        prefix: what all keys and channels begin with.
    """

    def __init__(self, dial: Dial, *, prefix: str = "rt") -> None:
        self._dial = dial
        self._keys = NodeKeys(prefix)
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
            url: `redis://[user:password@]host[:port][/db]`, `rediss://...`, `unix:///path`, or
                `redis+sentinel://host1:port,host2:port,host3:port/service`; see `dials.py`.
            prefix: what all keys and channels begin with, so that programs can share a Redis.
            settings: limits and intervals of the links.
            tls: used by rediss:// instead of the system's authorities.

        Raises:
            MisuseError: if it is no such URL.
        """
        return cls(make_dial(url, settings, tls=tls), prefix=prefix)

    def open(self, config: Config) -> None:
        """See `Backplane`. Begins under another name, with nothing: its sessions are lost ones."""
        keys, node = self._keys, secrets.token_urlsafe(9)
        self._config = config
        self._node = node
        probe_channel = keys.of("probe", node).encode()
        self._subscriptions = Subscriptions(
            self._dial, f"trio_rt-{node}-subscriptions", ignored=probe_channel
        )
        dial = EpochDial(self._dial, keys, self._look_anew)
        self._link = SteadyLink(dial, f"trio_rt-{node}-commands")
        limits = LogLimits(
            entries=config.history_events,
            history_timeout=config.history_timeout,
            recovered_entries=config.history_events,
            recovered_bytes=config.recovery_bytes,
            key_timeout=RETRY_WINDOW,
        )
        self._history = EventLog(self._link, keys, limits)
        self._once_history = EventLog(
            self._link, keys, attrs.evolve(limits, key_timeout=config.once_window)
        )
        everything = attrs.evolve(
            limits, recovered_entries=1_000_000, recovered_bytes=config.history_bytes
        )
        self._feed = Feed(
            self._subscriptions, self._link, EventLog(self._link, keys, everything), keys, self
        )
        self._rooms = Rooms(self._feed, self._subscriptions, self._history)
        self._asking = Asking(self._link, keys)
        self._outgoing = Outgoing(self._link)
        self._keeper = SessionKeeper(
            self._link,
            keys,
            self._feed,
            self._history,
            config=config,
            node=node,
            put_down=self._put_down,
        )
        self._claims = Claims(self._link, keys, config)
        self._contexts: dict[str, _Claimed] = {}
        self._old_channels: list[bytes] = []
        self._namespaces: set[str] = set()
        self.redis = RedisCommands(self._link)
        """Commands of yours, over the link that this node has anyway. Another one in each life."""
        self._probe = Probe(self._link, self._subscriptions, probe_channel)
        self._name_parts(node)
        self._nodes = frozenset({node})

    def _name_parts(self, node: str) -> None:
        """What knows this node's name."""
        self._node = node
        self._registry = Registry(self._link, node, self._keys, LEASE)
        self._leases = RedisLeases(self._link, node, self._keys)
        self._feed.channel = self._keys.node(node).encode()

    @property
    def is_ready(self) -> bool:
        """Whether events reach this node and leave it: proven by an echo where all is quiet."""
        return (
            self._link.is_up
            and self._subscriptions.is_up
            and self._feed.is_whole
            and not self._probe.is_deaf
        )

    # Its life

    def begin_namespace(self, namespace: str) -> None:
        """See `Backplane`."""
        self._namespaces.add(namespace)

    def end_namespace(self, namespace: str) -> None:
        """See `Backplane`. Nothing is kept of it but what Redis has."""
        self._namespaces.discard(namespace)
        self._feed.end_namespace(namespace)

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
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._link.run)
                nursery.start_soon(self._subscriptions.run)

    def _look_anew(self) -> None:
        """Commands go to another server from here on: what arrives has to come from there, too."""
        self._subscriptions.reset("commands go to another server, or one that was started anew")

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
        """The maxmemory-policy; empty if we may not know."""
        try:
            info: Any = await self._link.call("INFO", "memory", may_repeat=True)
        except RedisError:
            return ""
        text = info if isinstance(info, str) else bytes(info).decode("ascii", "replace")
        for line in text.splitlines():
            name, _, value = line.partition(":")
            if name == "maxmemory_policy":
                return value.strip()
        return ""

    async def _work(self) -> None:
        """Everything but the links, each part restarted by itself if it fails."""
        await self._register()
        keys = self._keys
        await self._subscriptions.subscribe(
            keys.wide().encode(), keys.everyone().encode(), self._feed.channel
        )
        self._outgoing.give("PUBLISH", keys.everyone(), b"h" + self._node.encode())
        supervisor = Supervisor(on_end=_climb)
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            await trio.lowlevel.checkpoint_if_cancelled()  # it takes no children any more then
            for name, part in (
                ("feed", self._feed.run),
                ("heartbeat", self._beat),
                ("rooms", self._rooms.run),
                ("sessions", self._keeper.write),
                ("prolongations", self._keeper.touch),
                ("results", self._claims.write),
                ("claims", self._claims.keep),
                ("outgoing", self._outgoing.run),
                ("probe", self._probe.run),
            ):
                supervisor.start_soon(Child(f"backplane's {name}", part, delay=PAUSE))

    async def _leave(self) -> None:
        """Writes what is unwritten, and says goodbye."""
        try:
            if not self._link.is_up:
                return
            await self._keeper.flush_all()
            await self._claims.flush()
            await self._outgoing.flush()
            await self._registry.leave()
            await self._link.call(
                "PUBLISH", self._keys.everyone(), b"d" + self._node.encode(), may_repeat=True
            )
        except (BackplaneDown, RedisError) as error:
            log.warning("this node goes without a word: %s", error)

    # Events

    @property
    def position(self) -> Position:
        """See `Backplane`."""
        return self._feed.position

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
        history, key = self._history, ""
        if claimed is not None and claimed.is_running:
            history, key = self._once_history, claimed.name(frame)
        try:
            if len(room.room) == SID_CHARS:
                position = await self._publish_to_one(room, frame, key)
            else:
                appended = await history.append(room, frame, key=key or secrets.token_urlsafe(9))
                position = appended.position
        except RedisError as error:
            raise BackplaneError(f"Redis refuses an event: {error}") from error
        is_here = not room.room or room.room in self._keeper
        await self._feed.wait_echo(None if is_here else room, position)
        return position

    async def _publish_to_one(self, room: LogName, frame: bytes, key: str) -> Position:
        """Publishes to what may be the id of a socket."""
        keys, config = self._keys, self._config
        window = config.once_window if key else RETRY_WINDOW
        place: bytes = await load("clock", "unicast").call(
            self._link,
            [
                keys.clock(),
                keys.stream(room),
                keys.meta(room),
                keys.session(room.room),
                keys.appended(key or secrets.token_urlsafe(9)),
            ],
            frame,
            config.history_events,
            round(config.history_timeout * 1000),
            86_400_000,
            keys.channel(room),
            room.namespace,
            keys.wide(),
            keys.node(""),
            round(window * 1000),
            may_repeat=True,
        )
        position = parse_position(place.decode("ascii", "replace"))
        if position is None:
            raise BackplaneError(f"no position of ours: {place!r}")
        return position

    def publish_nowait(self, envelope: Envelope) -> None:
        """See `Backplane`. It reaches this node at once, and the others if Redis is there."""
        self._feed.put(envelope)
        rooms = envelope.rooms
        if len(rooms) == 1 and rooms[0] in self._keeper:
            return
        # A socket's node is not known here: all are told, as where there are several rooms.
        is_wide = len(rooms) != 1 or len(rooms[0]) == SID_CHARS
        channel = self._keys.channel(LogName(envelope.namespace, "" if is_wide else rooms[0]))
        frame = encode_envelope(envelope)
        self._outgoing.give("PUBLISH", channel, b"v%b %b" % (self._node.encode(), frame))

    async def subscribe(self, namespace: str, room: str) -> Position:
        """See `Backplane`.

        Raises:
            BackplaneDown: if Redis cannot be told in time.
        """
        seconds = self._dial.settings.wait_timeout
        with trio.move_on_after(seconds) as scope, _no_refusal():
            return await self._rooms.subscribe(LogName(namespace, room))
        assert scope.cancelled_caught, "it returned"
        raise BackplaneDown(f"room {room!r} not subscribed in {seconds} s", outcome_unknown=False)

    def unsubscribe(self, namespace: str, room: str) -> None:
        """See `Backplane`. It is listened to for a few seconds more."""
        self._rooms.unsubscribe(LogName(namespace, room))

    def receive_nowait(self) -> list[Arrival]:
        """See `Backplane`."""
        return self._feed.receive_nowait()

    async def wait(self) -> None:
        """See `Backplane`."""
        await self._feed.wait()

    # Sessions

    async def open_session(self, session: SavedSession) -> None:
        """See `Backplane`. While Redis is away it is kept here, and written later."""
        await self._keeper.open(session)

    def change_session(self, session: SavedSession) -> None:
        """See `Backplane`. Written at once, without waiting for it."""
        self._keeper.change(session)

    def lose_session(self, session: SavedSession) -> None:
        """See `Backplane`. The logs of its rooms are in Redis, whoever listens to them."""
        self._keeper.lose(session)

    async def find_session(self, pid: str) -> SavedSession | None:
        """See `Backplane`. One whose node is dead is lost.

        Raises:
            BackplaneDown: if Redis cannot be asked in time.
        """
        with _no_refusal():
            return await self._keeper.find(pid)

    async def take_session(self, session: SavedSession) -> bool:
        """See `Backplane`. A connection that it has on another node is ended first.

        Raises:
            BackplaneDown: if Redis cannot be asked in time.
        """
        with _no_refusal():
            return await self._keeper.take(session)

    async def recover(self, session: SavedSession, since: Position) -> list[Envelope] | None:
        """See `Backplane`.

        Raises:
            BackplaneDown: if Redis cannot be asked in time.
        """
        with _no_refusal():
            return await self._keeper.recover(session, since)

    def keep_session(self, session: SavedSession) -> None:
        """See `Backplane`."""
        self._keeper.change(session)

    async def end_session(self, session: SavedSession) -> bool:
        """See `Backplane`."""
        return await self._keeper.end(session)

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
        self._outgoing.give("PUBLISH", self._keys.node(question.node), message)

    def tell(self, namespace: str, room: str, body: bytes) -> None:
        """See `Nodes`."""
        message = b"n" + encode(Told(self._node, namespace, room, body))
        self._outgoing.give("PUBLISH", self._keys.channel(LogName(namespace, room)), message)

    def take_message(self, kind: bytes, data: bytes) -> None:
        """A message of another node that is no event with a place. Called by the feed."""
        if kind == b"v":
            node, _, frame = data.partition(b" ")
            if node != self._node.encode():
                self._feed.put(decode_envelope(frame, is_volatile=True))
        elif kind == b"n":
            told = decode(Told, data)
            if told.node != self._node:
                self._feed.put(Note(told.node, told.namespace, told.room, told.body))
        elif kind == b"q":
            asked = decode(Asked, data)
            if asked.node != self._node and (not asked.nodes or self._node in asked.nodes):
                self._feed.put(Question(asked.id, asked.node, asked.body))
        elif kind == b"a":
            self._asking.take(decode(Answered, data))
        elif kind == b"h":
            self._set_nodes(self._nodes | {data.decode("ascii", "replace")})
        elif kind == b"d":
            self._set_nodes(self._nodes - {data.decode("ascii", "replace")} | {self._node})
        else:
            raise BackplaneError(f"a message of an unknown kind: {kind!r}")

    def has_namespace(self, name: str) -> bool:
        """Whether anybody can be in a namespace here. Called by the feed."""
        return name in self._namespaces

    def own_logs(self) -> Mapping[SocketLog, Position]:
        """The logs of this node's sockets. Called by the feed."""
        return self._keeper.own_logs()

    def forget_log(self, name: SocketLog) -> None:
        """The log of a socket is not in Redis any more. Called by the feed."""
        self._keeper.forget(name.room)

    async def _register(self) -> None:
        """Makes this node known, however often it has to try."""
        while True:
            try:
                beat = await self._registry.beat()
            except (BackplaneDown, RedisError) as error:
                log.warning("node %s is not known yet: %s", self._node, error)
                await trio.sleep(PAUSE)
                continue
            if beat is None:  # taken for dead between two attempts
                self._name_parts(secrets.token_urlsafe(9))
                continue
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
                    if not self._keeper.is_renamed:
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
        old_channel = self._feed.channel
        await self._subscriptions.subscribe(self._keys.node(node).encode())
        self._name_parts(node)
        self._keeper.rename(node)
        self._feed.break_off()
        self._nodes = self._nodes - {old} | {node}
        self._old_channels.append(old_channel)
        self._feed.put(Fenced())
        await self._register()
        await self._write_names()
        self._outgoing.give("PUBLISH", self._keys.everyone(), b"h" + node.encode())

    async def _write_names(self) -> None:
        """Sessions get this node's new name. Until all have it, the old ones are listened to."""
        await self._keeper.write_names()
        self._subscriptions.unsubscribe(*self._old_channels)
        self._old_channels.clear()

    def _take_beat(self, beat: Beat) -> None:
        self._set_nodes(beat.alive | {self._node})

    def _set_nodes(self, nodes: frozenset[str]) -> None:
        gone = self._nodes - nodes
        self._nodes = self._keeper.alive = nodes
        for node in gone:
            log.warning("node %s is gone", node)
            self._asking.lose(node)
            self._feed.put(NodeDown(node))

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


async def _climb(ended: Ended) -> None:
    """A part that fails again and again ends the backplane."""
    if ended.outcome is Outcome.GIVEN_UP:
        raise BackplaneError(f"{ended.child.name} failed too often") from ended.error
