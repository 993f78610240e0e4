"""Binary attachments: their number, and their order among everything else."""

import pytest

from tests.interop.stage import Notes, Stage, new_server
from trio_rt import MisuseError


async def test_ten_attachments(play: Stage) -> None:
    """Ten attachments pass both ways."""
    server = new_server()

    @server.on("echo")
    async def echo(socket, parts):
        assert all(isinstance(part, bytes) for part in parts)
        return parts

    js = await play(server)
    parts = [bytes([number]) * number for number in range(10)]
    assert await js("return (await connected()).emitWithAck('echo', parts)", parts=parts) == parts


async def test_eleven_attachments_from_the_client(play: Stage) -> None:
    """An eleventh attachment ends the connection of the client that sent it, and no other."""
    server = new_server()
    gone = Notes()

    @server.on("echo")
    async def echo(socket, parts):
        return len(parts)

    @server.on_disconnect
    async def bye(socket, reason):
        gone.add(reason.code)

    js = await play(server)
    reason, neighbour = await js(
        """
        const neighbour = await connected();
        const socket = await connected("/", { forceNew: true, reconnection: false });
        const disconnect = next(socket, "disconnect");
        socket.emit("echo", parts);
        const [reason] = await disconnect;
        return [reason, await neighbour.emitWithAck("echo", [])];
        """,
        parts=[b"x"] * 11,
    )
    assert (reason, neighbour) == ("transport close", 0)
    assert await gone.next() == "parse error"
    assert gone.rest() == []


async def test_eleven_attachments_from_the_server(play: Stage) -> None:
    """An eleventh attachment is the caller's error: the official client would hang up on it."""
    server = new_server()

    @server.on("go")
    async def go(socket):
        for emit in [socket.emit, server.all.emit]:
            with pytest.raises(MisuseError, match="11"):
                await emit("parts", [b"x"] * 11)
        return "told"

    js = await play(server)
    assert await js("return (await connected()).emitWithAck('go')") == "told"


async def test_the_same_bytes_twice(play: Stage) -> None:
    """Bytes that occur twice in a payload arrive twice."""
    server = new_server()

    @server.on("go")
    async def go(socket):
        twice = b"twice"
        return {"a": twice, "b": [twice]}

    js = await play(server)
    assert await js("return (await connected()).emitWithAck('go')") == {
        "a": b"twice",
        "b": [b"twice"],
    }


async def test_binary_between_text_up(play: Stage) -> None:
    """Text and binary events of a busy client keep their order."""
    server = new_server()
    seen = Notes()

    @server.on("part")
    async def part(socket, number, data):
        seen.add((number, data))

    js = await play(server)
    await js("""
        const socket = await connected();
        for (let number = 0; number < 300; number++)
            socket.emit("part", number, number % 3 ? Buffer.alloc(number * 10, number) : "text");
        await acked(socket, "part", 300, "last");
    """)
    assert seen.rest() == [
        *((n, bytes([n % 256]) * (n * 10) if n % 3 else "text") for n in range(300)),
        (300, "last"),
    ]


async def test_binary_between_text_down(play: Stage) -> None:
    """A binary packet and its attachments stay together when several tasks emit at once."""
    server = new_server(outbox_messages=5_000)

    @server.on("go")
    async def go(socket):
        async def send(sender: int) -> None:
            for number in range(50):
                data = [bytes([sender]) * 2_000] * 3 if number % 2 else "text"
                await socket.emit("part", sender, number, data)

        for sender in range(4):
            socket.nursery.start_soon(send, sender)

    js = await play(server)
    assert (
        await js("""
        const socket = await connected();
        const wrong = [];
        const counts = [0, 0, 0, 0];
        const complete = new Promise((resolve) => socket.on("part", (sender, number, data) => {
            if (counts[sender]++ !== number) wrong.push([sender, number, "order"]);
            if (number % 2 && !data.every((part) => part.equals(Buffer.alloc(2000, sender))))
                wrong.push([sender, number, "data"]);
            if (counts.every((count) => count === 50)) resolve();
        }));
        socket.emit("go");
        await complete;
        return wrong;
    """)
        == []
    )


async def test_binary_acks_interleaved(play: Stage) -> None:
    """Binary and text acknowledgements in flight together each find their call."""
    server = new_server()

    @server.on("mixed", concurrency=8)
    async def mixed(socket, number):
        return await socket.call("mixed", number)

    js = await play(server)
    assert await js("""
        const socket = await connected();
        socket.on("mixed", (number, answer) => answer(number % 2 ? Buffer.from([number]) : number));
        return Promise.all(Array.from({ length: 40 }, (_, n) => socket.emitWithAck("mixed", n)));
    """) == [bytes([number]) if number % 2 else number for number in range(40)]


async def test_client_without_binary_frames(play: Stage) -> None:
    """A client that says `forceBase64` gets and sends its bytes as text, in order with the rest."""
    server = new_server()

    @server.on("echo")
    async def echo(socket, data: bytes, more: list[bytes]) -> tuple[bytes, list[bytes]]:
        await socket.emit("said", data)
        return data, more

    js = await play(server)
    assert await js(
        """
        const socket = await connected("/", { forceBase64: true });
        const kinds = new Set();
        wire(socket).on("message", (_, isBinary) => kinds.add(isBinary));
        const said = next(socket, "said");
        const answer = await acked(socket, "echo", data, [data, empty]);
        return [...await said, ...answer, [...kinds]];
        """,
        data=b"\0\xff abc",
        empty=b"",
    ) == [b"\0\xff abc", b"\0\xff abc", [b"\0\xff abc", b""], [False]]
