"""Finds subscriptions whose link is healthy and to which nothing is delivered.

A connection can answer PING for ever at a server that is not the one where the others publish, as
after a failover. So a quiet node publishes to itself, the way that events go.
"""

import math

import trio
from redis.exceptions import RedisError

from trio_rt.backplane.redis.steady import CommandLink
from trio_rt.backplane.redis.subscriptions import Subscriptions
from trio_rt.errors import BackplaneDown

INTERVAL = 5.0
"""Seconds without any message until a probe is published, and in which it has to arrive."""


class Probe:
    """Watches the subscriptions of one node.

    Args:
        link: where the node publishes.
        subscriptions: made to ignore `channel`.
        channel: this node's own.
        interval: seconds.
        publish: the command that publishes.
    """

    def __init__(
        self,
        link: CommandLink,
        subscriptions: Subscriptions,
        channel: bytes,
        interval: float = INTERVAL,
        publish: str = "PUBLISH",
    ) -> None:
        self._link = link
        self._subscriptions = subscriptions
        self._channel = channel
        self._interval = interval
        self._publish = publish
        self.is_deaf = False
        """Whether the last probe did not arrive."""

    async def run(self) -> None:
        """Watches until it is cancelled."""
        await self._subscriptions.subscribe(self._channel)
        while True:
            due = self._subscriptions.heard_at + self._interval
            if due > trio.current_time():
                await trio.sleep_until(due)
            else:
                await self._ask()

    async def _ask(self) -> None:
        """Publishes a probe, and waits for an interval."""
        asked_at = trio.current_time()
        try:
            await self._link.call(self._publish, self._channel, b"", may_repeat=True)
        except (BackplaneDown, RedisError):
            asked_at = -math.inf  # that link is at fault, or both are, and mended by itself
        await trio.sleep(self._interval)
        self.is_deaf = self._subscriptions.is_up and self._subscriptions.heard_at < asked_at
        if self.is_deaf:
            self._subscriptions.reset("a probe did not arrive: the server is not the right one")
            self._link.reset("a probe did not arrive: the server is not the right one")
