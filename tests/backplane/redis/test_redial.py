"""Attempts to connect come ever more slowly, within their bounds."""

from hypothesis import given
from hypothesis import strategies as st

from trio_rt.backplane.redis.redial import pick_delay
from trio_rt.backplane.redis.settings import RedisSettings


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_within_bounds(attempt: int, number: float) -> None:
    """No delay is longer than the longest one, nor than the attempt's own."""
    delay = pick_delay(attempt, RedisSettings(), number)
    assert 0 <= delay <= 1.0
    assert delay <= 0.05 * 2.0 ** min(attempt, 10)


def test_doubles() -> None:
    """The longest delay doubles with each failure, up to a second."""
    delays = [pick_delay(attempt, RedisSettings(), 1.0) for attempt in range(6)]
    assert delays == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
