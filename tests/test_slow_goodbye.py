"""A backplane that takes its time to end a session: the hooks run all the same, once each."""

from collections import Counter
from typing import Any

import pytest
import trio

from trio_rt import Anonymous, Server, Socket
from trio_rt.backplane.base import SavedSession
from trio_rt.backplane.memory import MemoryBackplane
from trio_rt.testing import Client, hosting

SECONDS = 0.5


class Slow(MemoryBackplane):
    """As one that is far away."""

    async def end_session(self, session: SavedSession) -> bool:
        has_ended = await super().end_session(session)
        await trio.sleep(SECONDS)
        return has_ended


def make_server(gone: Counter[Any], sockets: list[Socket]) -> Server:
    """Counts the hooks of each socket."""
    server = Server(auth=Anonymous(), backplane=Slow(), recovery_window=10.0)

    @server.on_connect
    async def enter(socket):
        sockets.append(socket)

    @server.on_disconnect
    async def bye(socket, reason):
        gone["disconnect", socket.id] += 1

    @server.on_leave
    async def left(socket, reason):
        gone["leave", socket.id] += 1

    @server.on("out")
    async def out(socket):
        await socket.disconnect()

    return server


async def leaves(client: Client) -> None:
    """It leaves the namespace."""
    await client.leave()


async def is_put_out(client: Client) -> None:
    """It has itself put out."""
    await client.emit("out")


@pytest.mark.parametrize("goes", [leaves, is_put_out])
async def test_cut_short(autojump_clock, errors, goes: Any) -> None:
    """A connection that ends at once, while its session does, is no way around the hooks."""
    gone: Counter[Any] = Counter()
    sockets: list[Socket] = []
    server = make_server(gone, sockets)
    async with hosting(server) as host:
        client = await host.connect()
        await goes(client)
        await trio.sleep(SECONDS / 5)
        host.cut()
        await trio.sleep(30)
    [socket] = sockets
    assert gone == {("disconnect", socket.id): 1, ("leave", socket.id): 1}
    assert errors == []


async def test_put_out_while_lost(autojump_clock, errors) -> None:
    """Whoever puts out a client that is lost, and does not wait for it, makes it leave once."""
    gone: Counter[Any] = Counter()
    sockets: list[Socket] = []
    async with hosting(make_server(gone, sockets)) as host:
        client = await host.connect()
        client.close()
        await trio.sleep(1)
        with trio.move_on_after(SECONDS / 5):
            await sockets[0].disconnect()
        await trio.sleep(30)
        assert gone == {("disconnect", sockets[0].id): 1, ("leave", sockets[0].id): 1}
    assert errors == []


async def test_gone_again_while_it_cannot_be_recovered(autojump_clock, errors) -> None:
    """A session that cannot be recovered is left once, whatever becomes of who asked for it."""
    gone: Counter[Any] = Counter()
    sockets: list[Socket] = []
    async with hosting(make_server(gone, sockets)) as host, trio.open_nursery() as nursery:
        client = await host.connect()
        claim = {**client.claim(), "offset": "none of ours"}
        client.close()
        await trio.sleep(1)
        again = await host.open()
        nursery.start_soon(connect, again, claim)
        await trio.sleep(SECONDS / 5)
        host.cut()
        await trio.sleep(30)
    assert gone["leave", sockets[0].id] == 1
    assert max(gone.values()) == 1
    assert errors == []


async def connect(client: Client, auth: dict[str, Any]) -> None:
    """As far as it gets."""
    with pytest.raises(AssertionError):
        await client.connect(auth=auth)
