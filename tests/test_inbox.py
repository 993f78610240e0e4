"""What waits for a busy reader: bounds, and nothing lost within them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_rt.errors import LimitError
from trio_rt.inbox import HARD_FACTOR, Inbox


def new_inbox(*, max_events: int = 3, max_bytes: int = 10) -> Inbox[int]:
    return Inbox(max_events, max_bytes)


def test_empty() -> None:
    """A new inbox has nothing, and is not full."""
    inbox = new_inbox()
    assert len(inbox) == 0
    assert not inbox.is_full
    assert inbox.take() == []


def test_order() -> None:
    """Events leave in the order in which they came, all at once."""
    inbox = new_inbox()
    inbox.put([1, 2], 1)
    inbox.put([3], 1)
    assert len(inbox) == 3
    assert inbox.take() == [1, 2, 3]
    assert inbox.take() == []
    assert len(inbox) == 0


def test_full_in_events() -> None:
    """It is full with as many events as the limit says."""
    inbox = new_inbox()
    inbox.put([1, 2], 0)
    assert not inbox.is_full
    inbox.put([3], 0)
    assert inbox.is_full


def test_full_in_bytes() -> None:
    """It is full with as many bytes as the limit says."""
    inbox = new_inbox()
    inbox.put([1], 9)
    assert not inbox.is_full
    inbox.put([2], 1)
    assert inbox.is_full


def test_take_makes_room() -> None:
    """Taken events count no longer, nor do their bytes."""
    inbox = new_inbox()
    inbox.put([1, 2, 3], 10)
    inbox.take()
    assert not inbox.is_full
    inbox.put([4], 9)
    assert not inbox.is_full


def test_full_takes_more() -> None:
    """What was read already is taken even if it is full: reading pauses, nothing is lost."""
    inbox = new_inbox()
    inbox.put([1, 2, 3], 10)
    inbox.put([4, 5], 100)
    assert inbox.take() == [1, 2, 3, 4, 5]


def test_hard_limit_in_events() -> None:
    """Somewhere it ends: one event more than the hard limit is an error that names it."""
    inbox = new_inbox()
    most = 3 * HARD_FACTOR
    inbox.put([*range(most)], 0)
    with pytest.raises(LimitError, match=f"more than {most} events"):
        inbox.put([0], 0)


def test_hard_limit_in_bytes() -> None:
    """One byte more than the hard limit is an error that names it."""
    inbox = new_inbox()
    most = 10 * HARD_FACTOR
    inbox.put([1], most)
    with pytest.raises(LimitError, match=f"{most} bytes"):
        inbox.put([2], 1)


def test_hard_limit_after_take() -> None:
    """Whoever takes in time never comes near the hard limit."""
    inbox = new_inbox()
    for number in range(10 * HARD_FACTOR):
        inbox.put([number], 10)
        assert inbox.take() == [number]


batches = st.tuples(st.lists(st.integers(), max_size=3), st.integers(0, 5))


@given(st.lists(st.none() | batches, max_size=30))
def test_against_a_list(steps: list[tuple[list[int], int] | None]) -> None:
    """Within its bounds it is a list that is emptied at once, with a sum of bytes."""
    inbox = new_inbox(max_events=10, max_bytes=20)
    waiting: list[int] = []
    size = 0
    for step in steps:
        if step is None:
            assert inbox.take() == waiting
            waiting, size = [], 0
        else:
            inbox.put(*step)
            waiting, size = waiting + step[0], size + step[1]
        assert len(inbox) == len(waiting)
        assert inbox.is_full == (len(waiting) >= 10 or size >= 20)
