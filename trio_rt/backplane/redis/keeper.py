"""The sessions of this node: written to Redis, found there, taken over and recovered.

What is written is what a session is at that moment, so writing it late or twice does no harm. A
session of which Redis could not be told yet is told of as soon as it is back.

It is one long file because writing, losing, taking and ending a session share the same few records.
"""

import hmac
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice

import trio
from redis.exceptions import RedisError

from trio_rt.backplane.base import SID_CHARS, Arrival, Envelope, Gap, Position, SavedSession
from trio_rt.backplane.redis.feed import Feed
from trio_rt.backplane.redis.frames import decode_envelope
from trio_rt.backplane.redis.keys import LogName
from trio_rt.backplane.redis.log import EventLog, Lost
from trio_rt.backplane.redis.names import NodeKeys, SocketLog
from trio_rt.backplane.redis.record import pack_session, unpack_session
from trio_rt.backplane.redis.scripts import load
from trio_rt.backplane.redis.sessions import SessionStore
from trio_rt.backplane.redis.steady import CommandLink
from trio_rt.codec.position import START, parse_position
from trio_rt.config import Config
from trio_rt.errors import BackplaneDown, BackplaneError
from trio_rt.log import log
from trio_rt.schedule.bell import Bell

AT_ONCE = 128
"""Sessions that are written side by side."""

TOUCH_INTERVAL = 60.0
"""Seconds between two prolongations of the sessions that are connected."""

TOUCHED = 512
"""Sessions that are prolonged in one go."""

SPARE = 600.0
"""Seconds for which sessions of a node that has died, or was cut off, are kept besides the time in
which they may come back."""

PATIENCE = 1.5
"""Seconds that a client has to wait for Redis where its session can as well be written later."""

FIND_TIMEOUT = 8.0
"""Seconds that a client which is back waits for Redis: less than `Config.auth_timeout`."""

PUT_DOWN_TIMEOUT = 2.0
"""Seconds that another node gets to put a connection down whose client is back here."""

GRACE = 0.2
"""Of them, those for which a node that says that it has done so is believed."""

PAUSE = 0.02
"""Seconds between two looks whether it has, and before what was not written is tried again."""

LONGEST_PAUSE = 1.0
"""Seconds before that which double each time, at most: a Redis that is full says no at once."""

META_TIMEOUT_MS = 86_400_000
"""As `LogLimits.meta_timeout`."""

PutDown = Callable[[str, SavedSession], Awaitable[bool]]
"""Asks a node to end the connection of a session; tells whether it answers."""


