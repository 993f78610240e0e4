"""Our questions as the requests of the classic adapter, and its responses as our answers.

How many servers there are is asked of Redis before each request. Responses do not say who
sends them, so answers and servers that owe one are only numbered.
"""

import secrets
from collections.abc import Callable

import attrs
import trio
from msgspec.structs import replace
from redis.exceptions import RedisError

from trio_rt.backplane.base import Answers
from trio_rt.backplane.redis.steady import SteadyLink
from trio_rt.backplane.socketio_redis.listening import Listening
from trio_rt.backplane.socketio_redis.names import Names
from trio_rt.backplane.socketio_redis.sending import Sending
from trio_rt.codec import node_cluster, questions
from trio_rt.codec.node_cluster import Options, Packet, Request, Response
from trio_rt.codec.questions import (
    CallThem,
    Count,
    Find,
    Gathered,
    Members,
    Move,
    PutOut,
    ServerAnswer,
    ServerEvent,
)
from trio_rt.errors import BackplaneDown, RemoteProtocolError
from trio_rt.log import log

COUNT_WITHIN = 1.0
"""Seconds that other servers may take to say how many sockets an order is for. It goes out then:
one that is silent holds no order up."""

UNREACHED = Answers({}, frozenset({"the other servers"}))
"""While Redis is away nobody knows how many others there are."""

NOBODY = Answers({}, frozenset())


@attrs.define(eq=False)
class _Open:
    """A request whose responses are still coming."""

    is_whole: "Callable[[_Open], bool]"
    responses: list[Response] = attrs.field(factory=list[Response])
    owed: int | None = None
    """Servers that were asked; None while Redis has not told yet."""
    done: trio.Event = attrs.field(factory=trio.Event)

    def look(self) -> None:
        if self.owed is not None and self.is_whole(self):
            self.done.set()

    def of_type(self, type: int) -> list[Response]:
        return [response for response in self.responses if response.type == type]

    def answers(self, bodies: list[bytes]) -> Answers:
        """The answers that were made of the responses, with the servers that owe one."""
        if self.owed is None:
            return UNREACHED
        found = {f"server {number}": body for number, body in enumerate(bodies, 1)}
        silent = (f"silent server {number}" for number in range(1, self.owed - len(bodies) + 1))
        return Answers(found, frozenset(silent))


def _all_have_answered(open: _Open) -> bool:
    return len(open.responses) >= (open.owed or 0)


def _all_have_acknowledged(open: _Open) -> bool:
    """Every server has said how many clients it asked, and as many have answered."""
    counts = open.of_type(node_cluster.BROADCAST_CLIENT_COUNT)
    if len(counts) < (open.owed or 0):
        return False
    asked = sum(response.client_count or 0 for response in counts)
    return len(open.of_type(node_cluster.BROADCAST_ACK)) >= asked


