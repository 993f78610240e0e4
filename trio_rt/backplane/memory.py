"""The backplane of a single node: everything stays in this process."""

import hmac
import math
import secrets
import time
from collections.abc import Iterable

import trio

from trio_rt.backplane.base import (
    SID_CHARS,
    Answers,
    Arrival,
    Backplane,
    Envelope,
    Held,
    Lease,
    Position,
    Question,
    SavedSession,
    Settled,
)
from trio_rt.config import Config
from trio_rt.machine.history import History, HistoryLimits
from trio_rt.machine.once import Begin, Once, OnceLimits

SWEEP_INTERVAL = 5.0
"""Seconds between two looks for what is too old, in rooms where nothing happens any more."""


class MemoryBackplane(Backplane):
    """Delivers to its own node only, in the order of publishing, without a single wait."""

    def __init__(self) -> None:
        self._position = Position(int(time.time() * 1000), 0)  # another process, another beginning
        self._sessions: dict[str, SavedSession] = {}  # by the id of the socket
        self.open(Config())

    def open(self, config: Config) -> None:
        """See `Backplane`. Begins with nothing: sessions of an earlier time are gone."""
        for session in self._sessions.values():
            session.is_open = session.is_lost = False
        self._keeps_events = config.recovery_window > 0
        self._arrived: list[Arrival] = []
        self._sessions = {}
        self._own_logs: set[str] = set()  # those who were sent something alone, by the same
        self._held: dict[str, frozenset[str]] = {}  # rooms of lost sessions, by the same
        self._node = secrets.token_urlsafe(9)
        self._leases: dict[str, int] = {}  # tokens
        self._last_token = 0
        self._states: dict[str, bytes] = {}
        self._writers: dict[str, int] = {}  # tokens, for the states
        self._running: dict[str, trio.Event] = {}  # claimed keys that somebody waits for
        self._history = History(
            HistoryLimits(
                config.history_events,
                config.history_bytes,
                config.recovery_bytes,
                config.history_timeout,
            )
        )
        self._once = Once[Settled](
            OnceLimits(config.once_results, config.once_bytes, config.once_window)
        )

    async def run(self) -> None:
        """See `Backplane`."""
        while True:
            await trio.sleep(SWEEP_INTERVAL)
            self._history.expire(trio.current_time())
            self._once.expire(trio.current_time())

    @property
    def is_ready(self) -> bool:
        """See `Backplane`. Always: it needs nothing."""
        return True

    # Events

    def position(self, namespace: str) -> Position:
        """See `Backplane`."""
        return self._position

    @property
    def reached(self) -> Position:
        """See `Backplane`."""
        return self._position

    async def publish(self, envelope: Envelope) -> Position:
        """See `Backplane`. A checkpoint only if cancelled: the next emission may join this one."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._position = Position(self._position.time_ms, self._position.sequence + 1)
        placed = envelope.placed(self._position)
        self._arrived.append(placed)
        if self._keeps_events:
            if len(placed.rooms) == 1:
                self._begin_own_log(placed.namespace, placed.rooms[0])
            self._history.append(placed, trio.current_time())
        return self._position

    def publish_nowait(self, envelope: Envelope) -> None:
        """See `Backplane`."""
        self._arrived.append(envelope)

    async def subscribe(self, namespace: str, room: str) -> Position:
        """See `Backplane`. Whatever is published arrives here anyway."""
        self._history.begin(namespace, room)
        return self._position

    def unsubscribe(self, namespace: str, room: str) -> None:
        """See `Backplane`."""
        self._history.end(namespace, room)

    def receive_nowait(self) -> list[Arrival]:
        """See `Backplane`."""
        arrived, self._arrived = self._arrived, []
        return arrived

    async def wait(self) -> None:
        """See `Backplane`. There is no elsewhere."""
        await trio.sleep_forever()

    # Sessions

    async def open_session(self, session: SavedSession) -> None:
        """See `Backplane`."""
        membership = session.membership
        membership.since = self._position
        session.is_open = True
        self._sessions[membership.sid] = session
        self._history.begin(session.namespace, "")

    def change_session(self, session: SavedSession) -> None:
        """See `Backplane`. What is here is the session itself."""

    def lose_session(self, session: SavedSession) -> None:
        """See `Backplane`."""
        session.is_lost = True
        self._hold(session)

    async def find_session(self, namespace: str, pid: str) -> SavedSession | None:
        """See `Backplane`."""
        session = self._sessions.get(pid[:SID_CHARS])
        if session is None or session.namespace != namespace:
            return None
        if not hmac.compare_digest(session.pid.encode(), pid.encode()):
            return None
        return session

    async def take_session(self, session: SavedSession) -> bool:
        """See `Backplane`."""
        is_there, session.is_lost = session.is_lost, False
        return is_there

    async def recover(self, session: SavedSession, since: Position) -> list[Envelope] | None:
        """See `Backplane`."""
        if since > self._position:
            return None  # of another server, whose clock was ahead
        return self._history.missed(session.namespace, session.membership, since)

    def keep_session(self, session: SavedSession) -> None:
        """See `Backplane`."""
        self._let_go(session)

    async def end_session(self, session: SavedSession) -> bool:
        """See `Backplane`."""
        if not session.is_open:
            return False
        session.is_open = session.is_lost = False
        self._let_go(session)
        self._history.end(session.namespace, "")
        sid = session.membership.sid
        if sid in self._own_logs:
            self._own_logs.remove(sid)
            self._history.end(session.namespace, sid)
        del self._sessions[sid]
        return True

    def _begin_own_log(self, namespace: str, sid: str) -> None:
        """A socket's own room has a log from the first event on that is for it alone."""
        session = self._sessions.get(sid)
        if session is not None and sid not in self._own_logs and session.namespace == namespace:
            self._own_logs.add(sid)
            self._history.begin(namespace, sid)

    def _hold(self, session: SavedSession) -> None:
        membership = session.membership
        if membership.sid not in self._held:
            self._held[membership.sid] = membership.rooms
            for room in membership.rooms:
                self._history.begin(session.namespace, room)

    def _let_go(self, session: SavedSession) -> None:
        for room in self._held.pop(session.membership.sid, ()):
            self._history.end(session.namespace, room)

    # Other nodes, of which there are none

    @property
    def node(self) -> str:
        """See `Nodes`."""
        return self._node

    @property
    def nodes(self) -> frozenset[str]:
        """See `Nodes`."""
        return frozenset({self._node})

    async def ask(
        self,
        body: bytes,
        *,
        nodes: Iterable[str] | None = None,
        timeout: float,
    ) -> Answers:
        """See `Nodes`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        return Answers({}, frozenset(nodes or ()) - {self._node})

    def answer(self, question: Question, body: bytes) -> None:
        """See `Nodes`. Nobody asks."""

    def tell(self, namespace: str, room: str, body: bytes) -> None:
        """See `Nodes`. Nobody listens."""

    # Leases, which nobody else can have, so they do not end: not by a breakpoint, nor by load

    async def acquire(self, name: str, seconds: float) -> Lease | Held:
        """See `Leases`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if name not in self._leases:
            self._last_token += 1
            self._leases[name] = self._last_token
        return Lease(name, self._leases[name], math.inf)

    async def renew(self, lease: Lease, seconds: float) -> Lease | None:
        """See `Leases`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._leases.get(lease.name) != lease.token:
            return None
        return lease

    async def give_back(self, lease: Lease) -> None:
        """See `Leases`."""
        if self._leases.get(lease.name) == lease.token:
            del self._leases[lease.name]

    async def save(self, lease: Lease, state: bytes | None) -> bool:
        """See `Leases`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        newest = max(self._leases.get(lease.name, 0), self._writers.get(lease.name, 0))
        if newest > lease.token:
            return False
        if state is None:
            self._states.pop(lease.name, None)
            self._writers.pop(lease.name, None)
        else:
            self._states[lease.name] = state
            self._writers[lease.name] = lease.token
        return True

    async def load(self, name: str) -> bytes | None:
        """See `Leases`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        return self._states.get(name)

    async def holders(self, prefix: str) -> dict[str, str]:
        """See `Leases`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        return {name: self._node for name in self._leases if name.startswith(prefix)}

    # Events that run once

    async def claim(self, key: str) -> Settled | None:
        """See `Backplane`."""
        while True:
            found = self._once.begin(key, trio.current_time())
            if found is Begin.NEW:
                return None
            if found is not Begin.RUNNING:
                return found
            await self._running.setdefault(key, trio.Event()).wait()

    def settle(self, key: str, result: Settled) -> None:
        """See `Backplane`."""
        size = len(result.payload) + sum(map(len, result.attachments))
        self._once.settle(key, result, size, trio.current_time())
        self._wake(key)

    def release(self, key: str) -> None:
        """See `Backplane`."""
        self._once.release(key)
        self._wake(key)

    def _wake(self, key: str) -> None:
        bell = self._running.pop(key, None)
        if bell is not None:
            bell.set()
