"""HTTP requests that do not become a WebSocket, and those that must not."""

import json

import pytest
import trio

from tests.interop.stage import DEADLINE, Stage, new_server

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def ask(port: int, target: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    """Send one request and give back the answer's status and body."""
    lines = {"Host": f"127.0.0.1:{port}", "Connection": "close", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    with trio.fail_after(DEADLINE):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode())
            answer = bytearray()
            while b"\r\n\r\n" not in answer or b" 101 " not in answer:
                data = await stream.receive_some()
                if not data:
                    break
                answer += data
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize(
    ("query", "method", "code", "message"),
    [
        ("", "GET", 0, "Transport unknown"),
        ("?EIO=4", "GET", 0, "Transport unknown"),
        ("?EIO=4&transport=polling", "GET", 0, "Transport unknown"),
        ("?EIO=4&transport=carrier-pigeon", "GET", 0, "Transport unknown"),
        ("?EIO=4&transport=polling", "POST", 0, "Transport unknown"),
        ("?EIO=4&transport=websocket", "GET", 3, "Bad request"),
    ],
)
async def test_engine_errors(play: Stage, query: str, method: str, code: int, message: str) -> None:
    """A request that no WebSocket comes of is answered with Engine.IO's error."""
    server = new_server()
    await play.serve(server)
    status, body = await ask(server.port, "/socket.io/" + query, method)
    answer = json.loads(body)
    assert (status, answer["code"]) == (400, code)
    assert answer["message"].startswith(message)


@pytest.mark.parametrize(
    "query",
    [
        "EIO=3&transport=websocket",
        "transport=websocket",
        "EIO=4&transport=polling",
        "EIO=4&transport=websocket&sid=x",
    ],
)
async def test_refused_upgrade(play: Stage, query: str) -> None:
    """A WebSocket of another protocol version, transport or session is refused before it opens."""
    server = new_server()
    await play.serve(server)
    status, _ = await ask(server.port, f"/socket.io/?{query}", **UPGRADE)
    assert status == 400


@pytest.mark.parametrize("target", ["/", "/socket.io", "/engine.io/?EIO=4&transport=websocket"])
async def test_other_paths(play: Stage, target: str) -> None:
    """There is nothing else on the listener."""
    server = new_server()
    await play.serve(server)
    status, _ = await ask(server.port, target, **UPGRADE)
    assert status == 404


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:{port}", 101),
        ("http://evil.example", 403),
        ("http://127.0.0.1:1", 403),
        ("null", 403),
    ],
)
async def test_origin(play: Stage, origin: str, status: int) -> None:
    """Only pages of the same origin get a WebSocket, unless others are allowed."""
    server = new_server()
    await play.serve(server)
    headers = {**UPGRADE, "Origin": origin.format(port=server.port)}
    answer, _ = await ask(server.port, "/socket.io/?EIO=4&transport=websocket", **headers)
    assert answer == status


@pytest.mark.parametrize(
    ("origins", "status"), [(("http://friend.example",), 101), (("*",), 101), (("http://b",), 403)]
)
async def test_allowed_origins(play: Stage, origins: tuple[str, ...], status: int) -> None:
    """Other origins are let in by name, or all together."""
    server = new_server(origins=origins)
    await play.serve(server)
    headers = {**UPGRADE, "Origin": "http://friend.example"}
    answer, _ = await ask(server.port, "/socket.io/?EIO=4&transport=websocket", **headers)
    assert answer == status


async def test_nonsense(play: Stage) -> None:
    """What is not HTTP is answered as such, and the next client is served."""
    server = new_server()
    js = await play(server)
    with trio.fail_after(DEADLINE):
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
            await stream.send_all(b"\x16\x03\x01 this is TLS\r\n\r\n")
            assert b" 400 " in await stream.receive_some()
    await js("await connected()")


async def test_slow_head(play: Stage) -> None:
    """A request head that does not come to its end in time is given up."""
    server = new_server(handshake_timeout=0.1)
    await play.serve(server)
    with trio.fail_after(DEADLINE):
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
            await stream.send_all(b"GET /socket.io/?EIO=4")
            while await stream.receive_some():
                pass
