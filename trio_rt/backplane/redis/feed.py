"""What reaches this node, in the one order of all events, and without holes.

    joining ──mark──> whole ──gap, or an entry whose predecessor did not arrive──> broken
                        ^                                                             │
                        └──────────────── what was missed, read from history ─────────┘

While it is broken nothing newer is delivered, of any room, because positions are one order over all
of them. What cannot be read any more becomes a `Gap`, behind all that could.

A mark is published by this node to itself. What arrives before it has a place up to it, and what
arrives later has not: so a room is heard from an exact place on, and a quiet node knows how far it
has got.

It is one long file because every state shares the same order, and a step makes sense only
beside the others.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import count, islice
from typing import Any, Protocol

import attrs
import trio
from redis.exceptions import RedisError

from trio_rt.backplane.base import Arrival, Envelope, Gap, Position, Rejoined
from trio_rt.backplane.redis.arrivals import Gap as LinkGap
from trio_rt.backplane.redis.arrivals import Message
from trio_rt.backplane.redis.frames import decode_envelope
from trio_rt.backplane.redis.keys import LogName
from trio_rt.backplane.redis.log import Entry, EventLog, Lost, Published, read_message
from trio_rt.backplane.redis.names import NodeKeys, SocketLog
from trio_rt.backplane.redis.scripts import load
from trio_rt.backplane.redis.steady import CommandLink
from trio_rt.backplane.redis.subscriptions import Subscriptions
from trio_rt.codec.position import START, parse_position
from trio_rt.errors import BackplaneDown, BackplaneError
from trio_rt.log import log
from trio_rt.schedule.bell import Bell

CHUNK = 512
"""Logs that are asked about in one go."""

LOGS_AT_ONCE = 32
"""Logs whose missed entries are read in one step."""

ECHO_TIMEOUT = 1.0
"""Seconds that an event of this node may take to come back before nobody waits for it."""

CHANNELS = 8
"""Of the names that this node has had, those that are not forgotten."""

PAUSE = 0.1
"""Seconds between two attempts to read what was missed."""

META_TIMEOUT_MS = 86_400_000
"""As `LogLimits.meta_timeout`."""


class Listener(Protocol):
    """Takes what is no entry of a log."""

    def take_message(self, kind: bytes, data: bytes) -> None:
        """A message of another node. `kind` is its first byte, `data` the rest."""

    def has_namespace(self, name: str) -> bool:
        """Whether anybody can be in a namespace on this node."""
        ...

    def own_logs(self) -> Mapping[SocketLog, Position]:
        """The logs of this node's sockets, each with the place where its session began."""
        ...

    def forget_log(self, name: SocketLog) -> None:
        """The log of a socket is not kept any more."""


@attrs.define(eq=False)
class Heard:
    """A log that is listened to."""

    log: LogName

    known: Position | None = None
    """All of it up to here has arrived, or is nobody's; None while that is not known."""

    floor: Position = START
    """Where somebody began to listen, if nothing else is known."""


@attrs.define(eq=False)
class _Mark:
    joining: tuple[Heard, ...]
    position: Position | None = None
    done: trio.Event = attrs.field(factory=trio.Event)


