"""Reads the head of one HTTP request, and takes it apart.

Every WebSocket begins here, so it is kept lean: 39 us of CPU for a browser's upgrade request
and 25 us for that of the JavaScript client on Node, of which h11 takes all but 1 or 2.

A listener reads the head, and then either hands connection and request on to `serve_http`, or
takes the stream over: the bytes that came behind the head are `connection.trailing_data[0]`.
"""

import re
from urllib.parse import parse_qsl, unquote

import h11

from trio_rt.web.messages import HttpError
from trio_rt.web.stream import ByteStream

_ABSOLUTE = re.compile("(?:http|ws)s?://[^/?#]+/?", re.IGNORECASE)

MAX_HEAD_BYTES = 16_384
"""Size of a request head (h11's and most servers' order of magnitude)."""


def new_connection(max_head_bytes: int = MAX_HEAD_BYTES) -> h11.Connection:
    """The server's side of a fresh HTTP/1.1 connection."""
    return h11.Connection(h11.SERVER, max_incomplete_event_size=max_head_bytes)


async def read_head(
    stream: ByteStream, connection: h11.Connection, *, max_bytes: int = MAX_HEAD_BYTES
) -> h11.Request | None:
    """Reads the head of the next request.

    It has no deadline of its own: give it one by a cancel scope. After a cancellation nothing is
    lost, what has come so far is in `connection`.

    Args:
        stream: where the bytes come from.
        connection: from `new_connection`, or at the start of its next cycle.
        max_bytes: the size of a head; the same number that `new_connection` got.

    Returns:
        The head; `None` if the peer ended the stream instead of beginning a request.

    Raises:
        HttpError: if the head is malformed (400, 501) or too big (431). Answer it by `refuse`.
        TransportClosed: if the stream broke.
    """
    arrived = len(connection.trailing_data[0])
    while (event := next_event(connection)) is h11.NEED_DATA:
        data = await stream.receive()
        arrived += len(data)
        connection.receive_data(data)
    if not isinstance(event, h11.Request):
        return None
    # h11 watches heads that are not complete; this one may have come at once, with more behind.
    if arrived > max_bytes and arrived - len(connection.trailing_data[0]) > max_bytes:
        raise HttpError(431, "head_too_big", f"a request head may have {max_bytes} bytes")
    return event


def next_event(connection: h11.Connection) -> object:
    """What h11 makes of the bytes so far: one of its events, or `NEED_DATA`.

    Raises:
        HttpError: if they are not HTTP. Its cause has h11's words, with the peer's in `repr`.
    """
    try:
        return connection.next_event()
    except h11.RemoteProtocolError as error:
        if error.error_status_hint == 431:
            refusal = HttpError(431, "head_too_big", "the request head is too big")
        else:
            refusal = HttpError(
                error.error_status_hint, "bad_request", "that is no valid HTTP/1.1 request"
            )
        raise refusal from error


def split_target(target: bytes) -> tuple[str, dict[str, str]]:
    """The path and the query of a request target (RFC 9112, section 3.2), percent-decoded.

    Returns:
        The path, and the query as a mapping; of a name that comes twice, the last value.

    Raises:
        HttpError: 400, if it has no path, is not UTF-8, or has control characters.
    """
    text = target.decode("ascii")
    if not text.startswith("/"):
        match = _ABSOLUTE.match(text)
        text = "/" + text[match.end() :] if match else ""
    raw_path, _, raw_query = text.partition("?")
    try:
        path = unquote(raw_path, errors="strict") if "%" in raw_path else raw_path
    except UnicodeDecodeError:
        path = ""
    if not path or any(char < " " or char == "\x7f" for char in path):
        raise HttpError(400, "bad_request", "that is no valid path")
    return path, dict(parse_qsl(raw_query, keep_blank_values=True)) if raw_query else {}


def merge_headers(request: h11.Request) -> dict[str, str]:
    """The headers by their lower-case names; what came twice is joined.

    The separator is a comma (RFC 9110, section 5.3), for cookies a semicolon (RFC 6265bis).
    """
    merged: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        if name in merged:
            value = merged[name] + ("; " if name == "cookie" else ", ") + value
        merged[name] = value
    return merged
