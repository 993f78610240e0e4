"""What runs once in the whole cluster, and the result that all others get."""

import secrets
from typing import Literal

from trio_rt.backplane.redis.keys import Keys
from trio_rt.backplane.redis.scripts import load
from trio_rt.backplane.redis.steady import CommandLink

NEW: Literal["new"] = "new"
"""This one is to run: settle or release it."""

RUNNING: Literal["running"] = "running"
"""It runs elsewhere: ask again in a moment."""


class OnceStore:
    """The claims of all nodes.

    Args:
        link: carries commands.
        keys: how things are named.
        window: seconds for which results, and claims that nobody settles, are remembered.
    """

    def __init__(self, link: CommandLink, keys: Keys | None = None, window: float = 120.0) -> None:
        self._link = link
        self._keys = keys or Keys()
        self._milliseconds = round(window * 1000)

    def ticket(self) -> str:
        """Names one attempt to run something: the same one may claim again without harm."""
        return secrets.token_urlsafe(12)

    async def claim(self, key: str, ticket: str) -> bytes | Literal["new", "running"]:
        """Claims what must run once.

        Returns:
            The result of the one that ran; NEW or RUNNING.
        """
        state, *rest = await load("claim").call(
            self._link, [self._key(key)], ticket, self._milliseconds, may_repeat=True
        )
        if state == b"settled":
            result: bytes = rest[0]
            return result
        return NEW if state == b"new" else RUNNING

    async def settle(self, key: str, ticket: str, result: bytes) -> bool:
        """What was claimed has this result. False if the claim has lapsed."""
        return await self._settle(key, ticket, result)

    async def release(self, key: str, ticket: str) -> bool:
        """What was claimed is given up: it may run again. False if the claim has lapsed."""
        return await self._settle(key, ticket)

    async def _settle(self, key: str, ticket: str, *result: bytes) -> bool:
        is_ours = await load("settle").call(
            self._link, [self._key(key)], ticket, self._milliseconds, *result, may_repeat=True
        )
        return bool(is_ours)

    def _key(self, key: str) -> str:
        return self._keys.spread("once", key)
