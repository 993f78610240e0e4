"""Leases with fencing tokens, and the state that belongs to them, in Redis."""

from typing import Any

import trio

from trio_rt.backplane.leases import Held, Lease, Leases
from trio_rt.backplane.redis.keys import Keys
from trio_rt.backplane.redis.scripts import load
from trio_rt.backplane.redis.steady import CommandLink

REMEMBERED = 86_400.0
"""Seconds for which the newest token of a name without a state is remembered: longer than any
former holder can have been asleep who still takes itself for the holder."""


class RedisLeases(Leases):
    """Names that one node at a time may act for.

    Args:
        link: carries commands.
        node: this node's name.
        keys: how things are named.
    """

    def __init__(self, link: CommandLink, node: str, keys: Keys | None = None) -> None:
        self._link = link
        self._node = node
        self._keys = keys or Keys()

    async def acquire(self, name: str, seconds: float) -> Lease | Held:
        """See `Leases`."""
        of = self._keys.of
        began = trio.current_time()
        is_ours, *found = await load("time", "acquire").call(
            self._link,
            [of("l", name), of("ls", name), of("lt"), of("le"), of("ln")],
            name,
            self._node,
            _milliseconds(seconds),
            _milliseconds(REMEMBERED),
            may_repeat=True,
        )
        if is_ours:
            return Lease(name, int(found[0]), began + seconds)
        return Held(found[0].decode(), found[1] / 1000)

    async def renew(self, lease: Lease, seconds: float) -> Lease | None:
        """See `Leases`."""
        began = trio.current_time()
        if not await self._renew(lease, _milliseconds(seconds)):
            return None
        return Lease(lease.name, lease.token, began + seconds)

    async def give_back(self, lease: Lease) -> None:
        """See `Leases`."""
        await self._renew(lease, 0)

    async def save(self, lease: Lease, state: bytes | None) -> bool:
        """See `Leases`."""
        words = () if state is None else (state,)
        is_written = await load("save").call(
            self._link,
            [self._keys.of("ls", lease.name)],
            lease.token,
            _milliseconds(REMEMBERED),
            *words,
            may_repeat=True,
        )
        return bool(is_written)

    async def load(self, name: str) -> bytes | None:
        """See `Leases`."""
        state: bytes | None = await self._link.call(
            "HGET", self._keys.of("ls", name), "state", may_repeat=True
        )
        return state

    async def holders(self, prefix: str) -> dict[str, str]:
        """See `Leases`."""
        of = self._keys.of
        found: list[bytes] = await load("time", "holders").call(
            self._link, [of("le"), of("ln")], prefix, may_repeat=True
        )
        texts = [text.decode() for text in found]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    async def _renew(self, lease: Lease, milliseconds: int) -> Any:
        of = self._keys.of
        return await load("time", "renew").call(
            self._link,
            [of("l", lease.name), of("le"), of("ln")],
            lease.name,
            self._node,
            lease.token,
            milliseconds,
            may_repeat=True,
        )


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
