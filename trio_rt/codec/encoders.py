"""WebSocket frames (RFC 6455, section 5): the bits of a frame, and messages to bytes.

A message is always one frame. The mask of a client's frame is handed in: there is no randomness
in here.
"""

from trio_rt.codec.closing import close_payload
from trio_rt.codec.masking import apply_mask
from trio_rt.errors import MisuseError

# The first byte: FIN, RSV1 (which RFC 7692 uses), RSV2 and RSV3, and four bits of opcode (5.2).
FIN = 0x80
COMPRESSED = 0x40
RESERVED = 0x30
OPCODE = 0x0F

CONTINUATION, TEXT, BINARY = 0x0, 0x1, 0x2
CONTROL = 0x8  # the bit that sets control frames apart
CLOSE, PING, PONG = 0x8, 0x9, 0xA
OPCODES = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))

# The second byte: MASK, and seven bits of length, two of whose values announce a longer field.
MASKED = 0x80
LENGTH_16, LENGTH_64 = 126, 127

MAX_CONTROL_BYTES = 125  # 5.5


def text_frame(payload: bytes, *, compressed: bool = False, mask: bytes | None = None) -> bytes:
    """A text message in one frame.

    Args:
        payload: UTF-8; what `deflate.compress` made of it if `compressed`.
        compressed: whether the peer has to inflate it (RFC 7692).
        mask: four random bytes if we are the client (5.3), `None` if we are the server.
    """
    if mask is None and not compressed and len(payload) < LENGTH_16:
        return bytes((FIN | TEXT, len(payload))) + payload  # the hot path
    return _encode(FIN | TEXT | (COMPRESSED if compressed else 0), payload, mask)


def binary_frame(payload: bytes, *, compressed: bool = False, mask: bytes | None = None) -> bytes:
    """A binary message in one frame; the arguments are `text_frame`'s."""
    return _encode(FIN | BINARY | (COMPRESSED if compressed else 0), payload, mask)


def ping_frame(payload: bytes = b"", *, mask: bytes | None = None) -> bytes:
    """A ping with at most 125 bytes, which the peer's pong repeats (5.5.2)."""
    return _encode_control(PING, payload, mask)


def pong_frame(payload: bytes = b"", *, mask: bytes | None = None) -> bytes:
    """The answer to a ping: the same payload (5.5.3)."""
    return _encode_control(PONG, payload, mask)


def close_frame(code: int | None, text: str = "", *, mask: bytes | None = None) -> bytes:
    """Our half of the closing handshake (5.5.1).

    Args:
        code: a status that may be sent (7.4), or `None` to give none.
        text: words for the peer's log; cut to the 123 bytes that fit.

    Raises:
        MisuseError: if the code may not stand in a frame, such as 1006.
    """
    return _encode_control(CLOSE, close_payload(code, text), mask)


def _encode_control(opcode: int, payload: bytes, mask: bytes | None) -> bytes:
    if len(payload) > MAX_CONTROL_BYTES:
        raise MisuseError(
            f"a control frame takes {MAX_CONTROL_BYTES} bytes, not {len(payload)}: "
            "send more in a message"
        )
    return _encode(FIN | opcode, payload, mask)


def _encode(first: int, payload: bytes, mask: bytes | None) -> bytes:
    length = len(payload)
    second = 0 if mask is None else MASKED
    if length < LENGTH_16:
        head = (first << 8 | second | length).to_bytes(2)
    elif length < 1 << 16:
        head = ((first << 8 | second | LENGTH_16) << 16 | length).to_bytes(4)
    else:
        head = ((first << 8 | second | LENGTH_64) << 64 | length).to_bytes(10)
    if mask is None:
        return head + payload
    return head + mask + apply_mask(payload, mask)
