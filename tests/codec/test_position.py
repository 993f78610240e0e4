"""Places in the order of events, and the offset strings of clients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_rt.codec.position import START, Position, parse_position

numbers = st.integers(0, 10**15 - 1)
positions = st.builds(Position, numbers, numbers)


def test_text() -> None:
    """An offset is the milliseconds and the sequence, as the id of a Redis stream's entry."""
    assert str(Position(1763846400000, 42)) == "1763846400000-42"
    assert parse_position("1763846400000-42") == Position(1763846400000, 42)


@given(positions)
def test_there_and_back(position: Position) -> None:
    """What was written is read again as it was."""
    assert parse_position(str(position)) == position


@given(positions, positions)
def test_order(one: Position, other: Position) -> None:
    """Milliseconds count first, then the sequence, as numbers."""
    assert (one < other) == ((one.time_ms, one.sequence) < (other.time_ms, other.sequence))
    assert one >= START


@pytest.mark.parametrize(
    "text",
    [
        *("", "-", "1", "1-", "-1", "1-2-3", "1--2", "+1-2", "1-+2", " 1-2", "1-2 ", "1-2\n"),
        *("1_0-2", "1.0-2", "0x1-2", "a-b", "\u0661-\u0662", "1\u20132", "1-2\0", "hello", "1 - 2"),
        *("1" * 16 + "-0", "0-" + "1" * 16, "9" * 5000 + "-" + "9" * 5000),
    ],
)
def test_not_ours(text: str) -> None:
    """A text that is no offset of ours is told as such."""
    assert parse_position(text) is None


@given(st.text() | st.from_regex(r"[0-9-]{0,40}"))
def test_any_text(text: str) -> None:
    """Any text gives a position that says the same, or None."""
    position = parse_position(text)
    if position is not None:
        time_ms, _, sequence = text.partition("-")
        assert (position.time_ms, position.sequence) == (int(time_ms), int(sequence))
