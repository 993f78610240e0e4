"""What waits for one slow client: a bounded queue with a policy for being full.

Only a connection whose kernel buffer is full has one; its writer task empties it in order.
"""

from collections import deque

import attrs
import trio

from trio_rt.errors import RealtimeError
from trio_rt.policies import CLOSE, DropOldest, Latest, Policy


class Overflow(RealtimeError):
    """The outbox is full, and the policy is to close."""


@attrs.define(eq=False)
class _Item:
    data: bytes
    may_drop: bool
    key: str | None


class Outbox:
    """The frames that wait for one connection.

    Args:
        max_messages: frames that may wait.
        max_bytes: bytes that may wait. One frame alone may be larger.
    """

    __slots__ = ("_bytes", "_items", "_latest", "_max_bytes", "_max_messages", "_room", "dropped")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._items: deque[_Item] = deque()
        self._latest: dict[str, _Item] = {}
        self._bytes = 0
        self.dropped = 0
        """Events dropped by policy so far."""
        self._room = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._items)

    def has_room(self, size_bytes: int) -> bool:
        """Whether a frame of this size fits."""
        if not self._items:
            return True
        return len(self._items) < self._max_messages and self._bytes + size_bytes <= self._max_bytes

    def put(self, data: bytes, policy: Policy = CLOSE) -> None:
        """Adds a frame behind the others.

        Raises:
            Overflow: if it does not fit and the policy does not make room.
        """
        key = policy.key if isinstance(policy, Latest) else None
        if key is not None and key in self._latest:
            self._drop(self._latest[key])
        if isinstance(policy, DropOldest | Latest):
            self._make_room(len(data))
        if self.has_room(len(data)):
            self._add(_Item(data, isinstance(policy, DropOldest), key))
        elif isinstance(policy, DropOldest):
            self.dropped += 1
        else:
            raise Overflow(
                f"{len(self._items)} messages of {self._bytes} bytes wait already "
                f"(limits: {self._max_messages} and {self._max_bytes})"
            )

    def take(self, max_bytes: int) -> bytes:
        """Removes frames from the front, joined: at least one, or as many as `max_bytes` holds."""
        frames: list[bytes] = []
        size = 0
        while self._items and (not frames or size + len(self._items[0].data) <= max_bytes):
            item = self._items.popleft()
            self._forget(item)
            frames.append(item.data)
            size += len(item.data)
        self.wake()
        return b"".join(frames)

    async def wait_room(self) -> None:
        """Waits until frames have left, or the connection has ended."""
        await self._room.park()

    def wake(self) -> None:
        """Lets all go on who wait for room."""
        self._room.unpark_all()

    def _make_room(self, size_bytes: int) -> None:
        """Drops the oldest of those that may be dropped; none of them if that would not do."""
        droppable = [item for item in self._items if item.may_drop]
        kept = len(self._items) - len(droppable)
        kept_bytes = self._bytes - sum(len(item.data) for item in droppable)
        if kept and (kept >= self._max_messages or kept_bytes + size_bytes > self._max_bytes):
            return
        for item in droppable:
            if self.has_room(size_bytes):
                return
            self._drop(item)

    def _add(self, item: _Item) -> None:
        self._items.append(item)
        self._bytes += len(item.data)
        if item.key is not None:
            self._latest[item.key] = item

    def _drop(self, item: _Item) -> None:
        self._items.remove(item)
        self._forget(item)
        self.dropped += 1

    def _forget(self, item: _Item) -> None:
        self._bytes -= len(item.data)
        if item.key is not None:
            del self._latest[item.key]
