"""The rooms that have members on this node, and those that had some a moment ago."""

from collections import OrderedDict

import trio

from trio_rt.backplane.base import Position
from trio_rt.backplane.redis.feed import Feed, Heard
from trio_rt.backplane.redis.keys import LogName
from trio_rt.backplane.redis.log import EventLog
from trio_rt.backplane.redis.subscriptions import Subscriptions

LINGER = 3.0
"""Seconds for which a room is listened to that has no members any more: pages are reloaded."""

SWEEP_INTERVAL = 0.5
"""Seconds between two looks for such rooms."""


class Rooms:
    """Listens to rooms while they have members.

    Args:
        feed: where their events arrive.
        subscriptions: where their channels are subscribed.
        history: knows the channel of each.
    """

    def __init__(self, feed: Feed, subscriptions: Subscriptions, history: EventLog) -> None:
        self._feed = feed
        self._subscriptions = subscriptions
        self._history = history
        self._joining: dict[LogName, trio.Event] = {}
        self._deserted: OrderedDict[LogName, float] = OrderedDict()

    async def subscribe(self, room: LogName) -> Position:
        """See `Backplane.subscribe`."""
        while True:
            await trio.lowlevel.checkpoint_if_cancelled()  # first: a room is kept for members only
            self._deserted.pop(room, None)
            heard = self._feed.find(room)
            if heard is None:
                return await self._join(room, self._feed.begin(room))
            if heard.known is not None:
                return max(self._feed.position, heard.floor)
            await self._joining[room].wait()

    def unsubscribe(self, room: LogName) -> None:
        """See `Backplane.unsubscribe`."""
        self._deserted[room] = trio.current_time() + LINGER
        self._deserted.move_to_end(room)

    async def run(self) -> None:
        """Stops listening to rooms that stay deserted, until it is cancelled."""
        while True:
            await trio.sleep(SWEEP_INTERVAL)
            now = trio.current_time()
            while self._deserted and next(iter(self._deserted.values())) <= now:
                room, _ = self._deserted.popitem(last=False)
                heard = self._feed.find(room)
                if heard is not None and heard.known is not None:
                    self._forget(room)

    async def _join(self, room: LogName, heard: Heard) -> Position:
        done = self._joining[room] = trio.Event()
        is_joined = False
        try:
            await self._subscriptions.subscribe(self._history.channel(room))
            position = await self._feed.mark(heard)
            is_joined = True
        finally:
            del self._joining[room]
            done.set()
            if not is_joined:
                self._forget(room)
        self._deserted.pop(room, None)
        return position

    def _forget(self, room: LogName) -> None:
        self._feed.end(room)
        self._subscriptions.unsubscribe(self._history.channel(room))
