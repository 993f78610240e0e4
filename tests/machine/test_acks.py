"""Acknowledgements owed, row by row and against a naive model."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trio_rt.machine.acks import Owed

# --- The table


def test_open_receive() -> None:
    """One of several debtors answers: the others still owe."""
    owed = Owed(["a", "b"])
    assert owed.receive("a", [1]) is False
    assert not owed.is_done
    assert (owed.waiting, owed.answers, owed.gone) == ({"b"}, {"a": [1]}, set())


def test_open_receive_last() -> None:
    """The last answer is told as such."""
    owed = Owed(["a", "b"])
    owed.receive("a", [])
    assert owed.receive("b", [2, 3]) is True
    assert owed.is_done
    assert (owed.waiting, owed.answers, owed.gone) == (set(), {"a": [], "b": [2, 3]}, set())


def test_open_gone() -> None:
    """One of several debtors ends: it is missing, and the others still owe."""
    owed = Owed(["a", "b"])
    assert owed.leave("a") is False
    assert not owed.is_done
    assert (owed.waiting, owed.answers, owed.gone) == ({"b"}, {}, {"a"})


def test_open_gone_last() -> None:
    """When the last debtor ends nobody is waited for."""
    owed = Owed(["a", "b"])
    owed.receive("a", [1])
    assert owed.leave("b") is True
    assert owed.is_done
    assert (owed.waiting, owed.answers, owed.gone) == (set(), {"a": [1]}, {"b"})


def test_open_strangers() -> None:
    """Who was not asked, or has answered or left already, changes nothing."""
    owed = Owed(["a", "b", "c"])
    owed.receive("a", [1])
    owed.leave("b")
    for stranger in ("a", "b", "x"):
        assert owed.receive(stranger, [2]) is False
        assert owed.leave(stranger) is False
    assert (owed.waiting, owed.answers, owed.gone) == ({"c"}, {"a": [1]}, {"b"})


def test_done() -> None:
    """Nothing changes any more, and the end is not told twice."""
    owed = Owed(["a"])
    assert owed.receive("a", [1]) is True
    assert owed.receive("a", [2]) is False
    assert owed.leave("a") is False
    assert owed.is_done
    assert owed.answers == {"a": [1]}


def test_nobody_asked() -> None:
    """A request to nobody is done before it begins."""
    assert Owed([]).is_done


def test_one_asked_twice() -> None:
    """Whoever is named twice owes one answer."""
    owed = Owed(["a", "a"])
    assert owed.receive("a", []) is True


# --- Against a model

SIDS = st.sampled_from("abcdef")


class OwedModel(RuleBasedStateMachine):
    """The model keeps the whole history, and asks it who did something first."""

    @initialize(debtors=st.lists(SIDS, max_size=5))
    def ask(self, debtors: list[str]) -> None:
        self.debtors = set(debtors)
        self.owed = Owed(iter(debtors))
        self.history: list[tuple[str, list[int] | None]] = []
        self.told_done = 0

    @rule(sid=SIDS, arguments=st.lists(st.integers(), max_size=2))
    def receive(self, sid: str, arguments: list[int]) -> None:
        self.note(sid, arguments, self.owed.receive(sid, arguments))

    @rule(sid=SIDS)
    def leave(self, sid: str) -> None:
        self.note(sid, None, self.owed.leave(sid))

    def note(self, sid: str, arguments: list[int] | None, was_last: bool) -> None:
        self.history.append((sid, arguments))
        self.told_done += was_last
        settled = {sid for sid, _ in self.history} & self.debtors
        assert not was_last or settled == self.debtors

    @invariant()
    def every_debtor_counts_once(self) -> None:
        first = dict(reversed(self.history))
        first = {sid: first[sid] for sid in first if sid in self.debtors}
        answered = {sid: said for sid, said in first.items() if said is not None}
        assert self.owed.answers == answered
        assert self.owed.gone == first.keys() - answered.keys()
        assert self.owed.waiting == self.debtors - first.keys()

    @invariant()
    def is_done_if_nobody_is_waited_for(self) -> None:
        assert self.owed.is_done == (not self.owed.waiting)
        assert self.told_done == (self.owed.is_done and bool(self.debtors))


TestOwedModel = OwedModel.TestCase
