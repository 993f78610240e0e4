"""Socket.IO v5 packets: the payload of Engine.IO message packets.

    <type>[<attachments>-][<namespace>,][<ack id>][<JSON>]

Source: Socket.IO protocol v5. JSON is read and written by msgspec: NaN and Infinity do not get in,
and go out as `null`, as in JavaScript.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from trio_rt.errors import RemoteProtocolError

CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR, BINARY_EVENT, BINARY_ACK = range(7)

RESERVED_EVENTS = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)
"""Event names that neither side may send: the official clients drop the connection."""

MAX_ID_DIGITS = 15
"""Ack ids stay exact in a JavaScript number (2^53)."""

_read_json = msgspec.json.Decoder().decode
_read_list = msgspec.json.Decoder(list[Any]).decode  # takes a third less for lists
_encode_json = msgspec.json.Encoder().encode


# An escaped backslash, a pair of escaped surrogates, or a surrogate that is alone.
_SURROGATES = re.compile(
    r"(\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


class Packet(msgspec.Struct, frozen=True, gc=False):
    """One packet as it was received.

    A msgspec struct, not an attrs class: making one takes a quarter of the time, once per message.
    """

    type: int
    """CONNECT .. CONNECT_ERROR; binary packets have the type of their plain sister."""

    namespace: str
    """Begins with a slash."""

    id: int | None
    """The ack id: asked for by an EVENT, answered by an ACK."""

    data: Any
    """A list for EVENT and ACK, a dict or None for the others."""

    attachments: int = 0
    """Binary messages that follow and belong into `data`."""


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """One packet ready for any transport: encoded once, sent to many."""

    text: bytes
    """The packet's text in UTF-8."""

    attachments: tuple[bytes, ...] = ()
    """What follows it as binary messages."""


def decode(text: str, start: int = 0) -> Packet:
    """Reads one packet.

    Args:
        text: holds the packet.
        start: where it begins.

    Raises:
        RemoteProtocolError: if it is not one; never anything else, whatever the text.
    """
    at = start + 1
    kind = text[start:at]
    try:
        if kind == "2":
            return _decode_listed(text, at, EVENT)
        if kind == "3":
            return _decode_listed(text, at, ACK)
        if kind in {"5", "6"}:
            dash = text.find("-", at)
            count = _number(text[at:dash], "attachment count") if dash > 0 else 0
            if count < 1:
                raise RemoteProtocolError("a binary packet without attachments")
            return _decode_listed(text, dash + 1, int(kind) - 3, count)
        if kind in {"0", "1", "4"}:
            return _decode_mapped(text[at:], int(kind))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"a malformed Socket.IO packet: {error}") from error
    raise RemoteProtocolError("an unknown Socket.IO packet type")


def decode_main_event(text: str, start: int) -> Packet | None:
    """The hot path: reads an EVENT of the main namespace.

    Args:
        text: holds the packet.
        start: where it goes on behind its type, which the caller has read.

    Returns:
        None if it is for another namespace, or wrong: `decode` says what.
    """
    bracket = text.find("[", start)
    digits = text[start:bracket]
    id = None
    if digits.isdigit() and digits.isascii() and len(digits) <= MAX_ID_DIGITS:
        id = int(digits)
    elif bracket != start:
        return None
    try:
        data = _read_list(text[bracket:])
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if not data or type(data[0]) is not str or data[0] in RESERVED_EVENTS:
        return None
    return Packet(EVENT, "/", id, data)


def _decode_listed(text: str, at: int, kind: int, attachments: int = 0) -> Packet:
    """EVENT and ACK, whose data is always a list."""
    namespace, id, bracket = _decode_address(text, at)
    try:
        data: list[Any] = _read_list(text[bracket:])
    except msgspec.DecodeError:
        data = _decode_json(text[bracket:], _read_list)  # which mends it, if it can
    if kind == EVENT:
        name: Any = data[0] if data else None
        # JavaScript clients may use a number as a name: `42[1,"x"]`.
        if type(name) is not str and type(name) is not int:
            raise RemoteProtocolError("an event without a name")
        if name in RESERVED_EVENTS:
            raise RemoteProtocolError("an event with a reserved name")
    elif id is None:
        raise RemoteProtocolError("an acknowledgement without an id")
    return Packet(kind, namespace, id, data, attachments)


