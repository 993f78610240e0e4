"""What nodes send each other, as bytes: envelopes, questions, answers and notes.

    byte 0   version, 1
    rest     msgpack of an array, whose fields are checked when it is read

A node of another version may run beside this one for the time of an update: what it sends and this
one does not understand is an error, and never guessed at.
"""

from typing import Any, TypeVar

import msgspec

from trio_rt.codec.envelope import Envelope
from trio_rt.codec.position import Position
from trio_rt.codec.socketio import Encoded
from trio_rt.errors import BackplaneError
from trio_rt.policies import CLOSE, Block, DropOldest, Latest, Policy

_VERSION = b"\x01"
_CLOSE, _DROP_OLDEST, _LATEST, _BLOCK = range(4)

T = TypeVar("T")


class _Frame(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An envelope without its place."""

    namespace: str
    rooms: tuple[str, ...]
    excepted: tuple[str, ...]
    text: bytes
    attachments: tuple[bytes, ...] = ()
    policy: int = _CLOSE
    key: str = ""
    """Of the policy `Latest`."""


class Asked(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A question."""

    id: str
    node: str
    """Who asks."""
    nodes: tuple[str, ...]
    """Who is asked; empty for all."""
    body: bytes


class Answered(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An answer."""

    id: str
    node: str
    body: bytes


class Told(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A note about a room."""

    node: str
    namespace: str
    room: str
    body: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode_frame = msgspec.msgpack.Decoder(_Frame).decode
_decoders: dict[type[Any], Any] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in (Asked, Answered, Told)
}


def encode_envelope(envelope: Envelope) -> bytes:
    """The frame of an envelope. Its place, and whether it is volatile, are not in it."""
    packet = envelope.packet
    policy, key = _write_policy(envelope.policy)
    frame = _Frame(
        envelope.namespace,
        envelope.rooms,
        envelope.excepted,
        packet.text,
        packet.attachments,
        policy,
        key,
    )
    return _VERSION + _encode(frame)


def decode_envelope(
    data: bytes, position: Position | None = None, *, is_volatile: bool = False
) -> Envelope:
    """Reads the frame of an envelope.

    Raises:
        BackplaneError: if it is none that we know.
    """
    try:
        if data[:1] != _VERSION:
            raise BackplaneError(f"another version of frames: {data[:40]!r}")
        frame = _decode_frame(memoryview(data)[1:])
        policy = CLOSE if frame.policy == _CLOSE else _read_policy(frame)
    except msgspec.DecodeError as error:
        raise BackplaneError(f"not one of our frames: {error}") from error
    return Envelope(
        frame.namespace,
        frame.rooms,
        frame.excepted,
        Encoded(frame.text, frame.attachments),
        policy,
        is_volatile,
        position,
    )


def encode(value: Asked | Answered | Told) -> bytes:
    """The bytes of a message between nodes."""
    return _VERSION + _encode(value)


def decode(kind: type[T], data: bytes) -> T:
    """Reads a message between nodes.

    Raises:
        BackplaneError: if it is none that we know.
    """
    if data[:1] != _VERSION:
        raise BackplaneError(f"another version of messages: {data[:40]!r}")
    try:
        value: T = _decoders[kind].decode(memoryview(data)[1:])
    except msgspec.DecodeError as error:
        raise BackplaneError(f"not one of our messages: {error}") from error
    return value


def _write_policy(policy: Policy) -> tuple[int, str]:
    if isinstance(policy, DropOldest):
        return _DROP_OLDEST, ""
    if isinstance(policy, Latest):
        return _LATEST, policy.key
    if isinstance(policy, Block):
        return _BLOCK, ""
    return _CLOSE, ""


def _read_policy(frame: _Frame) -> Policy:
    if frame.policy == _DROP_OLDEST:
        return DropOldest()
    if frame.policy == _LATEST:
        return Latest(frame.key)
    if frame.policy == _BLOCK:
        return Block()
    raise BackplaneError(f"an unknown policy: {frame.policy}")
