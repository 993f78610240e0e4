"""What is published without waiting: in order, batched, and dropped where Redis is away."""

from collections import deque

import trio
from redis.exceptions import RedisError

from trio_rt.backplane.redis.resp import Word
from trio_rt.backplane.redis.steady import CommandLink
from trio_rt.errors import BackplaneDown
from trio_rt.log import log
from trio_rt.schedule.bell import Bell

MAX_COMMANDS = 10_000
"""Commands that may wait; of more, the newest are dropped."""

MAX_BYTES = 8_388_608
"""The same in bytes of their words."""

AT_ONCE = 256
"""Commands that leave together."""


class Outgoing:
    """Commands whose replies nobody needs.

    Args:
        link: carries them.
    """

    def __init__(self, link: CommandLink) -> None:
        self._link = link
        self._waiting: deque[tuple[tuple[Word, ...], int]] = deque()
        self._bytes = 0
        self._bell = Bell()
        self.dropped = 0
        """How many were never sent, or may not have been carried out."""

    def give(self, *words: Word) -> bool:
        """Gives a command. False if it is dropped: Redis is away, or too much waits."""
        size = sum(len(word) for word in words if isinstance(word, str | bytes))
        is_full = len(self._waiting) >= MAX_COMMANDS or self._bytes + size > MAX_BYTES
        if not self._link.is_up or (is_full and self._waiting):
            self.dropped += 1
            return False
        self._waiting.append((words, size))
        self._bytes += size
        self._bell.ring()
        return True

    async def run(self) -> None:
        """Sends until it is cancelled."""
        while True:
            await self._bell.wait()
            while self._waiting:
                await self.flush()

    async def flush(self) -> None:
        """Sends some of what waits."""
        batch: list[tuple[Word, ...]] = []
        while self._waiting and len(batch) < AT_ONCE:
            words, size = self._waiting.popleft()
            self._bytes -= size
            batch.append(words)
        if not batch:
            await trio.lowlevel.checkpoint()
            return
        if not self._link.is_up:
            self.dropped += len(batch)
            return
        try:
            replies = await self._link.call_all(batch)
        except (BackplaneDown, RedisError) as error:
            self.dropped += len(batch)
            log.warning("%d volatile messages were dropped: %s", len(batch), error)
            return
        for reply in replies:
            if isinstance(reply, Exception):
                self.dropped += 1
                log.error("a volatile message was refused: %s", reply)
