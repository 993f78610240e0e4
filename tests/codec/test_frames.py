"""The frame codec against RFC 6455, and against an independent implementation.

The table of cases follows the Autobahn test suite, whose numbers it names.
"""

import importlib
import sys
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side

from trio_rt import reasons
from trio_rt.codec import masking as masking_module
from trio_rt.codec.frames import (
    Close,
    FrameDecoder,
    Ping,
    Pong,
    binary_frame,
    close_frame,
    ping_frame,
    pong_frame,
    text_frame,
)
from trio_rt.errors import MisuseError, RemoteProtocolError

from .raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MASK,
    PING,
    PONG,
    TEXT,
    close,
    fragments,
    frame,
    masked,
)

pytestmark = pytest.mark.usefixtures("masking")

LIMIT = 1 << 20


def plain(messages):
    """The messages with a `RemoteProtocolError`, which has no equality, as its close code."""
    for message in messages[:-1]:
        assert not isinstance(message, RemoteProtocolError | Close)
    return [
        ("failed", message.reason.close_code)
        if isinstance(message, RemoteProtocolError)
        else message
        for message in messages
    ]


def decode(*pieces, limit=LIMIT, **options):
    decoder = FrameDecoder(max_message_bytes=limit, **options)
    return plain([message for piece in pieces for message in receive(decoder, piece)])


def receive(decoder, piece):
    """What a piece completes, as a transport asks for it."""
    text = decoder.receive_short(piece)
    return decoder.receive(piece) if text is None else [text]


def failed(code):
    return ("failed", code)


def chop(data, size=1):
    return [data[start : start + size] for start in range(0, len(data), size)]


# --- RFC 6455, section 5.7

HELLO = b"\x81\x05Hello"
MASKED_HELLO = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"


def test_5_7_a_single_frame_unmasked_text_message():
    assert text_frame(b"Hello") == HELLO
    assert decode(HELLO, from_client=False) == ["Hello"]


def test_5_7_a_single_frame_masked_text_message():
    assert text_frame(b"Hello", mask=MASK) == MASKED_HELLO
    assert decode(MASKED_HELLO) == ["Hello"]


def test_5_7_a_fragmented_unmasked_text_message():
    assert decode(b"\x01\x03Hel", b"\x80\x02lo", from_client=False) == ["Hello"]


