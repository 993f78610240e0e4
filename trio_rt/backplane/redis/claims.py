"""Events that run once, on this node and in the cluster.

A claim has a short lease that is renewed while the event runs, so that a node's end frees it. While
Redis is away this node knows only of itself: an event that was sent to another node before may then
run again, which is told to nobody. The alternative is that nothing runs at all.
"""

import secrets
from itertools import islice

import attrs
import msgspec
import trio
from redis.exceptions import RedisError

from trio_rt.backplane.base import Settled
from trio_rt.backplane.redis.keys import Keys
from trio_rt.backplane.redis.once import RUNNING, OnceStore
from trio_rt.backplane.redis.steady import CommandLink
from trio_rt.config import Config
from trio_rt.errors import BackplaneDown
from trio_rt.log import log
from trio_rt.machine.once import Begin, Once, OnceLimits
from trio_rt.schedule.bell import Bell

LEASE = 10.0
"""Seconds for which a claim holds that nobody renews: its node is dead."""

RENEW_INTERVAL = 3.0
"""Seconds between two renewals."""

RENEWED_AT_ONCE = 64

TOLD_AT_ONCE = 64

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
"""Seconds between two looks whether what runs on another node has a result."""


class _Result(msgspec.Struct, array_like=True, frozen=True):
    payload: bytes
    attachments: tuple[bytes, ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Result).decode


@attrs.define(eq=False)
class _Running:
    ticket: str
    is_claimed: bool = False
    """Whether Redis knows of it."""
    done: trio.Event | None = None
    """For those on this node who wait."""


@attrs.frozen(eq=False)
class _Untold:
    """What the other nodes do not know yet."""

    ticket: str
    result: Settled | None
    """None if it was given up."""
    size_bytes: int


class Claims:
    """The events that carry an idempotency key.

    Args:
        link: carries commands.
        keys: how things are named.
        config: how much is remembered, and for how long.
    """

    def __init__(self, link: CommandLink, keys: Keys, config: Config) -> None:
        self._link = link
        self._claims = OnceStore(link, keys, LEASE)
        self._results = OnceStore(link, keys, config.once_window)
        self._here = Once[Settled](
            OnceLimits(config.once_results, config.once_bytes, config.once_window)
        )
        self._running: dict[str, _Running] = {}
        self._config = config
        self._settling: dict[str, _Untold] = {}
        self._settling_bytes = 0
        self._dropped = 0
        self._bell = Bell()

    async def claim(self, key: str) -> Settled | None:
        """See `Backplane.claim`."""
        while True:
            found = self._here.begin(key, trio.current_time())
            if found is Begin.NEW:
                break
            if found is not Begin.RUNNING:
                return found
            running = self._running[key]
            if running.done is None:
                running.done = trio.Event()
            await running.done.wait()
        running = self._running[key] = _Running(secrets.token_urlsafe(12))
        try:
            settled = await self._claim_everywhere(key, running)
        except BaseException:
            self.release(key)
            raise
        if settled is not None:
            self._settle_here(key, settled)
        return settled

    def settle(self, key: str, result: Settled) -> None:
        """See `Backplane.settle`."""
        running = self._running[key]
        self._put(key, _Untold(running.ticket, result, len(key) + _size(result)))
        self._settle_here(key, result)

    def release(self, key: str) -> None:
        """See `Backplane.release`."""
        running = self._running.pop(key)
        if running.is_claimed:
            self._put(key, _Untold(running.ticket, None, len(key)))
        self._here.release(key)
        if running.done is not None:
            running.done.set()

    async def write(self) -> None:
        """Tells the other nodes of results, until it is cancelled."""
        while True:
            await self._bell.wait()
            await self.flush()

    async def flush(self) -> None:
        """Tells the other nodes of all results that they do not know yet."""
        while self._settling:
            if self._dropped:
                log.warning("only this node knows the results of %d events", self._dropped)
                self._dropped = 0
            batch = [(key, self._settling[key]) for key in islice(self._settling, TOLD_AT_ONCE)]
            async with trio.open_nursery() as nursery:
                for key, untold in batch:
                    nursery.start_soon(self._tell, key, untold)
            for key, untold in batch:  # not before: whoever is cancelled tells them at the end
                if self._settling.get(key) is untold:
                    self._forget(key)

    async def keep(self) -> None:
        """Renews the claims of what runs, until it is cancelled."""
        while True:
            await trio.sleep(RENEW_INTERVAL)
            self._here.expire(trio.current_time())
            limit = trio.Semaphore(RENEWED_AT_ONCE)
            async with trio.open_nursery() as nursery:
                for key, running in list(self._running.items()):
                    if running.is_claimed:
                        await limit.acquire()
                        nursery.start_soon(self._renew, key, running, limit)

    async def _claim_everywhere(self, key: str, running: _Running) -> Settled | None:
        pause = FIRST_PAUSE
        while True:
            if not self._link.is_up:
                await trio.lowlevel.checkpoint_if_cancelled()
                return None
            try:
                running.is_claimed = True
                found = await self._claims.claim(key, running.ticket)
            except (BackplaneDown, RedisError) as error:
                log.warning("only this node knows that event %.80r runs: %s", key, error)
                return None
            if isinstance(found, bytes):
                return _read(found)
            if found != RUNNING:
                return None
            await trio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _settle_here(self, key: str, result: Settled) -> None:
        self._here.settle(key, result, _size(result), trio.current_time())
        running = self._running.pop(key)
        if running.done is not None:
            running.done.set()

    def _put(self, key: str, untold: _Untold) -> None:
        """The other nodes are told later; of too many, the oldest are never told."""
        if key in self._settling:
            self._forget(key)
        self._settling[key] = untold
        self._settling_bytes += untold.size_bytes
        config = self._config
        while len(self._settling) > 1 and (
            len(self._settling) > config.once_results or self._settling_bytes > config.once_bytes
        ):
            self._forget(next(iter(self._settling)))
            self._dropped += 1
        self._bell.ring()

    def _forget(self, key: str) -> None:
        self._settling_bytes -= self._settling.pop(key).size_bytes

    async def _tell(self, key: str, untold: _Untold) -> None:
        ticket, result = untold.ticket, untold.result
        try:
            if result is None:
                await self._results.release(key, ticket)
            else:
                data = _encode(_Result(result.payload, result.attachments))
                if not await self._results.settle(key, ticket, data):
                    await self._claims.claim(key, ticket)  # Redis was away when it began
                    await self._results.settle(key, ticket, data)
        except (BackplaneDown, RedisError) as error:
            log.warning("only this node knows the result of event %.80r: %s", key, error)

    async def _renew(self, key: str, running: _Running, limit: trio.Semaphore) -> None:
        try:
            if self._link.is_up and self._running.get(key) is running:
                await self._claims.claim(key, running.ticket)
        except (BackplaneDown, RedisError) as error:
            log.warning("the claim of event %.80r is not renewed: %s", key, error)
        finally:
            limit.release()


def _size(result: Settled) -> int:
    return len(result.payload) + sum(map(len, result.attachments))


def _read(data: bytes) -> Settled:
    result = _decode(data)
    return Settled(result.payload, result.attachments)
