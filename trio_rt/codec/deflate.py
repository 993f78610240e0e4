"""permessage-deflate (RFC 7692), always without context takeover, as pure functions.

Each message is compressed by itself. So a broadcast is compressed once and sent to everyone, and
an idle connection holds no zlib state, which would cost some 300 kB in both directions together.
"""

import re
import zlib

from trio_rt import reasons
from trio_rt.codec.closing import BAD_DATA
from trio_rt.errors import RemoteProtocolError

# What every compressed message ends with, and what therefore is not sent (RFC 7692, 7.2.1).
_TAIL = b"\x00\x00\xff\xff"

# An empty final block. Behind the tail it makes zlib say whether the message was complete:
# without it, a message cut in the middle of a block would pass as a shorter one.
_END = b"\x03\x00"

# What may follow a block that the sender already marked as final: nothing, or the empty block
# that it appended (RFC 7692, 7.2.3.4).
_AFTER_FINAL = (_TAIL + _END, b"\x00" + _TAIL + _END)

# Level 1 takes JSON of 9 kB to 35 % in 85 us, level 6 to 31 % in 135 us. Either allocates 256 kB
# meanwhile, which is most of the 60 us that a message of 1 kB takes.
_LEVEL = 1

_RESPONSE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def negotiate(header: str) -> str | None:
    """Accepts the first offer of permessage-deflate that suits (RFC 7692, section 7.1).

    Declined are offers that the RFC does not allow, and those that want our window smaller than
    32 KiB: what is compressed once for all must be inflated by all. A header that is no list of
    extensions has no offer: compression is not worth a failed connection.

    Args:
        header: the request's `Sec-WebSocket-Extensions`; several joined by commas.

    Returns:
        The response's `Sec-WebSocket-Extensions`, or `None` to use no compression.
    """
    for offer in header.split(","):
        name, *parameters = (part.strip(" \t") for part in offer.split(";"))
        if name == "permessage-deflate":
            response = _answer(parameters)
            if response is not None:
                return response
    return None


def compress(payload: bytes) -> bytes:
    """The payload of a compressed message (RFC 7692, section 7.2.1)."""
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
    return data[: -len(_TAIL)]


def decompress(data: bytes, max_bytes: int) -> bytes:
    """The message of a compressed payload (RFC 7692, section 7.2.2).

    Never allocates much more than `max_bytes`, however much the data would inflate to.

    Raises:
        RemoteProtocolError: if the message is larger than `max_bytes` (close code 1009), or the
            data is not one complete DEFLATE stream (1007).
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # One byte of room beyond the limit tells a message that is just at it from a larger one.
        payload = inflater.decompress(data + _TAIL + _END, max_bytes + 1)
    except zlib.error as error:
        raise RemoteProtocolError("the compressed data is corrupt", BAD_DATA) from error
    if len(payload) > max_bytes:
        raise RemoteProtocolError(
            f"a compressed message inflates to more than {max_bytes} bytes",
            reasons.MESSAGE_TOO_BIG,
        )
    if not inflater.eof:
        raise RemoteProtocolError("the compressed data is cut short", BAD_DATA)
    if inflater.unused_data and inflater.unused_data not in _AFTER_FINAL:
        raise RemoteProtocolError("compressed data follows its final block", BAD_DATA)
    return payload


# A parameter is `name`, `name=token` or `name="token"` (RFC 6455, section 9.1).
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'({_TOKEN})(?:[ \t]*=[ \t]*(?:({_TOKEN})|"({_TOKEN})"))?')

_WINDOW_BITS = frozenset(str(bits) for bits in range(8, 16))


def _answer(parameters: list[str]) -> str | None:
    """The response to one offer, or `None` if it has to be declined."""
    response = _RESPONSE
    seen: set[str] = set()
    for parameter in parameters:
        match = _PARAMETER.fullmatch(parameter)
        if match is None or match[1] in seen:
            return None
        seen.add(match[1])
        match match[1], match[2] or match[3]:
            case "server_no_context_takeover" | "client_no_context_takeover", None:
                pass
            case "client_max_window_bits", value if value is None or value in _WINDOW_BITS:
                pass  # whatever window the client uses, ours for inflating is the largest
            case "server_max_window_bits", "15":
                response += "; server_max_window_bits=15"  # to be accepted by name (7.1.2.1)
            case _:
                return None
    return response
