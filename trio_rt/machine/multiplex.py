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
import math
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
    """How one namespace stands to the connection.

    One that is not listed is absent, one that is being connected has the request in its place.
    """

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
        "hears_main",
    )

    def __init__(
        self, max_namespaces: int, max_attachments: int, connect_timeout: float, now: float
    ) -> None:
        self._max_namespaces = max_namespaces
        self._max_attachments = max_attachments
        self._connect_timeout = connect_timeout
        self._places: dict[str, Place | Connect] = {}  # a request while it is being answered
        self._assembly: Assembly | None = None
        self.hears_main = False
        """Whether an event of the main namespace would be legal now; see `decode_main_event`."""
        self.deadline = now + connect_timeout
        """When `tick` wants to be called."""

    def receive(self, payload: str | bytes, start: int = 0) -> Sequence[Effect]:
        """A message packet arrived: text from `start` on, or the bytes of a binary one."""
        try:
            if type(payload) is str:
                if self._assembly is not None:
                    raise RemoteProtocolError("text where an attachment was due")
                packet = socketio.decode(payload, start)
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

    @property
    def is_assembling(self) -> bool:
        """Whether attachments of a packet are still to come."""
        return self._assembly is not None

    def accepted(self, request: Connect) -> bool:
        """The server lets the client in.

        Returns:
            Whether the client still wants to: False if it has left meanwhile.
        """
        if self._places.get(request.namespace) is not request:
            return False
        self._places[request.namespace] = _CONNECTED
        self._note_main()
        self.deadline = math.inf
        return True

    def refused(self, request: Connect, now: float) -> bool:
        """The server does not let the client in; the answer as for `accepted`."""
        if self._places.get(request.namespace) is not request:
            return False
        del self._places[request.namespace]
        self.check_deserted(now)
        return True

    def put_out(self, namespace: str, now: float) -> None:
        """The server puts the client out of a namespace that it is connected to."""
        if self._places.pop(namespace, None) is not _CONNECTED:
            return
        put_out = [name for name, place in self._places.items() if place is Place.PUT_OUT]
        if len(put_out) >= self._max_namespaces:
            del self._places[put_out[0]]  # by now the client has heard of it
        self._places[namespace] = Place.PUT_OUT
        self._note_main()
        self.check_deserted(now)

    def check_deserted(self, now: float) -> None:
        """Begins the CONNECT deadline anew where the connection is in no namespace any more."""
        if _CONNECTED not in self._places.values() and self.deadline == math.inf:
            self.deadline = now + self._connect_timeout

    def tick(self, now: float) -> Sequence[Effect]:
        """Time has passed."""
        if now < self.deadline:
            return NOTHING
        self.deadline = math.inf
        return (End(reasons.CONNECT_TIMEOUT),)

    def _connect(self, packet: Packet) -> Sequence[Effect]:
        name = packet.namespace
        if self._places.get(name) not in (None, Place.PUT_OUT):
            return _violation("a second CONNECT for one namespace")
        if len(name) > MAX_NAME_CHARS:
            return _violation("a namespace with too long a name")
        if (
            sum(place is not Place.PUT_OUT for place in self._places.values())
            >= self._max_namespaces
        ):
            message = f"more than {self._max_namespaces} namespaces on one connection"
            return (RefuseConnect(name, "too_many_namespaces", message),)
        request = Connect(name, packet.data)
        self._places[name] = request
        return (request,)

    def _disconnect(self, packet: Packet) -> Sequence[Effect]:
        place = self._places.get(packet.namespace)
        if place is None:
            return _violation("a DISCONNECT from a namespace that is not connected")
        if place is Place.PUT_OUT:
            return NOTHING
        del self._places[packet.namespace]
        self._note_main()
        return (Left(packet.namespace),)

    def _refuse_packet(self, packet: Packet) -> Sequence[Effect]:
        if self._places.get(packet.namespace) is Place.PUT_OUT:
            return NOTHING
        return _violation("a packet for a namespace that is not connected")

    def _expect_attachments(self, packet: Packet) -> Sequence[Effect]:
        if self._places.get(packet.namespace) not in (_CONNECTED, Place.PUT_OUT):
            return self._refuse_packet(packet)  # before anything is kept for it
        if packet.attachments > self._max_attachments:
            raise RemoteProtocolError(f"more than {self._max_attachments} attachments")
        self._assembly = Assembly(packet)
        self._note_main()
        return NOTHING

    def _attach(self, buffer: bytes) -> Packet | None:
        if self._assembly is None:
            raise RemoteProtocolError("an attachment without a packet")
        packet = self._assembly.add(buffer)
        if packet is not None:
            self._assembly = None
            self._note_main()
        return packet

    def _note_main(self) -> None:
        self.hears_main = self._assembly is None and self._places.get("/") is _CONNECTED


def _violation(text: str) -> Sequence[Effect]:
    return (End(reasons.FORCED_CLOSE.because(text)),)
