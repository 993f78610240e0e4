"""The answer to an opening handshake, to clients that read it slowly or not at all."""

import h11
import pytest
import trio

from trio_rt.config import Config
from trio_rt.errors import TransportClosed
from trio_rt.handshake import Opening, read_opening
from trio_rt.transport.memory import memory_wire_pair

HEADERS = [
    ("Host", "x"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]
CONFIG = Config(handshake_timeout=5.0)


@pytest.fixture
def opening() -> Opening:
    """A request for a WebSocket."""
    target = "/socket.io/?EIO=4&transport=websocket"
    opening = read_opening(h11.Request(method="GET", target=target, headers=HEADERS), CONFIG)
    assert isinstance(opening, Opening)
    return opening


async def test_at_once(opening: Opening) -> None:
    """What fits leaves at once, and what came behind the request is the transport's."""
    ours, theirs = memory_wire_pair()
    transport = await opening.open(ours, b"\x81\x80mask", CONFIG)
    assert theirs.receive_nowait().endswith(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
    assert transport.receive_nowait() == [""]


async def test_slowly(autojump_clock, opening: Opening) -> None:
    """A client may read it in pieces."""
    ours, theirs = memory_wire_pair(capacity=16)
    answer = b""

    async def read() -> None:
        nonlocal answer
        while not answer.endswith(b"\r\n\r\n"):
            await trio.sleep(0.1)
            answer += theirs.receive_nowait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await opening.open(ours, b"", CONFIG)
    assert answer.startswith(b"HTTP/1.1 101 ")


async def test_never(autojump_clock, opening: Opening) -> None:
    """One that does not read it is let go in time."""
    ours, _theirs = memory_wire_pair(capacity=16)
    began = trio.current_time()
    with pytest.raises(TransportClosed, match="does not read"):
        await opening.open(ours, b"", CONFIG)
    assert trio.current_time() - began == pytest.approx(5.0)
