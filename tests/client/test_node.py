"""Our client and Socket.IO's own server, over a real network."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from tests.client.script import DEADLINE
from tests.parts import PartMissing, node
from trio_rt import ConnectionState, Disconnected, ReconnectLimits, Refused, open_client

SERVER = node.FOLDER / "server.mjs"
STEADY = ReconnectLimits(backoff_base=0.05, backoff_max=0.05)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where a Socket.IO server on Node listens."""
    node.install()
    with subprocess.Popen(
        [node.executable(), SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        port = process.stdout.readline()
        if not port:
            raise PartMissing(f"Node does not start {SERVER}: see its words above")
        yield f"http://127.0.0.1:{int(port)}"
        process.stdin.close()
        process.wait(timeout=5)


async def test_calls(url: str) -> None:
    """Calls give what the server answers: one value, none, several, bytes."""
    async with open_client(url, auth={"token": "t"}) as client:
        assert await client.call("echo") is None
        assert await client.call("echo", "é") == "é"
        assert await client.call("echo", 1, {"a": b"\x00\xff"}) == (1, {"a": b"\x00\xff"})
        assert await client.call("echo", "x" * 500_000, b"y" * 500_000) == (
            "x" * 500_000,
            b"y" * 500_000,
        )
        id, auth, recovered = await client.call("who")
        assert id == client.id
        assert auth["token"] == "t"
        assert not recovered


async def test_headers_and_query(url: str) -> None:
    """What the request is to say arrives."""
    async with open_client(url, headers={"X-Name": "value"}) as client:
        assert await client.call("header", "x-name") == "value"


async def test_server_calls(url: str) -> None:
    """A handler's value acknowledges the server's call."""
    async with open_client(url) as client:

        @client.on("add")
        async def add(a: int, b: bytes) -> int:
            return a + b[0]

        assert await client.call("ask") == 3


async def test_namespaces(url: str) -> None:
    """Several namespaces share the connection."""
    async with open_client(url) as client:
        chat = client.namespace("/chat")
        assert await chat.call("where") == "/chat"
        assert await client.call("echo", 1) == 1
        with pytest.raises(Refused, match="Invalid namespace"):
            await client.namespace("/none").wait_connected()


async def test_refusal(url: str) -> None:
    """What a middleware refuses with is final, and told in full."""
    async with open_client(url, auth={"token": "bad"}) as client:
        with pytest.raises(Refused) as refused:
            await client.wait_connected()
        assert (refused.value.code, refused.value.message) == ("token", "no entry")
        assert refused.value.details == 7
        assert client.state is ConnectionState.DISCONNECTED


async def test_put_out(url: str) -> None:
    """Put out by the server it stays out."""
    async with open_client(url, reconnect=STEADY) as client:
        changes = client.changes()
        await client.emit("put me out")
        await reach(changes, ConnectionState.DISCONNECTED)
        assert client.reason is not None
        assert client.reason.code == "server namespace disconnect"
        with pytest.raises(Disconnected):
            await client.call("echo")


async def test_recovery(url: str) -> None:
    """After a cut it is the same socket, and all that it missed comes once and in order."""
    async with open_client(url, reconnect=STEADY) as client:
        seen: list[int] = []
        all_there = trio.Event()

        @client.on("n")
        async def on_n(n: int) -> None:
            seen.append(n)
            if n == 29:
                all_there.set()

        id, *_ = await client.call("who")
        await client.emit("count", 0, 10)
        await client.call("echo")
        await client.emit("cut in the middle", 10, 20)
        changes = client.changes()
        await reach(changes, ConnectionState.BACKING_OFF)
        await reach(changes, ConnectionState.CONNECTED)
        assert client.recovered
        assert client.id == id
        await client.emit("count", 20, 30)
        with trio.fail_after(DEADLINE):
            await all_there.wait()
        assert seen == list(range(30))
        assert (await client.call("who"))[2] is True


async def test_call_cut_off(url: str) -> None:
    """A call whose connection is lost is not made twice: its outcome is unknown."""
    async with open_client(url, reconnect=STEADY) as client:
        with pytest.raises(Disconnected, match="unknown"):
            await client.call("cut")
        assert await client.call("echo", 1) == 1


async def test_pings(url: str) -> None:
    """A client that is idle, or whose handler is busy, stays connected; a deaf server is left."""
    async with open_client(url, reconnect=STEADY) as client:

        @client.on("n")
        async def busy(n: int) -> None:
            await trio.sleep(1.0)

        await client.wait_connected()
        changes = client.changes()
        await client.emit("count", 0, 1)
        with trio.move_on_after(1.2):
            raise AssertionError(f"it was lost: {await anext(changes)}")
        await client.emit("deaf")
        await reach(changes, ConnectionState.BACKING_OFF)
        await reach(changes, ConnectionState.CONNECTED)


async def test_slow_handler(url: str) -> None:
    """While reading pauses behind a slow handler the server does not take us for dead."""
    async with open_client(url, inbox_messages=2) as client:
        seen: list[int] = []
        done = trio.Event()

        @client.on("n")
        async def slow(n: int) -> None:
            seen.append(n)
            await trio.sleep(0.15)
            if len(seen) == 8:
                done.set()

        await client.wait_connected()
        changes = client.changes()
        await client.emit("count", 0, 8)
        with trio.fail_after(DEADLINE):
            await done.wait()
        assert seen == list(range(8))
    assert ConnectionState.BACKING_OFF not in [change.state async for change in changes]


async def reach(changes: Any, state: ConnectionState) -> None:
    """Waits for a state."""
    with trio.fail_after(DEADLINE):
        async for change in changes:
            if change.state is state:
                return
