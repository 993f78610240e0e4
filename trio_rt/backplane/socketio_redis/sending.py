"""What this node publishes for others: in order, batched, and dropped while Redis is away."""

from collections import deque

import trio
from redis.exceptions import RedisError

from trio_rt.backplane.redis.steady import SteadyLink
from trio_rt.errors import BackplaneDown
from trio_rt.log import log
from trio_rt.schedule.bell import Bell

MAX_MESSAGES = 10_000
"""Messages that may wait; of more, the newest are dropped."""

MAX_BYTES = 8_388_608
"""The same in bytes; one alone may be larger."""

AT_ONCE = 256
"""Messages that leave together."""

CROWDED = MAX_MESSAGES // 2
"""From so many waiting messages on, who emits waits for a moment."""

PATIENCE = 0.5
"""Seconds of that moment: a Redis that stands still holds nobody up for long."""


class Sending:
    """Publishes, and says in one line that it cannot, and in one that it can again.

    Args:
        link: carries it.
    """

    def __init__(self, link: SteadyLink) -> None:
        self._link = link
        self._waiting: deque[tuple[str, str, bytes]] = deque()
        self._bytes = 0
        self._bell = Bell()
        self._is_sending = False
        self._progress = trio.lowlevel.ParkingLot()
        self._is_dropping = False
        self._told = 0
        self.dropped = 0
        """How many messages were never sent, or may not have been."""

    def publish(self, channel: str, data: bytes) -> bool:
        """Publishes, or drops where that cannot be done now: False."""
        is_full = bool(self._waiting) and (
            len(self._waiting) >= MAX_MESSAGES or self._bytes + len(data) > MAX_BYTES
        )
        is_taken = self._link.is_up and not is_full
        if is_taken:
            self._waiting.append(("PUBLISH", channel, data))
            self._bytes += len(data)
            self._bell.ring()
        else:
            self.dropped += 1
        if is_taken is self._is_dropping:
            self._say(is_taken)
        return is_taken

    async def wait_room(self) -> None:
        """Waits for a moment if much waits: a loop of emissions is no faster than Redis."""
        if len(self._waiting) >= CROWDED:
            with trio.move_on_after(PATIENCE):
                await self._progress.park()

    async def run(self) -> None:
        """Sends until it is cancelled."""
        while True:
            await self._bell.wait()
            while self._waiting:
                await self._send_some()
                self._progress.unpark_all()

    async def finish(self) -> None:
        """Waits until nothing waits any more, at the end; `run` has to run."""
        while self._waiting or self._is_sending:
            await self._progress.park()

    async def _send_some(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
        self._bytes -= sum(len(data) for _, _, data in batch)
        self._is_sending = True
        try:
            replies = await self._link.call_all(batch)
        except (BackplaneDown, RedisError) as error:
            self._drop(len(batch), str(error))
        else:
            refusals = [reply for reply in replies if isinstance(reply, Exception)]
            if refusals:
                self._drop(len(refusals), str(refusals[0]))
        finally:
            self._is_sending = False

    def _drop(self, count: int, why: str) -> None:
        self.dropped += count
        log.error("%d messages may not have reached other servers: %s", count, why)

    def _say(self, is_taken: bool) -> None:
        self._is_dropping = not is_taken
        if is_taken:
            missed = self.dropped - self._told
            self._told = self.dropped
            log.warning("other servers are reached again; they have missed %d messages", missed)
        else:
            log.error("other servers are not reached: events stay on this node")
