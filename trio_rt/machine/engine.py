"""One Engine.IO session, the server's half: what each packet and each deadline means.

    state   message   heartbeat pong   other type          tick
    ------  --------  ---------------  ------------------  --------------------
    OPEN    upwards   noted            parse error, End    ping, expiry, upper's
    CLOSED  ignored   ignored          ignored             ignored

A client's `0`, `1`, `5` and `6` on an open WebSocket mean nothing and are ignored, as Engine.IO's
own server does; a client's `2` is an error there and here.
Source: Engine.IO protocol, revision 4.
"""

import enum
import math
from collections.abc import Sequence

from trio_rt import reasons
from trio_rt.codec import engineio
from trio_rt.codec.socketio import EVENT, Packet, decode_main_event
from trio_rt.errors import RemoteProtocolError
from trio_rt.machine.effects import Effect, End, SendPing
from trio_rt.machine.heartbeat import Beat, Heartbeat
from trio_rt.machine.multiplex import NOTHING, Multiplex

_EVENT_TYPES = f"{engineio.MESSAGE}{EVENT}"
"""How a message begins that is an event without attachments."""

_MEANINGLESS = frozenset({engineio.OPEN, engineio.CLOSE, engineio.UPGRADE, engineio.NOOP})


class EngineState(enum.Enum):
    """Whether the session goes on."""

    OPEN = "open"
    CLOSED = "closed"


# Python 3.11 takes 0.1 us to look up a member of an enum, and this is asked for each message.
_OPEN, _CLOSED = EngineState.OPEN, EngineState.CLOSED


class Engine:
    """One session: its heartbeat, and the namespaces that it carries.

    Args:
        heartbeat: the session's heartbeat.
        multiplex: what gets the payload of message packets.
    """

    __slots__ = ("heartbeat", "multiplex", "state")

    def __init__(self, heartbeat: Heartbeat, multiplex: Multiplex) -> None:
        self.heartbeat = heartbeat
        self.multiplex = multiplex
        self.state = EngineState.OPEN

    @property
    def deadline(self) -> float:
        """When `tick` wants to be called."""
        if self.state is _CLOSED:
            return math.inf
        return min(self.heartbeat.deadline, self.multiplex.deadline)

    def receive_event(self, message: str | bytes) -> Packet | None:
        """The hot path: takes a message if it is a legal event of the main namespace.

        It says of such a one what `receive` would, in two thirds of the time.

        Returns:
            None if it is anything else, which `receive` has to be given then.
        """
        if message[:2] == _EVENT_TYPES and self.multiplex.hears_main and self.state is _OPEN:
            return decode_main_event(message, 2)  # type: ignore[arg-type]  # "42" is no bytes
        return None

    def receive(self, message: str | bytes) -> Sequence[Effect]:
        """A message arrived from the transport."""
        if self.state is _CLOSED:
            return NOTHING
        if type(message) is str and not message.startswith("4"):
            return self._receive_other(message)
        effects = self.multiplex.receive(message, 1)
        if effects and type(effects[0]) is End:
            self.state = _CLOSED
        return effects

    def _receive_other(self, message: str) -> Sequence[Effect]:
        kind = message[:1]
        if kind == engineio.PONG:
            self.heartbeat.pong()
            return NOTHING
        if kind == "b":
            try:
                return self.receive(engineio.decode_base64(message))
            except RemoteProtocolError as error:
                return self._end(End(error.reason))
        if kind in _MEANINGLESS:
            return NOTHING
        return self._end(End(reasons.PARSE_ERROR.because("an unknown Engine.IO packet type")))

    def tick(self, now: float) -> Sequence[Effect]:
        """Time has passed."""
        if self.state is EngineState.CLOSED:
            return NOTHING
        beat = self.heartbeat.tick(now)
        if beat is Beat.EXPIRE:
            return self._end(End(reasons.PING_TIMEOUT))
        effects = self.multiplex.tick(now)
        if effects:
            self.state = _CLOSED
        return (SendPing(), *effects) if beat is Beat.PING else effects

    def close(self) -> None:
        """The session has ended: nothing means anything any more."""
        self.state = EngineState.CLOSED

    def _end(self, end: End) -> Sequence[Effect]:
        self.state = EngineState.CLOSED
        return (end,)
