"""The rules of the lobby example's game, by themselves."""

from collections.abc import Iterator
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.examples.lobby import turf

Arena, SIZE, enclosed = turf.Arena, turf.SIZE, turf.enclosed
IDS = ("ada", "bob", "eve", "kim")
headings = st.sampled_from(["up", "down", "left", "right", "stop"])


def arena(*ids: str, seconds: float = 60) -> Any:
    """A round of these players, in this order of colours."""
    return Arena.begin({id: number for number, id in enumerate(ids, 1)}, seconds)


def run(arena: Any, id: str, heading: str, steps: int) -> None:
    """A painter goes so many steps; nothing drops meanwhile."""
    arena.steer(id, heading)
    for _ in range(steps * turf.STEP):
        arena.tick(Nothing())
    arena.steer(id, "stop")


class Nothing(Random):
    """Drops nothing: each drop would fall on a painter."""

    def randrange(self, *bounds: Any) -> int:
        x, y = turf.CORNERS[1]
        return y * SIZE + x


def floor(*rows: str) -> list[int]:
    """Tiles drawn by digits, in the upper left corner."""
    tiles = [0] * SIZE**2
    for y, row in enumerate(rows):
        for x, digit in enumerate(row):
            tiles[y * SIZE + x] = int(digit.replace(".", "0"))
    return tiles


def test_beginning() -> None:
    """Each painter stands in a corner of its own, on a tile of its own."""
    round = arena(*IDS)
    places = {(painter.x, painter.y) for painter in round.painters.values()}
    assert len(places) == 4
    assert [one["tiles"] for one in round.standings()] == [1, 1, 1, 1]
    assert round.shown()["left"] == 60


def test_running() -> None:
    """A painter goes on in its direction, a tile in so many ticks, and paints each."""
    round = arena("ada")
    round.steer("ada", "right")
    xs = []
    for _ in range(7):
        round.tick(Random(0))
        xs.append(round.painters["ada"].x)
    assert xs == [4, 4, 4, 5, 5, 5, 6]
    assert round.standings()[0]["tiles"] == 4


def test_walls() -> None:
    """A wall stops a painter, who can turn there."""
    round = arena("ada")
    run(round, "ada", "left", 10)
    assert (round.painters["ada"].x, round.painters["ada"].y) == (0, 3)
    run(round, "ada", "up", 10)
    assert (round.painters["ada"].x, round.painters["ada"].y) == (0, 0)


def test_loop() -> None:
    """Closing a loop makes all that is inside one's own, the tiles of others too."""
    round = arena("ada", "bob")
    round.tiles[5 * SIZE + 5] = 2
    for heading, steps in [("right", 4), ("down", 4), ("left", 4), ("up", 3)]:
        run(round, "ada", heading, steps)
    assert round.standings()[0] == {"id": "ada", "colour": 1, "tiles": 25, "place": 1}
    assert round.tiles[5 * SIZE + 5] == 1


def test_walls_close_nothing() -> None:
    """The edge of the floor is no side of a loop."""
    corner = floor("..1", "..1", "111")
    assert enclosed(corner, 1) == []


@pytest.mark.parametrize(
    ("rows", "inside"),
    [
        (["....", ".111", ".1.1", ".111"], 1),
        (["....", ".111", ".121", ".111"], 1),
        (["....", ".111", ".1.1", ".11."], 1),  # a corner may be left out
        (["....", ".111", ".1.1", ".1.1"], 0),
        (["....", ".222", ".2.2", ".222"], 0),
        (["......", ".11111", ".1...1", ".1.1.1", ".1...1", ".11111"], 8),
    ],
)
def test_enclosed(rows: list[str], inside: int) -> None:
    """Inside is what has no way out to the edge, over sides of tiles and not over corners."""
    assert len(enclosed(floor(*rows), 1)) == inside


def way_out(tiles: list[int], colour: int, at: int) -> bool:
    """The same by a plain walk from one tile."""
    seen, waiting = {at}, [at]
    while waiting:
        here = waiting.pop()
        y, x = divmod(here, SIZE)
        if x in (0, SIZE - 1) or y in (0, SIZE - 1):
            return True
        for beside in (here - 1, here + 1, here - SIZE, here + SIZE):
            if beside not in seen and tiles[beside] != colour:
                seen.add(beside)
                waiting.append(beside)
    return False


