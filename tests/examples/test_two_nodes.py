"""The example of two nodes, as two processes on one Valkey."""

import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.parts import valkey
from trio_rt import open_client

PROGRAM = Path(__file__).parents[2] / "examples" / "two_nodes" / "server.py"
STARTS_WITHIN = 20.0


@asynccontextmanager
async def running(port: int, url: str) -> AsyncGenerator[trio.Process]:
    """The example, once it listens."""
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            trio.run_process, [sys.executable, str(PROGRAM), str(port), url]
        )
        try:
            await listening(port)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            with trio.move_on_after(STARTS_WITHIN, shield=True):
                await process.wait()


async def listening(port: int) -> None:
    """Waits until somebody listens there."""
    with trio.fail_after(STARTS_WITHIN):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(0.05)
            else:
                await stream.aclose()
                return


async def test_two_nodes() -> None:
    """Clients of both nodes hear each other, and are counted together."""
    ports = valkey.free_port(), valkey.free_port()
    heard: list[str] = []
    arrived = trio.Event()
    with valkey.running() as server:
        async with running(ports[0], server.url), running(ports[1], server.url):
            one = open_client(f"http://127.0.0.1:{ports[0]}")
            two = open_client(f"http://127.0.0.1:{ports[1]}")
            async with one as alice, two as bob:

                @bob.on("said")
                async def said(message: dict[str, str]) -> None:
                    heard.append(message["text"])
                    arrived.set()

                assert await bob.call("who", timeout=5) >= 1
                assert await alice.call("say", "hello", timeout=5) == "ok"
                assert await alice.call("who", timeout=5) == 2
                with trio.fail_after(5):
                    await arrived.wait()
    assert heard == ["hello"]
