"""The rules of Turf, without a server: painters run over a floor, and who owns most of it wins.

run      a painter goes on in its direction, tile by tile, until a wall or another direction
paint    each tile that it enters is its own from then on, whoever had it before
close    what its tiles enclose, so that no way leads out to the edge, is its own, too
drops    a bolt makes it fast for a while, a burst paints everything around it at once
"""

from collections.abc import Mapping
from math import ceil
from random import Random
from typing import Any, Literal

import attrs

SIZE = 24  # tiles from wall to wall
HZ = 20  # ticks in a second
STEP, FAST_STEP = 3, 2  # ticks from one tile to the next
FAST_FOR = 4 * HZ
DROP_EVERY = 3 * HZ
MAX_DROPS = 4
COLOURS = (1, 2, 3, 4)
CORNERS = {1: (3, 3), 2: (SIZE - 4, SIZE - 4), 3: (SIZE - 4, 3), 4: (3, SIZE - 4)}

Heading = Literal["up", "down", "left", "right", "stop"]
WAYS: dict[Heading, tuple[int, int]] = {
    "up": (0, -1),
    "down": (0, 1),
    "left": (-1, 0),
    "right": (1, 0),
    "stop": (0, 0),
}
DROPS = ("bolt", "bolt", "burst")  # bolts are twice as frequent


def is_floor(x: int, y: int) -> bool:
    """Whether there is such a tile."""
    return 0 <= x < SIZE and 0 <= y < SIZE


def around(at: int, reach: int = 1) -> list[int]:
    """The tiles within so many steps of one, itself left out."""
    y, x = divmod(at, SIZE)
    return [
        (y + dy) * SIZE + x + dx
        for dy in range(-reach, reach + 1)
        for dx in range(abs(dy) - reach, reach - abs(dy) + 1)
        if (dx, dy) != (0, 0) and is_floor(x + dx, y + dy)
    ]


BESIDE = [around(at) for at in range(SIZE * SIZE)]
EDGE = [at for at, beside in enumerate(BESIDE) if len(beside) < 4]


def enclosed(tiles: list[int], colour: int) -> list[int]:
    """The tiles of others, and of nobody, that are cut off from the edge by tiles of a colour."""
    waiting = [at for at in EDGE if tiles[at] != colour]
    outside = set(waiting)
    while waiting:
        for at in BESIDE[waiting.pop()]:
            if tiles[at] != colour and at not in outside:
                outside.add(at)
                waiting.append(at)
    return [at for at, owner in enumerate(tiles) if owner != colour and at not in outside]


@attrs.define
class Painter:
    """Somebody on the floor."""

    colour: int
    x: int
    y: int
    heading: Heading = "stop"
    rest: int = 0  # ticks until the next step
    fast: int = 0  # ticks for which a bolt still works

    @property
    def at(self) -> int:
        """The tile it stands on."""
        return self.y * SIZE + self.x


@attrs.define
class Arena:
    """One round. Plain values all through, so it can be saved as it is."""

    painters: dict[str, Painter]
    left: int  # ticks
    tiles: list[int] = attrs.field(factory=lambda: [0] * SIZE**2)  # owners' colours, row by row
    drops: dict[int, str] = attrs.field(factory=dict)  # by tile

    @classmethod
    def begin(cls, colours: Mapping[str, int], seconds: float) -> "Arena":
        """A round of these painters, each in the corner of its colour."""
        painters = {id: Painter(colour, *CORNERS[colour]) for id, colour in colours.items()}
        arena = cls(painters, ceil(seconds * HZ))
        for painter in painters.values():
            arena.tiles[painter.at] = painter.colour
        return arena

    def steer(self, id: str, heading: Heading) -> None:
        """A painter goes another way from its next step on; nothing, if it is not there."""
        if id in self.painters:
            self.painters[id].heading = heading

    def remove(self, id: str) -> None:
        """A painter is gone, and its tiles are nobody's."""
        if painter := self.painters.pop(id, None):
            self.tiles = [0 if owner == painter.colour else owner for owner in self.tiles]

    def tick(self, chance: Random) -> None:
        """A twentieth of a second passes, until none is left."""
        if self.left == 0:
            return
        self.left -= 1
        for painter in self.painters.values():
            self._move(painter)
        if self.left % DROP_EVERY == 0 and len(self.drops) < MAX_DROPS:
            self._drop(chance)

    def _move(self, painter: Painter) -> None:
        painter.fast = max(0, painter.fast - 1)
        painter.rest = max(0, painter.rest - 1)
        dx, dy = WAYS[painter.heading]
        if (
            painter.rest
            or painter.heading == "stop"
            or not is_floor(painter.x + dx, painter.y + dy)
        ):
            return
        painter.x += dx
        painter.y += dy
        drop = self.drops.pop(painter.at, None)
        if drop == "bolt":
            painter.fast = FAST_FOR
        painter.rest = FAST_STEP if painter.fast else STEP
        self._paint(painter, [painter.at, *(around(painter.at, 2) if drop == "burst" else ())])

    def _paint(self, painter: Painter, places: list[int]) -> None:
        if all(self.tiles[at] == painter.colour for at in places):
            return
        for at in places:
            self.tiles[at] = painter.colour
        for at in enclosed(self.tiles, painter.colour):
            self.tiles[at] = painter.colour

    def _drop(self, chance: Random) -> None:
        at = chance.randrange(SIZE**2)
        if at not in [painter.at for painter in self.painters.values()]:
            self.drops[at] = chance.choice(DROPS)

    def standings(self) -> list[dict[str, Any]]:
        """Who owns how much, the best first; who owns as much shares the place."""
        owned = {id: self.tiles.count(painter.colour) for id, painter in self.painters.items()}
        return [
            {
                "id": id,
                "colour": self.painters[id].colour,
                "tiles": tiles,
                "place": 1 + sum(tiles < other for other in owned.values()),
            }
            for id, tiles in sorted(owned.items(), key=lambda item: -item[1])
        ]

    def shown(self) -> dict[str, Any]:
        """What players see. Rows are texts with a digit for each tile, so differences are short."""
        digits = "".join(map(str, self.tiles))
        return {
            "size": SIZE,
            "left": ceil(self.left / HZ),
            "rows": {str(y): digits[y * SIZE : (y + 1) * SIZE] for y in range(SIZE)},
            "drops": {str(at): drop for at, drop in self.drops.items()},
            "painters": {
                id: {
                    "x": painter.x,
                    "y": painter.y,
                    "heading": painter.heading,
                    "fast": painter.fast > 0,
                    "tiles": self.tiles.count(painter.colour),
                }
                for id, painter in self.painters.items()
            },
        }
