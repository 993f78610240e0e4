"""Every wire that there is, in connected pairs."""

import socket
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_rt.schedule.flusher import Flusher
from trio_rt.schedule.hub import EpollHub, Hub, WatchingHub
from trio_rt.testing.contracts import NewWires
from trio_rt.testing.wires import CutWire, Link
from trio_rt.transport.memory import memory_wire_pair
from trio_rt.transport.socket_wire import SocketWire
from trio_rt.transport.wire import Wire

CAPACITY = 40_000
"""Bytes that a pair holds, about, so that it is soon full."""


def socket_pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CAPACITY)
        ours = socket.create_connection(listener.getsockname())
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CAPACITY)
        theirs, _ = listener.accept()
    return ours, theirs


def cut_pair() -> tuple[Wire, Wire]:
    ours, theirs = memory_wire_pair(CAPACITY)
    return CutWire(ours, received=(1, 7, 3_000), sent=(1, 2, 3_000)), CutWire(
        theirs, received=(2, 1, 3_001), sent=(3, 1, 3_001)
    )


def on_hub(hub: Hub, pair: tuple[socket.socket, socket.socket]) -> tuple[Wire, Wire]:
    for sock in pair:
        sock.setblocking(False)
    return SocketWire(pair[0], hub), SocketWire(pair[1], hub)


@pytest.fixture(params=["epoll", "epoll over TCP", "watching", "memory", "cut", "link"])
async def new_wires(
    request: pytest.FixtureRequest, nursery: trio.Nursery
) -> AsyncIterator[NewWires]:
    """Makes connected pairs of one kind of wire; at the end no hub may watch one still."""
    kind: str = request.param
    if kind in ("memory", "cut"):
        yield (lambda: memory_wire_pair(CAPACITY)) if kind == "memory" else cut_pair
        return
    if kind == "link":

        def new_link() -> tuple[Wire, Wire]:
            link = Link(0.0, CAPACITY)
            nursery.start_soon(link.run)
            return link.client, link.server

        yield new_link
        return
    hub = WatchingHub(Flusher()) if kind == "watching" else EpollHub(Flusher())
    nursery.start_soon(hub.run)
    await wait_all_tasks_blocked()
    make = tcp_pair if kind == "epoll over TCP" else socket_pair
    yield lambda: on_hub(hub, make())
    assert len(hub) == 0
    nursery.cancel_scope.cancel()
    hub.close()
