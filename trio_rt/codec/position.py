"""A place in the order of all events, and the offset string that clients remember it by.

    <milliseconds>-<sequence>        1763846400000-42

The form of a Redis stream's ids, so that a store can make them. Clients send an offset back as
they got it, so any text may come.
"""

import re
from collections.abc import Callable, Mapping

import attrs
import msgspec

_TEXT = re.compile(r"([0-9]{1,15})-([0-9]{1,15})", re.ASCII)


class Position(msgspec.Struct, frozen=True, order=True, gc=False):
    """Later ones are greater. Who makes them hands them out in order, never one twice."""

    time_ms: int
    """Milliseconds of the clock of whoever keeps the order."""

    sequence: int
    """Tells those of one millisecond apart; never below 0."""

    def __str__(self) -> str:
        """The offset string."""
        return f"{self.time_ms}-{self.sequence}"


START = Position(0, 0)
"""Before everything."""


@attrs.frozen
class Orders:
    """Where somebody was in several orders at one moment."""

    positions: Mapping[int, Position]
    """By the number of the order; in those that are not there, at the start."""

    choose: Callable[[str], int]
    """The order that a namespace belongs to."""


Reached = Position | Orders
"""Where somebody was at one moment: in the order of all namespaces, or in each of several."""


def position_in(reached: Reached, namespace: str) -> Position:
    """Where that was in the order that a namespace belongs to."""
    if isinstance(reached, Position):
        return reached
    return reached.positions.get(reached.choose(namespace), START)


def parse_position(text: str) -> Position | None:
    """Reads an offset string; None if it is none of ours."""
    match = _TEXT.fullmatch(text)
    return None if match is None else Position(int(match[1]), int(match[2]))
