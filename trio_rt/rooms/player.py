"""Somebody in a room: one user, with one socket or several."""

from typing import Any

import attrs


@attrs.define(eq=False)
class Player:
    """Somebody who is in a room, with a seat or as a spectator.

    The same object from the first join to the end, however often the connection is lost, and
    whatever crashes of the room lie between.
    """

    id: str
    """The user's id."""

    name: str = ""
    """What people call the user; may be empty."""

    watches: bool = False
    """Whether it has no seat."""

    data: dict[str, Any] = attrs.field(factory=dict[str, Any])
    """Whatever the program wants to keep with the player: JSON values, saved with the room."""

    sockets: dict[str, tuple[str, int]] = attrs.field(
        factory=dict[str, tuple[str, int]], repr=False
    )
    """The ids of its sockets, with the node that told of each, and that node's count."""

    arriving: str | None = attrs.field(default=None, repr=False)
    """The hook that its arrival runs: `"on_join"` or `"on_return"`."""

    has_joined: bool = attrs.field(default=False, repr=False)
    """Whether `on_join` was run for it, so that `on_leave` is due."""

    @property
    def connected(self) -> bool:
        """Whether a socket of it is there."""
        return bool(self.sockets)

    def __str__(self) -> str:
        return self.name or self.id