@given(st.lists(st.booleans(), min_size=49, max_size=49))
def test_enclosed_as_walked(walls: list[bool]) -> None:
    """What is enclosed is exactly what nobody can walk out of."""
    tiles = floor(*["." * 7] * 7)
    for number, is_wall in enumerate(walls):
        y, x = divmod(number, 7)
        tiles[(y + 2) * SIZE + x + 2] = 1 if is_wall else 0
    trapped = [at for at in range(SIZE**2) if tiles[at] != 1 and not way_out(tiles, 1, at)]
    assert enclosed(tiles, 1) == trapped


def test_bolt() -> None:
    """A bolt makes its painter fast for some seconds, and is gone."""
    round = arena("ada")
    round.drops = {3 * SIZE + 4: "bolt"}
    run(round, "ada", "right", 1)
    assert (round.drops, round.shown()["painters"]["ada"]["fast"]) == ({}, True)
    before = round.painters["ada"].x
    run(round, "ada", "right", 4)
    assert round.painters["ada"].x == before + 6
    for _ in range(turf.FAST_FOR):
        round.tick(Nothing())
    assert round.shown()["painters"]["ada"]["fast"] is False


def test_burst() -> None:
    """A burst paints all around it, as far as there is a floor."""
    round = arena("ada")
    round.drops = {3 * SIZE + 4: "burst"}
    run(round, "ada", "right", 1)
    assert round.standings()[0]["tiles"] == 13
    run(round, "ada", "left", 4)
    round.drops = {2 * SIZE: "burst"}
    run(round, "ada", "up", 1)
    assert {at % SIZE for at, owner in enumerate(round.tiles) if owner} == set(range(7))


def test_nothing_drops_on_a_painter() -> None:
    """What would fall on somebody does not fall; a moment later it falls elsewhere."""
    round = arena("ada")
    for _ in range(turf.DROP_EVERY):
        round.tick(Nothing())
    assert round.drops == {}
    for _ in range(turf.DROP_EVERY):
        round.tick(Random(0))
    assert set(round.drops.values()) <= {"bolt", "burst"}
    assert len(round.drops) == 1


def test_leaving() -> None:
    """Who leaves takes the colour along; orders for somebody who is not there do nothing."""
    round = arena("ada", "bob")
    run(round, "bob", "left", 3)
    round.remove("bob")
    round.remove("nobody")
    round.steer("bob", "left")
    assert set(round.tiles) == {0, 1}
    assert [one["id"] for one in round.standings()] == ["ada"]


def test_shared_places() -> None:
    """Who owns as much shares a place, and the next one is left out."""
    round = arena("ada", "bob", "eve")
    run(round, "eve", "left", 2)
    places = [(one["id"], one["place"]) for one in round.standings()]
    assert places == [("eve", 1), ("ada", 2), ("bob", 2)]


def test_end() -> None:
    """When no time is left, nothing moves any more."""
    round = arena("ada", seconds=0.5)
    round.steer("ada", "right")
    for _ in range(turf.HZ // 2):
        round.tick(Random(0))
    assert round.left == 0
    before = round.shown()
    round.tick(Random(0))
    assert round.shown() == before


turns = st.lists(st.dictionaries(st.sampled_from(IDS), headings, max_size=4), max_size=60)


def played(turns: list[dict[str, str]], seed: int, round: Any) -> Iterator[Any]:
    """The round after each turn, which is a few ticks."""
    chance = Random(seed)
    for steers in turns:
        for id, heading in steers.items():
            round.steer(id, heading)
        for _ in range(4):
            round.tick(chance)
        yield round


@given(turns, st.integers(0, 9))
def test_always(turns: list[dict[str, str]], seed: int) -> None:
    """Whatever is steered: nobody leaves the floor, who stands on a tile has painted it, or
    somebody after, no drop lies under a painter, and the sums are right."""
    for round in played(turns, seed, arena(*IDS)):
        for painter in round.painters.values():
            assert turf.is_floor(painter.x, painter.y)
            assert round.tiles[painter.at] != 0
            assert painter.at not in round.drops
        assert len(round.drops) <= turf.MAX_DROPS
        shown = round.shown()
        digits = "".join(shown["rows"][str(y)] for y in range(SIZE))
        assert len(digits) == SIZE**2
        owned = {one["colour"]: one["tiles"] for one in round.standings()}
        assert {colour: digits.count(str(colour)) for colour in owned} == owned


@given(turns, turns, st.integers(0, 9))
def test_saved(before: list[dict[str, str]], later: list[dict[str, str]], seed: int) -> None:
    """A round that was saved and loaded goes on as the one that was not."""
    round = arena(*IDS)
    for _ in played(before, seed, round):
        pass
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(round))
    copy = msgspec.convert(saved, Arena)
    for one, other in zip(played(later, seed, round), played(later, seed, copy), strict=True):
        assert one == other
