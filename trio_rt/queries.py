"""What is asked about sockets, and done to them, in the whole cluster.

Each question is answered for the sockets of this node at once, and asked of the other nodes. A node
that is gone or silent is named in the result, never waited for longer than the question's time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import trio

from trio_rt.backplane.base import Answers
from trio_rt.calls import Call
from trio_rt.codec import questions
from trio_rt.codec.questions import (
    CallEach,
    CallThem,
    Count,
    Find,
    Gathered,
    LetGo,
    Members,
    Move,
    PutOut,
    Question,
    RollCall,
    Show,
    Shown,
    SocketInfo,
)
from trio_rt.errors import Disconnected, LimitError, RemoteProtocolError
from trio_rt.log import log
from trio_rt.packets import encode_event, unpack
from trio_rt.reasons import TRANSPORT_CLOSE
from trio_rt.target import Found, Replies, Target, Total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trio_rt.namespace import Namespace
    from trio_rt.socket import Socket

T = TypeVar("T")

GRACE = 1.0
"""Seconds that an answer may be on its way, besides what is waited for the clients."""

BACK_ELSEWHERE = TRANSPORT_CLOSE.because("the client came back on another node")

_SECRETS = frozenset({"authorization", "cookie"})
"""Headers that no other node needs to see."""

MAX_AT_ONCE = 100
"""Sockets that are put out or moved side by side."""


class Queries:
    """Asks for one namespace.

    Args:
        namespace: whose sockets are asked about.
    """

    __slots__ = ("_namespace",)

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    async def find(self, target: Target, seconds: float) -> Found:
        """See `Target.sockets`."""
        question = Find(self._namespace.name, target.rooms, target.excepted)
        answers = await self._ask(target, question, seconds)
        per_node, silent = _read(answers, questions.decode_sockets)
        here = _describe(self._namespace, question)
        return Found((*here, *(socket for sockets in per_node for socket in sockets)), silent)

    async def count(self, target: Target, seconds: float) -> Total:
        """See `Target.count`."""
        question = Count(self._namespace.name, target.rooms, target.excepted)
        answers = await self._ask(target, question, seconds)
        counts, silent = _read(answers, questions.decode_number)
        return Total(_count(self._namespace, question) + sum(counts), silent)

    async def call(
        self, target: Target, event: str, arguments: tuple[Any, ...], seconds: float
    ) -> Replies:
        """See `Target.call`."""
        name = self._namespace.name
        encode_event(name, event, arguments, id=0)  # misuse is told here, not on every node
        question = CallThem(name, target.rooms, target.excepted, event, list(arguments), seconds)
        here, answers = await self._everywhere(target, question, seconds + GRACE)
        per_node, silent = _read(answers, questions.decode_gathered)
        replies: dict[str, Any] = {}
        missing: set[str] = set()
        for gathered in (here, *per_node):
            replies.update((sid, unpack(values)) for sid, values in gathered.answers.items())
            missing.update(gathered.missing)
        return Replies(replies, frozenset(missing), silent)

    async def put_out(self, target: Target, closes: bool, seconds: float) -> Total:
        """See `Target.disconnect`."""
        question = PutOut(self._namespace.name, target.rooms, target.excepted, closes)
        return await self._do(target, question, seconds)

    async def move(
        self,
        target: Target,
        seconds: float,
        *,
        joined: tuple[str, ...] = (),
        left: tuple[str, ...] = (),
    ) -> Total:
        """See `Target.join` and `Target.leave`."""
        question = Move(self._namespace.name, target.rooms, target.excepted, joined, left)
        return await self._do(target, question, seconds)

    async def _do(self, target: Target, question: PutOut | Move, seconds: float) -> Total:
        here, answers = await self._everywhere(target, question, seconds)
        counts, silent = _read(answers, questions.decode_number)
        return Total(here + sum(counts), silent)

    async def _everywhere(
        self, target: Target, question: CallThem | PutOut | Move, seconds: float
    ) -> tuple[Any, Answers]:
        """Does it here, while the other nodes do it there."""
        here: list[Any] = []

        async def do_here() -> None:
            here.append(await _carry_out(self._namespace, question))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(do_here)
            answers = await self._ask(target, question, seconds)
        return here[0], answers

    async def _ask(self, target: Target, question: Question, seconds: float) -> Answers:
        if target.is_local:
            await trio.lowlevel.checkpoint()
            return Answers({}, frozenset())
        body = questions.encode(question)
        return await self._namespace.app.backplane.ask(body, timeout=seconds)


def _read(answers: Answers, decode: Callable[[bytes], T]) -> tuple[list[T], frozenset[str]]:
    """What the nodes answered, and those whose answer is missing or makes no sense."""
    values: list[T] = []
    silent = set(answers.missing)
    for node, body in answers.bodies.items():
        try:
            values.append(decode(body))
        except RemoteProtocolError as error:
            log.warning("node %s: %s", node, error)
            silent.add(node)
    return values, frozenset(silent)


# Answering


Once = RollCall | Find | Show | Count | CallThem | PutOut | Move | LetGo
"""What is answered once."""


async def answer(namespace: Namespace | None, question: Once) -> bytes:
    """What this node has to say to another one's question.

    Args:
        namespace: the one that the question is about; None if it is not here.
        question: what was asked.
    """
    if namespace is None:
        return questions.encode(_nothing(question))
    if isinstance(question, RollCall):
        return namespace.presence.call_roll(question.room)
    if isinstance(question, Find):
        return questions.encode(_describe(namespace, question))
    if isinstance(question, Show):
        return questions.encode(_show(namespace, question))
    if isinstance(question, Count):
        return questions.encode(_count(namespace, question))
    return questions.encode(await _carry_out(namespace, question))


async def answer_each(
    namespace: Namespace | None, question: CallEach, say: Callable[[bytes], None]
) -> None:
    """Asks the sockets of this node, and passes on what each of them says as it comes.

    Args:
        namespace: as for `answer`.
        question: what was asked.
        say: takes the answers; does not wait.
    """
    sockets = [] if namespace is None else _meant(namespace, question)
    say(questions.encode(len(sockets)))
    if namespace is not None and sockets:
        call = _Relayed((socket.id for socket in sockets), say)
        await _ask_sockets(namespace, sockets, question, call)


class _Relayed(Call):
    """A call whose answers somebody else waits for."""

    __slots__ = ("_say",)

    def __init__(self, debtors: Iterable[str], say: Callable[[bytes], None]) -> None:
        super().__init__(debtors)
        self._say = say

    def receive(self, sid: str, arguments: list[object]) -> None:
        """See `Call`."""
        if sid in self.owed.waiting:
            self._say(questions.encode(arguments))
        super().receive(sid, arguments)


async def _carry_out(namespace: Namespace, question: CallThem | PutOut | Move | LetGo) -> Any:
    if isinstance(question, CallThem):
        return await _gather(namespace, question)
    return await _do(namespace, question)


def _nothing(question: Once) -> Any:
    if isinstance(question, RollCall):
        return None
    if isinstance(question, Find | Show):
        return []
    return Gathered({}, []) if isinstance(question, CallThem) else 0


def _meant(namespace: Namespace, question: Members) -> list[Socket]:
    return list(namespace.find(question))


def _count(namespace: Namespace, question: Count) -> int:
    return len(_meant(namespace, question))


def _describe(namespace: Namespace, question: Find) -> list[SocketInfo]:
    return [
        SocketInfo(
            socket.id,
            namespace.name,
            socket.user.id,
            socket.user.name,
            socket.rooms,
            socket.session.data or {},
        )
        for socket in _meant(namespace, question)
    ]


def _show(namespace: Namespace, question: Show) -> list[Shown]:
    shown: list[Shown] = []
    for socket in _meant(namespace, question):
        handshake = socket.handshake
        headers = {name: text for name, text in handshake.headers.items() if name not in _SECRETS}
        shown.append(
            Shown(
                socket.id,
                socket.rooms,
                socket.session.data or {},
                headers,
                dict(handshake.query),
                handshake.address,
                handshake.url,
                handshake.secure,
                handshake.issued,
            )
        )
    return shown


async def _gather(namespace: Namespace, question: CallThem) -> Gathered:
    """Emits an event to the sockets of this node, and waits for their acknowledgements."""
    sockets = _meant(namespace, question)
    call = Call(socket.id for socket in sockets)
    await _ask_sockets(namespace, sockets, question, call)
    return Gathered(call.owed.answers, sorted(call.owed.waiting | call.owed.gone))


async def _ask_sockets(
    namespace: Namespace, sockets: list[Socket], question: CallThem | CallEach, call: Call
) -> None:
    id = namespace.next_ack_id()
    packet = encode_event(namespace.name, question.event, tuple(question.arguments), id=id)
    try:
        for socket in sockets:
            try:
                socket.connection.expect(namespace.name, id, call, socket.id)
            except LimitError as error:
                log.warning("%s", error)
                call.leave(socket.id)
        namespace.send_to(sockets, packet)
        with trio.move_on_after(question.seconds):
            await call.wait()
    finally:
        for socket in sockets:
            socket.connection.forget(namespace.name, id)


async def _do(namespace: Namespace, question: PutOut | Move | LetGo) -> int:
    """Carries out an order for the sockets of this node."""
    sockets = _meant(namespace, question)
    for start in range(0, len(sockets), MAX_AT_ONCE):
        async with trio.open_nursery() as nursery:
            for socket in sockets[start : start + MAX_AT_ONCE]:
                nursery.start_soon(_do_to, socket, question)
    return len(sockets)


async def _do_to(socket: Socket, question: PutOut | Move | LetGo) -> None:
    try:
        if isinstance(question, LetGo):
            socket.connection.end(BACK_ELSEWHERE)
            await socket.namespace.remove(socket, BACK_ELSEWHERE)
        elif isinstance(question, PutOut):
            await socket.disconnect(close=question.closes)
        else:
            await socket.join(*question.joined)
            await socket.leave(*question.left)
    except (Disconnected, LimitError) as error:
        log.debug("socket %s: %s", socket.id, error)