def test_5_7_unmasked_ping_request_and_masked_ping_response():
    assert ping_frame(b"Hello") == b"\x89\x05Hello"
    assert decode(b"\x89\x05Hello", from_client=False) == [Ping(b"Hello")]
    assert pong_frame(b"Hello", mask=MASK) == b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
    assert decode(b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58") == [Pong(b"Hello")]


def test_5_7_256_bytes_binary_message_in_a_single_unmasked_frame():
    payload = bytes(range(256))
    assert binary_frame(payload) == b"\x82\x7e\x01\x00" + payload
    assert decode(b"\x82\x7e\x01\x00" + payload, from_client=False) == [payload]


def test_5_7_64kib_binary_message_in_a_single_unmasked_frame():
    payload = bytes(65536)
    assert binary_frame(payload) == b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00" + payload
    assert decode(binary_frame(payload), from_client=False) == [payload]


# --- The table: name, what a client sends, what must come of it. Whole, and one byte at a time.

SIZES = (0, 1, 125, 126, 127, 128, 65535, 65536)

FRAMING = [
    *((f"1.1 text of {n}", frame(TEXT, b"*" * n), ["*" * n]) for n in SIZES),
    *((f"1.2 binary of {n}", frame(BINARY, b"\xfe" * n), [b"\xfe" * n]) for n in SIZES),
    ("1 several in a row", frame(TEXT, b"a") * 3 + frame(BINARY, b"b"), ["a", "a", "a", b"b"]),
]

PINGS = [
    ("2.1 ping without payload", frame(PING), [Ping()]),
    ("2.2 ping with text", frame(PING, b"Hello"), [Ping(b"Hello")]),
    ("2.3 ping with bytes", frame(PING, b"\x00\xff\xfe"), [Ping(b"\x00\xff\xfe")]),
    ("2.4 ping of 125", frame(PING, b"\xfe" * 125), [Ping(b"\xfe" * 125)]),
    ("2.5 ping of 126", frame(PING, b"\xfe" * 126), [failed(1002)]),
    ("2.5 ping of 65536", frame(PING, b"\xfe" * 65536), [failed(1002)]),
    ("2.5 pong of 126", frame(PONG, b"\xfe" * 126), [failed(1002)]),
    ("2.7 unasked pong without payload", frame(PONG), [Pong()]),
    ("2.8 unasked pong", frame(PONG, b"x"), [Pong(b"x")]),
    ("2.9 unasked pong, then ping", frame(PONG, b"x") + frame(PING), [Pong(b"x"), Ping()]),
    ("2.10 ten pings", b"".join(frame(PING, b"%d" % n) for n in range(10)),
     [Ping(b"%d" % n) for n in range(10)]),
]  # fmt: skip

GOOD = frame(TEXT, b"good")

RESERVED_BITS = [
    *(
        (f"3 RSV {rsv} on {opcode:#x}", GOOD + frame(opcode, b"", rsv=rsv) + GOOD,
         ["good", failed(1002)])
        for rsv in range(1, 8)
        for opcode in (TEXT, BINARY, CLOSE, PING, PONG)
    ),
    ("3 RSV on a continuation", frame(fin=False) + frame(CONTINUATION, rsv=4), [failed(1002)]),
]  # fmt: skip

OPCODES = [
    (f"4 opcode {opcode:#x} {what}", GOOD + frame(opcode, payload) + frame(PING),
     ["good", failed(1002)])
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    for what, payload in (("empty", b""), ("with payload", b"reserved"))
]  # fmt: skip

PING_X, PONG_X = frame(PING, b"x"), frame(PONG, b"x")
FIRST, LAST = frame(TEXT, b"one ", fin=False), frame(CONTINUATION, b"two")

FRAGMENTATION = [
    ("5.1 ping in two", frame(PING, b"a", fin=False) + frame(CONTINUATION), [failed(1002)]),
    ("5.2 pong in two", frame(PONG, b"a", fin=False) + frame(CONTINUATION), [failed(1002)]),
    ("5 close in two", frame(CLOSE, b"", fin=False) + frame(CONTINUATION), [failed(1002)]),
    ("5.3 text in two", FIRST + LAST, ["one two"]),
    ("5 binary in two", fragments(b"\xff", b"\x00", opcode=BINARY), [b"\xff\x00"]),
    ("5.6 ping in between", FIRST + PING_X + LAST, [Ping(b"x"), "one two"]),
    ("5 pong in between", FIRST + PONG_X + LAST, [Pong(b"x"), "one two"]),
    ("5.9 continuation of nothing", frame(CONTINUATION, b"a") + GOOD, [failed(1002)]),
    ("5.12 open continuation of nothing", frame(CONTINUATION, fin=False) + GOOD, [failed(1002)]),
    ("5.15 continuation after the end", FIRST + LAST + LAST, ["one two", failed(1002)]),
    ("5.16 continuation after a text", GOOD + LAST, ["good", failed(1002)]),
    ("5.18 text within a text", FIRST + GOOD, [failed(1002)]),
    ("5 binary within a text", FIRST + frame(BINARY, b"a"), [failed(1002)]),
    ("5 open text within a text", FIRST + FIRST, [failed(1002)]),
    ("5.19 five fragments, pings between",
     frame(TEXT, b"1", fin=False) + frame(CONTINUATION, b"2", fin=False) + PING_X
     + frame(CONTINUATION, b"3", fin=False) + frame(CONTINUATION, b"4", fin=False) + PING_X
     + frame(CONTINUATION, b"5") + GOOD, [Ping(b"x"), Ping(b"x"), "12345", "good"]),
    ("5 empty fragments", fragments(b"", b"", b"a", b""), ["a"]),
    ("5 nothing but empty fragments", fragments(b"", b"", b""), [""]),
]  # fmt: skip

# Autobahn 6.5 to 6.23, and Unicode's table 3-7: what is UTF-8, and what is not.
VALID_TEXT = [
    "", "Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\x00", "\x7f", "\x80", "߿", "ࠀ", "\ud7ff",
    "\ue000", "\ufffd", "\ufffe", "\uffff", "\U00010000", "\U0010ffff", "🎮" * 40,
]  # fmt: skip
INVALID_TEXT = {
    "6.3 the word κόσμε with a surrogate": "cebae1bdb9cf83cebcceb5eda080656469746564",
    "6.6 a first byte alone": "ce", "6.6 two of three bytes": "e1bd",
    "6.6 three of four bytes": "f0908d",
    "6.8 five bytes": "f888808080", "6.8 six bytes": "fc8480808080",
    "6.10 above U+10FFFF": "f4908080", "6.10 first byte f5": "f5808080",
    "6.12 a continuation alone": "80", "6.12 continuations": "80bf80bf",
    "6.14 every first byte and a space": "c020c120", "6.14 e0 and a space": "e020",
    "6.16 fe": "fe", "6.16 ff": "ff", "6.17 a slash in two bytes": "c0af",
    "6.17 a slash in three bytes": "e080af", "6.17 a slash in four bytes": "f08080af",
    "6.18 the largest in two, as three": "e09fbf", "6.18 the largest in three, as four": "f08fbfbf",
    "6.19 NUL in two bytes": "c080", "6.20 high surrogate": "eda080",
    "6.20 low surrogate": "edbfbf",
    "6.21 a surrogate pair": "eda080edb080",
}  # fmt: skip

UTF8 = [
    *((f"6 {text[:8]!a}", frame(TEXT, text.encode()), [text]) for text in VALID_TEXT),
    *((f"6.2 {text[:8]!a} in fragments", fragments(*chop(b" " + text.encode())), [" " + text])
      for text in VALID_TEXT),
    *((name, GOOD + frame(TEXT, bytes.fromhex(bad)) + GOOD, ["good", failed(1007)])
      for name, bad in INVALID_TEXT.items()),
    *((f"{name}, in fragments", fragments(b"", *chop(bytes.fromhex(bad))) + GOOD, [failed(1007)])
      for name, bad in INVALID_TEXT.items()),
    *((f"{name}, as binary", frame(BINARY, bytes.fromhex(bad)), [bytes.fromhex(bad)])
      for name, bad in INVALID_TEXT.items()),
    ("6.4.1 fails at the fragment", frame(TEXT, b"\xf4", fin=False)
     + frame(CONTINUATION, b"\x90", fin=False), [failed(1007)]),
    ("6 a bad control character is text", frame(TEXT, b"\x00\x1b\x7f"), ["\x00\x1b\x7f"]),
]  # fmt: skip

GOOD_CODES = (*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999)
BAD_CODES = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)