class Asking:
    """The requests of this node.

    Args:
        link: asks Redis how many servers there are.
        sending: publishes them, in order with all events.
        listening: brings the responses.
        names: how channels are called.
        uid: this server's.
    """

    def __init__(
        self, link: SteadyLink, sending: Sending, listening: Listening, names: Names, uid: str
    ) -> None:
        self._link = link
        self._sending = sending
        self._listening = listening
        self._names = names
        self._uid = uid
        self._open: dict[str, _Open] = {}

    async def ask(self, body: bytes, timeout: float) -> Answers:
        """Asks the other servers.

        Args:
            body: one of our questions; those that have no request in the classic adapter are
                answered by nobody.
            timeout: seconds.
        """
        if not self._link.is_up:
            await trio.lowlevel.checkpoint()
            return UNREACHED
        question = questions.decode_question(body)
        if isinstance(question, Find):
            return await self._find(question, timeout)
        if isinstance(question, Count):
            return _encode_counts(*await self._count(question, timeout))
        if isinstance(question, CallThem):
            return await self._call(question, timeout)
        if isinstance(question, PutOut | Move):
            return await self._order(question, timeout)
        if isinstance(question, ServerEvent):
            return await self._tell_servers(question, timeout)
        await trio.lowlevel.checkpoint()
        return NOBODY

    def take(self, data: bytes) -> None:
        """A response was heard.

        Raises:
            RemoteProtocolError: if it is none.
        """
        response = node_cluster.decode_response(data)
        open = self._open.get(response.request_id)
        if open is not None:
            open.responses.append(response)
            open.look()

    async def _find(self, question: Find, timeout: float) -> Answers:
        open = await self._request(
            question.namespace,
            Request(type=node_cluster.REMOTE_FETCH, opts=_options(question)),
            timeout,
        )
        bodies: list[bytes] = []
        for response in open.responses:
            try:
                sockets = node_cluster.read_sockets(question.namespace, response)
            except RemoteProtocolError as error:
                log.warning("another server: %s", error)
            else:
                bodies.append(questions.encode(sockets))
        return open.answers(bodies)

    async def _count(self, question: Members, timeout: float) -> tuple[_Open, list[int]]:
        if question.excepted:
            request = Request(type=node_cluster.REMOTE_FETCH, opts=_options(question))
        else:
            request = Request(type=node_cluster.SOCKETS, rooms=question.rooms)
        open = await self._request(question.namespace, request, timeout)
        return open, [len(response.sockets or ()) for response in open.responses]

    async def _call(self, question: CallThem, timeout: float) -> Answers:
        """Clients' answers come without their ids: they are numbered."""
        flags = {"timeout": round(question.seconds * 1000)}
        packet = Packet([question.event, *question.arguments], nsp=question.namespace)
        open = await self._request(
            question.namespace,
            Request(
                type=node_cluster.BROADCAST,
                packet=packet,
                opts=Options(question.rooms, question.excepted, flags),
            ),
            min(timeout, question.seconds),
            _all_have_acknowledged,
        )
        counts = open.of_type(node_cluster.BROADCAST_CLIENT_COUNT)
        acknowledged = open.of_type(node_cluster.BROADCAST_ACK)
        asked = sum(response.client_count or 0 for response in counts)
        values = {
            f"client {number} of another server": node_cluster.as_plain([response.packet])
            for number, response in enumerate(acknowledged, 1)
        }
        silent = [
            f"client {number} of another server" for number in range(len(values) + 1, asked + 1)
        ]
        gathered = [questions.encode(Gathered(values, silent))] if counts else []
        gathered += [questions.encode(Gathered({}, []))] * (len(counts) - 1)
        return open.answers(gathered)

    async def _order(self, question: PutOut | Move, timeout: float) -> Answers:
        """Orders are answered by nobody: sockets are counted just before."""
        open, counts = await self._count(question, min(timeout, COUNT_WITHIN))
        opts = _options(question)
        if isinstance(question, PutOut):
            requests = [
                Request(type=node_cluster.REMOTE_DISCONNECT, opts=opts, close=question.closes)
            ]
        else:
            pairs = (
                (node_cluster.REMOTE_JOIN, question.joined),
                (node_cluster.REMOTE_LEAVE, question.left),
            )
            requests = [
                Request(type=type, opts=opts, rooms=rooms) for type, rooms in pairs if rooms
            ]
        is_sent = self._publish(question.namespace, *requests)
        return _encode_counts(open, counts) if is_sent else UNREACHED

    async def _tell_servers(self, question: ServerEvent, timeout: float) -> Answers:
        data = [question.event, *question.arguments]
        request = Request(type=node_cluster.SERVER_SIDE_EMIT, data=data)
        if not question.wants_answer:
            await trio.lowlevel.checkpoint()
            return NOBODY if self._publish(question.namespace, request) else UNREACHED
        open = await self._request(question.namespace, request, timeout)
        values = [node_cluster.as_plain([response.data])[0] for response in open.responses]
        return open.answers([questions.encode(ServerAnswer(value)) for value in values])

    async def _request(
        self,
        namespace: str,
        request: Request,
        timeout: float,
        is_whole: Callable[[_Open], bool] = _all_have_answered,
    ) -> _Open:
        """Publishes a request that wants responses, and waits until all are there, or too late."""
        id = secrets.token_urlsafe(9)
        open = self._open[id] = _Open(is_whole)
        try:
            with trio.move_on_after(timeout):
                others = await self._count_others(namespace)
                request = replace(request, request_id=id)
                if others is not None and self._publish(namespace, request):
                    open.owed = others
                    open.look()
                    await open.done.wait()
        finally:
            del self._open[id]
        return open

    async def _count_others(self, namespace: str) -> int | None:
        """How many other servers there are; None if that cannot be known now."""
        is_counted = self._listening.hears(namespace)
        try:
            reply = await self._link.call("PUBSUB", "NUMSUB", self._names.requests(namespace))
        except (BackplaneDown, RedisError) as error:
            log.warning("other servers cannot be counted: %s", error)
            return None
        return max(0, int(reply[1]) - is_counted)

    def _publish(self, namespace: str, *requests: Request) -> bool:
        """Publishes requests behind all events that were emitted before. Whether that is done."""
        channel = self._names.requests(namespace)
        messages = [
            node_cluster.encode_request(replace(request, uid=self._uid)) for request in requests
        ]
        return all(self._sending.publish(channel, message) for message in messages)


def _options(members: Members) -> Options:
    return Options(members.rooms, members.excepted)


def _encode_counts(open: _Open, counts: list[int]) -> Answers:
    return open.answers([questions.encode(count) for count in counts])