class Feed:
    """Everything that arrives, from the one task that is in `run`.

    Args:
        subscriptions: where it comes from.
        link: carries commands.
        history: the logs; may read as much at once as there is.
        keys: how things are named.
        listener: takes what is no event.
        bell: rung when something has arrived.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        link: CommandLink,
        history: EventLog,
        keys: NodeKeys,
        *,
        listener: Listener,
        bell: Bell,
    ) -> None:
        self._subscriptions = subscriptions
        self._link = link
        self._history = history
        self._keys = keys
        self._listener = listener
        self._wide = keys.wide().encode()
        self._rooms: dict[bytes, Heard] = {}
        self._namespaces: dict[str, Heard] = {}
        self._epoch: bytes | None = None  # of all that is known; see `epoch.py`
        self._own_known = START  # the same for the logs of all sockets of this node
        self._arrived: list[Arrival] = []
        self._taken = START
        self._seen = START
        self._marks: dict[bytes, _Mark] = {}
        self._numbers = count()
        self._echoes: list[tuple[Position, int, trio.Event, LogName | None]] = []
        self._trackers: list[list[Arrival]] = []
        self._is_whole = False
        self.was_whole = False
        """Whether it has ever been."""
        self._changed = trio.Event()
        self._bell = bell
        self._took = trio.lowlevel.ParkingLot()
        self._channels: deque[bytes] = deque(maxlen=CHANNELS)
        self.gaps = 0
        """How often something had to be read from history, or was lost."""

    @property
    def channel(self) -> bytes:
        """This node's own, where marks are published. What still comes from the last few that it
        had is taken as well."""
        return self._channels[-1]

    @channel.setter
    def channel(self, channel: bytes) -> None:
        self._channels.append(channel)

    # For the one who takes

    @property
    def position(self) -> Position:
        """Everything up to here has been taken."""
        return self._taken if self._arrived else self._seen

    @property
    def is_whole(self) -> bool:
        """Whether nothing that was published before is missing."""
        return self._is_whole

    def receive_nowait(self) -> list[Arrival]:
        """Takes all that has arrived, in order."""
        arrived, self._arrived = self._arrived, []
        self._taken = self._seen
        if self._took:
            self._took.unpark_all()
        return arrived

    @property
    def has_arrived(self) -> bool:
        """Whether anything waits to be taken."""
        return bool(self._arrived)

    def put(self, arrival: Arrival) -> None:
        """Adds something behind all that has arrived."""
        self._arrived.append(arrival)
        for tracker in self._trackers:
            tracker.append(arrival)
        self._bell.ring()

    # For the one who listens

    def find(self, room: LogName) -> Heard | None:
        """The room, if it is listened to, or soon will be."""
        return self._rooms.get(self._keys.channel(room).encode())

    def begin(self, room: LogName) -> Heard:
        """A room is going to be listened to: from the first mark on that is given with it."""
        heard = Heard(room)
        self._rooms[self._keys.channel(room).encode()] = heard
        return heard

    def end(self, room: LogName) -> None:
        """A room is not listened to any more."""
        del self._rooms[self._keys.channel(room).encode()]
        for _position, _number, event, awaited in self._echoes:
            if awaited == room:
                event.set()

    def hear_namespace(self, name: str, position: Position) -> None:
        """Somebody is in a namespace since a position."""
        if name not in self._namespaces:
            self._namespaces[name] = Heard(LogName(name, ""), floor=position)

    def end_namespace(self, name: str) -> None:
        """Nobody is in a namespace any more."""
        self._namespaces.pop(name, None)

    @property
    def logs(self) -> list[LogName]:
        """All logs but those of sockets."""
        return [heard.log for heard in (*self._rooms.values(), *self._namespaces.values())]

    async def mark(self, *joining: Heard) -> Position:
        """Waits until everything has arrived that was published before, if possible.

        Returns:
            The place of that; rooms that are joining are heard from there on.
        """
        metas = [self._keys.meta(heard.log) for heard in joining]
        while True:
            while not self._is_whole:
                await self._changed.wait()
            number = b"%d" % next(self._numbers)
            mark = self._marks[number] = _Mark(joining)
            try:
                await load("clock", "mark").call(
                    self._link,
                    [self._keys.clock(), *metas],
                    META_TIMEOUT_MS,
                    self.channel,
                    number,
                    self._keys.publish,
                    may_repeat=True,
                )
                await mark.done.wait()
            finally:
                self._marks.pop(number, None)
            if mark.position is not None:
                return mark.position

    async def mark_taken(self) -> Position:
        """As `mark`, and waits until it has been taken."""
        position = await self.mark()
        while self.position < position:
            await self._took.park()
        return position

    async def wait_echo(self, room: LogName | None, position: Position) -> None:
        """Waits until an event of this node has arrived here as well, if it is going to.

        Args:
            room: of which it is; None for what all nodes get.
            position: of the event.
        """
        if not self._is_whole or position <= self._seen:
            return
        if room is not None and self.find(room) is None:
            return
        event = trio.Event()
        heapq.heappush(self._echoes, (position, next(self._numbers), event, room))
        with trio.move_on_after(ECHO_TIMEOUT):
            await event.wait()

    def track(self) -> list[Arrival]:
        """A list that gets whatever arrives from here on, until `untrack`."""
        tracker: list[Arrival] = []
        self._trackers.append(tracker)
        return tracker

    def untrack(self, tracker: list[Arrival]) -> None:
        """A list gets no more."""
        self._trackers = [one for one in self._trackers if one is not tracker]

    def break_off(self) -> None:
        """Marks that are under way may not arrive: they are given again."""
        marks = list(self._marks.values())
        self._marks.clear()
        for mark in marks:
            mark.done.set()

    # Its own task

    async def run(self) -> None:
        """Reads until it is cancelled. The channels of the node have to be subscribed."""
        self._break()
        await self._fill()
        while True:
            await self._subscriptions.wait()
            items = self._subscriptions.receive_nowait()
            for item in items:
                if isinstance(item, Message):
                    if not self._take(item.channel, item.data):
                        await self._fill()
                else:
                    await self._take_gap(item)
            self._tell_echoes(self._seen)

    async def _take_gap(self, gap: LinkGap) -> None:
        log.warning("events may be missing: %s", gap.why)
        self._break()
        if gap.is_over:
            await self._fill()
            self.put(Rejoined())

    def _take(self, channel: bytes, data: bytes) -> bool:
        """Takes a message. False if something before it is missing."""
        kind = data[:1]
        if kind.isdigit():
            return not self._is_whole or self._take_entry(channel, data)
        if kind == b"m":
            self._take_mark(data)
        else:
            try:
                self._listener.take_message(kind, data[1:])
            except BackplaneError as error:
                log.error("a message of another node: %s", error)
        return True

    def _take_entry(self, channel: bytes, data: bytes) -> bool:
        try:
            entry = read_message(data)
        except BackplaneError as error:
            log.error("%s", error)
            return True
        heard = self._rooms.get(channel)
        if heard is None:
            is_taken = self._take_wide(channel, entry)
        else:
            is_taken = self._take_heard(heard, entry, None)
        if is_taken and entry.position > self._seen:
            self._seen = entry.position
        return is_taken

    def _take_wide(self, channel: bytes, entry: Published) -> bool:
        """Takes an entry of a channel that is not that of a room."""
        if channel != self._wide and channel not in self._channels:
            return True  # the room was left
        try:
            envelope = decode_envelope(entry.frame, entry.position)
        except BackplaneError as error:
            self._give_up(entry, error)
            return True
        namespace, rooms = envelope.namespace, envelope.rooms
        if channel == self._wide and len(rooms) != 1:
            heard = self._namespaces.get(namespace)
            if heard is None:
                if not self._listener.has_namespace(namespace):
                    self.put(envelope)  # nobody is there who could miss something
                    return True
                heard = self._namespaces[namespace] = Heard(LogName(namespace, ""))
            return self._take_heard(heard, entry, envelope)
        if channel == self._wide and (heard := self.find(LogName(namespace, rooms[0]))) is not None:
            return self._take_heard(heard, entry, envelope)  # it may come both ways
        if channel == self._wide or entry.position > self._own_known:
            self.put(envelope)
        return True

    def _take_heard(self, heard: Heard, entry: Published, envelope: Envelope | None) -> bool:
        known, position = heard.known, entry.position
        if known is None:
            if heard.log.room:
                return True  # nobody is a member yet
        elif position <= known:
            return True
        elif entry.previous > known:
            self._break()
            log.warning("%s: something before %s is missing", heard.log, position)
            return False
        heard.known = position
        if envelope is None:
            try:
                envelope = decode_envelope(entry.frame, position)
            except BackplaneError as error:
                self._give_up(entry, error, heard.log)
                return True
        self.put(envelope)
        return True

    def _give_up(
        self, entry: Published | Entry, error: BackplaneError, name: LogName | None = None
    ) -> None:
        """An event that this node does not understand is one that it has lost."""
        log.error("event %s: %s", entry.position, error)
        if name is None:
            for namespace in self._namespaces:
                self.put(Gap(namespace, ""))
        else:
            self.put(Gap(name.namespace, name.room))

    def _take_mark(self, data: bytes) -> None:
        number, _, place = data[1:].partition(b" ")
        mark = self._marks.pop(number, None)
        position = parse_position(place.decode("ascii", "replace"))
        if mark is None or position is None or not self._is_whole:
            if mark is not None:
                mark.done.set()
            return
        self._seen = mark.position = max(position, self._seen)
        for heard in mark.joining:
            heard.known = heard.floor = self._seen
        mark.done.set()
        self._bell.ring()

    def _break(self) -> None:
        self._is_whole = False
        self.gaps += 1
        self.break_off()
        self._tell_echoes(None)

    def _tell_echoes(self, position: Position | None) -> None:
        """Lets those go on whose events are here; None for all, because theirs may not come."""
        echoes = self._echoes
        while echoes and (position is None or echoes[0][0] <= position):
            heapq.heappop(echoes)[2].set()

    # What was missed

    async def _fill(self) -> None:
        """Reads what was missed, however often it has to try."""
        while True:
            try:
                await self._read_missed()
                break
            except (BackplaneDown, BackplaneError, RedisError) as error:
                log.warning("cannot read what was missed: %s", error)
                await trio.sleep(PAUSE)
        self._is_whole = self.was_whole = True
        self._changed.set()
        self._changed = trio.Event()
        self._tell_echoes(self._seen)
        self._bell.ring()

    async def _read_missed(self) -> None:
        # All channels are subscribed by now, so what is appended after this place arrives.
        place = await self._history.begin([])
        heards = [*self._rooms.values(), *self._namespaces.values()]
        since: dict[LogName, Position] = {}
        for heard in heards:
            if heard.known is not None or not heard.log.room:
                since[heard.log] = heard.known or heard.floor
        for name, began in self._listener.own_logs().items():
            since[name] = max(began, self._seen)
        news, lost = await self._look(since, place)
        entries = await self._read(news, lost)
        # Read last: a server that takes the place of this one later is noticed by its own gap.
        epoch = await self._read_epoch()
        if self._epoch not in (None, epoch):
            entries = []
            lost = [name for name, known in since.items() if name.room or known != START]
        anew = await self._begin_anew(lost) if lost else place
        self._deliver_missed(entries, lost, place)
        for heard in heards:
            if heard.log in since:
                heard.known = anew if heard.log in lost else place
        self._epoch = epoch
        self._own_known = self._seen = place
        if not self._arrived:
            self._taken = place

    async def _read_epoch(self) -> bytes:
        found: bytes | None = await self._link.call(
            "HGET", self._keys.clock(), "epoch", may_repeat=True
        )
        return found or b""

    async def _look(
        self, since: Mapping[LogName, Position], place: Position
    ) -> tuple[dict[LogName, Position], list[LogName]]:
        """The logs in which something is new, and those that are not what they were."""
        news: dict[LogName, Position] = {}
        lost: list[LogName] = []
        items = iter(since.items())
        while chunk := list(islice(items, CHUNK)):
            commands = [("HMGET", self._keys.meta(name), "begin", "last") for name, _ in chunk]
            replies: list[Any] = await self._link.call_all(commands, may_repeat=True)
            for (name, known), reply in zip(chunk, replies, strict=True):
                if isinstance(reply, Exception):
                    raise reply
                begin, last = (_read(text) for text in reply)
                if name.room == "" and known == START:
                    continue  # of a namespace in which nobody was
                if begin is None or begin > known or known > place:
                    lost.append(name)
                elif last is not None and last > known:
                    news[name] = known
        return news, lost

    async def _read(self, news: Mapping[LogName, Position], lost: list[LogName]) -> list[Entry]:
        """The entries of logs; one that is not whole any more is added to `lost`."""
        entries: list[Entry] = []
        items = iter(news.items())
        while chunk := dict(islice(items, LOGS_AT_ONCE)):
            while True:
                found = await self._history.recover(chunk)
                if not isinstance(found, Lost):
                    break
                log.error("%s cannot be read any more: %s", found.log, found.why.value)
                lost.append(found.log)
                del chunk[found.log]
            entries.extend(found.entries)
        entries.sort(key=lambda entry: entry.position)
        return entries

    async def _begin_anew(self, lost: Sequence[LogName]) -> Position:
        """Logs that are not what they were begin here; those of sockets with their sessions."""
        names = iter([name for name in lost if not isinstance(name, SocketLog)])
        place = await self._history.begin(list(islice(names, CHUNK)))
        while chunk := list(islice(names, CHUNK)):
            place = await self._history.begin(chunk)
        return place

    def _deliver_missed(
        self, entries: Iterable[Entry], lost: Sequence[LogName], place: Position
    ) -> None:
        for entry in entries:
            if entry.position > place:
                break  # it arrives by itself
            try:
                self.put(decode_envelope(entry.frame, entry.position))
            except BackplaneError as error:
                self._give_up(entry, error, entry.log)
        for name in lost:
            self.put(Gap(name.namespace, name.room))
            if isinstance(name, SocketLog):
                self._listener.forget_log(name)


def _read(text: bytes | None) -> Position | None:
    return None if text is None else parse_position(text.decode("ascii", "replace"))
