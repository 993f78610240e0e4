"""permessage-deflate against RFC 7692, and against an independent implementation.

The numbers 12 and 13 are the Autobahn test suite's.
"""

import json
import os
import tracemalloc
import zlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from trio_rt import reasons
from trio_rt.codec.deflate import compress, decompress, negotiate
from trio_rt.codec.frames import FrameDecoder, Ping, binary_frame, text_frame
from trio_rt.errors import RemoteProtocolError

from .raw import BINARY, CONTINUATION, MASK, PING, TEXT, fragments, frame

pytestmark = pytest.mark.usefixtures("masking")

LIMIT = 1 << 20

# RFC 7692, section 7.2.3: what can stand for "Hello".
HELLOS = {
    "7.2.3.1 one block": "f2 48 cd c9 c9 07 00",
    "7.2.3.3 a block without compression": "00 05 00 fa ff 48 65 6c 6c 6f 00",
    "7.2.3.4 a final block": "f3 48 cd c9 c9 07 00 00",
    "7.2.3.4 a final block and nothing behind it": "f3 48 cd c9 c9 07 00",
    "7.2.3.5 two blocks": "f2 48 05 00 00 00 ff ff ca c9 c9 07 00",
}


def decode(*pieces, limit=LIMIT):
    decoder = FrameDecoder(max_message_bytes=limit, compression=True)
    return [message for piece in pieces for message in decoder.receive(piece)]


def assert_fails(stream, close_code, limit=LIMIT):
    (error,) = decode(stream, limit=limit)
    assert isinstance(error, RemoteProtocolError)
    assert error.reason.close_code == close_code


@pytest.mark.parametrize("data", HELLOS.values(), ids=HELLOS.keys())
def test_7_2_3_hello(data):
    data = bytes.fromhex(data)
    assert decompress(data, LIMIT) == b"Hello"
    assert decode(frame(TEXT, data, rsv=4)) == ["Hello"]


def test_7_2_3_1_hello_in_one_frame():
    assert compress(b"Hello") == bytes.fromhex("f2 48 cd c9 c9 07 00")
    assert text_frame(compress(b"Hello"), compressed=True) == bytes.fromhex(
        "c1 07 f2 48 cd c9 c9 07 00"
    )


def test_7_2_3_1_hello_in_two_frames():
    stream = bytes.fromhex("41 03 f2 48 cd 80 04 c9 c9 07 00")
    decoder = FrameDecoder(max_message_bytes=LIMIT, compression=True, from_client=False)
    assert decoder.receive(stream) == ["Hello"]


def test_7_2_3_2_the_window_is_not_shared_between_messages():
    """The second "Hello" of the RFC's example points into the first: here that is an error."""
    assert_fails(frame(TEXT, bytes.fromhex("f2 00 11 00 00"), rsv=4), 1007)


def test_7_2_3_6_an_empty_message():
    assert compress(b"") == b"\x00"
    assert decode(frame(TEXT, b"\x00", rsv=4)) == [""]
    assert decode(frame(TEXT, b"\x02\x00", rsv=4)) == [""]


@pytest.mark.parametrize("size", [16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072])
@pytest.mark.parametrize("make", [os.urandom, lambda n: b"{" * n], ids=["random", "same"])
def test_12_messages_of_all_sizes(size, make):
    payload = make(size)
    data = compress(payload)
    stream = binary_frame(data, compressed=True, mask=MASK)
    assert decode(stream) == [payload]
    pieces = [data[start : start + 1000] for start in range(0, len(data), 1000)]
    assert decode(fragments(*pieces, opcode=BINARY, rsv=4)) == [payload]


def test_13_compressed_and_plain_messages_may_alternate():
    """Whether a message is compressed is said by each (RFC 7692, section 6)."""
    stream = frame(TEXT, b"a") + frame(TEXT, compress(b"b"), rsv=4) + frame(BINARY, b"c")
    assert decode(stream) == ["a", "b", b"c"]


def test_control_frames_come_between_compressed_fragments():
    data = compress(b"Hello")
    stream = frame(TEXT, data[:3], fin=False, rsv=4) + frame(PING) + frame(CONTINUATION, data[3:])
    assert decode(stream) == [Ping(), "Hello"]


@pytest.mark.parametrize(
    "stream",
    [
        frame(PING, rsv=4),
        frame(TEXT, compress(b"a"), rsv=4, fin=False) + frame(CONTINUATION, rsv=4),
        frame(TEXT, compress(b"a"), rsv=2),
        frame(TEXT, compress(b"a"), rsv=6),
    ],
    ids=["on a ping", "on a continuation", "another bit", "another bit as well"],
)
def test_the_bit_for_compression_is_only_for_the_first_frame_of_a_message(stream):
    assert_fails(stream, 1002)


def test_compressed_frames_have_to_be_negotiated():
    decoder = FrameDecoder(max_message_bytes=LIMIT)
    (error,) = decoder.receive(frame(TEXT, compress(b"a"), rsv=4))
    assert isinstance(error, RemoteProtocolError)
    assert error.reason.close_code == 1002


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xff\xff",
        compress(b"Hello" * 100)[:-3],
        bytes.fromhex("00 05 00 fa ff 48 65"),
        bytes.fromhex(HELLOS["7.2.3.4 a final block"]) + compress(b"more"),
    ],
    ids=["empty", "no blocks", "cut short", "cut short without compression", "after the end"],
)
def test_bad_data_fails(data):
    assert_fails(frame(TEXT, data, rsv=4), 1007)


