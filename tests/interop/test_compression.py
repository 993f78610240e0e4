"""permessage-deflate with a client that offers it (RFC 7692)."""

import pytest

from tests.interop.stage import Stage, new_server

EXTENSIONS = "return wire(await connected()).extensions"


async def test_off_by_default(play: Stage) -> None:
    """The official client offers compression; by default it is declined."""
    js = await play(new_server())
    assert await js(EXTENSIONS) == ""


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param("short", id="below the threshold"),
        pytest.param("abc" * 50_000, id="compressible"),
        pytest.param(bytes(range(256)) * 400, id="binary"),
        pytest.param("\u2028☃\U0001f680" * 5_000, id="unicode"),
    ],
)
async def test_on(play: Stage, payload: str | bytes) -> None:
    """With compression on, payloads cross both ways as they are, several times in a row."""
    server = new_server(compression=True)

    @server.on("echo")
    async def echo(socket, value):
        await server.all.emit("told", value)
        return value

    js = await play(server)
    assert await js(
        """
        const socket = await connected();
        const events = diary(socket);
        const answers = [];
        for (let round = 0; round < 3; round++)
            answers.push(await socket.emitWithAck("echo", payload));
        const [extension] = wire(socket).extensions.split(";");
        return [extension, answers, events.map(([, value]) => value)];
        """,
        payload=payload,
    ) == ["permessage-deflate", [payload] * 3, [payload] * 3]


async def test_bomb(play: Stage) -> None:
    """A small message that inflates beyond the limit ends its connection."""
    server = new_server(compression=True, max_payload_bytes=100_000)
    js = await play(server)
    assert (
        await js("""
        const socket = await connected("/", { reconnection: false });
        const disconnect = next(socket, "disconnect");
        socket.emit("bomb", "x".repeat(1_000_000));
        return (await disconnect)[0];
    """)
        == "transport close"
    )


async def test_client_without_compression(play: Stage) -> None:
    """A client that does not offer compression is served beside those who do."""
    server = new_server(compression=True)
    js = await play(server)
    assert await js("""
        const plain = await connected("/", { perMessageDeflate: false, forceNew: true });
        const packed = await connected("/", { forceNew: true });
        my.diaries = [diary(plain), diary(packed)];
        my.last = Promise.all([next(plain, "last"), next(packed, "last")]);
        return [plain, packed].map((socket) => wire(socket).extensions !== "");
    """) == [False, True]
    await server.all.emit("told", "x" * 5_000)
    await server.all.emit("last")
    assert await js("await my.last; return my.diaries") == [[["told", "x" * 5_000], ["last"]]] * 2
