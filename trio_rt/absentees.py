"""Sessions whose connection was lost, until the time is over in which they may come back."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import attrs
import trio

from trio_rt.backplane.base import SavedSession
from trio_rt.connection import Connection
from trio_rt.reasons import Reason

if TYPE_CHECKING:
    from trio_rt.namespace import Namespace
    from trio_rt.socket import Socket


@attrs.frozen(eq=False)
class Absentee:
    """One lost session."""

    session: SavedSession
    namespace: Namespace
    reason: Reason
    """Why it was lost."""
    socket: Socket | None
    """For `on_leave`, where the program has one."""
    deadline: float
    """When it may not come back any more, on Trio's clock."""


@attrs.frozen(eq=False)
class Returning:
    """A connection on which a lost session is coming back."""

    connection: Connection
    is_over: trio.Event = attrs.field(factory=trio.Event)
    """Set when it is back, or lost again."""


class Absentees:
    """All lost sessions of a node, in the order in which their time ends."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, Absentee] = OrderedDict()
        self._late: dict[str, Absentee] = {}  # were coming back when their time was over
        self._returning: dict[str, Returning] = {}
        self._came = trio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, absentee: Absentee) -> None:
        """A session was lost. Deadlines have to come in order."""
        sid = absentee.session.membership.sid
        self._waiting[sid] = absentee
        self._waiting.move_to_end(sid)
        self._came.set()

    def remove(self, session: SavedSession) -> Absentee | None:
        """A session came back, or has ended; None if it was not lost here."""
        sid = session.membership.sid
        return self._waiting.pop(sid, None) or self._late.pop(sid, None)

    def begin_return(self, session: SavedSession, connection: Connection) -> None:
        """A session was taken, for a client that is not connected yet."""
        self._returning[session.membership.sid] = Returning(connection)

    async def cut_return(self, session: SavedSession, reason: Reason) -> bool:
        """Ends the connection on which a session is coming back, and waits until that is over.

        Returns:
            Whether there was one.
        """
        returning = self._returning.get(session.membership.sid)
        if returning is None:
            return False
        returning.connection.end(reason)
        await returning.is_over.wait()
        return True

    def end_return(self, session: SavedSession) -> None:
        """A session that was taken is back, or has ended, or is lost as before: in that case its
        time may be over by now."""
        sid = session.membership.sid
        self._returning.pop(sid).is_over.set()
        late = self._late.pop(sid, None)
        if late is not None and session.is_lost:
            self._waiting[sid] = late
            self._waiting.move_to_end(sid, last=False)
            self._came.set()

    def clear(self) -> None:
        """Another life begins with nobody."""
        self._waiting.clear()
        self._late.clear()

    async def next_due(self, limit: int) -> Absentee:
        """Waits until the time of the oldest is over, and removes it.

        One that is just coming back is left to whoever lets it in.

        Args:
            limit: how many may wait; more than that, and the time of the oldest is over.
        """
        while True:
            now = trio.current_time()
            while self._waiting:
                sid, first = next(iter(self._waiting.items()))
                if first.deadline > now and len(self._waiting) <= limit:
                    break
                del self._waiting[sid]
                if first.session.is_lost:
                    return first
                self._late[sid] = first
            await self._wait(now)

    async def _wait(self, now: float) -> None:
        """Until the first is due, or another one comes."""
        if self._waiting:
            first = next(iter(self._waiting.values()))
            await trio.sleep(min(first.deadline - now, 1.0))
        else:
            self._came = trio.Event()
            await self._came.wait()