CLOSING = [
    ("7.1.1 text, then close", GOOD + close(1000), ["good", Close(1000)]),
    ("7.1.2 two closes", close(1000) + close(1001), [Close(1000)]),
    ("7.1.3 ping after close", close(1000) + PING_X, [Close(1000)]),
    ("7.1.4 text after close", close(1000) + GOOD, [Close(1000)]),
    ("7.1.5 close within a text", FIRST + close(1000) + LAST, [Close(1000)]),
    ("7 nonsense after close", close(1000) + b"\xff" * 9, [Close(1000)]),
    ("7.3.1 close without payload", frame(CLOSE), [Close(1005, "")]),
    ("7.3.2 close with half a code", frame(CLOSE, b"\x03"), [failed(1002)]),
    ("7.3.3 close with a code", close(1000), [Close(1000, "")]),
    ("7.3.4 close with words", close(1000, "tschüß".encode()), [Close(1000, "tschüß")]),
    ("7.3.5 close with 123 bytes", close(1000, b"*" * 123), [Close(1000, "*" * 123)]),
    ("7.3.6 close with 124 bytes", close(1000, b"*" * 124), [failed(1002)]),
    ("7.5.1 close with bad text", close(1000, b"\xce\xba\xe1\xbd"), [failed(1007)]),
    *((f"7.7 close with {code}", close(code, b"x"), [Close(code, "x")]) for code in GOOD_CODES),
    *((f"7.9 close with {code}", close(code), [failed(1002)]) for code in BAD_CODES),
    *((f"7.9 close with {code} and words", close(code, b"x"), [failed(1002)])
      for code in BAD_CODES),
]  # fmt: skip

HEADERS = [
    ("5.1 an unmasked text", GOOD + frame(TEXT, b"a", mask=None), ["good", failed(1002)]),
    ("5.1 an unmasked empty text", frame(TEXT, mask=None), [failed(1002)]),
    ("5.1 an unmasked ping", frame(PING, b"a", mask=None), [failed(1002)]),
    ("5.2 a length of 125 in 2 bytes", frame(TEXT, b"*" * 125, length_bytes=2), [failed(1002)]),
    ("5.2 a length of 0 in 2 bytes", frame(TEXT, length_bytes=2), [failed(1002)]),
    ("5.2 a length of 125 in 8 bytes", frame(TEXT, b"*" * 125, length_bytes=8), [failed(1002)]),
    ("5.2 a length of 65535 in 8 bytes", frame(BINARY, bytes(65535), length_bytes=8),
     [failed(1002)]),
    ("5.2 the top bit of a length", frame(TEXT, length=1 << 63), [failed(1002)]),
    ("5.2 every bit of a length", frame(BINARY, length=(1 << 64) - 1), [failed(1002)]),
    ("10.4 the largest length", frame(BINARY, length=(1 << 63) - 1), [failed(1009)]),
    ("10.4 a text above the limit", GOOD + frame(TEXT, length=LIMIT + 1), ["good", failed(1009)]),
]  # fmt: skip

