"""Contract of a backplane: how an event reaches the members of a room, wherever they are.

The promise: `publish` returns when the event has its place in the order of all events, and from
then on it is delivered to every node that has subscribed to one of its rooms, exactly once and in
that order; a node that may have missed something is told so. It knows nothing of what rooms mean,
and nothing of Socket.IO but the already encoded packet that it carries.
"""

from abc import ABC, abstractmethod

import attrs

from trio_rt.codec.socketio import Encoded
from trio_rt.outbox import CLOSE, Policy


@attrs.frozen
class Position:
    """A place in the order of all events."""

    epoch: str
    """Names the history; positions of different ones cannot be compared."""

    offset: int
    """Grows by one with every event of the epoch."""


@attrs.frozen
class Envelope:
    """One event on its way to the members of rooms."""

    namespace: str
    rooms: tuple[str, ...]
    """Rooms, or ids of sockets, whose members get it; empty for everybody in the namespace."""
    excepted: tuple[str, ...]
    """Rooms, or ids of sockets, whose members do not."""
    packet: Encoded
    policy: Policy = CLOSE
    """What happens at a member that reads too slowly."""
    is_volatile: bool = False
    """Whether members that cannot take it at once may go without."""


class Backplane(ABC):
    """What joins the nodes of one cluster; a single node has one in memory."""

    @abstractmethod
    async def publish(self, envelope: Envelope) -> Position:
        """Accepts an event: from here on it is not lost.

        Whoever publishes takes what has arrived with `receive_nowait` right after.
        Cancelled while it waits, the event may or may not have been accepted.
        """

    @abstractmethod
    def publish_nowait(self, envelope: Envelope) -> None:
        """Accepts a volatile event, or drops it where that would mean to wait."""

    @abstractmethod
    async def subscribe(self, namespace: str, room: str) -> None:
        """From here on events for this room arrive: its first local member joins."""

    @abstractmethod
    def unsubscribe(self, namespace: str, room: str) -> None:
        """Events for this room need not arrive any more: its last local member has left."""

    @abstractmethod
    def receive_nowait(self) -> list[Envelope]:
        """Takes all that has arrived for this node, in order."""

    @abstractmethod
    async def wait(self) -> None:
        """Waits until something has arrived that was published elsewhere."""