class SessionKeeper:
    """The sessions of this node.

    Args:
        link: carries commands.
        keys: how things are named.
        feed: what arrives here.
        history: the logs, with what one session may recover as its limits.
        config: for how long sessions are kept.
        node: this node's name.
        put_down: asks a node to end the connection of a session.
    """

    def __init__(
        self,
        link: CommandLink,
        keys: NodeKeys,
        feed: Feed,
        history: EventLog,
        *,
        config: Config,
        node: str,
        put_down: PutDown,
    ) -> None:
        self._link = link
        self._keys = keys
        self._feed = feed
        self._history = history
        self._config = config
        self._put_down = put_down
        self._sessions: dict[str, SavedSession] = {}  # by the id of the socket
        self._written: set[str] = set()
        self._dirty: dict[str, None] = {}
        self._has_failed = False  # whether Redis did not take one of those just written
        self._coming: dict[str, trio.Event] = {}  # sessions that are just being taken
        self._bell = Bell()
        self._node = node
        self._former: list[str] = []  # names under which sessions may still be this node's
        self._store = SessionStore(link, node, keys)
        self.alive: frozenset[str] | None = None
        """The nodes that are there; None until that is known."""

    def __contains__(self, sid: str) -> bool:
        return sid in self._sessions

    def own_logs(self) -> dict[SocketLog, Position]:
        """The logs of the sockets whose sessions are in Redis, with the place where each began."""
        return {
            SocketLog(session.namespace, sid): session.membership.since
            for sid in self._written
            if (session := self._sessions.get(sid)) is not None
        }

    def forget(self, sid: str) -> None:
        """Redis does not know a session any more."""
        self._written.discard(sid)

    # Its life

    async def open(self, session: SavedSession) -> None:
        """See `Backplane.open_session`. Waits a moment at most: it can be written later."""
        sid = session.membership.sid
        session.is_open = True
        self._sessions[sid] = session
        with trio.move_on_after(PATIENCE):
            try:
                is_beginning = self._feed.position == START
                if (self._link.is_up or is_beginning) and await self._write_new(session, None):
                    return
            except (BackplaneDown, RedisError) as error:
                log.warning("session %s is written later: %s", sid, error)
        session.membership.since = self._feed.position
        self.change(session)

    def change(self, session: SavedSession) -> None:
        """It is not what was written."""
        sid = session.membership.sid
        if self._sessions.get(sid) is session:
            self._dirty[sid] = None
            self._bell.ring()

    def lose(self, session: SavedSession) -> None:
        """See `Backplane.lose_session`."""
        session.is_lost = True
        self.change(session)

    async def end(self, session: SavedSession) -> bool:
        """See `Backplane.end_session`. Waits a moment at most: it ends by itself as well."""
        if not session.is_open:
            await trio.lowlevel.checkpoint_if_cancelled()
            return False
        session.is_open = session.is_lost = False
        sid = session.membership.sid
        if self._sessions.get(sid) is not session:
            await trio.lowlevel.checkpoint_if_cancelled()
            return False  # another node has it
        del self._sessions[sid]
        self._dirty.pop(sid, None)
        if sid not in self._written:
            return True
        self._written.discard(sid)
        with trio.move_on_after(PATIENCE):
            try:
                if self._link.is_up:
                    return await self._store.end(sid)
            except (BackplaneDown, RedisError) as error:
                log.warning("the end of session %s: %s", sid, error)
        return True

    # Coming back

    async def find(self, namespace: str, pid: str) -> SavedSession | None:
        """See `Backplane.find_session`. A client that is back waits for a Redis that is away."""
        session = await self._find(pid)
        return session if session is not None and session.namespace == namespace else None

    async def _find(self, pid: str) -> SavedSession | None:
        sid = pid[:SID_CHARS]
        with trio.move_on_after(FIND_TIMEOUT):
            while sid in self._coming:  # by a connection of the client that is dead by now
                await self._coming[sid].wait()
        local = self._sessions.get(sid)
        if local is not None and sid not in self._written:
            return local if _is_same(local.pid, pid) else None
        node, lost, data, began = await self._ask_patiently(sid)
        if node is None or data is None:
            return None
        if node == self._node.encode() and local is not None:
            return local if _is_same(local.pid, pid) else None
        position = None if began is None else parse_position(began.decode("ascii", "replace"))
        if position is None:
            return None
        try:
            session = unpack_session(data, sid, position)
        except BackplaneError as error:
            log.error("session %s: %s", sid, error)
            return None
        session.is_lost = lost == b"1" or not self._is_alive(node.decode())
        return session if _is_same(session.pid, pid) else None

    async def take(self, session: SavedSession) -> bool:
        """See `Backplane.take_session`."""
        sid = session.membership.sid
        local = self._sessions.get(sid)
        is_own = local is session
        if sid in self._coming or (is_own and not session.is_lost):
            await trio.lowlevel.checkpoint_if_cancelled()
            return False
        self._coming[sid] = trio.Event()
        was_lost, session.is_lost = session.is_lost, False
        is_taken = False
        try:
            is_taken = (is_own and await self._take_own(sid, session)) or await self._take_over(
                sid, session, is_free=was_lost
            )
        finally:
            if not is_taken:
                session.is_lost = was_lost
            self._coming.pop(sid).set()
        return is_taken

    async def recover(self, session: SavedSession, since: Position) -> list[Envelope] | None:
        """See `Backplane.recover`."""
        since = max(since, session.membership.since)
        await self._feed.mark_taken()
        logs = _logs_of(session, since)
        tracker = self._feed.track()
        try:
            found = await self._history.recover(logs, began=session.membership.since)
        finally:
            self._feed.untrack(tracker)
        # No checkpoint from here on: what has been taken by now is what the client gets this way.
        if isinstance(found, Lost):
            log.info("session %s: %s %s", session.membership.sid, found.log, found.why.value)
            return None
        arrivals: list[Arrival] = [*tracker]
        for entry in found.entries:
            try:
                arrivals.append(decode_envelope(entry.frame, entry.position))
            except BackplaneError as error:
                log.error("event %s: %s", entry.position, error)
                return None
        return self._select(session, since, arrivals)

    def _select(
        self, session: SavedSession, since: Position, arrivals: Sequence[Arrival]
    ) -> list[Envelope] | None:
        """What of all that a session is to get, in order."""
        upto = self._feed.position
        missed: dict[Position, Envelope] = {}
        for arrival in arrivals:
            if isinstance(arrival, Gap) and arrival.namespace == session.namespace:
                return None
            if not isinstance(arrival, Envelope) or arrival.namespace != session.namespace:
                continue
            position = arrival.position
            if position is None or not since < position <= upto:
                continue
            if session.membership.was_meant(arrival):
                missed[position] = arrival
        size = sum(envelope.size_bytes for envelope in missed.values())
        if len(missed) > self._config.history_events or size > self._config.recovery_bytes:
            return None
        return [missed[position] for position in sorted(missed)]

    # Its own tasks

    async def write(self) -> None:
        """Writes what has changed, until it is cancelled."""
        while True:
            await self._bell.wait()
            await self.flush_all()

    async def flush_all(self) -> None:
        """Writes all that has changed, however often it has to try."""
        pause = PAUSE
        while self._dirty:
            sids = list(islice(self._dirty, AT_ONCE))
            self._has_failed = False
            for sid in sids:
                del self._dirty[sid]
            async with trio.open_nursery() as nursery:
                for sid in sids:
                    session = self._sessions.get(sid)
                    if session is not None:
                        nursery.start_soon(self._write, sid, session)
            pause = min(2 * pause, LONGEST_PAUSE) if self._has_failed else PAUSE
            if any(sid in self._dirty for sid in sids):
                await trio.sleep(pause)

    async def touch(self) -> None:
        """Prolongs sessions, and all that is known of the logs here, until it is cancelled."""
        while True:
            await trio.sleep(TOUCH_INTERVAL)
            try:
                sids = iter([s for s in self._written if not self._is_lost(s)])
                while chunk := list(islice(sids, TOUCHED)):
                    await self._store.touch(chunk, self._seconds)
                logs = iter(self._feed.logs)
                while chunk_of_logs := list(islice(logs, TOUCHED)):
                    await self._history.begin(chunk_of_logs)
            except (BackplaneDown, RedisError) as error:
                log.warning("sessions are not prolonged: %s", error)

    @property
    def is_renamed(self) -> bool:
        """Whether all sessions in Redis have the name that this node has."""
        return not self._former

    def rename(self, node: str) -> None:
        """This node has another name: `write_names` has to be called until `is_renamed`."""
        self._former.append(self._node)
        self._node = node
        self._store = SessionStore(self._link, node, self._keys)

    async def write_names(self) -> None:
        """The sessions that are still this node's get the name that it has now.

        Raises:
            BackplaneDown: if that cannot be done in time; as redis.RedisError. Then try again.
        """
        while self._former:
            old = self._former[0]
            sids = iter(list(self._sessions))
            while chunk := list(islice(sids, TOUCHED)):
                keys = [self._keys.session(sid) for sid in chunk]
                await load("session_rename").call(
                    self._link, keys, old, self._node, may_repeat=True
                )
            self._former.remove(old)

    @property
    def _seconds(self) -> float:
        return self._config.recovery_window + SPARE

    def _is_alive(self, node: str) -> bool:
        return self.alive is None or node in self.alive

    def _is_lost(self, sid: str) -> bool:
        session = self._sessions.get(sid)
        return session is None or session.is_lost

    async def _write(self, sid: str, session: SavedSession) -> None:
        node = self._node
        try:
            if sid not in self._written:
                since = session.membership.since
                is_written = await self._write_new(session, None if since == START else since)
                if not is_written or not session.is_lost:
                    return
            seconds = self._config.recovery_window if session.is_lost else self._seconds
            data = pack_session(session)
            if not await self._store.save(sid, data, seconds, is_lost=session.is_lost):
                self._refuse(sid, session, node)
        except (BackplaneDown, RedisError) as error:
            log.warning("session %s is written later: %s", sid, error)
            self._has_failed = True
            if self._sessions.get(sid) is session:
                self._dirty[sid] = None

    async def _write_new(self, session: SavedSession, began: Position | None) -> bool:
        """Writes a session that Redis does not know. False if it has ended meanwhile, or is another
        node's."""
        keys, sid, node = self._keys, session.membership.sid, self._node
        words = () if began is None else (str(began),)
        place: bytes | None = await load("clock", "session_open").call(
            self._link,
            [keys.clock(), keys.session(sid), keys.meta(LogName(session.namespace, ""))],
            node,
            round(self._seconds * 1000),
            META_TIMEOUT_MS,
            session.namespace,
            pack_session(session),
            *words,
            may_repeat=True,
        )
        if place is None:
            self._refuse(sid, session, node)
            return False
        position = parse_position(place.decode("ascii"))
        if position is None:
            raise BackplaneDown(f"no position of ours: {place!r}", outcome_unknown=True)
        if self._sessions.get(sid) is not session:
            await self._store.end(sid)
            return False
        if began is None:
            session.membership.since = position
        self._written.add(sid)
        self._note_name(node)
        self._feed.hear_namespace(session.namespace, position)
        return True

    def _note_name(self, node: str) -> None:
        """Something was written under a name, which may be a former one by now."""
        if node != self._node and node not in self._former:
            self._former.append(node)

    def _refuse(self, sid: str, session: SavedSession, node: str) -> None:
        """Redis knows another node for a session that was written under a name of this one."""
        if self._former or node != self._node:  # it may be this one all the same
            self.change(session)
        else:
            self._give_up(sid, session)

    def _give_up(self, sid: str, session: SavedSession) -> None:
        """Another node has taken it."""
        if self._sessions.get(sid) is session:
            del self._sessions[sid]
            self._written.discard(sid)

    async def _ask_patiently(self, sid: str) -> list[bytes | None]:
        deadline = trio.current_time() + FIND_TIMEOUT
        while True:
            try:
                reply: list[bytes | None] = await self._link.call(
                    "HMGET",
                    self._keys.session(sid),
                    "node",
                    "lost",
                    "data",
                    "begin",
                    may_repeat=True,
                )
            except BackplaneDown:
                if trio.current_time() >= deadline:
                    raise
                await trio.sleep(PAUSE)
            else:
                return reply

    async def _take_own(self, sid: str, session: SavedSession) -> bool:
        """One that was lost here, if no other node has taken it meanwhile."""
        if sid not in self._written or await self._take_free(sid, [self._node]) is not None:
            return True
        self._give_up(sid, session)
        return False

    async def _take_over(self, sid: str, session: SavedSession, *, is_free: bool) -> bool:
        """One of another node, which first has to end its connection if it has one.

        Others may try the same for connections of the client that are dead by now: then one after
        the other gets it, until nobody wants it from the last one.
        """
        deadline = trio.current_time() + FIND_TIMEOUT
        while trio.current_time() < deadline:
            found = await self._store.find(sid)
            if found is None:
                return False
            data = None
            if found.node == self._node:
                if sid in self._sessions:
                    return False
                data = await self._take_free(sid, [self._node])  # its client left while it came
            elif found.is_lost or is_free or not self._is_alive(found.node):
                dead = () if self._is_alive(found.node) else (found.node,)
                data = await self._take_free(sid, dead)
            else:
                data = await self._take_when_put_down(sid, found.node, session)
            is_free = False
            if data is not None:
                self._adopt(sid, session, data)
                return True
        return False

    def _adopt(self, sid: str, session: SavedSession, data: bytes) -> None:
        """A session of another node is this one's from here on."""
        newest = unpack_session(data, sid, session.membership.since)
        session.membership, session.data = newest.membership, newest.data
        session.presence, session.moves = newest.presence, newest.moves + 1
        self._sessions[sid] = session
        self._written.add(sid)
        self._feed.hear_namespace(session.namespace, self._feed.position)

    async def _take_when_put_down(self, sid: str, node: str, session: SavedSession) -> bytes | None:
        """Asks a node to end its connection, and takes the session then, or when it is silent."""
        data: bytes | None = None
        with trio.move_on_after(PUT_DOWN_TIMEOUT) as scope:
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    answers = await self._put_down(node, session)
                    left = trio.current_time() + (GRACE if answers else 0.0)
                    scope.deadline = min(scope.deadline, left)

                nursery.start_soon(ask)
                while data is None:
                    await trio.sleep(PAUSE)
                    data = await self._take_free(sid, ())
                nursery.cancel_scope.cancel()
        if data is None:
            log.info("node %s does not put session %s down: taken all the same", node, sid)
            data = await self._take_free(sid, (node,))
        return data

    async def _take_free(self, sid: str, dead: Sequence[str]) -> bytes | None:
        node = self._node
        try:
            data = await self._store.take(sid, self._seconds, dead)
            self._note_name(node)
            return data
        except BackplaneDown as down:
            if not down.outcome_unknown:
                raise
        found = await self._store.find(sid)
        return found.data if found is not None and found.node == self._node else None


def _logs_of(session: SavedSession, since: Position) -> dict[LogName, Position]:
    """The logs that a session needs, each from the place on from which it does."""
    membership, logs = session.membership, dict[LogName, Position]()
    for stay in membership.stays(since):
        name = LogName(session.namespace, stay.room)
        if stay.room == membership.sid:
            name = SocketLog(session.namespace, stay.room)
        start = max(since, stay.since)
        logs[name] = min(start, logs.get(name, start))
    return logs


def _is_same(ours: str, theirs: str) -> bool:
    return hmac.compare_digest(ours.encode(), theirs.encode())