def test_a_compressed_text_has_to_be_utf8():
    assert_fails(frame(TEXT, compress(b"\xce\xba\xe1"), rsv=4), 1007)
    assert decode(frame(BINARY, compress(b"\xce\xba\xe1"), rsv=4)) == [b"\xce\xba\xe1"]


# --- Bombs


@pytest.mark.parametrize("limit", [1, 100, 16384, 65536, LIMIT])
@pytest.mark.parametrize("byte", [b"\x00", b"ab"])
def test_a_message_at_the_limit_passes_and_one_above_does_not(limit, byte):
    payload = (byte * limit)[:limit]
    assert decompress(compress(payload), limit) == payload
    with pytest.raises(RemoteProtocolError) as caught:
        decompress(compress(payload + b"x"), limit)
    assert caught.value.reason.code == reasons.MESSAGE_TOO_BIG.code
    assert caught.value.reason.close_code == 1009
    assert str(limit) in str(caught.value)


def test_a_bomb_allocates_no_more_than_the_limit():
    limit = 100_000
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = deflater.compress(bytes(50_000_000)) + deflater.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < limit
    stream = frame(BINARY, bomb, rsv=4)
    tracemalloc.start()
    assert_fails(stream, 1009, limit)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * limit


def test_fragments_are_limited_before_they_are_inflated():
    decoder = FrameDecoder(max_message_bytes=1000, compression=True)
    assert decoder.receive(frame(BINARY, bytes(600), fin=False, rsv=4)) == []
    (error,) = decoder.receive(frame(CONTINUATION, bytes(600)))
    assert isinstance(error, RemoteProtocolError)
    assert error.reason.close_code == 1009


# --- Properties, and another implementation


@given(st.binary(max_size=1000))
def test_what_is_compressed_inflates_again(payload):
    assert decompress(compress(payload), len(payload) or 1) == payload


def inflate(data, limit=LIMIT):
    """The message, or the close code of the refusal."""
    try:
        return decompress(data, limit)
    except RemoteProtocolError as error:
        return error.reason.close_code


@given(st.binary(max_size=100) | st.binary(max_size=100).map(compress))
def test_any_bytes_inflate_or_are_refused(data):
    result = inflate(data, 50)
    assert result in (1007, 1009) or len(result) <= 50


@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_message_that_was_cut_short_is_never_taken_for_another(payload, data):
    whole = compress(payload)
    cut = data.draw(st.integers(0, len(whole) - 1))
    assume(whole[:cut] != b"\x00")  # that is the empty message, whole (RFC 7692, 7.2.3.6)
    assert inflate(whole[:cut]) in (1007, payload)  # the latter if only padding was cut off


@given(st.lists(st.text(max_size=300).map(str.encode), max_size=4))
def test_websockets_understands_us_and_is_understood(payloads):
    theirs = PerMessageDeflate(True, True, 15, 15)
    for payload in payloads:
        ours = Frame(Opcode.TEXT, compress(payload), rsv1=True)
        assert theirs.decode(ours).data == payload
        stream = Frame(Opcode.TEXT, payload).serialize(mask=True, extensions=[theirs])
        assert decode(stream) == [payload.decode()]


@pytest.mark.parametrize("window_bits", range(9, 16))
@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_any_clients_zlib_is_understood(window_bits, level):
    payload = json.dumps([{"id": n, "name": f"player {n}"} for n in range(2000)]).encode()
    deflater = zlib.compressobj(level, zlib.DEFLATED, -window_bits)
    data = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
    assert decompress(data[:-4], LIMIT) == payload


# --- Negotiation

AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    "header",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",  # what browsers send
        "permessage-deflate;client_max_window_bits=8",
        'permessage-deflate ; client_max_window_bits = "15"',
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "x-webkit-deflate-frame, permessage-deflate",
        'foo; bar="b,az", permessage-deflate',
        "permessage-deflate; server_max_window_bits=10, permessage-deflate",
        "permessage-deflate; unknown, permessage-deflate; client_max_window_bits",
    ],
)
def test_an_offer_is_accepted_without_context_takeover(header):
    assert negotiate(header) == AGREED


def test_a_window_of_32_kib_is_confirmed():
    """A limit that was asked for has to be in the answer (RFC 7692, 7.1.2.1)."""
    offer = "permessage-deflate; server_max_window_bits=15"
    assert negotiate(offer) == f"{AGREED}; server_max_window_bits=15"


@pytest.mark.parametrize(
    "header",
    [
        "",
        ",",
        ";;=,=",
        "x-webkit-deflate-frame",
        "permessage-deflate-2",
        "permessage-deflate; unknown",
        "permessage-deflate; unknown=1",
        "permessage-deflate;",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=08",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=9",  # allowed, but one frame is for all
        'permessage-deflate; server_max_window_bits="15',
    ],
)
def test_an_offer_is_declined(header):
    assert negotiate(header) is None


@given(st.text(max_size=60) | st.text('permsage-dflt;,=" 15', max_size=60))
def test_any_header_is_negotiated_without_an_exception(header):
    assert negotiate(header) is None or "permessage-deflate" in header
