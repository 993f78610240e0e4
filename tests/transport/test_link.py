"""Links are as bad as a network can be, and no worse: nothing twice, nothing out of order."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_rt.errors import TransportClosed
from trio_rt.testing import Link, open_link
from trio_rt.transport.wire import Wire


async def read(wire: Wire) -> bytes | None:
    """What has arrived; None if the wire is broken."""
    await wait_all_tasks_blocked()
    try:
        return wire.receive_nowait()
    except trio.WouldBlock:
        return b""
    except TransportClosed:
        return None


async def test_lanes_are_apart(autojump_clock: MockClock) -> None:
    """One direction stalls, and delays, without the other."""
    async with open_link() as link:
        link.up.stall()
        link.down.delay = 2.0
        await link.client.send_all(b"up")
        await link.server.send_all(b"down")
        assert (await read(link.server), await read(link.client)) == (b"", b"")
        await trio.sleep(2.0)
        assert (await read(link.server), await read(link.client)) == (b"", b"down")
        link.up.resume()
        assert await read(link.server) == b"up"


@pytest.mark.parametrize("cut", range(7))
async def test_cut_anywhere(cut: int) -> None:
    """So many bytes arrive and no more, the end of the stream neither; the other lane goes on."""
    async with open_link() as link:
        link.up.cut(after_bytes=cut)
        for piece in (b"ab", b"cd", b"ef"):
            await link.client.send_all(piece)
            await wait_all_tasks_blocked()
        link.client.send_eof()
        assert await read(link.server) == b"abcdef"[:cut]
        assert await read(link.server) == b""
        await link.server.send_all(b"down")
        assert await read(link.client) == b"down"


async def test_cut_for_good() -> None:
    """A lane that was cut does not come to life by another cut: there would be a hole in it."""
    async with open_link() as link:
        link.up.cut()
        link.up.cut(after_bytes=100)
        await link.client.send_all(b"abc")
        assert await read(link.server) == b""


async def test_break_in_the_middle(autojump_clock: MockClock) -> None:
    """Both ends may be told, when what arrives before the break was read."""
    async with open_link() as link:
        link.down.cut(3, then=link.drop)
        await link.server.send_all(b"abcdef")
        assert await link.client.receive() == b"abc"
        await trio.sleep(1.0)  # the link waits until it was read
        assert (await read(link.client), await read(link.server)) == (None, None)


@pytest.mark.parametrize("told", ["client", "server"])
async def test_one_end_first(told: str) -> None:
    """Who is not told of a break hears nothing any more, and may go on sending for ever."""
    async with open_link(capacity=4) as link:
        ends = {"client": link.client, "server": link.server}
        link.stall()
        await link.client.send_all(b"way")
        link.drop(tell_client=told == "client", tell_server=told == "server")
        assert await read(ends.pop(told)) is None
        (unaware,) = ends.values()
        for _ in range(100):
            await unaware.send_all(b"nobody hears this")
            assert await read(unaware) == b""


@pytest.mark.parametrize("is_stalled", [False, True])
async def test_ends_when_it_breaks(autojump_clock: MockClock, is_stalled: bool) -> None:
    """Nothing runs any more for a broken link, whatever was on its way."""
    link = Link(1.0, 4)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.run)
            await link.client.send_all(b"abcdef")
            if is_stalled:
                link.stall()
            await wait_all_tasks_blocked()
            link.drop()
    assert await read(link.server) is None
