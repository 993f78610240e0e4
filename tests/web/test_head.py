import h11
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from trio_rt.web.head import merge_headers, new_connection, read_head, split_target
from trio_rt.web.messages import HttpError

from .peer import MemoryStream

UPGRADE = (
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n"
    b"Host: 127.0.0.1:8000\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"Upgrade: websocket\r\n"
    b"Cookie: a=1\r\n"
    b"Cookie: b=2\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Script:
    """A `ByteStream` that hands out its pieces, and then ends."""

    peer = "script"

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    async def receive(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    async def send_all(self, data: bytes) -> None:
        raise AssertionError("reading a head sends nothing")

    def send_eof(self) -> None: ...

    def close(self) -> None: ...


async def read(*pieces: bytes, max_bytes: int = 1_000) -> h11.Request | None:
    return await read_head(Script(*pieces), new_connection(max_bytes), max_bytes=max_bytes)


async def test_keeps_what_came_behind_an_upgrade() -> None:
    """Bytes behind the head are for whoever takes the stream over."""
    connection = new_connection()
    request = await read_head(Script(UPGRADE + b"\x81\x00frames"), connection)
    assert request is not None
    assert request.target == b"/socket.io/?EIO=4&transport=websocket"
    assert connection.trailing_data == (b"\x81\x00frames", False)


@pytest.mark.parametrize("cut", range(1, len(UPGRADE)))
async def test_cut_anywhere(cut: int) -> None:
    """A head may come in any two pieces."""
    assert await read(UPGRADE[:cut], UPGRADE[cut:]) == await read(UPGRADE)


async def test_byte_by_byte() -> None:
    """A head may come in single bytes."""
    assert await read(*(bytes([byte]) for byte in UPGRADE)) == await read(UPGRADE)


async def test_no_request() -> None:
    """A peer that only came to leave is no error."""
    assert await read() is None


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (UPGRADE[:-1], 400),
        (b"\x16\x03\x01\x02\x00", 400),  # TLS
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x00\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 1_000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 1_000 + b"\r\n\r\n", 431),
    ],
)
async def test_refuses(head: bytes, status: int) -> None:
    """What is no request, or too much of one, is refused with the right status."""
    with pytest.raises(HttpError) as caught:
        await read(head)
    assert caught.value.status == status


async def test_size_is_of_the_head_alone() -> None:
    """A body that came in the same piece does not count."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n"
    assert await read(head + b"x" * 5_000) is not None


async def test_cancelled_and_taken_up_again() -> None:
    """A cancellation loses nothing."""
    ours, theirs = trio.testing.memory_stream_pair()
    stream, connection = MemoryStream(ours), new_connection()
    await theirs.send_all(UPGRADE[:50])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_head, stream, connection)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await theirs.send_all(UPGRADE[50:])
    assert await read_head(stream, connection) == await read(UPGRADE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.binary() | st.sampled_from([UPGRADE, b"GET / HTTP/1.1\r\n", b"\r\n", b":"])))
@example([b"GET http://\xc3\xa4/ HTTP/1.1\r\nHost: a\r\n\r\n"])
@example([b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_any_bytes(pieces: list[bytes]) -> None:
    """Any bytes are a request, none, or an `HttpError`."""

    async def main() -> None:
        try:
            request = await read(*filter(None, pieces))
            if request is not None:
                split_target(request.target)
                merge_headers(request)
        except HttpError:
            pass

    trio.run(main)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", {}),
        (b"/a%20b/%C3%A4?x=1&y=%26&x=2&z", "/a b/ä", {"x": "2", "y": "&", "z": ""}),
        (b"/a+b?c=d+e", "/a+b", {"c": "d e"}),
        (b"http://host/a?b=c", "/a", {"b": "c"}),
        (b"HTTP://host:80", "/", {}),
        (b"https://host?b=c", "/", {"b": "c"}),
        (b"//host/a", "//host/a", {}),
    ],
)
def test_split_target(target: bytes, path: str, query: dict[str, str]) -> None:
    """A target is decoded once, in any form that a server has to take."""
    assert split_target(target) == (path, query)


@pytest.mark.parametrize("target", [b"*", b"host:443", b"/%ff", b"/%00", b"/%0d%0a", b"x://h/a"])
def test_bad_target(target: bytes) -> None:
    """A target without a path, or with control characters, is refused."""
    with pytest.raises(HttpError) as caught:
        split_target(target)
    assert caught.value.status == 400


async def test_merge_headers() -> None:
    """Repeated headers are one value, joined as their RFC says."""
    head = UPGRADE.replace(b"\r\n\r\n", b"\r\nX-A: 1\r\nx-a: 2\r\n\r\n")
    request = await read(head)
    assert request is not None
    headers = merge_headers(request)
    assert headers["cookie"] == "a=1; b=2"
    assert headers["x-a"] == "1, 2"
    assert headers["sec-websocket-version"] == "13"
