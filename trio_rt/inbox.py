"""What waits for a busy reader: events that arrived while a handler ran.

The usual event never comes here: the reader hands it to its handler at once. When a handler takes
its time, the heartbeat task reads on in its place, so that pongs and acknowledgements are seen,
and puts events here: a bounded memory channel, made on first need, that the reader empties in
order as soon as the handler is done.
"""

from typing import Generic, TypeVar

import trio

from trio_rt.errors import LimitError

T = TypeVar("T")

HARD_FACTOR = 16
"""How many times the limit may be filled while a handler waits for the peer itself: reading must
then go on, because the answer may stand behind more events."""


class Inbox(Generic[T]):
    """The events that wait for one connection's reader.

    Args:
        max_events: how many may wait before reading pauses.
        max_bytes: the same in bytes, as they arrived.
    """

    __slots__ = ("_bytes", "_max_bytes", "_max_events", "_receive", "_send")

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._bytes = 0
        self._send, self._receive = trio.open_memory_channel[T](max_events * HARD_FACTOR)

    def __len__(self) -> int:
        return self._receive.statistics().current_buffer_used

    @property
    def is_full(self) -> bool:
        """Whether reading should pause, unless something waits for the peer."""
        return len(self) >= self._max_events or self._bytes >= self._max_bytes

    def put(self, events: list[T], size_bytes: int) -> None:
        """Adds events that came in `size_bytes` behind the others.

        Raises:
            LimitError: if not even the hard limit holds them.
        """
        self._bytes += size_bytes
        try:
            if self._bytes > self._max_bytes * HARD_FACTOR:
                raise trio.WouldBlock
            for event in events:
                self._send.send_nowait(event)
        except trio.WouldBlock:
            raise LimitError(
                f"more than {self._max_events * HARD_FACTOR} events or "
                f"{self._max_bytes * HARD_FACTOR} bytes sent while a handler waited for the client"
            ) from None

    def take(self) -> list[T]:
        """Removes all events, in order."""
        events: list[T] = []
        self._bytes = 0
        while True:
            try:
                events.append(self._receive.receive_nowait())
            except trio.WouldBlock:
                return events
