"""Which namespaces one connection is in, and which packets that makes legal.

    namespace   CONNECT      EVENT, ACK   DISCONNECT   CONNECT_ERROR
    ----------  -----------  -----------  -----------  -------------
    ABSENT      Connect      violation    violation    violation
    CONNECTING  violation    violation    Left         violation
    CONNECTED   violation    handed on    Left         violation
    PUT_OUT     Connect      ignored      ignored      violation

A violation ends the whole connection, as Socket.IO's own server does. PUT_OUT is kinder than that
one: what a client sent before it heard that the server had put it out is not its fault.
Source: Socket.IO protocol v5.
"""

import enum
from collections.abc import Sequence

from trio_rt import reasons
from trio_rt.codec import socketio
from trio_rt.codec.attachments import Assembly
from trio_rt.codec.socketio import Packet
from trio_rt.errors import RemoteProtocolError
from trio_rt.machine.effects import Connect, Effect, End, Left, RefuseConnect

MAX_NAME_CHARS = 256
"""A namespace's name travels with every packet; longer ones are somebody's mistake or attack."""

NOTHING: Sequence[Effect] = ()

_FOR_SOCKETS = frozenset({socketio.EVENT, socketio.ACK})


class Place(enum.Enum):
    """How one namespace stands to the connection; one that is not listed is absent."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    PUT_OUT = "put out"


_CONNECTED = Place.CONNECTED  # Python 3.11 takes 0.1 us to look it up, for each message


class Multiplex:
    """The namespaces of one connection.

    Args:
        max_namespaces: how many it may be in at once.
        max_attachments: how many one packet may have.
        connect_timeout: seconds that the connection may be in no namespace.
        now: the time of the handshake.
    """

    __slots__ = (
        "_assembly",
        "_connect_timeout",
        "_max_attachments",
        "_max_namespaces",
        "_places",
        "deadline",
    )

    def __init__(
        self, max_namespaces: int, max_attachments: int, connect_timeout: float, now: float
    ) -> None:
        self._max_namespaces = max_namespaces
        self._max_attachments = max_attachments
        self._connect_timeout = connect_timeout
        self._places: dict[str, Place] = {}
        self._assembly: Assembly | None = None
        self.deadline = now + connect_timeout
        """When `tick` wants to be called."""

    def receive(self, payload: str | bytes) -> Sequence[Effect]:
        """A message packet arrived: text, or the bytes of a binary one."""
        try:
            if type(payload) is str:
                if self._assembly is not None:
                    raise RemoteProtocolError("text where an attachment was due")
                packet = socketio.decode(payload)
                if packet.attachments:
                    return self._expect_attachments(packet)
            else:
                whole = self._attach(payload)  # type: ignore[arg-type]
                if whole is None:
                    return NOTHING
                packet = whole
        except RemoteProtocolError as error:
            return (End(error.reason),)
        if packet.type in _FOR_SOCKETS:
            if self._places.get(packet.namespace) is _CONNECTED:
                return (packet,)
            return self._refuse_packet(packet)
        if packet.type == socketio.CONNECT:
            return self._connect(packet)
        if packet.type == socketio.DISCONNECT:
            return self._disconnect(packet)
        return _violation("a packet that only servers send")

    def accepted(self, namespace: str) -> None:
        """The server let the client into a namespace."""
        self._places[namespace] = Place.CONNECTED
        self.deadline = float("inf")

    def absent(self, namespace: str, now: float) -> None:
        """The server did not let the client in, or the client has left."""
        self._places.pop(namespace, None)
        self._check_deserted(now)

    def put_out(self, namespace: str, now: float) -> None:
        """The server put the client out of a namespace."""
        self._places[namespace] = Place.PUT_OUT
        self._check_deserted(now)

    def tick(self, now: float) -> Sequence[Effect]:
        """Time has passed."""
        if now < self.deadline:
            return NOTHING
        self.deadline = float("inf")
        return (End(reasons.CONNECT_TIMEOUT),)

    def _connect(self, packet: Packet) -> Sequence[Effect]:
        name = packet.namespace
        if self._places.get(name) in (Place.CONNECTING, Place.CONNECTED):
            return _violation("a second CONNECT for one namespace")
        if len(name) > MAX_NAME_CHARS:
            return _violation("a namespace with too long a name")
        if name not in self._places and len(self._places) >= self._max_namespaces:
            message = f"more than {self._max_namespaces} namespaces on one connection"
            return (RefuseConnect(name, "too_many_namespaces", message),)
        self._places[name] = Place.CONNECTING
        return (Connect(name, packet.data),)

    def _disconnect(self, packet: Packet) -> Sequence[Effect]:
        place = self._places.get(packet.namespace)
        if place is None:
            return _violation("a DISCONNECT from a namespace that is not connected")
        if place is Place.PUT_OUT:
            return NOTHING
        del self._places[packet.namespace]
        return (Left(packet.namespace),)

    def _refuse_packet(self, packet: Packet) -> Sequence[Effect]:
        if self._places.get(packet.namespace) is Place.PUT_OUT:
            return NOTHING
        return _violation("a packet for a namespace that is not connected")

    def _expect_attachments(self, packet: Packet) -> Sequence[Effect]:
        if packet.attachments > self._max_attachments:
            raise RemoteProtocolError(f"more than {self._max_attachments} attachments")
        self._assembly = Assembly(packet)
        return NOTHING

    def _attach(self, buffer: bytes) -> Packet | None:
        if self._assembly is None:
            raise RemoteProtocolError("an attachment without a packet")
        packet = self._assembly.add(buffer)
        if packet is not None:
            self._assembly = None
        return packet

    def _check_deserted(self, now: float) -> None:
        """A connection in no namespace has the CONNECT deadline again."""
        if Place.CONNECTED not in self._places.values() and self.deadline == float("inf"):
            self.deadline = now + self._connect_timeout


def _violation(text: str) -> Sequence[Effect]:
    return (End(reasons.FORCED_CLOSE.because(text)),)
