"""What has arrived from subscribed channels and nobody has taken yet: bounded, and never silent.

When it is full all of it is dropped and a `Gap` stands in its place: whoever reads too slowly for a
while learns that, and reads what it missed from where it is kept.
"""

from collections.abc import Iterable

import msgspec

from trio_rt.schedule.bell import Bell


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message of a channel."""

    channel: bytes
    data: bytes


class Gap(msgspec.Struct, frozen=True):
    """From here on, messages may be missing, of any channel."""

    why: str
    """What happened, as a sentence."""

    is_over: bool
    """Whether nothing that is published from now on is missing. Until then, one that has it will
    follow; what is missing before that can be read as soon as that is here, and not earlier."""


Arrival = Message | Gap


class Arrivals:
    """The messages and gaps that wait for the one task that takes them.

    Args:
        max_messages: how many may wait.
        max_bytes: the same in bytes of their data. One alone may be larger.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._items: list[Arrival] = []
        self._bytes = 0
        self._bell = Bell()
        self.overflows = 0
        """How often all that waited was dropped so far."""

    def __len__(self) -> int:
        return len(self._items)

    def put(self, messages: Iterable[Message]) -> None:
        """Adds messages behind the others, or drops all that waited and adds a gap and them."""
        items = self._items
        for message in messages:
            size = len(message.data)
            if items and (len(items) >= self._max_messages or self._bytes + size > self._max_bytes):
                self._overflow()
            items.append(message)
            self._bytes += size
        if items:
            self._bell.ring()

    def put_gap(self, gap: Gap) -> None:
        """Adds a gap behind what waits. Of two with nothing between them the first can go."""
        if self._items and isinstance(self._items[-1], Gap):
            self._items.pop()
        self._items.append(gap)
        self._bell.ring()

    def take(self) -> list[Arrival]:
        """Removes all that waits, in order."""
        items, self._items = self._items, []
        self._bytes = 0
        return items

    async def wait(self) -> None:
        """Waits until something has arrived since this returned the last time. For one task."""
        await self._bell.wait()

    def _overflow(self) -> None:
        why = f"{len(self._items)} messages of {self._bytes} bytes waited: all were dropped"
        self._items.clear()
        self._bytes = 0
        self.overflows += 1
        self._items.append(Gap(why, is_over=True))
