"""Binary attachments: bytes anywhere in a payload travel as messages of their own.

The packet's JSON holds `{"_placeholder": true, "num": n}` in their place, and n raw binary
messages follow it in that order. Source: Socket.IO protocol v5, "Packet encoding".
"""

from typing import Any

import msgspec

from trio_rt.codec.socketio import Packet
from trio_rt.errors import RemoteProtocolError

PLAIN = frozenset({str, int, float, bool, type(None)})
"""Types that hold no bytes."""

_BINARY = (bytes, bytearray, memoryview)


def contains_binary(value: Any) -> bool:
    """Whether there are bytes anywhere in `value`.

    msgspec would encode bytes as base64 without a word, so every payload is asked. Plain values,
    which most payloads are made of, cost one set look-up.
    """
    kind = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind in PLAIN:
        return False
    if kind is dict or kind is list or kind is tuple:
        for item in value.values() if kind is dict else value:
            if type(item) not in PLAIN and contains_binary(item):
                return True
        return False
    if kind in _BINARY:
        return True
    return contains_binary(to_builtins(value))


def extract(value: Any) -> tuple[Any, tuple[bytes, ...]]:
    """`value` with its bytes replaced by placeholders, and those bytes in order."""
    buffers: list[bytes] = []
    return _extract(value, buffers), tuple(buffers)


def insert(value: Any, buffers: list[bytes]) -> Any:
    """`value` with its placeholders replaced by `buffers`: the inverse of `extract`.

    Each buffer stands in exactly one place, so that a small message cannot name a large
    attachment a thousand times.

    Raises:
        RemoteProtocolError: if a placeholder is wrong, a buffer is used twice or never, or the
            nesting is too deep.
    """
    unused: list[bytes | None] = list(buffers)
    try:
        whole = _insert(value, unused)
    except RecursionError as error:
        raise RemoteProtocolError("a payload nested too deep for its attachments") from error
    if any(buffer is not None for buffer in unused):
        raise RemoteProtocolError("an attachment that no placeholder names")
    return whole


class Assembly:
    """A packet whose attachments are still arriving."""

    __slots__ = ("_buffers", "_packet")

    def __init__(self, packet: Packet) -> None:
        self._packet = packet
        self._buffers: list[bytes] = []

    def add(self, buffer: bytes) -> Packet | None:
        """Takes the next attachment; the whole packet once it was the last one.

        Raises:
            RemoteProtocolError: if the placeholders do not fit the attachments.
        """
        self._buffers.append(buffer)
        if len(self._buffers) < self._packet.attachments:
            return None
        return msgspec.structs.replace(
            self._packet, data=insert(self._packet.data, self._buffers), attachments=0
        )


def to_builtins(value: Any) -> Any:
    """Structs, attrs classes, dataclasses and the like as dicts and lists, bytes left alone."""
    return msgspec.to_builtins(value, builtin_types=_BINARY)


def _extract(value: Any, buffers: list[bytes]) -> Any:
    kind = type(value)  # pyright: ignore[reportUnknownVariableType]
    if kind in PLAIN:
        return value
    if kind is dict:
        return {key: _extract(item, buffers) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_extract(item, buffers) for item in value]
    if kind in _BINARY:
        buffers.append(bytes(value))
        return {"_placeholder": True, "num": len(buffers) - 1}
    return _extract(to_builtins(value), buffers)


def _insert(value: Any, unused: list[bytes | None]) -> Any:
    if type(value) is list:
        items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        return [_insert(item, unused) for item in items]
    if type(value) is not dict:
        return value
    mapping: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
    if mapping.get("_placeholder") is not True:
        return {key: _insert(item, unused) for key, item in mapping.items()}
    number = mapping.get("num")
    if type(number) is not int or not 0 <= number < len(unused):
        raise RemoteProtocolError("a placeholder for an attachment that is not there")
    buffer, unused[number] = unused[number], None
    if buffer is None:
        raise RemoteProtocolError("an attachment named by two placeholders")
    return buffer
