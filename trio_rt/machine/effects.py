"""What the machines of a connection decide, as values: the connection carries them out."""

from typing import Any

import attrs

from trio_rt.codec.socketio import Packet
from trio_rt.reasons import Reason


@attrs.frozen
class Connect:
    """The client asks to be connected to a namespace."""

    namespace: str
    auth: dict[str, Any] | None


@attrs.frozen
class Left:
    """The client left a namespace it was connected, or being connected, to."""

    namespace: str


@attrs.frozen
class RefuseConnect:
    """The client asks for a namespace that it must not have now: answer with this."""

    namespace: str
    code: str
    message: str


@attrs.frozen
class SendPing:
    """A ping is due."""


@attrs.frozen
class End:
    """The connection has to end."""

    reason: Reason


Effect = Connect | Left | RefuseConnect | SendPing | End | Packet
"""A `Packet` is a legal EVENT or ACK, handed on as it is."""
