"""Events that run once, row by row and against a naive model."""

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trio_rt.machine.once import Begin, Once, OnceLimits

WINDOW = 10.0


def new_once(**changes: Any) -> Once[str]:
    """With wide limits, but for the changes."""
    return Once(OnceLimits(**{"max_results": 10, "max_bytes": 1_000, "seconds": WINDOW, **changes}))


# --- The table


def test_unknown_begin() -> None:
    """A key that is new is run."""
    once = new_once()
    assert once.begin("k", 0.0) is Begin.NEW
    assert len(once) == 1


def test_running_begin() -> None:
    """While it runs, the same key is not run again, however long it takes."""
    once = new_once()
    once.begin("k", 0.0)
    assert once.begin("k", 1.0) is Begin.RUNNING
    assert once.begin("k", 100 * WINDOW) is Begin.RUNNING
    assert once.begin("another", 1.0) is Begin.NEW


def test_running_settle() -> None:
    """When it has run, its result is what the same key gets."""
    once = new_once()
    once.begin("k", 0.0)
    once.settle("k", "result", 6, 1.0)
    assert once.begin("k", 2.0) == "result"
    assert once.begin("k", 3.0) == "result"
    assert len(once) == 1


def test_running_release() -> None:
    """When it was given up, the same key is new again."""
    once = new_once()
    once.begin("k", 0.0)
    once.release("k")
    assert len(once) == 0
    assert once.begin("k", 1.0) is Begin.NEW


@pytest.mark.parametrize("is_settled", [False, True], ids=["unknown", "settled"])
def test_nothing_to_settle(is_settled: bool) -> None:
    """Only what runs can be settled or released; else it is a bug of ours."""
    once = new_once()
    if is_settled:
        once.begin("k", 0.0)
        once.settle("k", "result", 6, 0.0)
    with pytest.raises(KeyError):
        once.settle("k", "other", 5, 0.0)
    with pytest.raises(KeyError):
        once.release("k")


# --- What is forgotten


def test_window() -> None:
    """A result is repeated within the window, which begins when it is there."""
    once = new_once()
    once.begin("k", 0.0)
    once.settle("k", "result", 6, 5.0)
    assert once.begin("k", 5.0 + WINDOW - 0.1) == "result"
    assert once.begin("k", 5.0 + WINDOW) is Begin.NEW


def test_repeating_does_not_prolong() -> None:
    """A result that was repeated is forgotten at the same time."""
    once = new_once()
    once.begin("k", 0.0)
    once.settle("k", "result", 6, 0.0)
    once.begin("k", WINDOW - 1)
    once.expire(WINDOW)
    assert len(once) == 0


def test_too_many() -> None:
    """When there are too many results, the oldest is forgotten; what runs is not."""
    once = new_once(max_results=2)
    once.begin("runs", 0.0)
    for number in range(3):
        once.begin(f"k{number}", 0.0)
        once.settle(f"k{number}", "result", 6, 0.0)
    assert once.begin("k1", 0.0) == once.begin("k2", 0.0) == "result"
    assert once.begin("k0", 0.0) is Begin.NEW
    assert once.begin("runs", 0.0) is Begin.RUNNING


def test_too_large() -> None:
    """Results and their keys together take no more bytes than they may."""
    once = new_once(max_bytes=20)
    for key in ("k1", "k2", "k3"):
        once.begin(key, 0.0)
        once.settle(key, "12345678", 8, 0.0)
    assert once.begin("k1", 0.0) is Begin.NEW
    assert once.begin("k2", 0.0) == once.begin("k3", 0.0) == "12345678"


# --- Against a model

KEYS = st.sampled_from(["a", "b", "c", "d"])


class OnceModel(RuleBasedStateMachine):
    """The model keeps a list of all results, and reads it from the end."""

    @initialize(results=st.integers(1, 4), size=st.integers(1, 12))
    def start(self, results: int, size: int) -> None:
        self.limits = OnceLimits(results, size, WINDOW)
        self.once: Once[int] = Once(self.limits)
        self.now = 0.0
        self.running: list[str] = []
        self.results: list[tuple[str, int, int, float]] = []
        self.count = 0

    def remembered(self) -> dict[str, int]:
        """The results that have to be there: the newest that fit, within the window."""
        found: dict[str, int] = {}
        total = 0
        for key, result, size, time in reversed(self.results):
            total += size
            is_over = total > self.limits.max_bytes or len(found) >= self.limits.max_results
            if is_over or time <= self.now - WINDOW:
                break
            found[key] = result
        return found

    @rule(key=KEYS)
    def begin(self, key: str) -> None:
        expected: Any = self.remembered().get(key, Begin.NEW)
        if key in self.running:
            expected = Begin.RUNNING
        assert self.once.begin(key, self.now) == expected
        if expected is Begin.NEW:
            self.running.append(key)

    @rule(size=st.integers(0, 6))
    def settle(self, size: int) -> None:
        if self.running:
            key = self.running.pop(0)
            self.count += 1
            self.once.settle(key, self.count, size, self.now)
            self.results.append((key, self.count, size + len(key), self.now))

    @rule()
    def release(self) -> None:
        if self.running:
            self.once.release(self.running.pop())

    @rule(seconds=st.integers(1, 6))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def expire(self) -> None:
        self.once.expire(self.now)
        assert len(self.once) == len(self.running) + len(self.remembered())

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.once) - len(self.running) <= self.limits.max_results


TestOnceModel = OnceModel.TestCase
