"""What this node publishes for others: in order, batched, and dropped while Redis is away."""

from contextlib import suppress

from redis.exceptions import RedisError

from trio_rt.backplane.redis.outgoing import AT_ONCE, MAX_COMMANDS, Outgoing
from trio_rt.backplane.redis.steady import SteadyLink
from trio_rt.errors import BackplaneDown
from trio_rt.log import log


class Sending:
    """Publishes, and says in one line that it cannot, and in one that it can again.

    Args:
        link: carries it.
    """

    def __init__(self, link: SteadyLink) -> None:
        self._link = link
        self._outgoing = Outgoing(link)
        self._is_dropping = False
        self._told = 0

    @property
    def dropped(self) -> int:
        """How many messages were never sent, or may not have been."""
        return self._outgoing.dropped

    def publish(self, channel: str, data: bytes) -> bool:
        """Publishes, or drops where that cannot be done now: False."""
        is_taken = self._outgoing.give("PUBLISH", channel, data)
        if is_taken is self._is_dropping:
            self._say(is_taken)
        return is_taken

    def _say(self, is_taken: bool) -> None:
        self._is_dropping = not is_taken
        if is_taken:
            missed = self._outgoing.dropped - self._told
            self._told = self._outgoing.dropped
            log.warning("other servers are reached again; they have missed %d messages", missed)
        else:
            log.error("other servers are not reached: events stay on this node")

    async def run(self) -> None:
        """Sends until it is cancelled."""
        await self._outgoing.run()

    async def finish(self) -> None:
        """Waits until all that was published is with Redis, at the end; `run` has to run."""
        with suppress(BackplaneDown, RedisError):
            for _ in range(MAX_COMMANDS // AT_ONCE + 1):
                await self._outgoing.flush()
            if self._link.is_up:
                await self._link.call("PING")  # answered when all before it is done
