"""Engine.IO v4 packets: the layer between a transport's messages and Socket.IO.

A packet is one transport message: a text whose first character is the type, or raw bytes for a
binary message. Source: Engine.IO protocol, revision 4.
"""

import base64
import binascii
import re

import msgspec

from trio_rt.errors import RemoteProtocolError

OPEN, CLOSE, PING, PONG, MESSAGE, UPGRADE, NOOP = "0123456"

_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}", re.ASCII)


class Open(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The handshake that opens a session; exactly these five keys, in milliseconds and bytes."""

    sid: str
    upgrades: list[str]
    ping_interval: int
    ping_timeout: int
    max_payload: int


def encode_open(
    sid: str, *, upgrades: list[str], ping_interval: float, ping_timeout: float, max_payload: int
) -> bytes:
    """The open packet. Times are given in seconds; the wire has milliseconds."""
    value = Open(
        sid, upgrades, round(ping_interval * 1000), round(ping_timeout * 1000), max_payload
    )
    return OPEN.encode() + msgspec.json.encode(value)


def decode_open(text: str) -> Open:
    """The handshake in an open packet.

    Raises:
        RemoteProtocolError: if it is not one.
    """
    try:
        if not text.startswith(OPEN):
            raise msgspec.DecodeError(f"a packet of type {text[:1]!r}")
        return msgspec.json.decode(text[1:], type=Open)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"no Engine.IO open packet: {error}") from error


def encode_base64(data: bytes) -> bytes:
    """A binary message as text, for peers that take no binary frames."""
    return b"b" + base64.b64encode(data)


def decode_base64(text: str) -> bytes:
    """The binary message in a text packet that begins with `b`.

    Raises:
        RemoteProtocolError: if it is not padded base64 of the standard alphabet.
    """
    try:
        if not _BASE64.fullmatch(text, 1):
            raise binascii.Error("not of the base64 alphabet")
        if len(text) % 4 != 1:
            raise binascii.Error("wrong padding")
        return base64.b64decode(text[1:], validate=True)
    except binascii.Error as error:
        raise RemoteProtocolError(f"bad base64 in a binary packet: {error}") from error
