import logging
from collections.abc import Callable

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trio_rt.config import Config
from trio_rt.errors import MisuseError, Refuse
from trio_rt.web.exchange import refuse, serve_http
from trio_rt.web.head import new_connection, read_head
from trio_rt.web.link import HttpLimits
from trio_rt.web.messages import HttpError, Request, Response
from trio_rt.web.pages import Pages

from .peer import MemoryStream, Peer, SocketStream


@attrs.frozen
class Point:
    x: int
    y: int


@pytest.fixture
def pages() -> Pages:
    pages = Pages()

    @pages.get("/hello")
    async def hello(request: Request) -> Response:
        return Response(f"hello {request.query.get('name', '')}", headers={"X-Peer": request.peer})

    @pages.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(
            request.body, content_type=request.headers.get("content-type", "text/plain")
        )

    @pages.post("/point")
    async def point(request: Request) -> Response:
        return Response.json(request.json(Point))

    @pages.get("/crash")
    async def crash(request: Request) -> Response:
        raise ExceptionGroup("many", [ValueError("the secret")])

    @pages.get("/no")
    async def no(request: Request) -> Response:
        raise Refuse("forbidden", "not for you", {"need": "admin"})

    @pages.get("/teapot")
    async def teapot(request: Request) -> Response:
        raise HttpError(418, "teapot", headers={"x-tea": "green"})

    @pages.get("/wrong")
    async def wrong(request: Request) -> Response:
        return "text"  # type: ignore[return-value]

    @pages.get("/forever")
    async def forever(request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    pages.page("/big", Response(b"x" * 1_000_000))
    return pages


async def test_keep_alive(peer: Peer) -> None:
    """One connection carries many requests."""
    for name in ("a", "b"):
        answer = await peer.ask(f"/hello?name={name}")
        assert (answer.status, answer.body) == (200, f"hello {name}".encode())
        assert answer.headers["x-peer"] == "test:1"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "connection" not in answer.headers
        assert "date" in answer.headers


async def test_pipelined(peer: Peer) -> None:
    """Requests that came at once are answered in their order."""
    await peer.send(
        b"GET /hello?name=1 HTTP/1.1\r\nHost: a\r\n\r\n"
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\ntwo"
        b"GET /hello?name=3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        b"GET /hello?name=4 HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    assert [(await peer.answer()).body for _ in range(3)] == [b"hello 1", b"two", b"hello 3"]
    await peer.assert_ended()


@pytest.mark.parametrize(
    "request_", [b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close", b"GET /hello HTTP/1.0"]
)
async def test_close(peer: Peer, request_: bytes) -> None:
    """The connection ends after the response when the peer wants it so."""
    await peer.send(request_ + b"\r\n\r\n")
    answer = await peer.answer()
    assert answer.headers["connection"] == "close"
    assert answer.body == b"hello "
    await peer.assert_ended()


async def test_half_closed(peer: Peer) -> None:
    """A peer that has ended its half still gets its answer."""
    await peer.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n")
    await peer.stream.send_eof()
    assert (await peer.answer()).status == 200
    await peer.assert_ended()


async def test_cut_anywhere(peer: Peer) -> None:
    """A request with a body may come in any pieces."""
    chunked = (
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: t\r\n\r\n"
    )
    for cut in range(1, len(chunked)):
        await peer.send(chunked[:cut])
        await trio.testing.wait_all_tasks_blocked()
        await peer.send(chunked[cut:])
        assert (await peer.answer()).body == b"abcde"


async def test_head_of_get(peer: Peer) -> None:
    """HEAD gets the headers of GET, and no body."""
    answer = await peer.ask("/hello?name=me", "HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "8")
    assert (await peer.ask("/nothing", "HEAD")).status == 404
    await peer.assert_alive()


async def test_not_found_and_wrong_method(peer: Peer) -> None:
    """What is not there is 404, the wrong method 405 with the right ones; the peer may go on."""
    assert (await peer.ask("/nothing")).error["code"] == "not_found"
    answer = await peer.ask("/hello", "DELETE")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert (await peer.ask("/echo")).headers["allow"] == "POST"
    await peer.assert_alive()


async def test_unwanted_body_is_not_read(peer: Peer) -> None:
    """A body that no route wants ends the connection instead of being waited for."""
    answer = await peer.send(b"POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    answer = await peer.answer()
    assert (answer.status, answer.headers["connection"]) == (405, "close")
    await peer.assert_ended()


async def test_crash(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """A failed route is logged once; the client learns the id and nothing else."""
    answer = await peer.ask("/crash")
    assert (answer.status, answer.error["code"]) == (500, "internal")
    assert b"secret" not in answer.body
    (record,) = caplog.records
    assert record.getMessage() == f"GET /crash failed [{answer.error['details']['id']}]"
    assert "the secret" in caplog.text
    await peer.assert_alive()


async def test_wrong_return(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """A route that returns no response is told what to return."""
    assert (await peer.ask("/wrong")).status == 500
    assert "GET /wrong returned str: return Response('text')" in caplog.text


async def test_refuse_in_a_route(peer: Peer) -> None:
    """`Refuse` is 403 in the shape of an acknowledgement's error."""
    answer = await peer.ask("/no")
    assert answer.status == 403
    assert answer.error == {
        "code": "forbidden",
        "message": "not for you",
        "details": {"need": "admin"},
    }
    await peer.assert_alive()


async def test_http_error_in_a_route(peer: Peer) -> None:
    """`HttpError` is any other status."""
    answer = await peer.ask("/teapot")
    assert (answer.status, answer.headers["x-tea"]) == (418, "green")


async def test_json(peer: Peer) -> None:
    """A JSON body is validated, and the error has the path."""
    kind = "application/json; charset=utf-8"
    answer = await peer.ask("/point", "POST", body=b'{"x": 1, "y": 2}', content_type=kind)
    assert answer.body == b'{"x":1,"y":2}'
    answer = await peer.ask("/point", "POST", body=b'{"x": 1, "y": "2"}', content_type=kind)
    assert (answer.status, answer.error["code"]) == (400, "invalid")
    assert answer.error["message"] == "Expected `int`, got `str` - at `$.y`"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"NaN", b"[" * 900])
async def test_bad_json(peer: Peer, body: bytes) -> None:
    """What is no JSON is the client's fault."""
    answer = await peer.ask("/point", "POST", body=body, content_type="application/json")
    assert (answer.status, answer.error["code"]) == (400, "invalid")
    await peer.assert_alive()


def test_deep_json() -> None:
    """Nesting without end is the client's fault too."""
    request = Request("POST", "/", headers={"content-type": "application/json"}, body=b"[" * 99_999)
    with pytest.raises(HttpError, match="nested too deeply"):
        request.json()


async def test_json_of_another_type(peer: Peer) -> None:
    """A type that foreign pages may send unasked is not taken for JSON."""
    answer = await peer.ask("/point", "POST", body=b"{}", content_type="text/plain")
    assert answer.status == 415


async def test_expect_continue(peer: Peer) -> None:
    """A peer that waits to be asked for its body is asked, but only if the body is wanted."""
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    await peer.send(head)
    assert (await peer.answer()).status == 100
    await peer.send(b"hi")
    assert (await peer.answer()).body == b"hi"
    await peer.send(head.replace(b"/echo", b"/none"))
    assert (await peer.answer()).status == 404
    await peer.assert_ended()


async def test_body_too_big(connect: Callable[[], Peer]) -> None:
    """A body over the limit is refused, before it is read if it says so itself."""
    peer = connect()
    await peer.send(
        b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n"
    )
    answer = await peer.answer()
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    await peer.assert_ended()
    peer = connect()
    await peer.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    await peer.send(b"1F5\r\n" + b"x" * 501 + b"\r\n")
    await peer.send(b"1F5\r\n" + b"x" * 501 + b"\r\n")
    assert (await peer.answer()).status == 413
    await peer.assert_ended()


async def test_body_at_the_limit(peer: Peer) -> None:
    """The limit itself may be used."""
    assert (await peer.ask("/echo", "POST", body=b"x" * 1_000)).body == b"x" * 1_000


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x00\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 2_000, 431),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (
            b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Length: 3\r\n\r\n0\r\n\r\n",
            400,
        ),
    ],
)
async def test_malformed(
    peer: Peer, request_: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken request is answered, logged in one clean line, and ends the connection."""
    caplog.set_level(logging.INFO)
    await peer.send(request_)
    answer = await peer.answer()
    assert answer.status == status
    assert len(caplog.records) <= 1
    for record in caplog.records:
        assert record.exc_info is None
        assert record.getMessage().isprintable()
    assert answer.error["code"]


async def test_malformed_behind_a_good_one(peer: Peer) -> None:
    """The good request is answered first; nothing follows the bad one."""
    await peer.send(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n\x00\r\n\r\n")
    assert (await peer.answer()).status == 200
    assert (await peer.answer()).status == 400
    await peer.assert_ended()


async def test_truncated_body(peer: Peer) -> None:
    """A body that ends too early is refused."""
    await peer.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
    await peer.stream.send_eof()
    assert (await peer.answer()).status == 400


async def test_log_has_no_control_characters(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    """A peer cannot write lines of its own, or escape codes, into the log."""
    caplog.set_level(logging.INFO)
    await peer.send(b"GET / HTTP/1.1\r\nHost: a\r\nX\x1b[31m\x00: b\r\n\r\n")
    assert (await peer.answer()).status == 400
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    assert record.getMessage().startswith("test:1 was answered 400: illegal header line")


async def test_slow_head(autojump_clock: MockClock, peer: Peer) -> None:
    """A head that comes byte by byte has one deadline, not one a byte."""
    start = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def trickle() -> None:
            for byte in b"GET /" + b"x" * 100:
                await peer.send(bytes([byte]))
                await trio.sleep(1)

        nursery.start_soon(trickle)
        assert (await peer.answer()).status == 408
        nursery.cancel_scope.cancel()
    assert trio.current_time() - start == pytest.approx(10)


async def test_slow_body(autojump_clock: MockClock, peer: Peer) -> None:
    """A body has a deadline."""
    await peer.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
    assert (await peer.answer()).status == 408
    await peer.assert_ended()
    assert trio.current_time() == pytest.approx(30)


async def test_idle(autojump_clock: MockClock, peer: Peer) -> None:
    """A connection without requests is closed without a word."""
    assert (await peer.ask("/hello")).status == 200
    start = trio.current_time()
    await peer.assert_ended()
    assert trio.current_time() - start == pytest.approx(15)


async def test_slow_route(
    autojump_clock: MockClock, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    """A route has a deadline; the connection outlives it."""
    assert (await peer.ask("/forever")).error["code"] == "timeout"
    assert trio.current_time() == pytest.approx(30)
    assert "GET /forever took over 30.0 s" in caplog.text
    await peer.assert_alive()


async def test_slow_reader(autojump_clock: MockClock, pages: Pages, nursery: trio.Nursery) -> None:
    """A peer that does not take its response is cut."""
    server, client = trio.testing.lockstep_stream_pair()
    stream = MemoryStream(server)
    nursery.start_soon(serve_http, stream, pages)
    await client.send_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
    await trio.sleep(29.9)
    assert not stream.is_closed
    await trio.sleep(0.2)
    assert stream.is_closed


async def test_big_response(peer: Peer) -> None:
    """A response of many pieces arrives whole."""
    assert (await peer.ask("/big")).body == b"x" * 1_000_000
    await peer.assert_alive()


async def test_lingers_for_a_second(autojump_clock: MockClock, peer: Peer) -> None:
    """Who never ends its half is cut all the same, even if it floods."""
    await peer.send(b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (await peer.answer()).status == 200
    await peer.assert_ended()

    async def flood() -> None:
        while True:
            await peer.send(b"x" * 100)
            await trio.sleep(0.1)

    with pytest.raises(trio.BrokenResourceError):
        await flood()
    assert trio.current_time() == pytest.approx(1, abs=0.11)


async def test_lingering_is_not_held_up_by_a_flood(pages: Pages) -> None:
    """The deadline fires although receiving never has to wait."""

    class Flood(MemoryStream):
        async def receive(self) -> bytes:
            return b"POST /no HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n"

    ours, _theirs = trio.testing.memory_stream_pair()
    stream = Flood(ours)
    await serve_http(stream, pages, limits=HttpLimits(close_timeout=0.01))
    assert stream.is_closed


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /for",
        b"GET /forever HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
        b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ],
)
async def test_cancelled(autojump_clock: MockClock, pages: Pages, sent: bytes) -> None:
    """Wherever it waits, a cancelled connection is closed at once."""
    ours, theirs = trio.testing.memory_stream_pair()
    stream = MemoryStream(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_http, stream, pages)
        if sent:
            await theirs.send_all(sent)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert stream.is_closed
    assert trio.current_time() == 0


@pytest.mark.parametrize("target", ["/hello", "/big", "/forever"])
async def test_peer_is_gone(peer: Peer, target: str) -> None:
    """A peer that left disturbs nobody."""
    await peer.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    await peer.stream.aclose()


async def test_handed_on_from_a_listener(pages: Pages, nursery: trio.Nursery) -> None:
    """Who has read the head hands it on; an upgrade that nobody takes is an ordinary request."""
    ours, theirs = trio.testing.memory_stream_pair()
    peer, stream, connection = Peer(theirs), MemoryStream(ours), new_connection()
    await peer.send(
        b"GET /hello HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    )
    request = await read_head(stream, connection)
    nursery.start_soon(lambda: serve_http(stream, pages, connection=connection, request=request))
    assert (await peer.answer()).status == 200
    await peer.assert_alive()


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_refuse(method: str, nursery: trio.Nursery) -> None:
    """A listener says no to whatever came, and closes."""
    ours, theirs = trio.testing.memory_stream_pair()
    peer, stream, connection = Peer(theirs), MemoryStream(ours), new_connection()
    await peer.send(f"{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".encode())
    request = await read_head(stream, connection)
    no = HttpError(503, "full", "come back later", headers={"retry-after": "5"})
    nursery.start_soon(lambda: refuse(stream, no, connection=connection, request=request))
    answer = await peer.answer(method)
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert answer.headers["connection"] == "close"
    await peer.assert_ended()
    await peer.stream.aclose()


async def test_refuse_after_a_broken_head(nursery: trio.Nursery) -> None:
    """A listener that could not read a head can still say why."""
    ours, theirs = trio.testing.memory_stream_pair()
    peer, stream, connection = Peer(theirs), MemoryStream(ours), new_connection()
    await peer.send(b"nonsense\r\n\r\n")
    with pytest.raises(HttpError) as caught:
        await read_head(stream, connection)
    no = caught.value
    nursery.start_soon(lambda: refuse(stream, no, connection=connection, request=None))
    assert (await peer.answer()).status == 400
    await peer.assert_ended()


def test_limits_of_a_server() -> None:
    """A server's settings bound its pages too."""
    config = Config(max_payload_bytes=7, max_head_bytes=8, handshake_timeout=9, close_timeout=10)
    limits = HttpLimits.from_config(config)
    assert (limits.max_body_bytes, limits.max_head_bytes) == (7, 8)
    assert (limits.head_timeout, limits.close_timeout) == (9, 10)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Response(status=101),
        lambda: Response("x", 304),
        lambda: Response(headers={"a": "b\r\nc: d"}),
        lambda: Response(headers={"a b": "c"}),
        lambda: Response(headers={"Content-Length": "3"}),
        lambda: Response(content_type="a\nb"),
    ],
)
def test_misused_response(wrong: Callable[[], Response]) -> None:
    """A response that cannot be sent is not made."""
    with pytest.raises(MisuseError):
        wrong()


async def serve_socket(pages: Pages, limits: HttpLimits, nursery: trio.Nursery) -> Peer:
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = await trio.open_tcp_stream(*listener.getsockname())
        accepted, _ = await listener.accept()
    nursery.start_soon(lambda: serve_http(SocketStream(accepted), pages, limits=limits))
    return Peer(client)


class TestRealSockets:
    """Where TCP itself matters."""

    async def test_answer(self, pages: Pages, limits: HttpLimits, nursery: trio.Nursery) -> None:
        """Requests and answers go over TCP as well."""
        peer = await serve_socket(pages, limits, nursery)
        assert (await peer.ask("/hello?name=tcp")).body == b"hello tcp"
        assert (await peer.ask("/big")).body == b"x" * 1_000_000
        await peer.stream.aclose()

    async def test_error_is_not_lost_by_a_reset(
        self, pages: Pages, limits: HttpLimits, nursery: trio.Nursery
    ) -> None:
        """A peer that sends on and on, and reads only then, still learns why it was refused."""
        peer = await serve_socket(pages, limits, nursery)
        await peer.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n")
        await peer.send(b"x" * 20_000_000)
        assert (await peer.answer()).status == 413
        await peer.assert_ended()
        await peer.stream.aclose()
