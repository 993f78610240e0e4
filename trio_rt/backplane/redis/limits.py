"""Limits of users over all nodes: how often, and how many at once."""

import attrs

from trio_rt.backplane.redis.keys import Keys
from trio_rt.backplane.redis.scripts import load
from trio_rt.backplane.redis.steady import CommandLink


@attrs.frozen
class Counted:
    """A user's connections."""

    is_allowed: bool
    connections: int
    """Over all nodes, with the new ones if they were allowed."""


class UserLimits:
    """The limits of all users.

    Args:
        link: carries commands.
        node: this node's name.
        keys: how things are named.
    """

    def __init__(self, link: CommandLink, node: str, keys: Keys | None = None) -> None:
        self._link = link
        self._node = node
        self._keys = keys or Keys()

    async def spend(
        self, user: str, rule: str, *, per_second: float, burst: int, cost: int = 1
    ) -> float:
        """Counts an event against a rate, if it may happen now.

        Args:
            user: whose rate.
            rule: its name.
            per_second: events in the long run.
            burst: events at once after a pause.
            cost: how many events this one counts for, at most `burst`.

        Returns:
            0 if it may; else the seconds until it may, and nothing was counted.
        """
        microseconds: int = await load("time", "gcra").call(
            self._link,
            [self._keys.of_user(user, "rl", rule)],
            1_000_000 / per_second,
            burst,
            cost,
        )
        return microseconds / 1_000_000

    async def count(self, user: str, more: int, *, at_most: int, seconds: float) -> Counted:
        """Counts connections of a user on this node.

        Args:
            user: whose.
            more: how many more, or fewer; 0 only lets those that there are count on.
            at_most: over all nodes. Fewer are always allowed.
            seconds: until this node's are not counted any more, unless it counts again.
        """
        is_allowed, connections = await load("time", "connections").call(
            self._link,
            [self._keys.of_user(user, "cn")],
            self._node,
            more,
            at_most,
            round(seconds * 1000),
        )
        return Counted(bool(is_allowed), connections)
