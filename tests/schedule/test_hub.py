"""The hub tells which sockets can be read, with real sockets."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

import pytest
import trio
import trio.testing

from trio_rt.schedule.bell import Bell
from trio_rt.schedule.flusher import Flusher
from trio_rt.schedule.hub import CROWD, EpollHub, Hub, Readable


class Member(Readable):
    """One end of a pair, with notes of what the hub told."""

    def __init__(self) -> None:
        self.ours, self.peer = socket.socketpair()
        self.ours.setblocking(False)
        self.readable = Bell()
        self.told: list[bool] = []
        """For each time that it became readable, whether the peer had hung up."""
        self.then: Callable[[], None] = lambda: None
        self._has_hung_up = False

    def fileno(self) -> int:
        return self.ours.fileno()

    def missed(self) -> None:
        self.told.append(self._has_hung_up)
        self._has_hung_up = False
        self.then()

    def hung_up(self) -> None:
        self._has_hung_up = True

    def read(self) -> bytes:
        return self.ours.recv(65_536)

    def close(self) -> None:
        self.ours.close()
        self.peer.close()


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    """A hub that runs."""
    hub = EpollHub(Flusher())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.run)
        yield hub
        nursery.cancel_scope.cancel()
    hub.close()


@pytest.fixture
def new_member() -> Iterator[Callable[[], Member]]:
    """Makes members that are closed in the end."""
    members: list[Member] = []

    def make() -> Member:
        members.append(Member())
        return members[-1]

    yield make
    for member in members:
        member.close()


async def settle(hub: Hub, new_member: Callable[[], Member]) -> None:
    """Waits until the hub has told all that has happened: it tells in the order of happening."""
    last = new_member()
    done = trio.Event()
    last.then = done.set
    last.peer.send(b"x")
    hub.add(last)
    with trio.fail_after(5.0):
        await done.wait()
    hub.remove(last)


async def test_readable(hub: Hub, new_member: Callable[[], Member]) -> None:
    """A member is told that bytes have arrived, and nobody else is."""
    member, other = new_member(), new_member()
    hub.add(member)
    hub.add(other)
    member.peer.send(b"x")
    await settle(hub, new_member)
    assert member.told == [False]
    assert other.told == []


async def test_edge_triggered(hub: Hub, new_member: Callable[[], Member]) -> None:
    """Bytes are told once, read or not; more bytes are told again."""
    member = new_member()
    hub.add(member)
    member.peer.send(b"x")
    for _ in range(3):
        await settle(hub, new_member)
    assert member.told == [False]
    member.peer.send(b"y")
    await settle(hub, new_member)
    assert member.told == [False, False]
    assert member.read() == b"xy"


async def test_data_before_add(hub: Hub, new_member: Callable[[], Member]) -> None:
    """Bytes that arrived before the member was added are told."""
    member = new_member()
    member.peer.send(b"x")
    hub.add(member)
    await settle(hub, new_member)
    assert member.told == [False]


async def test_hang_up(hub: Hub, new_member: Callable[[], Member]) -> None:
    """The end of the stream is told as such."""
    member = new_member()
    hub.add(member)
    member.peer.close()
    await settle(hub, new_member)
    assert member.told == [True]
    assert member.read() == b""


async def test_hang_up_behind_data(hub: Hub, new_member: Callable[[], Member]) -> None:
    """With bytes before it, the end is told too, and the bytes are there to be read."""
    member = new_member()
    hub.add(member)
    member.peer.send(b"last words")
    member.peer.shutdown(socket.SHUT_WR)
    await settle(hub, new_member)
    assert member.told[-1] is True
    assert member.read() == b"last words"
    assert member.read() == b""


async def test_hang_up_before_add(hub: Hub, new_member: Callable[[], Member]) -> None:
    """A peer that was gone before the member was added is told as gone."""
    member = new_member()
    member.peer.close()
    hub.add(member)
    await settle(hub, new_member)
    assert member.told == [True]


async def test_remove(hub: Hub, new_member: Callable[[], Member]) -> None:
    """Nobody is told anything after it was removed."""
    member = new_member()
    hub.add(member)
    hub.remove(member)
    assert len(hub) == 0
    member.peer.send(b"x")
    member.peer.close()
    await settle(hub, new_member)
    assert member.told == []


async def test_remove_in_the_same_step(hub: Hub, new_member: Callable[[], Member]) -> None:
    """A member that another one removes is not told what was already known to have happened."""
    pair = [new_member(), new_member()]
    for member, other in (pair, pair[::-1]):

        def remove(other: Member = other) -> None:
            with suppress(KeyError):  # the other one removes us just the same
                hub.remove(other)

        member.then = remove
        hub.add(member)
        member.peer.send(b"x")
    await settle(hub, new_member)
    assert sorted(len(member.told) for member in pair) == [0, 1]


async def test_add_again(hub: Hub, new_member: Callable[[], Member]) -> None:
    """A member that was removed can be added again, and what came meanwhile is told."""
    member = new_member()
    hub.add(member)
    hub.remove(member)
    member.peer.send(b"x")
    hub.add(member)
    await settle(hub, new_member)
    assert member.told == [False]


async def test_same_descriptor(hub: Hub, new_member: Callable[[], Member]) -> None:
    """A new socket that gets an old one's descriptor is told what is its own."""
    old = new_member()
    hub.add(old)
    descriptor = old.fileno()
    hub.remove(old)
    old.ours.close()
    new = new_member()
    assert new.fileno() == descriptor
    hub.add(new)
    new.peer.send(b"x")
    await settle(hub, new_member)
    assert (old.told, new.told) == ([], [False])


async def test_len(hub: Hub, new_member: Callable[[], Member]) -> None:
    """The hub knows how many it watches."""
    members = [new_member() for _ in range(3)]
    for member in members:
        hub.add(member)
    assert len(hub) == 3
    for member in members:
        hub.remove(member)
    assert len(hub) == 0


@pytest.mark.parametrize("count", [CROWD - 1, CROWD])
async def test_crowd(new_member: Callable[[], Member], count: int) -> None:
    """The flusher hears of each round, and whether many became readable at once."""
    flusher = Flusher()
    hub = EpollHub(flusher)
    crowds: list[tuple[int, bool]] = []
    done = trio.Event()

    def note() -> None:
        crowds.append((flusher.tick, flusher.is_crowded))
        if len(crowds) == count:
            done.set()

    for _ in range(count):
        member = new_member()
        member.then = note
        member.peer.send(b"x")
        hub.add(member)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.run)
        with trio.fail_after(5.0):
            await done.wait()
        nursery.cancel_scope.cancel()
    assert crowds == [(1, count >= CROWD)] * count
    hub.close()


async def test_cancel(new_member: Callable[[], Member]) -> None:
    """A cancelled hub tells nothing; what happened meanwhile is told when it runs again."""
    hub = EpollHub(Flusher())
    member = new_member()
    hub.add(member)
    for expected in ([], [False]):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.run)
            await trio.testing.wait_all_tasks_blocked(0.001)
            assert member.told == expected
            nursery.cancel_scope.cancel()
        member.peer.send(b"x")
    hub.close()


async def test_close_leaves_members_open(new_member: Callable[[], Member]) -> None:
    """Closing the hub closes no member's socket."""
    hub = EpollHub(Flusher())
    member = new_member()
    hub.add(member)
    hub.close()
    member.peer.send(b"x")
    assert member.read() == b"x"
