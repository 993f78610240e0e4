"""Which nodes are there: each has a lease that it renews, or is dead for all others."""

from typing import Any

import attrs
import trio

from trio_rt.backplane.redis.keys import Keys
from trio_rt.backplane.redis.scripts import load
from trio_rt.backplane.redis.steady import CommandLink

FORGET_AFTER = 600.0
"""Seconds for which the dead are told of, so that what they left is cleaned up more than once."""


@attrs.frozen
class Beat:
    """What one heartbeat of a node has told."""

    alive: frozenset[str]
    """The nodes that are there, this one included."""

    dead: frozenset[str]
    """Nodes that died in the last ten minutes."""

    until: float
    """When this node's own lease ends at the latest, on Trio's clock: counted from before it was
    asked for. Without another beat by then, it is dead for the others."""


class Registry:
    """The nodes of a cluster.

    Args:
        link: carries commands.
        node: this node's name, new for each life of it.
        keys: how things are named.
        lease: seconds after its last beat until a node is dead for the others.
    """

    def __init__(
        self, link: CommandLink, node: str, keys: Keys | None = None, lease: float = 9.0
    ) -> None:
        self._link = link
        self._node = node
        self._key = (keys or Keys()).of("nodes")
        self._lease = lease
        self._is_new = True

    async def beat(self) -> Beat | None:
        """Tells that this node is there. The first time makes it known.

        Returns:
            Who is there; None if this node's lease has ended before: what it held is somebody
            else's by now, and it has to begin anew under another name.
        """
        began = trio.current_time()
        reply: list[Any] = await load("time", "beat").call(
            self._link,
            [self._key],
            self._node,
            round(self._lease * 1000),
            int(self._is_new),
            round(FORGET_AFTER * 1000),
            may_repeat=True,
        )
        if not reply:
            return None
        self._is_new = False
        alive, dead = (frozenset(name.decode() for name in names) for names in reply)
        return Beat(alive, dead, began + self._lease)

    async def leave(self) -> None:
        """This node goes: it is neither alive nor dead from here on."""
        await self._link.call("ZREM", self._key, self._node, may_repeat=True)

    async def forget(self, node: str) -> None:
        """A dead node is not told of any more."""
        await self._link.call("ZREM", self._key, node, may_repeat=True)
