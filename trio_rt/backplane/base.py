"""Contract of a backplane: how events reach the members of rooms, and sessions their clients.

The promise: `publish` returns when the event has its place in the order of all events of its
namespace, and from then on it is delivered to every node that has subscribed to one of its rooms,
exactly once and in that order; a node that may have missed something is told so. A session that was
lost finds what it missed for as long as the configuration says, on any node, or is told that it
does not.

It knows nothing of what rooms mean, and nothing of Socket.IO but the already encoded packet that
an envelope carries.
"""

from abc import abstractmethod
from typing import Any

import attrs

from trio_rt.auth import User
from trio_rt.backplane.leases import Held, Lease, Leases
from trio_rt.backplane.nodes import Answers, Fenced, NodeDown, Nodes, Note, Question, Rejoined
from trio_rt.codec.envelope import Envelope
from trio_rt.codec.position import Position, Reached
from trio_rt.config import Config
from trio_rt.machine.membership import Membership

__all__ = [
    "SID_CHARS",
    "Answers",
    "Arrival",
    "Backplane",
    "Envelope",
    "Fenced",
    "Gap",
    "Held",
    "Lease",
    "NodeDown",
    "Note",
    "Position",
    "Question",
    "Rejoined",
    "SavedSession",
    "Settled",
]


SID_CHARS = 20
"""The length of a socket's id, with which its private id begins."""


@attrs.define(eq=False, weakref_slot=False)
class SavedSession:
    """What makes a client the same one when it comes back on another connection."""

    pid: str
    """The private id: a secret between the client and us, which begins with the socket's id."""

    namespace: str

    user: User

    membership: Membership
    """The socket's id and rooms, and since when."""

    data: dict[str, Any] | None = None
    """What the program keeps with the socket; None while that is nothing."""

    presence: dict[str, dict[str, Any]] | None = None
    """What it shows of itself, by room; None while that is nothing."""

    moves: int = 0
    """How often another node has taken it over."""

    is_open: bool = False
    """Whether it can be recovered, now or when it is lost: the backplane has it."""

    is_lost: bool = False
    """Whether its connection has ended, and the window runs in which it may come back."""


@attrs.frozen
class Settled:
    """The acknowledgement of an event that carried an idempotency key, without its id."""

    payload: bytes
    """JSON, a list."""

    attachments: tuple[bytes, ...] = ()


@attrs.frozen
class Gap:
    """Events of a room did not reach this node, and cannot be read any more.

    Its members have to be told: their sessions cannot be recovered, and begin anew.
    """

    namespace: str
    room: str
    """Empty for what was sent to several rooms or to everybody."""


Arrival = Envelope | Gap | Question | Note | NodeDown | Fenced | Rejoined
"""What the backplane has for a node, in order."""


class Backplane(Nodes, Leases):
    """What joins the nodes of one cluster; a single node has one in memory."""

    @abstractmethod
    def open(self, config: Config) -> None:
        """A server begins: before anything else, and again whenever it is served anew."""

    @abstractmethod
    async def run(self) -> None:
        """Does what has to be done in the background, until it is cancelled."""

    def begin_namespace(self, namespace: str) -> None:
        """A namespace is there from now on; said after each `open` for those that are.

        Only for a backplane that listens to whole namespaces.
        """

    def end_namespace(self, namespace: str) -> None:
        """A namespace that was there is not any more: its last client has left."""

    @property
    @abstractmethod
    def is_ready(self) -> bool:
        """Whether events reach this node, and leave it: else clients are better off elsewhere."""

    # Events

    @abstractmethod
    def position(self, namespace: str) -> Position:
        """Whatever this node gets in a namespace up to here has been taken with `receive_nowait`.

        All events of one namespace have one order; those of two may have two, whose positions
        mean nothing to each other.
        """

    @property
    @abstractmethod
    def reached(self) -> Reached:
        """`position` of all namespaces, as it is now: `position_in` reads it later."""

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
    async def subscribe(self, namespace: str, room: str) -> Position:
        """From here on events for this room arrive: its first local member joins.

        Returns:
            The position behind which they do.
        """

    @abstractmethod
    def unsubscribe(self, namespace: str, room: str) -> None:
        """Events for this room need not arrive any more: its last local member has left."""

    @abstractmethod
    def receive_nowait(self) -> list[Arrival]:
        """Takes all that has arrived for this node, in order."""

    @abstractmethod
    async def wait(self) -> None:
        """Waits until something has arrived that was published elsewhere."""

    # Sessions

    @abstractmethod
    async def open_session(self, session: SavedSession) -> None:
        """A session begins; its membership is told since when."""

    @abstractmethod
    def change_session(self, session: SavedSession) -> None:
        """The rooms of an open session have changed."""

    @abstractmethod
    def lose_session(self, session: SavedSession) -> None:
        """Its connection has ended, and it may come back: its rooms are listened to until then.

        Called before its socket leaves them.
        """

    @abstractmethod
    async def find_session(self, namespace: str, pid: str) -> SavedSession | None:
        """The open session with this private id, lost or not; whoever asks has proven nothing."""

    @abstractmethod
    async def take_session(self, session: SavedSession) -> bool:
        """A lost session that was found has come back.

        Returns:
            Whether it is the caller's now: False if another one was faster, or it has ended.
        """

    @abstractmethod
    async def recover(self, session: SavedSession, since: Position) -> list[Envelope] | None:
        """What a session that was taken has missed, in order.

        It is everything up to the `position` of its namespace, as that is when this returns: a
        socket that is made a member before the next checkpoint misses nothing and gets nothing
        twice.

        Args:
            session: whose rooms count, each since it was joined.
            since: what the client has got.

        Returns:
            None if some of it is not kept any more, or it is too much.
        """

    @abstractmethod
    def keep_session(self, session: SavedSession) -> None:
        """A session that was taken is connected again, and its socket is back in its rooms."""

    @abstractmethod
    async def end_session(self, session: SavedSession) -> bool:
        """A session has ended for good.

        Returns:
            Whether it ended now: False if it had, or is somewhere else.
        """

    # Events that run once

    @abstractmethod
    async def claim(self, key: str) -> Settled | None:
        """An event with an idempotency key arrived. Waits while the same one runs.

        Returns:
            The result of the first; None if this is the first: run it, then `settle` or `release`.
        """

    @abstractmethod
    def settle(self, key: str, result: Settled) -> None:
        """The event that was claimed has this result; resends get it as well."""

    @abstractmethod
    def release(self, key: str) -> None:
        """The event that was claimed was given up without a result: a resend runs again."""
