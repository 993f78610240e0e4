"""One event on its way to the members of rooms, and the place that it has in the order."""

import msgspec

from trio_rt.codec.position import Position
from trio_rt.codec.socketio import Encoded
from trio_rt.policies import CLOSE, Policy

_OVERHEAD_BYTES = 400
"""About what an envelope and its parts take besides the payload."""


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """One event on its way to the members of rooms.

    A msgspec struct, as `Packet` is one: two are made for each emission.
    """

    namespace: str

    rooms: tuple[str, ...]
    """Rooms, or ids of sockets, whose members get it; empty for everybody in the namespace."""

    excepted: tuple[str, ...]
    """Rooms, or ids of sockets, whose members do not."""

    packet: Encoded

    policy: Policy = CLOSE
    """What happens at a member that reads too slowly."""

    is_volatile: bool = False
    """Whether members that cannot take it at once may go without, and nobody recovers it."""

    position: Position | None = None
    """Its place, once the backplane has accepted it; None for what cannot be recovered."""

    def placed(self, position: Position) -> "Envelope":
        """The same with a place."""
        return Envelope(
            self.namespace,
            self.rooms,
            self.excepted,
            self.packet,
            self.policy,
            self.is_volatile,
            position,
        )

    @property
    def size_bytes(self) -> int:
        """About what it takes to keep it."""
        return len(self.packet.text) + sum(map(len, self.packet.attachments)) + _OVERHEAD_BYTES
