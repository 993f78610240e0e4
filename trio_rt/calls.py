"""Acknowledgements that somebody waits for."""

from collections.abc import Iterable

from trio_rt.machine.acks import Owed
from trio_rt.schedule.bell import Bell


class Call:
    """One request to one or many sockets, until the last answer owed is there.

    Args:
        debtors: the ids of the sockets that were asked.
    """

    __slots__ = ("_done", "owed")

    def __init__(self, debtors: Iterable[str]) -> None:
        self.owed = Owed(debtors)
        self._done = Bell()

    def receive(self, sid: str, arguments: list[object]) -> None:
        """A socket answered."""
        if self.owed.receive(sid, arguments):
            self._done.ring()

    def leave(self, sid: str) -> None:
        """A socket ended."""
        if self.owed.leave(sid):
            self._done.ring()

    async def wait(self) -> None:
        """Waits until nobody owes an answer; the deadline is the caller's."""
        while not self.owed.is_done:
            await self._done.wait()