CASES = [*FRAMING, *PINGS, *RESERVED_BITS, *OPCODES, *FRAGMENTATION, *UTF8, *CLOSING, *HEADERS]


@pytest.mark.parametrize(("stream", "expected"), [pytest.param(*c[1:], id=c[0]) for c in CASES])
def test_case(stream, expected):
    assert decode(stream) == expected
    assert decode(*chop(stream)) == expected


def test_case_names_are_unique():
    assert len({name for name, _, _ in CASES}) == len(CASES)


# --- Section 9: sizes


@pytest.mark.parametrize("size", [65536, 262144, LIMIT])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("fragment_bytes", [64, 4096, 65536, LIMIT])
def test_9_large_messages(size, opcode, fragment_bytes):
    """A message up to the limit arrives, whatever its frames and the cuts between reads are."""
    payload = b"0123456789abcdef" * (size // 16)
    stream = frame(opcode, b"", fin=False) + b"".join(
        client_frame(CONTINUATION, piece, fin=False) for piece in chop(payload, fragment_bytes)
    )
    stream += frame(CONTINUATION)
    expected = payload.decode() if opcode == TEXT else payload
    assert decode(*chop(stream, 65536)) == [expected]
    assert decode(*chop(stream, 997)) == [expected]


def client_frame(opcode, payload, *, fin=True):
    """Like `raw.frame`, but quick for large payloads."""
    return Frame(Opcode(opcode), payload, fin=fin).serialize(mask=True)


@pytest.mark.parametrize("cut", [65536, 1000, 13])
def test_the_work_is_linear_in_the_bytes(cut):
    """Holding a frame that is not whole takes no more copies the longer it gets."""
    payload = b"x" * (64 * cut)
    decoder = FrameDecoder(max_message_bytes=len(payload))
    held = []
    *pieces, last = chop(client_frame(BINARY, payload), cut)
    for piece in pieces:
        assert decoder.receive(piece) == []
        held.append(decoder._held)
    assert decoder.receive(last) == [payload]
    # Always the same buffer, grown in place, once the header has been read.
    assert all(buffer is held[1] for buffer in held[1:])


def test_a_piece_that_looks_like_a_frame():
    """What continues a frame is a part of it, even if it reads like a whole one."""
    inner = frame(TEXT, b"not a message")
    outer = frame(BINARY, masked(inner, MASK), mask=MASK)
    head, piece = outer[: -len(inner)], outer[-len(inner) :]
    assert piece == inner
    assert decode(head, piece) == [masked(inner, MASK)]


# --- Limits


def test_size_is_checked_before_the_payload_arrives():
    """The header alone is enough to refuse a frame, even without the mask behind it."""
    decoder = FrameDecoder(max_message_bytes=1000)
    (error,) = decoder.receive(frame(BINARY, length=1001)[:4])
    assert error.reason.code == reasons.MESSAGE_TOO_BIG.code
    assert error.reason.close_code == 1009
    assert "1001" in str(error)
    assert "1000" in str(error)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_size_is_checked_over_fragments(opcode):
    start = frame(opcode, b"*" * 600, fin=False)
    assert decode(start, frame(CONTINUATION, b"*" * 400), limit=1000) != [failed(1009)]
    assert decode(start, frame(CONTINUATION, length=401)[:4], limit=1000) == [failed(1009)]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("limit", [1, 100, 125, 126, 1000, 65535, 65536])
def test_a_message_at_the_limit_passes_and_one_above_does_not(opcode, limit):
    assert len(decode(frame(opcode, b"*" * limit), limit=limit)[0]) == limit
    assert decode(frame(opcode, b"*" * (limit + 1)), limit=limit) == [failed(1009)]


def test_control_frames_are_not_under_the_message_limit():
    assert decode(frame(PING, b"*" * 125), limit=1) == [Ping(b"*" * 125)]


def test_a_length_allocates_nothing():
    """A frame that says it is long takes the memory of what has arrived, not of what it says."""
    decoder = FrameDecoder(max_message_bytes=1 << 40)
    tracemalloc.start()
    decoder.receive(frame(BINARY, b"x", length=1 << 39))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000


def test_tiny_fragments_take_no_more_memory_than_their_text():
    decoder = FrameDecoder(max_message_bytes=LIMIT)
    decoder.receive(frame(TEXT, b"", fin=False))
    piece = frame(CONTINUATION, b"x", fin=False) * 1000
    tracemalloc.start()
    for _ in range(20):
        decoder.receive(piece)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 40_000  # for 20,000 bytes of text


def test_an_idle_decoder_is_small():
    decoder = FrameDecoder(max_message_bytes=LIMIT)
    decoder.receive(FIRST[:3])
    decoder.receive(FIRST[3:] + LAST)
    assert sys.getsizeof(decoder) < 200
    assert decoder._held is None
    assert decoder._fragments is None


# --- Endings


def test_nothing_is_decoded_or_kept_after_an_error():
    decoder = FrameDecoder(max_message_bytes=LIMIT)
    assert plain(decoder.receive(GOOD + b"\xff\xff" + GOOD)) == ["good", failed(1002)]
    assert decoder.receive(GOOD) == []
    assert decoder._held is None


def test_nothing_is_decoded_or_kept_after_a_close():
    decoder = FrameDecoder(max_message_bytes=LIMIT)
    assert decoder.receive(FIRST + close(1001) + GOOD + GOOD[:3]) == [Close(1001)]
    assert decoder.receive(GOOD) == []
    assert decoder._held is None
    assert decoder._fragments is None


@pytest.mark.parametrize(
    "stream", [b"\xff\xff", frame(TEXT, b"\xff"), frame(BINARY, length=1 << 50)]
)
def test_an_error_is_a_value_that_holds_no_frames(stream):
    """It can be kept without keeping the peer's bytes, and leaves no cycle to the collector."""
    (error,) = FrameDecoder(max_message_bytes=LIMIT).receive(stream)
    assert error.__traceback__ is None
    assert error.__context__ is None


def test_errors_say_whether_to_come_back_and_how_to_end():
    (error,) = FrameDecoder(max_message_bytes=LIMIT).receive(frame(TEXT, b"\xff"))
    assert error.reason.code == reasons.PARSE_ERROR.code
    assert error.reason.close_code == 1007
    assert error.reason.text == "text is not UTF-8"


def test_a_clients_decoder_refuses_masked_frames():
    assert decode(frame(TEXT, b"a"), from_client=False) == [failed(1002)]
    assert decode(frame(PING), from_client=False) == [failed(1002)]


# --- Encoders


def test_close_frames():
    assert close_frame(None) == b"\x88\x00"
    assert close_frame(1000) == b"\x88\x02\x03\xe8"
    assert close_frame(1001, "bye") == b"\x88\x05\x03\xe9bye"
    assert decode(close_frame(4000, "ü", mask=MASK)) == [Close(4000, "ü")]


def test_the_text_of_a_close_is_cut_between_characters():
    """A close frame has room for 123 bytes of text (5.5)."""
    assert close_frame(1000, "x" * 200)[4:] == b"x" * 123
    assert close_frame(1000, "ü" * 200)[4:].decode() == "ü" * 61
    assert close_frame(1000, "\ud800")[4:] == b"?"


@pytest.mark.parametrize("code", BAD_CODES)
def test_a_close_code_that_may_not_be_sent_is_refused(code):
    with pytest.raises(MisuseError, match=f"{code}.*close_frame\\(None\\)"):
        close_frame(code)


@pytest.mark.parametrize("encode", [ping_frame, pong_frame])
def test_a_control_frame_has_room_for_125_bytes(encode):
    assert len(encode(b"*" * 125)) == 127
    with pytest.raises(MisuseError, match="126"):
        encode(b"*" * 126)


# --- Properties

masks = st.binary(min_size=4, max_size=4)
payloads = st.binary(max_size=300) | st.sampled_from([126, 65535, 65536, 70000]).map(bytes)


@given(st.text(max_size=300), masks, st.booleans())
def test_text_comes_back_as_it_was(text, mask, from_client):
    data = text_frame(text.encode(), mask=mask if from_client else None)
    assert decode(data, from_client=from_client) == [text]


@given(payloads, masks, st.booleans())
def test_binary_comes_back_as_it_was(payload, mask, from_client):
    data = binary_frame(payload, mask=mask if from_client else None)
    assert decode(data, from_client=from_client) == [payload]


@given(st.binary(max_size=125), masks)
def test_control_frames_come_back_as_they_were(payload, mask):
    stream = ping_frame(payload, mask=mask) + pong_frame(payload, mask=mask)
    assert decode(stream) == [Ping(payload), Pong(payload)]


@given(st.sampled_from(GOOD_CODES), st.text(max_size=30), masks)
def test_a_close_comes_back_as_it_was(code, text, mask):
    assert decode(close_frame(code, text, mask=mask)) == [Close(code, text)]


wild_frames = st.builds(
    frame,
    st.sampled_from([TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE, 3, 11]),
    st.text(max_size=50).map(str.encode) | st.binary(max_size=150),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 4, 1]),
    mask=masks | st.just(MASK) | st.none(),
)
wild_streams = st.lists(wild_frames | st.binary(max_size=20), max_size=12).map(b"".join)


