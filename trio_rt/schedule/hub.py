"""Which sockets can be read: one task and one epoll object for all of them.

Every socket is registered once, edge-triggered, where a `wait_readable` for each message would
cost an `epoll_ctl` and a task switch more. Only public Trio: the hub waits for its own epoll
object to be readable, as for any other file.
"""

import select
from abc import ABC, abstractmethod

import trio

from trio_rt.schedule.flusher import Flusher

HANG_UP = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
"""The end of the stream is near: read on until it is there."""

CROWD = 4
"""Sockets readable in one step from which on what they are answered leaves together."""

_EVENTS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET


class Readable(ABC):
    """Something with a file descriptor that can become readable."""

    __slots__ = ()

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor, while it is open."""

    @abstractmethod
    def became_readable(self, has_hung_up: bool) -> None:
        """Bytes, or the end, have arrived. Must not raise."""


class Hub:
    """Tells its members that they became readable, from the one task that is in `run`.

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

    def add(self, member: Readable) -> None:
        """Begins to watch. What has arrived before is told as well."""
        descriptor = member.fileno()
        self._epoll.register(descriptor, _EVENTS)
        self._members[descriptor] = member

    def remove(self, member: Readable) -> None:
        """Ends watching; call it before the descriptor is closed."""
        descriptor = member.fileno()
        del self._members[descriptor]
        self._epoll.unregister(descriptor)

    async def run(self) -> None:
        """Watches until it is cancelled."""
        members = self._members
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            self._flusher.tick += 1
            ready = self._epoll.poll(0)
            self._flusher.is_crowded = len(ready) >= CROWD
            for descriptor, mask in ready:
                member = members.get(descriptor)
                if member is not None:
                    member.became_readable(mask & HANG_UP != 0)

    def close(self) -> None:
        """Gives the epoll object back. Members stay open."""
        self._epoll.close()
