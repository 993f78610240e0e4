"""Contract of a transport: Engine.IO messages in both directions, over anything.

A message is a text (`str`) or binary (`bytes`) that holds one Engine.IO packet. What goes out is
encoded by the transport once and is then opaque to everybody else: the same bytes may go to a
thousand transports with the same `framing`.
"""

from abc import ABC, abstractmethod

from trio_rt.codec.socketio import Encoded
from trio_rt.reasons import Reason
from trio_rt.schedule.bell import Bell


class Transport(ABC):
    """One transport session of one client. It has one reader and one writer."""

    __slots__ = ()

    name: str
    """As the Engine.IO protocol calls it: `"websocket"`, `"polling"`."""

    framing: str
    """Names the way `encode` writes: what one transport encoded, others of the same can send."""

    readable: Bell
    """Rung while `receive_nowait` may return something, or raise."""

    unread: Bell
    """Rung when something arrives while nobody waits for `readable`."""

    blocked: Bell
    """Rung when the transport has become blocked."""

    received_bytes: int
    """How many bytes have been taken by `receive_nowait` so far, as they came."""

    is_blocked: bool
    """Whether something accepted waits for the peer: `drain` has to be awaited before more."""

    @abstractmethod
    def receive_nowait(self) -> list[str | bytes]:
        """The messages that have arrived, in order; empty if there is no whole one yet.

        Raises:
            TransportClosed: if the transport has ended, or the peer broke its protocol, with the
                reason. What the peer sent before that was returned by an earlier call.
        """

    @abstractmethod
    def encode(self, packet: Encoded, offset: bytes = b"") -> bytes:
        """A Socket.IO packet with its attachments, ready for `send_nowait`.

        Args:
            packet: what to send.
            offset: what an event's last argument says of its place, to clients that keep it.
        """

    @abstractmethod
    def send_nowait(self, data: bytes) -> None:
        """Takes all of `data`, and sends what the peer takes now.

        Only to be called while not `is_blocked`; if it is afterwards, `blocked` was rung.

        Raises:
            TransportClosed: if the transport has ended.
        """

    @abstractmethod
    def send_engine(self, packet: bytes) -> None:
        """Sends a text Engine.IO packet (a ping, the open packet) before all that waits.

        Works while `is_blocked` as well: nothing delays a ping but the peer itself.

        Raises:
            TransportClosed: if the transport has ended.
        """

    @abstractmethod
    async def drain(self) -> None:
        """Waits until the peer has taken everything: not `is_blocked` any more.

        Cancelling it is harmless.

        Raises:
            TransportClosed: if the transport has ended.
        """

    @abstractmethod
    async def finish(self, reason: Reason) -> None:
        """Says why, waits for the peer's half of the close, and closes. Idempotent.

        When cancelled it closes at once: the caller sets the deadline.
        """

    @abstractmethod
    def close(self) -> None:
        """Closes at once. Idempotent."""
