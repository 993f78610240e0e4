"""Frames put together bit by bit, so that wrong ones can be made too. Shares no code with ours."""

from itertools import cycle

MASK = b"\x37\xfa\x21\x3d"  # of RFC 6455's own examples

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def masked(payload, mask=MASK):
    return bytes(byte ^ key for byte, key in zip(payload, cycle(mask), strict=False))


def frame(opcode=TEXT, payload=b"", *, fin=True, rsv=0, mask=MASK, length=None, length_bytes=None):
    """One frame; `length` and `length_bytes` are for those that lie about their size."""
    length = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 65536 else 8
    second = {0: length, 2: 126, 8: 127}[length_bytes] | (0x80 if mask else 0)
    head = bytes((fin << 7 | rsv << 4 | opcode, second))
    if length_bytes:
        head += length.to_bytes(length_bytes, "big")
    return head + (mask + masked(payload, mask) if mask else payload)


def fragments(*payloads, opcode=TEXT, rsv=0):
    """One message in several frames."""
    last = len(payloads) - 1
    return b"".join(
        frame(
            CONTINUATION if index else opcode,
            payload,
            fin=index == last,
            rsv=0 if index else rsv,
        )
        for index, payload in enumerate(payloads)
    )


def close(code, text=b""):
    return frame(CLOSE, code.to_bytes(2, "big") + text)