@given(wild_streams, st.booleans(), st.booleans())
@example(b"\x81\xfe\x00", True, False)
@example(b"\x81\xfe\x00\x7e" + MASK, True, False)
def test_any_bytes_in_any_cutting_give_the_same_messages(stream, from_client, compression):
    """And never anything but messages, of which an error is one."""
    options = {"from_client": from_client, "compression": compression, "limit": 200}
    whole = decode(stream, **options)
    assert decode(*chop(stream), **options) == whole
    for cut in range(len(stream) + 1):
        assert decode(stream[:cut], stream[cut:], **options) == whole


# --- Another implementation


@st.composite
def valid_streams(draw):
    """Frames of messages in fragments, with control frames anywhere between."""
    control = st.sampled_from([PING, PONG]).flatmap(
        lambda opcode: st.binary(max_size=125).map(lambda payload: Frame(Opcode(opcode), payload))
    )
    sent = []
    for _ in range(draw(st.integers(0, 6))):
        sent += draw(st.lists(control, max_size=2))
        is_text = draw(st.booleans())
        payload = draw(st.text(max_size=200).map(str.encode) if is_text else payloads)
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
        pieces = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        for index, piece in enumerate(pieces):
            opcode = Opcode.CONT if index else Opcode.TEXT if is_text else Opcode.BINARY
            sent.append(Frame(opcode, piece, fin=index == len(pieces) - 1))
            sent += draw(st.lists(control, max_size=1))
    return b"".join(sent_frame.serialize(mask=True) for sent_frame in sent)


