"""What happened to a client's connection, as a stream that no slow reader can make grow."""

from collections import deque
from weakref import WeakSet

import attrs
import trio

from trio_rt.machine.reconnect import ConnectionState
from trio_rt.reasons import Reason

KEPT = 16
"""Changes that wait for one slow reader; the oldest make room, for the newest count."""


@attrs.frozen
class Change:
    """One step of a connection."""

    before: ConnectionState
    """Where it stood."""

    state: ConnectionState
    """Where it stands now."""

    reason: Reason | None
    """Why it is not connected; None while it is, and before its first ending."""

    recovered: bool
    """Whether the session goes on as if nothing had happened: what was missed has been sent.
    False where a session is new: ask again for all that matters."""


class Changes:
    """The changes from its making on: `async for change in client.changes()`.

    It ends when there can be no more. Of those that were not asked for yet the last 16 are kept.
    """

    def __init__(self) -> None:
        self._changes: deque[Change] = deque(maxlen=KEPT)
        self._has_ended = False
        self._news = trio.lowlevel.ParkingLot()

    def add(self, change: Change) -> None:
        """Something changed."""
        self._changes.append(change)
        self._news.unpark_all()

    def end(self) -> None:
        """Nothing will change any more."""
        self._has_ended = True
        self._news.unpark_all()

    def __aiter__(self) -> "Changes":
        return self

    async def __anext__(self) -> Change:
        await trio.lowlevel.checkpoint()
        while not self._changes:
            if self._has_ended:
                raise StopAsyncIteration
            await self._news.park()
        return self._changes.popleft()


class Listeners:
    """All who listen to the changes of one client, as long as they do."""

    def __init__(self) -> None:
        self._changes: WeakSet[Changes] = WeakSet()
        self._has_ended = False

    def listen(self) -> Changes:
        """One more, from now on."""
        changes = Changes()
        self._changes.add(changes)
        if self._has_ended:
            changes.end()
        return changes

    def tell(self, change: Change) -> None:
        """Something changed."""
        for changes in self._changes:
            changes.add(change)

    def end(self) -> None:
        """Nothing will change any more."""
        self._has_ended = True
        for changes in self._changes:
            changes.end()
