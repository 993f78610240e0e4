"""One Engine.IO session, the client's half, and the namespaces that it carries.

    state    open packet  ping      message  other  tick
    -------  -----------  --------  -------  -----  --------------------
    OPENING  Opened       End       End      End
    OPEN     End          SendPong  upwards  (1)    silence: End
    PAUSED   End          SendPong  upwards  (1)    SendPong, unasked (2)
    CLOSED

    namespace  CONNECT    EVENT, ACK  DISCONNECT  CONNECT_ERROR
    ---------  ---------  ----------  ----------  --------------
    ABSENT                                                        (3)
    ASKED      Connected  handed on   PutOut      ConnectRefused  (4)
    CONNECTED  End        handed on   PutOut      ConnectRefused

    (1) A server's `1`, `3`, `5` and `6` mean nothing on a WebSocket, and are ignored, as the
        official client does. Anything else ends the session.
    (2) While we do not read we cannot see pings. A pong in each half of the ping timeout answers
        them unseen, so that a server never takes our own pause for our death; what it wants to
        send meanwhile is bounded by its own limits for slow clients.
    (3) Ignored: what the server sent before it heard that we had left is not its fault.
    (4) Events that come before the CONNECT reply are those that a recovered session had missed.

Only pings count as signs of life, as with the official client: everything else could come from a
proxy's buffers. Source: Engine.IO protocol, revision 4; Socket.IO protocol v5.
"""

import enum
import math
from collections.abc import Sequence
from typing import Any

import attrs

from trio_rt import reasons
from trio_rt.codec import engineio, socketio
from trio_rt.codec.attachments import Assembly
from trio_rt.codec.socketio import Packet
from trio_rt.errors import RemoteProtocolError
from trio_rt.machine.effects import End


@attrs.frozen
class Opened:
    """The session is open: namespaces can be asked for."""

    max_payload_bytes: int
    """The largest message that the server takes."""


@attrs.frozen
class Connected:
    """The server has let us into a namespace that we asked for."""

    namespace: str
    sid: str
    """The public id of our socket there."""
    pid: str | None
    """The private id by which the session can be recovered; None if the server keeps none."""
    takes_keys: bool
    """Whether the server wants each event with its idempotency key."""


@attrs.frozen
class ConnectRefused:
    """The server does not let us into a namespace, or not any more."""

    namespace: str
    message: str
    data: Any


@attrs.frozen
class PutOut:
    """The server has put us out of a namespace."""

    namespace: str


@attrs.frozen
class SendPong:
    """A pong is due."""


Effect = Opened | Connected | ConnectRefused | PutOut | SendPong | End | Packet
"""A `Packet` is an EVENT or ACK of a namespace that we are in, handed on as it is."""

NOTHING: Sequence[Effect] = ()

_MEANINGLESS = frozenset({engineio.CLOSE, engineio.PONG, engineio.UPGRADE, engineio.NOOP})


class DialogueState(enum.Enum):
    """How far the session has come."""

    OPENING = "opening"
    OPEN = "open"
    PAUSED = "paused"
    CLOSED = "closed"


