"""The opening handshake against RFC 6455, section 4, and against an independent implementation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from trio_rt.codec.upgrade import (
    Refusal,
    Upgrade,
    accept_key,
    read_upgrade,
    upgrade_response,
)
from trio_rt.errors import MisuseError

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455, section 1.3

REQUEST = {
    "host": "server.example.com",
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-key": KEY,
    "origin": "http://example.com",
    "sec-websocket-version": "13",
}


def changed(**headers):
    """The sample request with other headers; `None` leaves one out."""
    merged = REQUEST | {name.replace("_", "-"): value for name, value in headers.items()}
    return {name: value for name, value in merged.items() if value is not None}


def test_1_3_the_sample_key():
    assert accept_key(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_1_2_the_sample_handshake():
    upgrade = read_upgrade("GET", "1.1", REQUEST)
    assert upgrade == Upgrade(KEY)
    assert upgrade_response(upgrade) == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"\r\n"
    )


@pytest.mark.parametrize(
    "headers",
    [
        changed(upgrade="WebSocket"),
        changed(upgrade="h2c, websocket"),
        changed(connection="upgrade"),
        changed(connection="keep-alive, Upgrade"),  # Firefox
        changed(connection="keep-alive ,\tUPGRADE"),
        changed(origin=None),
        changed(sec_websocket_key="AAAAAAAAAAAAAAAAAAAAAA=="),
        changed(sec_websocket_key=f" {KEY} "),
        changed(sec_websocket_protocol="chat"),
    ],
)
def test_what_4_2_1_allows_is_accepted(headers):
    assert read_upgrade("GET", "1.1", headers) == Upgrade(headers["sec-websocket-key"].strip())


def test_extensions_are_passed_on():
    offer = "permessage-deflate; client_max_window_bits"
    headers = changed(sec_websocket_extensions=offer)
    assert read_upgrade("GET", "1.1", headers) == Upgrade(KEY, offer)


@pytest.mark.parametrize(
    ("status", "named", "headers"),
    [
        (400, "Host", changed(host=None)),
        (400, "Host", changed(host="")),
        (426, "Upgrade", changed(upgrade=None)),
        (426, "Upgrade", changed(upgrade="h2c")),
        (426, "Upgrade", changed(upgrade="websockets")),
        (400, "Connection", changed(connection=None)),
        (400, "Connection", changed(connection="keep-alive")),
        (426, "Version", changed(sec_websocket_version=None)),
        (426, "Version", changed(sec_websocket_version="8")),
        (426, "Version", changed(sec_websocket_version="13, 8")),
        (426, "Version", changed(sec_websocket_version="013")),
        (400, "Key", changed(sec_websocket_key=None)),
        (400, "Key", changed(sec_websocket_key="")),
        (400, "Key", changed(sec_websocket_key=KEY[:-4])),
        (400, "Key", changed(sec_websocket_key=KEY[:-1])),
        (400, "Key", changed(sec_websocket_key="A" * 24)),
        (400, "Key", changed(sec_websocket_key="*" * 22 + "==")),
        (400, "Key", changed(sec_websocket_key=f"{KEY}, {KEY}")),
        (400, "Key", changed(sec_websocket_key=KEY[:12] + "\n" + KEY[12:])),
    ],
)
def test_a_refusal_names_what_is_wrong(status, named, headers):
    refusal = read_upgrade("GET", "1.1", headers)
    assert isinstance(refusal, Refusal)
    assert refusal.status == status
    assert named in refusal.message


def test_only_get_opens_a_websocket():
    refusal = read_upgrade("POST", "1.1", REQUEST)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 405
    assert refusal.headers == {"allow": "GET"}


@pytest.mark.parametrize("version", ["1.0", "2", "0.9"])
def test_only_http_1_1_opens_a_websocket(version):
    refusal = read_upgrade("GET", version, REQUEST)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 400


def test_4_4_a_refused_version_is_told_which_one_would_do():
    refusal = read_upgrade("GET", "1.1", changed(sec_websocket_version="25"))
    assert isinstance(refusal, Refusal)
    assert refusal.headers["sec-websocket-version"] == "13"
    assert refusal.headers["upgrade"] == "websocket"


def test_the_response_carries_extensions_and_more_headers():
    response = upgrade_response(
        Upgrade(KEY), extensions="permessage-deflate", headers=[("Set-Cookie", "a=ü")]
    )
    assert b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n" in response
    assert response.endswith(b"\r\nSet-Cookie: a=\xfc\r\n\r\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a", "b\r\nc: d"),
        ("a", "b\nc"),
        ("a", "\0"),
        ("a b", "c"),
        ("", "c"),
        ("a:", "b"),
        ("a", "€"),
    ],
)
def test_no_header_smuggles_in_another(name, value):
    with pytest.raises(MisuseError, match="no valid HTTP header"):
        upgrade_response(Upgrade(KEY), headers=[(name, value)])


names = st.sampled_from([*REQUEST, "sec-websocket-extensions"])


@given(st.text(max_size=5), st.text(max_size=5), st.dictionaries(names, st.text(max_size=30)))
def test_any_request_is_decided_without_an_exception(method, version, headers):
    for what in (read_upgrade(method, version, headers), read_upgrade("GET", "1.1", headers)):
        assert isinstance(what, Refusal)


@given(names, st.text(max_size=40))
def test_any_header_of_a_good_request_may_be_wrong(name, value):
    decision = read_upgrade("GET", "1.1", REQUEST | {name: value})
    assert isinstance(decision, Upgrade | Refusal)


def test_websockets_opens_a_connection_with_us():
    client = ClientProtocol(parse_uri("ws://example.com/"))
    request = client.connect()
    client.send_request(request)
    headers = {name.lower(): value for name, value in request.headers.raw_items()}
    upgrade = read_upgrade("GET", "1.1", headers)
    assert isinstance(upgrade, Upgrade)
    client.receive_data(upgrade_response(upgrade))
    assert client.handshake_exc is None
    assert client.state.name == "OPEN"
