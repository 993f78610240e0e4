"""Events between the servers of a cluster: from the program to itself on the other nodes.

No client sees them. They are asked as a question of the other nodes, whatever the backplane is; a
single node has nobody to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from trio_rt.codec import attachments, questions
from trio_rt.codec.questions import ServerAnswer, ServerEvent
from trio_rt.errors import MisuseError, Refuse, RemoteProtocolError
from trio_rt.handlers import check_server_event
from trio_rt.log import log, new_error_id, printable
from trio_rt.packets import sendable

if TYPE_CHECKING:
    from trio_rt.namespace import Namespace

DELIVERY_TIMEOUT = 5.0
"""Seconds that other nodes may take to say that they have got an event."""


@attrs.frozen
class ServerReplies:
    """What the other servers of the cluster answered."""

    answers: Mapping[str, Any]
    """What the handler returned, by node; None from a node that has no handler for the event."""

    missing_nodes: frozenset[str]
    """Nodes that did not answer in time, or went meanwhile."""


class ServerEvents:
    """Emits for one namespace.

    Args:
        namespace: whose handlers, on the other nodes, are meant.
    """

    __slots__ = ("_namespace",)

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    async def emit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """See `Namespace.server_emit`."""
        body = _encode(ServerEvent(self._namespace.name, event, list(arguments), False))
        answers = await self._namespace.app.backplane.ask(body, timeout=DELIVERY_TIMEOUT)
        if answers.missing:
            nodes = ", ".join(sorted(answers.missing))
            log.warning("server event %s may not have reached %s", printable(event), nodes)

    async def call(self, event: str, arguments: tuple[Any, ...], seconds: float) -> ServerReplies:
        """See `Namespace.server_call`."""
        body = _encode(ServerEvent(self._namespace.name, event, list(arguments), True))
        answers = await self._namespace.app.backplane.ask(body, timeout=seconds)
        values: dict[str, Any] = {}
        missing = set(answers.missing)
        for node, answer in answers.bodies.items():
            try:
                values[node] = questions.decode_server_answer(answer).value
            except RemoteProtocolError as error:
                log.warning("node %s: %s", node, error)
                missing.add(node)
        return ServerReplies(values, frozenset(missing))


async def answer(
    namespace: Namespace | None, question: ServerEvent, say: Callable[[bytes], None]
) -> None:
    """Runs the handler of a server event, and says what it returns.

    Args:
        namespace: the one that the event is for; None if it is not here.
        question: the event.
        say: takes the answer; does not wait.
    """
    if not question.wants_answer:
        say(questions.encode(ServerAnswer(None)))
    value = None if namespace is None else await _run(namespace, question)
    if question.wants_answer:
        try:
            body = questions.encode(ServerAnswer(attachments.to_builtins(value)))
        except (TypeError, ValueError, OverflowError, RecursionError):
            body = questions.encode(ServerAnswer(_fail(question)))
        say(body)


async def _run(namespace: Namespace, question: ServerEvent) -> Any:
    handler = namespace.handlers.server_events.get(question.event)
    if handler is None:
        log.debug("no handler for server event %s", printable(question.event))
        return None
    try:
        return await handler.function(*handler.validate(question.arguments))
    except Refuse as refusal:
        details = sendable(refusal.details)
        return _error(refusal.code, refusal.message, details)
    except Exception:
        return _fail(question)


def _fail(question: ServerEvent) -> dict[str, Any]:
    """Logs the exception that is being handled, and tells where it is found."""
    error_id = new_error_id()
    log.exception(
        "the handler of server event %s failed (error %s)", printable(question.event), error_id
    )
    message = f"the server failed; its log has more under {error_id}"
    return _error("internal", message, {"id": error_id})


def _error(code: str, message: str, details: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "details": details}}


def _encode(event: ServerEvent) -> bytes:
    """The question's body; misuse is told here, not on every node."""
    check_server_event(event.event)
    try:
        plain = attachments.to_builtins(event.arguments)
        return questions.encode(
            ServerEvent(event.namespace, event.event, plain, event.wants_answer)
        )
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise MisuseError(
            f"the arguments of server event {event.event!r} cannot be sent: {error}"
        ) from error
