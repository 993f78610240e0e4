"""Which sockets can be read: one task and one epoll object for all of them.

Every socket is registered once, edge-triggered, where a `wait_readable` for each message would
cost an `epoll_ctl` and a task switch more. Only public Trio: the hub waits for its own epoll
object to be readable, as for any other file.
"""

import select
from abc import ABC, abstractmethod

import trio

from trio_rt.schedule.bell import Bell
from trio_rt.schedule.flusher import Flusher

CROWD = 4
"""Sockets readable in one step from which on what they are answered leaves together."""


class Readable(ABC):
    """Something with a file descriptor that can become readable."""

    __slots__ = ()

    readable: Bell
    """Waited for by its reader; woken when bytes, or the end, have arrived."""

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor, while it is open."""

    @abstractmethod
    def missed(self) -> None:
        """Bytes, or the end, have arrived while its reader did not wait. Must not raise."""

    @abstractmethod
    def hung_up(self) -> None:
        """The peer sends nothing more; told before the reader is woken. Must not raise."""


class Hub(ABC):
    """Tells its members that they became readable, from the task that is in `run`."""

    __slots__ = ()

    @abstractmethod
    def add(self, member: Readable) -> Bell | None:
        """Begins to watch. What has arrived before is told as well.

        Returns:
            What the member has to ring whenever it has received something; None if nothing.
        """

    @abstractmethod
    def remove(self, member: Readable) -> None:
        """Ends watching; call it before the descriptor is closed."""

    @abstractmethod
    async def run(self) -> None:
        """Watches until it is cancelled."""

    @abstractmethod
    def close(self) -> None:
        """Gives back what it holds. Members stay open."""

    @abstractmethod
    def __len__(self) -> int: ...


class EpollHub(Hub):
    """The hub where there is epoll: all sockets at once.

    Args:
        flusher: whose tick begins anew with every round of readiness.
    """

    __slots__ = ("_epoll", "_flusher", "_members")

    def __init__(self, flusher: Flusher) -> None:
        self._epoll = select.epoll()
        self._members: dict[int, Readable] = {}
        self._flusher = flusher

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: Readable) -> Bell | None:
        """See `Hub`."""
        descriptor = member.fileno()
        events = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
        self._epoll.register(descriptor, events)
        self._members[descriptor] = member
        return None

    def remove(self, member: Readable) -> None:
        """See `Hub`."""
        descriptor = member.fileno()
        del self._members[descriptor]
        self._epoll.unregister(descriptor)

    async def run(self) -> None:
        """See `Hub`."""
        members = self._members
        hang_up = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            self._flusher.tick += 1
            ready = self._epoll.poll(0)
            self._flusher.is_crowded = len(ready) >= CROWD
            for descriptor, mask in ready:
                member = members.get(descriptor)
                if member is not None:
                    if mask & hang_up:
                        member.hung_up()
                    if not member.readable.wake():
                        member.missed()

    def close(self) -> None:
        """See `Hub`."""
        self._epoll.close()


class WatchingHub(Hub):
    """The hub where there is no epoll (macOS, Windows): a watching task for each socket.

    Args:
        flusher: whose tick begins anew with every readiness.
    """

    __slots__ = ("_flusher", "_members", "_nursery")

    def __init__(self, flusher: Flusher) -> None:
        self._flusher = flusher
        self._members: dict[Readable, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: Readable) -> Bell | None:
        """See `Hub`."""
        assert self._nursery is not None, "it is added to while it runs"
        received = Bell()
        scope = self._members[member] = trio.CancelScope()
        self._nursery.start_soon(self._watch, member, scope, received)
        return received

    def remove(self, member: Readable) -> None:
        """See `Hub`."""
        self._members.pop(member).cancel()

    async def run(self) -> None:
        """See `Hub`."""
        async with trio.open_nursery() as self._nursery:
            await trio.sleep_forever()

    def close(self) -> None:
        """See `Hub`."""
        self._members.clear()

    async def _watch(self, member: Readable, scope: trio.CancelScope, received: Bell) -> None:
        """Readiness is a level here: the next is waited for when this one has been dealt with."""
        with scope:
            while not scope.cancel_called:  # once removed, it has no descriptor to wait for
                await trio.lowlevel.wait_readable(member.fileno())
                self._flusher.tick += 1
                if not member.readable.wake():
                    member.missed()
                await received.wait()


def make_hub(flusher: Flusher) -> Hub:
    """The best hub for this system."""
    return EpollHub(flusher) if hasattr(select, "epoll") else WatchingHub(flusher)
