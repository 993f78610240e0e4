"""Lines about strangers are few and clean, however many they are and whatever they send."""

import logging
import unicodedata
from typing import Any

import pytest
import trio

from tests.visitors import DEADLINE, KEY, Visitors, request_head
from trio_rt import Anonymous, Server
from trio_rt.log import Sparing

ENGINE = "/socket.io/?EIO=4&transport="


@pytest.fixture
async def visitors(nursery: trio.Nursery) -> Any:
    visitors = Visitors(nursery)
    nursery.start_soon(visitors.hub.run)
    yield visitors
    await visitors.close()
    visitors.hub.close()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings that there are, each without anything that could pass for another line."""
    found = [record for record in caplog.records if record.levelno >= logging.WARNING]
    for record in found:
        assert record.exc_info is None
        kinds = {unicodedata.category(character) for character in record.getMessage()}
        assert kinds.isdisjoint({"Cc", "Cf", "Zl", "Zp"})
    return [record.getMessage() for record in found]


def test_sparing(caplog: pytest.LogCaptureFixture) -> None:
    """Five at once, then one in ten seconds, which says how many were left out."""
    sparing = Sparing()
    for number in range(1_000):
        sparing.warning("a", 100.0, "no %d", number)
    assert lines(caplog) == [f"no {number}" for number in range(5)]
    sparing.warning("a", 109.0, "no")
    assert len(lines(caplog)) == 5
    sparing.warning("a", 110.0, "yes")
    assert lines(caplog)[5:] == ["yes (996 more like this were left out)"]
    sparing.warning("a", 1_000.0, "again")
    assert lines(caplog)[6:] == ["again"]


def test_sparing_by_kind(caplog: pytest.LogCaptureFixture) -> None:
    """Many lines of one kind leave out none of another."""
    sparing = Sparing()
    for _ in range(10):
        sparing.warning("a", 0.0, "a")
    sparing.warning("b", 0.0, "b")
    assert lines(caplog) == ["a"] * 5 + ["b"]


@pytest.mark.parametrize(
    ("query", "headers", "said"),
    [
        ("polling", {}, "the transport 'polling' is not served"),
        ("polling", {}, 'transports: ["websocket"]'),
        ("%0d%0a%1b[31mERROR", KEY, "is not served"),
        ("%E2%80%A8", KEY, "is not served"),
        (
            "websocket",
            {**KEY, "Origin": "http://evil.example"},
            "'http://evil.example' is not",
        ),
        ("websocket", {**KEY, "Origin": "http://\xa0\x85evil"}, "Server(origins=("),
        ("websocket", {}, "Upgrade and Connection"),
        ("websocket&sid=x", KEY, "a session that is not here"),
        ("websocket&EIO=3", KEY, "another Engine.IO than 4"),
        ("websocket", {**KEY, "Sec-WebSocket-Key": "x"}, "Sec-WebSocket-Key"),
    ],
)
async def test_turned_away(
    visitors: Visitors,
    caplog: pytest.LogCaptureFixture,
    query: str,
    headers: dict[str, str],
    said: str,
) -> None:
    """A request that no session comes of is one clean line in the log, with what to do."""
    server = Server(auth=Anonymous(), share_port=True)
    await visitors.serve(server)
    peer = await visitors.visit(server.port)
    head = request_head(server.port, ENGINE + query).decode()
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    await peer.send((head[:-2] + more + "\r\n").encode("latin-1"))
    answer = await peer.answer()
    assert answer.status >= 400
    assert answer.headers["content-type"] == "application/json"
    await peer.stream.aclose()
    [line] = lines(caplog)
    assert said in line
    assert line.startswith("127.0.0.1:")


async def test_flood(visitors: Visitors, caplog: pytest.LogCaptureFixture) -> None:
    """Who comes again and again, as a client does that wants to poll, does not fill the log."""
    server = Server(auth=Anonymous(), share_port=True)
    await visitors.serve(server)
    for _ in range(30):
        peer = await visitors.visit(server.port)
        await peer.send(request_head(server.port, ENGINE + "polling"))
        assert (await peer.answer()).status == 400
        await peer.stream.aclose()
    assert len(lines(caplog)) == 5


async def test_full(visitors: Visitors, caplog: pytest.LogCaptureFixture) -> None:
    """That a server is full is told in the log too, and which setting says so."""
    server = Server(auth=Anonymous(), share_port=True, max_connections=1)
    await visitors.serve(server)
    await visitors.connect(server)
    for _ in range(20):
        with trio.fail_after(DEADLINE):
            assert await visitors.status(server.port) == 503
    assert len(lines(caplog)) == 5
    assert f"port {server.port} is full" in lines(caplog)[0]
    assert "Config.max_connections" in lines(caplog)[0]
