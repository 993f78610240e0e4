"""What a node knows of the namespaces that share one order of events.

    standalone, Sentinels   one partition has all namespaces
    cluster                 a namespace belongs to one of 64, and each of these to one primary

A partition has its own clock, channels and links, so that nothing which happens to one is in the
way of another.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping

import attrs
import trio
from redis.exceptions import RedisError

from trio_rt.backplane.base import SID_CHARS, Envelope, Note, Position
from trio_rt.backplane.redis.feed import Feed
from trio_rt.backplane.redis.frames import Told, decode, decode_envelope, encode, encode_envelope
from trio_rt.backplane.redis.keeper import PutDown, SessionKeeper
from trio_rt.backplane.redis.keys import LogName
from trio_rt.backplane.redis.log import EventLog, LogLimits
from trio_rt.backplane.redis.names import NodeKeys, SocketLog
from trio_rt.backplane.redis.outgoing import Outgoing
from trio_rt.backplane.redis.probe import Probe
from trio_rt.backplane.redis.rooms import Rooms
from trio_rt.backplane.redis.scripts import load
from trio_rt.backplane.redis.wiring import Wiring
from trio_rt.codec.position import parse_position
from trio_rt.config import Config
from trio_rt.errors import BackplaneDown, BackplaneError
from trio_rt.log import log
from trio_rt.schedule.bell import Bell
from trio_rt.supervisor import Child

PAUSE = 0.2
"""Seconds before a part that has failed runs again."""

SPARE = 10.0
"""Seconds for which an event is known by its own key besides those in which `publish` tries again:
`RedisSettings.wait_timeout`."""

RENAME_TIMEOUT = 1.0
"""Seconds that the channel of a new name may take before the name is used all the same."""

Take = Callable[[bytes, bytes], None]
"""Takes a message between nodes that is about no namespace: its kind, and the rest."""


class Partition:
    """One order of events on one node.

    Args:
        wiring: the links of the node.
        keys: how things are named in this partition.
        config: how much is kept, and for how long.
        node: this node's name.
        namespaces: those that anybody can be in here.
        bell: rung when something has arrived.
        put_down: asks a node to end the connection of a session.
        take: takes messages that are about no namespace.
    """

    def __init__(
        self,
        wiring: Wiring,
        keys: NodeKeys,
        config: Config,
        *,
        node: str,
        namespaces: set[str],
        bell: Bell,
        put_down: PutDown,
        take: Take,
    ) -> None:
        self._keys = keys
        self._config = config
        self._node = node
        self._namespaces = namespaces
        self._take = take
        self._old_channels: list[bytes] = []
        self.link = link = wiring.link_at(keys.tag)
        probe_channel = keys.of("probe", node).encode()
        self.subscriptions = wiring.subscriptions_at(keys.tag, probe_channel)
        self._retry_window = wiring.settings.wait_timeout + SPARE
        limits = LogLimits(
            entries=config.history_events,
            history_timeout=config.history_timeout,
            recovered_entries=config.history_events,
            recovered_bytes=config.recovery_bytes,
            key_timeout=self._retry_window,
        )
        self._history = EventLog(link, keys, limits)
        self._once_history = EventLog(
            link, keys, attrs.evolve(limits, key_timeout=config.once_window)
        )
        everything = attrs.evolve(
            limits, recovered_entries=1_000_000, recovered_bytes=config.history_bytes
        )
        self.feed = Feed(
            self.subscriptions,
            link,
            EventLog(link, keys, everything),
            keys,
            listener=self,
            bell=bell,
        )
        self.feed.channel = keys.node(node).encode()
        self.rooms = Rooms(self.feed, self.subscriptions, self._history)
        self.outgoing = Outgoing(link)
        self.keeper = SessionKeeper(
            link, keys, self.feed, self._history, config=config, node=node, put_down=put_down
        )
        self._probe = Probe(link, self.subscriptions, probe_channel, publish=keys.publish)

    @property
    def is_ready(self) -> bool:
        """Whether events reach this node and leave it: proven by an echo where all is quiet."""
        return (
            self.link.is_up
            and self.subscriptions.is_up
            and self.feed.is_whole
            and not self._probe.is_deaf
        )

    @property
    def has_failed(self) -> bool:
        """Whether it was ready before, whoever asked for that, and is not now."""
        return self.feed.was_whole and not self.is_ready

    def parts(self) -> Iterator[Child]:
        """What has to run as long as the node does, besides the subscriptions."""
        for name, part in (
            ("feed", self._run_feed),
            ("rooms", self.rooms.run),
            ("sessions", self.keeper.write),
            ("prolongations", self.keeper.touch),
            ("outgoing", self.outgoing.run),
            ("probe", self._probe.run),
        ):
            yield Child(f"backplane's {name} {{{self._keys.tag}}}", part, delay=PAUSE)

    async def write_last(self) -> None:
        """Writes what is unwritten, at the end."""
        try:
            await self.keeper.flush_all()
            await self.outgoing.flush()
        except (BackplaneDown, RedisError) as error:
            log.warning("partition %s: something stays unwritten: %s", self._keys.tag, error)

    async def _run_feed(self) -> None:
        await self.subscriptions.subscribe(self._keys.wide().encode(), self.feed.channel)
        await self.feed.run()

    # Events

    async def publish(self, room: LogName, frame: bytes, key: str) -> Position:
        """Appends an event to the log of a room, and publishes it.

        Args:
            room: its log.
            frame: of the event.
            key: its own in all runs of what publishes it; empty if it may run once only.
        """
        if len(room.room) == SID_CHARS:
            position = await self._publish_to_one(room, frame, key)
        else:
            history = self._once_history if key else self._history
            appended = await history.append(room, frame, key=key or secrets.token_urlsafe(9))
            position = appended.position
        is_here = not room.room or room.room in self.keeper
        await self.feed.wait_echo(None if is_here else room, position)
        return position

    async def _publish_to_one(self, room: LogName, frame: bytes, key: str) -> Position:
        """Publishes to what may be the id of a socket."""
        keys, config = self._keys, self._config
        window = config.once_window if key else self._retry_window
        place: bytes = await load("clock", "unicast").call(
            self.link,
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
            keys.publish,
            may_repeat=True,
        )
        position = parse_position(place.decode("ascii", "replace"))
        if position is None:
            raise BackplaneError(f"no position of ours: {place!r}")
        return position

    def publish_nowait(self, envelope: Envelope) -> None:
        """Publishes a volatile event: to this node at once, and to others if Redis is there."""
        self.feed.put(envelope)
        rooms = envelope.rooms
        if len(rooms) == 1 and rooms[0] in self.keeper:
            return
        # A socket's node is not known here: all are told, as where there are several rooms.
        is_wide = len(rooms) != 1 or len(rooms[0]) == SID_CHARS
        channel = self._keys.channel(LogName(envelope.namespace, "" if is_wide else rooms[0]))
        frame = encode_envelope(envelope)
        self.outgoing.give(self._keys.publish, channel, b"v%b %b" % (self._node.encode(), frame))

    def tell(self, namespace: str, room: str, body: bytes) -> None:
        """See `Nodes.tell`."""
        message = b"n" + encode(Told(self._node, namespace, room, body))
        channel = self._keys.channel(LogName(namespace, room))
        self.outgoing.give(self._keys.publish, channel, message)

    # What the feed asks for

    def take_message(self, kind: bytes, data: bytes) -> None:
        """See `Listener`."""
        if kind == b"v":
            node, _, frame = data.partition(b" ")
            if node != self._node.encode():
                self.feed.put(decode_envelope(frame, is_volatile=True))
        elif kind == b"n":
            told = decode(Told, data)
            if told.node != self._node:
                self.feed.put(Note(told.node, told.namespace, told.room, told.body))
        else:
            self._take(kind, data)

    def has_namespace(self, name: str) -> bool:
        """See `Listener`."""
        return name in self._namespaces

    def own_logs(self) -> Mapping[SocketLog, Position]:
        """See `Listener`."""
        return self.keeper.own_logs()

    def forget_log(self, name: SocketLog) -> None:
        """See `Listener`."""
        self.keeper.forget(name.room)

    # Names of this node

    async def listen_as(self, node: str) -> None:
        """This node is going to have another name: what is sent to that arrives from here on.

        Returns in any case after a moment: what is missed until then is read from history.
        """
        with trio.move_on_after(RENAME_TIMEOUT):
            await self.subscriptions.subscribe(self._keys.node(node).encode())

    def rename(self, node: str) -> None:
        """This node has another name."""
        self._old_channels.append(self.feed.channel)
        self._node = node
        self.feed.channel = self._keys.node(node).encode()
        self.subscriptions.subscribe_soon(self.feed.channel)  # one that has just been made
        self.keeper.rename(node)
        self.feed.break_off()

    async def write_names(self) -> None:
        """Sessions get this node's new name. Until all have it, the old ones are listened to."""
        if not self.keeper.is_renamed:
            await self.keeper.write_names()
            self.subscriptions.unsubscribe(*self._old_channels)
            self._old_channels.clear()
