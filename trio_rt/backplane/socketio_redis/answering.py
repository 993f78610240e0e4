"""Requests of other servers as our questions, and our answers as responses.

Every server that is counted has to respond to every request that wants it, or whoever asks waits
for its whole timeout: so what asks for nothing that we know is answered by nothing, in its shape.
"""

from datetime import UTC, datetime
from typing import Any

import attrs
import trio

from trio_rt.backplane.base import Question
from trio_rt.backplane.socketio_redis.names import Names
from trio_rt.backplane.socketio_redis.sending import Sending
from trio_rt.codec import node_cluster, questions
from trio_rt.codec.node_cluster import Options, Request, Response
from trio_rt.codec.questions import CallEach, Find, Move, PutOut, ServerEvent, Show, Shown
from trio_rt.errors import RemoteProtocolError

MAX_CALL = 60.0
"""Seconds for which clients are waited for, whatever another server's timeout is."""


@attrs.frozen
class Asked(Question):
    """A request of another server as a question."""

    namespace: str
    request: Request
    done: trio.Event = attrs.field(factory=trio.Event)
    """Set when it was answered, first or for good."""

    @property
    def is_move(self) -> bool:
        """Whether what comes behind it may count on it."""
        return self.request.type in (node_cluster.REMOTE_JOIN, node_cluster.REMOTE_LEAVE)


class Answering:
    """Answers the other servers.

    Args:
        sending: publishes the responses.
        names: how channels are called.
        uid: this server's; its own requests are not for it.
    """

    def __init__(self, sending: Sending, names: Names, uid: str) -> None:
        self._sending = sending
        self._names = names
        self._uid = uid

    def take(self, namespace: str, data: bytes) -> Asked | None:
        """A request was heard: the question that it is; None for our own.

        Raises:
            RemoteProtocolError: if it is none, or none that we know.
        """
        request = node_cluster.decode_request(data)
        if request.uid == self._uid:
            return None
        body = questions.encode(_translate(namespace, request))
        return Asked(request.request_id or "", request.uid or "a server", body, namespace, request)

    def answer(self, asked: Asked, body: bytes) -> None:
        """Responds to a request."""
        id = asked.request.request_id
        if id is None:
            return
        response = _respond(id, asked.request, body)
        if response is not None:
            channel = self._names.responses(asked.namespace)
            self._sending.publish(channel, node_cluster.encode_response(response))


def _translate(namespace: str, request: Request) -> questions.Question:
    options = request.opts or Options()
    rooms, excepted = options.names, options.excepted
    match request.type:
        case node_cluster.SOCKETS:
            return Find(namespace, tuple(map(str, request.rooms)), ())
        case node_cluster.ALL_ROOMS:
            return Find(namespace, (), ())
        case node_cluster.REMOTE_FETCH:
            return Show(namespace, rooms, excepted)
        case node_cluster.REMOTE_JOIN | node_cluster.REMOTE_LEAVE | node_cluster.REMOTE_DISCONNECT:
            return _translate_order(namespace, request)
        case node_cluster.SERVER_SIDE_EMIT if request.data and type(request.data[0]) is str:
            arguments = node_cluster.as_plain(request.data[1:])
            wants_answer = request.request_id is not None
            return ServerEvent(namespace, request.data[0], arguments, wants_answer)
        case node_cluster.BROADCAST if request.packet is not None:
            event = node_cluster.check_event(request.packet)
            node_cluster.write_event(request.packet)  # refuses what clients could not take
            arguments = node_cluster.as_plain(request.packet.data[1:])
            return CallEach(namespace, rooms, excepted, event, arguments, _seconds(options))
        case _:
            raise RemoteProtocolError(f"a request of an unknown type: {request.type}")


def _translate_order(namespace: str, request: Request) -> Move | PutOut:
    """An order for sockets; old servers name a single one."""
    if request.opts is not None:
        rooms, excepted = request.opts.names, request.opts.excepted
        moved = tuple(map(str, request.rooms))
    elif request.sid:
        rooms, excepted = (request.sid,), ()
        moved = () if request.room is None else (str(request.room),)
    else:
        raise RemoteProtocolError("an order that names no sockets")
    if request.type == node_cluster.REMOTE_DISCONNECT:
        return PutOut(namespace, rooms, excepted, request.close is True)
    if not all(moved):
        raise RemoteProtocolError("a room without a name")
    if request.type == node_cluster.REMOTE_JOIN:
        return Move(namespace, rooms, excepted, moved, ())
    return Move(namespace, rooms, excepted, (), moved)


def _seconds(options: Options) -> float:
    """How long another server waits for clients."""
    milliseconds = options.flag("timeout")
    if not isinstance(milliseconds, int | float) or not milliseconds >= 0:
        return 0.0
    return min(milliseconds / 1000, MAX_CALL)


def _respond(id: str, request: Request, body: bytes) -> Response | None:
    """The response that an answer is; None if there is none to be sent."""
    match request.type:
        case node_cluster.SOCKETS:
            found = questions.decode_sockets(body)
            return Response(request_id=id, sockets=[socket.id for socket in found])
        case node_cluster.ALL_ROOMS:
            rooms: set[str] = set()
            for socket in questions.decode_sockets(body):
                rooms |= socket.rooms | {socket.id}
            return Response(request_id=id, rooms=sorted(rooms))
        case node_cluster.REMOTE_FETCH:
            shown = questions.decode_shown(body)
            return Response(request_id=id, sockets=[_describe(socket) for socket in shown])
        case node_cluster.SERVER_SIDE_EMIT:
            value = questions.decode_server_answer(body).value
            return Response(request_id=id, type=node_cluster.SERVER_SIDE_EMIT, data=value)
        case node_cluster.BROADCAST:
            said = questions.decode_each(body)
            if isinstance(said, int):
                type = node_cluster.BROADCAST_CLIENT_COUNT
                return Response(request_id=id, type=type, client_count=said)
            first = said[0] if said else None
            return Response(request_id=id, type=node_cluster.BROADCAST_ACK, packet=first)
        case _:  # an order, whose response only old servers wait for
            return None if request.opts is not None else Response(request_id=id)


def _describe(socket: Shown) -> dict[str, Any]:
    """A socket as Node's servers see it. The auth payload stays here: it may be a secret."""
    time = datetime.fromtimestamp(socket.issued, UTC)
    return {
        "id": socket.id,
        "handshake": {
            "headers": socket.headers,
            "time": f"{time:%a %b %d %Y %H:%M:%S} GMT+0000 (Coordinated Universal Time)",
            "address": socket.address,
            "xdomain": "origin" in socket.headers,
            "secure": socket.secure,
            "issued": round(socket.issued * 1000),
            "url": socket.url,
            "query": socket.query,
            "auth": {},
        },
        "rooms": [socket.id, *sorted(socket.rooms)],
        "data": socket.data,
    }