def _decode_address(text: str, at: int) -> tuple[str, int | None, int]:
    """What stands before the data: its namespace and ack id, and where the data begins."""
    namespace = "/"
    if text.startswith("/", at):
        comma = text.find(",", at)
        namespace = text[at:comma]
        at = comma + 1 if comma > 0 else len(text)
    bracket = text.find("[", at)
    if bracket < 0:
        raise RemoteProtocolError("an event or acknowledgement without a payload")
    return namespace, _number(text[at:bracket], "ack id") if bracket > at else None, bracket


def _decode_mapped(rest: str, kind: int) -> Packet:
    """CONNECT, DISCONNECT and CONNECT_ERROR, whose data is an object or nothing."""
    namespace = "/"
    if rest.startswith("/"):
        namespace, _, rest = rest.partition(",")
    data: Any = _decode_json(rest, _read_json) if rest else None
    if rest and (type(data) is not dict or kind == DISCONNECT):
        raise RemoteProtocolError("a packet with the wrong kind of payload")
    return Packet(kind, namespace, None, data)


def _decode_json(text: str, read: Callable[[str], Any]) -> Any:
    """Reads JSON. Half an emoji, which JavaScript sends as it is, becomes U+FFFD."""
    try:
        return read(text)
    except msgspec.DecodeError:
        mended = _SURROGATES.sub(lambda match: match[1] or "\\ufffd", text)
        if mended == text:
            raise
        return read(mended)


def _number(digits: str, what: str) -> int:
    if len(digits) > MAX_ID_DIGITS or not (digits.isascii() and digits.isdigit()):
        raise RemoteProtocolError(f"a bad {what}")
    return int(digits)


def encode_json(value: Any) -> bytes:
    """JSON of any value that msgspec knows: plain ones, attrs classes, structs, dataclasses."""
    return _encode_json(value)


def encode_event(
    namespace: str, data: Sequence[Any], *, id: int | None = None, attachments: int = 0
) -> bytes:
    """An EVENT's text; `data` begins with the name and has placeholders for its attachments."""
    return _prefix(EVENT, namespace, id, attachments) + _encode_json(data)


def address_event(namespace: str, body: bytes, *, id: int | None, attachments: int) -> bytes:
    """An EVENT's text whose payload, an array that begins with the name, is JSON already."""
    return _prefix(EVENT, namespace, id, attachments) + body


def encode_ack(namespace: str, id: int, data: Sequence[Any], *, attachments: int = 0) -> bytes:
    """An ACK's text."""
    if namespace == "/" and not attachments:
        return b"3%d%b" % (id, _encode_json(data))
    return _prefix(ACK, namespace, id, attachments) + _encode_json(data)


def encode_ack_json(namespace: str, id: int, payload: bytes, *, attachments: int = 0) -> bytes:
    """An ACK's text whose data, a list, is JSON already."""
    return _prefix(ACK, namespace, id, attachments) + payload


def encode_connect(namespace: str, data: dict[str, Any] | None = None) -> bytes:
    """A CONNECT's text: the client's request, or the server's reply with the `sid`."""
    return _prefix(CONNECT, namespace) + (b"" if data is None else _encode_json(data))


def encode_connect_error(namespace: str, message: str, data: Any = None) -> bytes:
    """A CONNECT_ERROR's text. Always an object: clients show nothing for a bare string."""
    payload = {"message": message} if data is None else {"message": message, "data": data}
    return _prefix(CONNECT_ERROR, namespace) + _encode_json(payload)


def encode_disconnect(namespace: str) -> bytes:
    """A DISCONNECT's text."""
    return _prefix(DISCONNECT, namespace)


def _prefix(kind: int, namespace: str, id: int | None = None, attachments: int = 0) -> bytes:
    binary = f"{kind + 3}{attachments}-" if attachments else str(kind)
    place = "" if namespace == "/" else f"{namespace},"
    return f"{binary}{place}{'' if id is None else id}".encode()
