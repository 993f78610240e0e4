"""Commands to whichever primary of a cluster has one slot, for those whose keys are all in it."""

from collections.abc import Sequence
from typing import Any

from trio_rt.backplane.redis.cluster_link import ClusterLink
from trio_rt.backplane.redis.resp import Word
from trio_rt.backplane.redis.steady import CommandLink


class SlotLink(CommandLink):
    """The link to whichever primary has one slot.

    Args:
        cluster: all links.
        slot: of all keys of all commands that are given.
    """

    def __init__(self, cluster: ClusterLink, slot: int) -> None:
        self._cluster = cluster
        self._slot = slot

    @property
    def is_up(self) -> bool:
        """See `CommandLink`."""
        return self._cluster.is_up_at(self._slot)

    def reset(self, why: str) -> None:
        """See `CommandLink`."""
        self._cluster.reset_at(self._slot, why)

    async def call(self, *words: Word, may_repeat: bool = False) -> Any:
        """See `CommandLink`."""
        return await self._cluster.call_at(self._slot, words, may_repeat=may_repeat)

    async def call_all(
        self, commands: Sequence[tuple[Word, ...]], *, may_repeat: bool = False
    ) -> list[Any]:
        """See `CommandLink`."""
        return await self._cluster.call_all_at(self._slot, commands, may_repeat=may_repeat)

    async def everywhere(self, *words: Word) -> list[Any]:
        """See `CommandLink`: at all primaries, whatever their slots."""
        return await self._cluster.everywhere(*words)
