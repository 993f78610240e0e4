"""What is known of a Redis Cluster: asked of its servers, and again when it may be wrong."""

import math
import random
from collections.abc import Sequence

import attrs
import trio
from redis.exceptions import RedisError

from trio_rt.backplane.redis.address import Address
from trio_rt.backplane.redis.dial import Dial, check_primary, connect, exchange
from trio_rt.backplane.redis.settings import RedisSettings
from trio_rt.backplane.redis.slots import Place, SlotMap
from trio_rt.backplane.redis.steady import ELSEWHERE
from trio_rt.errors import BackplaneDown, BackplaneError, BackplaneRefused, MisuseError
from trio_rt.schedule.bell import Bell

OLDEST = (7, 0)
"""The oldest Redis that has sharded channels."""


class ClusterServers:
    """Where a cluster is.

    Args:
        seeds: some of its servers: one that answers is enough. Who we are at the first one, and
            whether by TLS, is who we are at all.
        settings: limits of the connections.
    """

    def __init__(self, seeds: Sequence[Address], settings: RedisSettings | None = None) -> None:
        if not seeds:
            raise MisuseError("no servers of a cluster: give the address of some")
        if any(seed.db or seed.path for seed in seeds):
            raise MisuseError("servers of a cluster have host, port and database 0")
        self.seeds = tuple(seeds)
        self.settings = settings or RedisSettings()


class Topology:
    """Who has which slot.

    Args:
        servers: where the cluster is.
    """

    def __init__(self, servers: ClusterServers) -> None:
        self._seeds = servers.seeds
        self.settings = servers.settings
        self.slots = SlotMap()
        self.news = Bell()
        """Rung when `slots` was learnt anew, whoever asked for it."""
        self._learnt_at = -math.inf
        self._asking = trio.Lock()

    def address(self, place: Place) -> Address:
        """A server of the cluster, and who we are there."""
        return attrs.evolve(self._seeds[0], host=place[0], port=place[1])

    async def learn(self, since: float = 0.0) -> None:
        """Asks who has which slot, unless the answer is newer than `since`, on Trio's clock.

        Raises:
            BackplaneDown: if nobody answers now.
            BackplaneRefused: if nobody lets us in, or this is no cluster.
        """
        async with self._asking:  # those who wait share the answer
            if self._learnt_at >= since:
                return
            began = trio.current_time()
            await self._ask_around()
            self._learnt_at = began

    async def _ask_around(self) -> None:
        """Asks one server after the other, in any order: one that is cut off knows the past."""
        known = [self.address(place) for place in self.slots.primaries]
        random.shuffle(known)
        errors: list[BackplaneError] = []
        for address in dict.fromkeys((*known, *self._seeds)):
            try:
                self.slots.read(await self._ask(address), address.host)
                self.news.ring()
            except BackplaneError as error:
                errors.append(error)
            except ValueError as error:
                errors.append(BackplaneDown(f"{address}: {error}", outcome_unknown=False))
            else:
                return
        why = f"no server of the cluster tells its slots: {'; '.join(map(str, errors))}"
        if all(isinstance(error, BackplaneRefused) for error in errors):
            raise BackplaneRefused(why)
        raise BackplaneDown(why, outcome_unknown=False)

    async def _ask(self, address: Address) -> list[object]:
        # Half the time each, so that a dead one does not use up a short outage.
        timeout = self.settings.connect_timeout / 2
        stream = await connect(address, "trio_rt-slots", timeout, oldest=OLDEST)
        try:
            with trio.fail_after(timeout):
                (found,) = await exchange(stream, ("CLUSTER", "SLOTS"))
        except (trio.TooSlowError, trio.BrokenResourceError) as error:
            raise BackplaneDown(f"{address} does not answer", outcome_unknown=False) from error
        finally:
            await trio.aclose_forcefully(stream)
        if isinstance(found, ELSEWHERE):
            raise BackplaneDown(f"{address}: {found}", outcome_unknown=False) from found
        if isinstance(found, RedisError):
            raise BackplaneRefused(f"{address}: {found}") from found
        slots: list[object] = found
        return slots


class SlotDial(Dial):
    """Connects to the primary that has a slot.

    Args:
        topology: knows which one that is.
        slot: the slot.
        is_late: whether it is about a node that serves already, which no refusal ends any more.
    """

    def __init__(self, topology: Topology, slot: int, *, is_late: bool = False) -> None:
        self._topology = topology
        self._slot = slot
        self._is_late = is_late
        self._is_first = True
        self.settings = topology.settings

    async def connect(self, name: str) -> trio.abc.Stream:
        """See `Dial`. Whoever comes again has lost a connection, or got none: it asks anew."""
        try:
            return await self._connect(name)
        except BackplaneRefused as error:
            if not self._is_late:
                raise
            raise BackplaneDown(str(error), outcome_unknown=False) from error

    async def _connect(self, name: str) -> trio.abc.Stream:
        since, self._is_first = (0.0 if self._is_first else trio.current_time()), False
        await self._topology.learn(since)
        place = self._topology.slots[self._slot]
        if place is None:
            raise BackplaneDown(f"nobody has slot {self._slot}", outcome_unknown=False)
        address, settings = self._topology.address(place), self.settings
        stream = await connect(address, name, settings.connect_timeout, oldest=OLDEST)
        try:
            await check_primary(stream, address, settings.reply_timeout)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream
