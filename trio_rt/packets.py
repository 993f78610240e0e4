"""A program's values as packets, and what cannot be sent told as the misuse that it is."""

from typing import Any

from trio_rt.backplane.base import Settled
from trio_rt.codec import attachments, socketio
from trio_rt.codec.socketio import Encoded
from trio_rt.errors import MisuseError
from trio_rt.log import log

MAX_ATTACHMENTS = 10
"""Binary values in one packet: the official clients' parser refuses more, and disconnects."""


def encode_event(
    namespace: str, event: str, arguments: tuple[Any, ...], *, id: int | None = None
) -> Encoded:
    """An event ready for any transport.

    Raises:
        MisuseError: if it cannot be sent, with the reason.
    """
    if type(event) is not str or event in socketio.RESERVED_EVENTS:
        if type(event) is not str:
            raise MisuseError(f"an event's name is text, not {event!r}. Write: emit('said', ...)")
        raise MisuseError(
            f"{event!r} cannot be emitted: clients drop the connection when they "
            f"see a reserved name. Choose another one, such as 'my_{event}'"
        )
    try:
        data: Any = (event, *arguments)
        if not attachments.contains_binary(arguments):
            return Encoded(socketio.encode_event(namespace, data, id=id))
        data, buffers = attachments.extract(data)
        _check_count(event, len(buffers))
        return Encoded(
            socketio.encode_event(namespace, data, id=id, attachments=len(buffers)), buffers
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise _misuse(event, error) from error


def encode_plain_event(namespace: str, event: str, *arguments: Any) -> Encoded:
    """An event of ours that is known to have no bytes in it; raises as `encode_event` does."""
    try:
        return Encoded(socketio.encode_event(namespace, (event, *arguments)))
    except (TypeError, ValueError, RecursionError) as error:
        raise _misuse(event, error) from error


def encode_ack(namespace: str, id: int, result: Any) -> Encoded:
    """An acknowledgement ready for any transport; raises as `encode_event` does."""
    kind = type(result)  # pyright: ignore[reportUnknownVariableType]
    arguments: tuple[Any, ...] = result if kind is tuple else () if result is None else (result,)
    try:
        if kind in attachments.PLAIN or not attachments.contains_binary(arguments):
            return Encoded(socketio.encode_ack(namespace, id, arguments))
        data, buffers = attachments.extract(arguments)
        _check_count("acknowledgement", len(buffers))
        return Encoded(socketio.encode_ack(namespace, id, data, attachments=len(buffers)), buffers)
    except (TypeError, ValueError, RecursionError) as error:
        raise MisuseError(
            f"the value of an acknowledgement cannot be sent: {_why(error)}"
        ) from error


def settle(result: Any) -> Settled:
    """A handler's result as it is kept for resends; raises as `encode_event` does."""
    packet = encode_ack("/", 0, result)
    return Settled(packet.text[packet.text.index(b"[") :], packet.attachments)


def encode_settled(namespace: str, id: int, result: Settled) -> Encoded:
    """An acknowledgement with a result that was kept."""
    count = len(result.attachments)
    text = socketio.encode_ack_json(namespace, id, result.payload, attachments=count)
    return Encoded(text, result.attachments)


def unpack(arguments: list[Any]) -> Any:
    """What an acknowledgement's arguments are to a program."""
    if len(arguments) == 1:
        return arguments[0]
    return tuple(arguments) if arguments else None


def _misuse(event: str, error: Exception) -> MisuseError:
    return MisuseError(f"the arguments of event {event!r} cannot be sent: {_why(error)}")


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "they are nested too deeply, or in themselves"
    if "type coroutine" in str(error):
        return f"{error}. Write `await` before what makes it"
    if "unsupported" in str(error):
        return f"{error}. Send JSON values, attrs classes, dataclasses, msgspec structs, or bytes"
    return str(error)


def _check_count(event: str, count: int) -> None:
    if count > MAX_ATTACHMENTS:
        raise MisuseError(f"{event!r} has {count} binary values; clients take {MAX_ATTACHMENTS}")


def sendable(details: Any) -> Any:
    """The details of a refusal, or None if they cannot be sent: the refusal itself must be."""
    try:
        socketio.encode_json(details)
    except (TypeError, ValueError, RecursionError) as error:
        log.error("the details of a Refuse cannot be sent: %s", error)
        return None
    return details