def read_by_websockets(stream):
    """What `websockets` makes of a client's stream, put together to our messages."""
    protocol = Protocol(Side.SERVER, state=OPEN, max_size=None)
    protocol.receive_data(stream)
    messages, opcode, parts = [], None, []
    for event in protocol.events_received():
        if event.opcode is Opcode.PING:
            messages.append(Ping(bytes(event.data)))
        elif event.opcode is Opcode.PONG:
            messages.append(Pong(bytes(event.data)))
        else:
            opcode = opcode if event.opcode is Opcode.CONT else event.opcode
            parts.append(bytes(event.data))
            if event.fin:
                payload = b"".join(parts)
                messages.append(payload.decode() if opcode is Opcode.TEXT else payload)
                parts.clear()
    return messages


@given(valid_streams(), st.integers(1, 2000))
def test_websockets_reads_a_clients_stream_like_us(stream, cut):
    assert decode(*chop(stream, cut)) == read_by_websockets(stream)


@given(payloads, masks)
def test_websockets_writes_frames_like_us(payload, mask):
    assert binary_frame(payload) == Frame(Opcode.BINARY, payload).serialize(mask=False)
    theirs = Frame(Opcode.BINARY, payload).serialize(mask=True)
    size = len(theirs) - len(payload)
    assert binary_frame(payload, mask=theirs[size - 4 : size]) == theirs


# --- The fallback


@given(st.binary(max_size=300), masks)
def test_the_mask_in_python_is_the_mask_in_c(data, mask):
    from websockets.speedups import apply_mask

    assert masking_module.xor_mask(data, mask) == apply_mask(data, mask)
    assert masking_module.xor_mask(bytearray(data), mask) == apply_mask(data, mask)


def test_the_mask_is_undone_in_c_where_it_can_be():
    from websockets.speedups import apply_mask

    assert masking_module.apply_mask is apply_mask


def test_the_mask_is_undone_in_python_without_speedups(monkeypatch):
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    importlib.reload(masking_module)
    assert masking_module.apply_mask is masking_module.xor_mask
    monkeypatch.undo()
    importlib.reload(masking_module)
