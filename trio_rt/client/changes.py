"""What happened to a client's connection, as a stream that no slow reader can make grow."""

from collections import deque
from collections.abc import AsyncGenerator

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
    """Tells changes to all who listen."""

    def __init__(self) -> None:
        self._listeners: set[_Listener] = set()
        self._has_ended = False

    def tell(self, change: Change) -> None:
        """Something changed."""
        for listener in self._listeners:
            listener.changes.append(change)
            listener.lot.unpark_all()

    def end(self) -> None:
        """Nothing will change any more."""
        self._has_ended = True
        for listener in self._listeners:
            listener.lot.unpark_all()

    async def listen(self) -> AsyncGenerator[Change, None]:
        """The changes from the first wait on, until there can be no more."""
        listener = _Listener()
        self._listeners.add(listener)
        try:
            while True:
                while listener.changes:
                    yield listener.changes.popleft()
                if self._has_ended:
                    return
                await listener.lot.park()
        finally:
            self._listeners.discard(listener)


class _Listener:
    def __init__(self) -> None:
        self.changes: deque[Change] = deque(maxlen=KEPT)
        self.lot = trio.lowlevel.ParkingLot()
