"""The hub for systems without epoll, under the very wire that it serves."""

import socket
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from trio_rt.schedule.flusher import Flusher
from trio_rt.schedule.hub import WatchingHub
from trio_rt.transport.socket_wire import CHUNK_BYTES, SocketWire


@pytest.fixture
async def hub() -> AsyncIterator[WatchingHub]:
    """A watching hub that runs."""
    hub = WatchingHub(Flusher())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.run)
        await trio.testing.wait_all_tasks_blocked()
        yield hub
        nursery.cancel_scope.cancel()


def make_wire(hub: WatchingHub) -> tuple[SocketWire, socket.socket]:
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    return SocketWire(ours, hub), peer


async def receive(wire: SocketWire) -> bytes:
    with trio.fail_after(5):
        return await wire.receive()


async def test_each_arrival_is_told(hub: WatchingHub) -> None:
    """What comes after the last was received is received as well, to the end."""
    wire, peer = make_wire(hub)
    with peer:
        for word in (b"one", b"two", b"three"):
            peer.send(word)
            assert await receive(wire) == word
    assert await receive(wire) == b""
    wire.close()


async def test_more_than_a_chunk(hub: WatchingHub) -> None:
    """What is left in the socket after a full read is received without another arrival."""
    wire, peer = make_wire(hub)
    sent = b"x" * (CHUNK_BYTES + 1000)
    received = b""
    with peer:
        peer.setblocking(False)
        while len(received) < len(sent):
            rest = sent[len(received) :][:CHUNK_BYTES]
            sent_now = peer.send(rest)
            while sent_now:
                piece = await receive(wire)
                received += piece
                sent_now -= len(piece)
    assert received == sent
    wire.close()


async def test_what_nobody_receives_is_told_once(hub: WatchingHub) -> None:
    """A socket that is not read does not keep the watching task busy."""
    wire, peer = make_wire(hub)
    with peer:
        peer.send(b"unread")
        with trio.fail_after(5):
            await wire.unread.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert not wire.unread.take()
        assert await receive(wire) == b"unread"
    wire.close()


async def test_closing_ends_the_watch(hub: WatchingHub) -> None:
    """A closed wire is watched no more, and its task is gone."""
    wire, peer = make_wire(hub)
    with peer:
        assert len(hub) == 1
        wire.close()
        await trio.testing.wait_all_tasks_blocked()
        assert len(hub) == 0
