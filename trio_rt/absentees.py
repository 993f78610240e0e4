"""Sessions whose connection was lost, until the time is over in which they may come back."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import attrs
import trio

from trio_rt.backplane.base import SavedSession
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


class Absentees:
    """All lost sessions of a node, in the order in which their time ends."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, Absentee] = OrderedDict()
        self._late: dict[str, Absentee] = {}  # were coming back when their time was over
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

    def give_back(self, session: SavedSession) -> None:
        """A session was coming back, and is lost as before: its time may be over by now."""
        sid = session.membership.sid
        late = self._late.pop(sid, None)
        if late is not None:
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
