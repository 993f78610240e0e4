"""The Engine.IO codec against revision 4 of the protocol."""

import base64
import json
import string
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_rt import reasons
from trio_rt.codec import engineio
from trio_rt.codec.engineio import (
    Open,
    decode_base64,
    decode_open,
    encode_base64,
    encode_open,
)
from trio_rt.errors import RemoteProtocolError

EXAMPLE = (
    '0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,'
    '"pingTimeout":20000,"maxPayload":1000000}'
)
HANDSHAKE = Open("lv_VI97HAXpY6yYWAAAC", ["websocket"], 25_000, 20_000, 1_000_000)

any_text = st.text(st.characters(codec=None))  # lone surrogates as well


def assert_refused(decode, text):
    with pytest.raises(RemoteProtocolError) as caught:
        decode(text)
    assert caught.value.reason.code == reasons.PARSE_ERROR.code


def test_packet_types():
    """The types are the protocol's digits."""
    names = ("OPEN", "CLOSE", "PING", "PONG", "MESSAGE", "UPGRADE", "NOOP")
    assert [getattr(engineio, name) for name in names] == list("0123456")


# --- The open packet


def test_encode_open_example():
    """Seconds become milliseconds, and the packet is the protocol's example to the byte."""
    encoded = encode_open(
        "lv_VI97HAXpY6yYWAAAC",
        upgrades=["websocket"],
        ping_interval=25.0,
        ping_timeout=20.0,
        max_payload=1_000_000,
    )
    assert encoded == EXAMPLE.encode()


def test_encode_open_without_upgrades():
    """The list of upgrades is there even if it is empty, or the official client fails."""
    encoded = encode_open("s", upgrades=[], ping_interval=0.3, ping_timeout=0.07, max_payload=9)
    assert json.loads(encoded[1:]) == {
        "sid": "s",
        "upgrades": [],
        "pingInterval": 300,
        "pingTimeout": 70,
        "maxPayload": 9,
    }


def test_decode_open_example():
    """The protocol's example is read."""
    assert decode_open(EXAMPLE) == HANDSHAKE


@given(
    sid=st.text(),
    upgrades=st.lists(st.text()),
    times=st.tuples(*[st.integers(0, 10**9)] * 2),
    max_payload=st.integers(0, 2**63 - 1),
)
def test_open_round_trip(sid, upgrades, times, max_payload):
    """What was encoded is decoded again, to the millisecond."""
    encoded = encode_open(
        sid,
        upgrades=upgrades,
        ping_interval=times[0] / 1000,
        ping_timeout=times[1] / 1000,
        max_payload=max_payload,
    )
    assert decode_open(encoded.decode()) == Open(sid, upgrades, *times, max_payload)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0null",
        "0[]",
        '0{"sid":"s"}',
        EXAMPLE[1:],
        "4" + EXAMPLE[1:],
        EXAMPLE[:-1],
        EXAMPLE + "}",
        EXAMPLE.replace('["websocket"]', "null"),
        EXAMPLE.replace("25000", '"25000"'),
        EXAMPLE.replace("25000", "9" * 5_000),
        EXAMPLE.replace("25000", "NaN"),
        EXAMPLE.replace("lv_", "\ud800"),
        '0{"x":' + "[" * 100_000,
    ],
    ids=lambda text: text[:30].encode("ascii", "backslashreplace").decode() or "nothing",
)
def test_decode_open_refuses(text):
    """What is no handshake is the peer's fault, however odd it is."""
    assert_refused(decode_open, text)


@given(any_text | any_text.map("0{}".__add__) | any_text.map('0{{"sid":"{}"}}'.format))
def test_decode_open_of_any_text(text):
    """Any text is a handshake or the peer's fault, and nothing else."""
    with suppress(RemoteProtocolError):
        assert isinstance(decode_open(text), Open)


# --- Binary messages as text


def test_base64_example():
    """The protocol's example of a binary message in a text."""
    assert encode_base64(b"\x01\x02\x03\x04") == b"bAQIDBA=="
    assert decode_base64("bAQIDBA==") == b"\x01\x02\x03\x04"


@given(st.binary())
def test_base64_round_trip(data):
    """What was encoded is decoded again, and is what the standard library makes of it."""
    encoded = encode_base64(data)
    assert encoded == b"b" + base64.b64encode(data)
    assert decode_base64(encoded.decode()) == data


@pytest.mark.parametrize(
    "text",
    [
        *["bA", "bAQ", "bAQ=", "bAQ===", "bAQID=", "b=", "bA===", "bAQ==AQ=="],
        *["b AQ==", "bAQ==\n", "bA-_=", "bA-_A", "b\u0661\u0661==", "b\ud800AA=", "bÄQ=="],
    ],
    ids=ascii,
)
def test_base64_refuses(text):
    """Wrong padding, other alphabets and stray characters are the peer's fault."""
    assert_refused(decode_base64, text)


@given(st.text(string.ascii_letters + string.digits + "+/=-_ \n") | any_text)
@example("")
def test_base64_of_any_text(text):
    """Any text is bytes or the peer's fault, and nothing else."""
    with suppress(RemoteProtocolError):
        assert isinstance(decode_base64("b" + text), bytes)
