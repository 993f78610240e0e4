"""One event on its way to the server, and the answer that somebody may wait for."""

from typing import Any

import attrs

from trio_rt.codec import socketio
from trio_rt.errors import Refused
from trio_rt.packets import encode_event, unpack
from trio_rt.schedule.bell import Bell

PACKET_BYTES = 64
"""What a packet may have around its payload: type, namespace, ack id, key."""


class Answer:
    """What the server says to a call, as soon as it is there."""

    __slots__ = ("_bell", "_error", "_value", "is_there")

    def __init__(self) -> None:
        self.is_there = False
        self._value: Any = None
        self._error: Exception | None = None
        self._bell = Bell()

    def accept(self, value: Any) -> None:
        """The server has answered."""
        self.is_there, self._value = True, value
        self._bell.ring()

    def fail(self, error: Exception) -> None:
        """There will be no answer, or it is no."""
        self.is_there, self._error = True, error
        self._bell.ring()

    async def wait(self) -> None:
        """Waits for it; the deadline is the caller's."""
        while not self.is_there:
            await self._bell.wait()

    def get(self) -> Any:
        """The value, or the error raised."""
        if self._error is not None:
            raise self._error
        return self._value


@attrs.define(eq=False)
class Post:
    """An event that was encoded when it was emitted: what it tells does not change any more."""

    event: str
    body: bytes
    """Its payload: a JSON array that begins with the name, placeholders for its attachments."""
    attachments: tuple[bytes, ...]
    answer: Answer | None
    """None where nobody waits for one."""
    id: int | None = None
    """The ack id that it was last sent with."""

    @property
    def size_bytes(self) -> int:
        """What it takes in memory and on the wire, about."""
        return len(self.body) + sum(map(len, self.attachments))

    @property
    def largest_bytes(self) -> int:
        """The size of the largest message that carries it, about."""
        return max(len(self.body) + PACKET_BYTES, *map(len, self.attachments), 0)

    def address(self, namespace: str, id: int | None, key: str | None) -> tuple[str | bytes, ...]:
        """The messages that carry it: the packet, then its attachments.

        Args:
            namespace: where it goes.
            id: asks for an acknowledgement.
            key: its idempotency key, an extra last argument; None for servers that want none.
        """
        body = self.body if key is None else b'%b,"%b"]' % (self.body[:-1], key.encode())
        count = len(self.attachments)
        text = socketio.address_event(namespace, body, id=id, attachments=count)
        return ("4" + text.decode(), *self.attachments)


def write_post(event: str, arguments: tuple[Any, ...], answer: Answer | None) -> Post:
    """Encodes an event.

    Raises:
        MisuseError: if it cannot be sent, with the reason.
    """
    encoded = encode_event("/", event, arguments)
    body = encoded.text[encoded.text.index(b"[") :]
    return Post(event, body, encoded.attachments, answer)


def read_answer(arguments: list[Any]) -> Any:
    """What an acknowledgement says: its value as `Socket.call` returns it, or a `Refused`."""
    match arguments:
        case [{"error": {"code": str(code), **more}, **others}] if not others:
            return Refused(code, str(more.get("message", "")), more.get("details"))
        case _:
            return unpack(arguments)