class Dialogue:
    """One session, from the first message of its transport to the last.

    Args:
        max_attachments: how many binary values one packet may have.
    """

    __slots__ = (
        "_assembly",
        "_interval",
        "_max_attachments",
        "_places",
        "_timeout",
        "deadline",
        "state",
    )

    def __init__(self, max_attachments: int) -> None:
        self._max_attachments = max_attachments
        self._assembly: Assembly | None = None
        self._interval = self._timeout = math.inf
        self._places: dict[str, bool] = {}  # whether it is connected; absent ones are not here
        self.deadline = math.inf
        """When `tick` wants to be called."""
        self.state = DialogueState.OPENING

    def receive(self, message: str | bytes, now: float) -> Sequence[Effect]:
        """A message arrived from the transport."""
        if self.state is DialogueState.CLOSED:
            return NOTHING
        try:
            if self.state is DialogueState.OPENING:
                return self._open(message, now)
            if isinstance(message, bytes):
                return self._attach(message)
            kind = message[:1]
            if kind == engineio.MESSAGE:
                return self._take(message[1:])
            if kind == engineio.PING:
                return self._answer_ping(now)
            if kind == "b":
                return self._attach(engineio.decode_base64(message))
            if kind not in _MEANINGLESS:
                raise RemoteProtocolError("an Engine.IO packet that no server sends")
        except RemoteProtocolError as error:
            return self._end(error)
        return NOTHING

    def tick(self, now: float) -> Sequence[Effect]:
        """Time has passed."""
        if now < self.deadline:
            return NOTHING
        if self.state is DialogueState.PAUSED:
            self.deadline = now + self._timeout / 2
            return (SendPong(),)
        self.close()
        return (End(reasons.PING_TIMEOUT.because("no ping of the server came in time")),)

    def pause(self, now: float) -> None:
        """From now on nothing is read."""
        if self.state is DialogueState.OPEN:
            self.state = DialogueState.PAUSED
            self.deadline = now + self._timeout / 2

    def resume(self, now: float) -> None:
        """Reading goes on; the server has its whole time from now."""
        if self.state is DialogueState.PAUSED:
            self.state = DialogueState.OPEN
            self._expect_ping(now)

    def close(self) -> None:
        """The session has ended: nothing means anything any more."""
        self.state = DialogueState.CLOSED
        self.deadline = math.inf

    @property
    def is_assembling(self) -> bool:
        """Whether attachments of a packet are still to come."""
        return self._assembly is not None

    # Namespaces

    def ask(self, namespace: str) -> None:
        """We ask to be let into a namespace."""
        self._places[namespace] = False

    def leave(self, namespace: str) -> None:
        """We leave a namespace, or do not want to be let in any more."""
        self._places.pop(namespace, None)

    def _open(self, message: str | bytes, now: float) -> Sequence[Effect]:
        if isinstance(message, bytes):
            raise RemoteProtocolError("binary where the open packet was due")
        opened = engineio.decode_open(message)
        self._interval = opened.ping_interval / 1000
        self._timeout = opened.ping_timeout / 1000
        self.state = DialogueState.OPEN
        self._expect_ping(now)
        return (Opened(opened.max_payload),)

    def _answer_ping(self, now: float) -> Sequence[Effect]:
        if self.state is DialogueState.OPEN:
            self._expect_ping(now)
        return (SendPong(),)

    def _expect_ping(self, now: float) -> None:
        self.deadline = now + self._interval + self._timeout

    def _take(self, payload: str) -> Sequence[Effect]:
        """A Socket.IO packet, whose attachments may be still to come."""
        if self._assembly is not None:
            raise RemoteProtocolError("text where an attachment was due")
        packet = socketio.decode(payload)
        if packet.attachments > self._max_attachments:
            raise RemoteProtocolError(f"more than {self._max_attachments} attachments")
        if packet.attachments:
            self._assembly = Assembly(packet)
            return NOTHING
        return self._decide(packet)

    def _attach(self, buffer: bytes) -> Sequence[Effect]:
        if self._assembly is None:
            raise RemoteProtocolError("an attachment without a packet")
        packet = self._assembly.add(buffer)
        if packet is None:
            return NOTHING
        self._assembly = None
        return self._decide(packet)

    def _decide(self, packet: Packet) -> Sequence[Effect]:
        name = packet.namespace
        is_connected = self._places.get(name)
        if is_connected is None:
            return NOTHING
        if packet.type in (socketio.EVENT, socketio.ACK):
            return (packet,)
        if packet.type == socketio.CONNECT:
            if is_connected:
                raise RemoteProtocolError("a second CONNECT for one namespace")
            self._places[name] = True
            return (_read_connect(packet),)
        del self._places[name]
        if packet.type == socketio.DISCONNECT:
            return (PutOut(name),)
        return (_read_refusal(packet),)

    def _end(self, error: RemoteProtocolError) -> Sequence[Effect]:
        self.close()
        return (End(error.reason),)


def _read_connect(packet: Packet) -> Connected:
    data: dict[str, Any] = packet.data or {}
    sid, pid = data.get("sid"), data.get("pid")
    if not isinstance(sid, str):
        raise RemoteProtocolError("a CONNECT reply without a sid: is it an old Socket.IO server?")
    return Connected(
        packet.namespace, sid, pid if isinstance(pid, str) else None, data.get("rt") == 1
    )


def _read_refusal(packet: Packet) -> ConnectRefused:
    data: dict[str, Any] = packet.data or {}
    return ConnectRefused(packet.namespace, str(data.get("message", "")), data.get("data"))
