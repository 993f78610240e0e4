"""The proxy carries bytes, and breaks connections in each way that a network can."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from trio_rt.testing import Proxy, open_proxy


@asynccontextmanager
async def echo() -> AsyncGenerator[int]:
    """A server that sends back what it gets; gives its port."""

    async def handle(stream: trio.SocketStream) -> None:
        try:
            while data := await stream.receive_some():
                await stream.send_all(data)
        except trio.BrokenResourceError:
            return

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, handle, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def carried() -> AsyncGenerator[tuple[Proxy, trio.SocketStream]]:
    """A proxy before an echo, and a connection through it that has carried something."""
    with trio.fail_after(10):
        async with echo() as port, open_proxy("127.0.0.1", port) as proxy:
            stream = await trio.open_tcp_stream("127.0.0.1", proxy.port)
            async with stream:
                await assert_carries(stream)
                yield proxy, stream


async def assert_carries(stream: trio.SocketStream, data: bytes = b"hi") -> None:
    await stream.send_all(data)
    got = b""
    while len(got) < len(data):
        got += await stream.receive_some()
    assert got == data


async def test_cut() -> None:
    """A cut connection ends in an orderly way."""
    async with carried() as (proxy, stream):
        proxy.cut()
        assert await stream.receive_some() == b""


async def test_reset() -> None:
    """A reset connection breaks."""
    async with carried() as (proxy, stream):
        proxy.reset()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_stall() -> None:
    """Nothing arrives while it stalls, all of it after; a sender is pushed back meanwhile."""
    async with carried() as (proxy, stream):
        proxy.stall()
        sent = 0
        with trio.move_on_after(0.2):
            while sent < 50_000_000:
                await stream.send_all(b"x" * 65_536)
                sent += 65_536
        assert 0 < sent < 50_000_000
        with trio.move_on_after(0.05) as nothing:
            await stream.receive_some()
        assert nothing.cancelled_caught
        proxy.resume()
        got = 0
        while got < sent:
            got += len(await stream.receive_some())


async def test_delay() -> None:
    """Bytes take as long as they should, in each direction."""
    async with carried() as (proxy, stream):
        proxy.delay = 0.1
        began = trio.current_time()
        await assert_carries(stream)
        assert 0.2 <= trio.current_time() - began < 1.0


async def test_refuse() -> None:
    """While it refuses nobody can connect, and what there is goes on; then they can again."""
    async with carried() as (proxy, stream):
        proxy.refuse()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", proxy.port)
        await assert_carries(stream)
        proxy.accept()
        await trio.testing.wait_all_tasks_blocked()
        async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as other:
            await assert_carries(other)


async def test_target_gone() -> None:
    """A connection to a target that is gone ends, and the proxy goes on."""
    async with carried() as (proxy, stream):
        target, proxy.target = proxy.target, ("127.0.0.1", 1)
        async with await trio.open_tcp_stream("127.0.0.1", proxy.port) as other:
            assert await other.receive_some() == b""
        proxy.target = target
        await assert_carries(stream)
        assert proxy.connections == 2
