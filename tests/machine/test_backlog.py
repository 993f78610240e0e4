"""The queue of what is not acknowledged, cell by cell and against a naive model."""

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trio_rt.config import Config
from trio_rt.errors import LimitError, MisuseError
from trio_rt.machine.backlog import Backlog, BacklogLimits, Entry, WhenFull

LIMITS = BacklogLimits(max_events=3, max_bytes=100, max_age=10.0)


def new_backlog(when_full: WhenFull = WhenFull.REFUSE) -> Backlog[str]:
    limits = BacklogLimits(max_events=3, max_bytes=100, max_age=10.0, when_full=when_full)
    return Backlog(limits, "me")


def waiting() -> Backlog[str]:
    """One event of 10 bytes that was put in at 0 and not sent."""
    backlog = new_backlog()
    backlog.put("a", 10, 0.0)
    return backlog


def sent() -> Backlog[str]:
    """The same, sent on the present connection."""
    backlog = waiting()
    assert events(take_all(backlog)) == "a"
    return backlog


def take_all(backlog: Backlog[str], now: float = 0.0) -> list[Entry[str]]:
    """As a connection does that has nothing else to do."""
    return list(iter(lambda: backlog.take(now), None))


def events(entries: Sequence[Entry[str]]) -> str:
    return "".join(entry.event for entry in entries)


def assert_empty(backlog: Backlog[str]) -> None:
    assert (len(backlog), backlog.size_bytes, backlog.unsent) == (0, 0, 0)
    assert backlog.deadline == math.inf
    assert backlog.take(0.0) is None
    assert list(backlog.clear()) == []


# --- The table


def test_begins_empty() -> None:
    """Nothing waits, and nothing is due."""
    assert_empty(new_backlog())


def test_put() -> None:
    """A new event waits, with a key of its own."""
    backlog = new_backlog()
    entry, dropped = backlog.put("a", 10, 5.0)
    assert entry == Entry("me.1", "a", 10, 5.0, sends=0)
    assert list(dropped) == []
    assert (len(backlog), backlog.unsent, backlog.size_bytes) == (1, 1, 10)
    assert backlog.put("b", 10, 6.0)[0].key == "me.2"
    assert backlog.deadline == 15.0


def test_waiting_take() -> None:
    """What waits is sent once, in the order in which it was put in."""
    backlog = waiting()
    backlog.put("b", 10, 0.0)
    taken = take_all(backlog)
    assert taken == [Entry("me.1", "a", 10, 0.0, sends=1), Entry("me.2", "b", 10, 0.0, sends=1)]
    assert (len(backlog), backlog.unsent, backlog.size_bytes) == (2, 0, 20)


def test_sent_lost() -> None:
    """What was sent before the loss is sent again, by the same key and before all others."""
    backlog = sent()
    backlog.put("b", 10, 1.0)
    backlog.lost()
    assert backlog.unsent == 2
    assert [(entry.key, entry.sends) for entry in take_all(backlog)] == [("me.1", 2), ("me.2", 1)]


def test_waiting_lost() -> None:
    """What was not sent has not been lost."""
    backlog = waiting()
    backlog.lost()
    backlog.lost()
    [entry] = take_all(backlog)
    assert entry.sends == 1


@pytest.mark.parametrize("make", [waiting, sent])
def test_settle(make: Callable[[], Backlog[str]]) -> None:
    """What is settled is forgotten, once."""
    backlog = make()
    entry = backlog.settle("me.1")
    assert entry is not None
    assert entry.event == "a"
    assert backlog.settle("me.1") is None
    backlog.lost()
    assert_empty(backlog)


def test_settle_in_the_middle() -> None:
    """Acknowledgements come in any order; the others keep theirs."""
    backlog = new_backlog()
    for event in "abc":
        backlog.put(event, 10, 0.0)
    backlog.take(0.0)
    backlog.take(0.0)
    backlog.settle("me.2")
    backlog.lost()
    assert events(take_all(backlog)) == "ac"


def test_settle_a_stranger() -> None:
    """A key that is not known changes nothing."""
    backlog = sent()
    assert backlog.settle("you.1") is None
    assert (len(backlog), backlog.size_bytes) == (1, 10)


@pytest.mark.parametrize("make", [waiting, sent])
def test_too_old(make: Callable[[], Backlog[str]]) -> None:
    """At its time an event is given up, and not before."""
    backlog = make()
    assert backlog.deadline == 10.0
    assert list(backlog.tick(9.99)) == []
    [entry] = backlog.tick(10.0)
    assert (entry.key, entry.sends) == ("me.1", int(make is sent))
    assert_empty(backlog)


def test_too_old_are_told_in_order() -> None:
    """A late tick tells all that are too old, sent or not, and leaves the others."""
    backlog = sent()
    backlog.put("b", 10, 1.0)
    backlog.put("c", 10, 2.0)
    assert events(backlog.tick(11.5)) == "ab"
    assert (len(backlog), backlog.deadline) == (1, 12.0)


def test_too_old_to_be_sent() -> None:
    """What is too old is not sent, even when nobody has called `tick`; it is told then."""
    backlog = waiting()
    backlog.put("b", 10, 5.0)
    assert events(take_all(backlog, 10.0)) == "b"
    assert backlog.deadline == 10.0
    [entry] = backlog.tick(10.0)
    assert (entry.event, entry.sends) == ("a", 0)
    assert len(backlog) == 1


def test_clear() -> None:
    """When the client is done all is told, in order."""
    backlog = sent()
    backlog.put("b", 10, 0.0)
    assert events(backlog.clear()) == "ab"
    assert_empty(backlog)


def test_keys_are_never_used_again() -> None:
    """A new event has a new key, whatever has become of the old ones."""
    backlog = waiting()
    backlog.clear()
    assert backlog.put("b", 10, 0.0)[0].key == "me.2"


# --- Full


def test_refuse_when_too_many() -> None:
    """One event too many is refused, and the error names the limit."""
    backlog = new_backlog()
    for event in "abc":
        backlog.put(event, 1, 0.0)
    assert not backlog.has_room(1)
    with pytest.raises(LimitError, match="max_events=3"):
        backlog.put("d", 1, 0.0)
    assert events(take_all(backlog)) == "abc"


def test_refuse_when_too_large() -> None:
    """So is one byte too many; as many as the limit says have room."""
    backlog = waiting()
    assert backlog.has_room(90)
    assert not backlog.has_room(91)
    with pytest.raises(LimitError, match="max_bytes=100"):
        backlog.put("b", 91, 0.0)
    backlog.put("c", 90, 0.0)
    assert events(backlog.clear()) == "ac"


def test_a_refused_event_has_no_key() -> None:
    """A refusal leaves no gap in the keys."""
    backlog = waiting()
    with pytest.raises(LimitError):
        backlog.put("b", 91, 0.0)
    assert backlog.put("c", 1, 0.0)[0].key == "me.2"


def test_settled_events_make_room() -> None:
    """Room is made by acknowledgements."""
    backlog = waiting()
    backlog.put("b", 90, 0.0)
    backlog.settle("me.1")
    backlog.put("c", 10, 0.0)
    assert backlog.size_bytes == 100


def test_drop_oldest() -> None:
    """The oldest make room, as many as are needed, sent ones first."""
    backlog = new_backlog(WhenFull.DROP_OLDEST)
    for event in "abc":
        backlog.put(event, 30, 0.0)
    backlog.take(0.0)
    entry, dropped = backlog.put("d", 60, 0.0)
    assert [(gone.event, gone.sends) for gone in dropped] == [("a", 1), ("b", 0)]
    assert entry.event == "d"
    assert events(take_all(backlog)) == "cd"
    assert backlog.settle("me.1") is None


@pytest.mark.parametrize("when_full", WhenFull)
def test_larger_than_all(when_full: WhenFull) -> None:
    """What can never fit is refused, and nothing is dropped for it."""
    backlog = new_backlog(when_full)
    backlog.put("a", 10, 0.0)
    with pytest.raises(LimitError, match="101 bytes never fits: max_bytes=100"):
        backlog.put("b", 101, 0.0)
    assert events(backlog.clear()) == "a"


@pytest.mark.parametrize("name", ["max_events", "max_bytes", "max_age"])
@pytest.mark.parametrize("value", [0, -1])
def test_limits_make_sense(name: str, value: int) -> None:
    """A backlog without room or time is a mistake."""
    with pytest.raises(MisuseError, match=name):
        BacklogLimits(**{name: value})


def test_age_is_finite() -> None:
    """Nothing waits for ever."""
    with pytest.raises(MisuseError, match="max_age"):
        BacklogLimits(max_age=math.inf)


def test_given_up_before_the_server_forgets() -> None:
    """What leaves at the last moment comes before the key is forgotten, or on a dead connection."""
    server = Config()
    found_dead = server.ping_interval + server.ping_timeout
    assert BacklogLimits().max_age + found_dead <= server.once_window


# --- Against a model


class BacklogModel(RuleBasedStateMachine):
    """The model is one list of [number, size, time, sends, sent on this connection]."""

    @initialize(when_full=st.sampled_from(WhenFull))
    def begin(self, when_full: WhenFull) -> None:
        self.when_full = when_full
        self.backlog: Backlog[int] = Backlog(
            BacklogLimits(max_events=3, max_bytes=100, max_age=10.0, when_full=when_full), "me"
        )
        self.now = 0
        self.count = 0
        self.rows: list[list[int]] = []

    @rule(size=st.sampled_from([0, 1, 33, 34, 99, 100, 101]))
    def put(self, size: int) -> None:
        rows = list(self.rows)
        while size <= 100 and (len(rows) >= 3 or sum(row[1] for row in rows) + size > 100):
            rows.pop(0)
        fits = size <= 100 and len(rows) == len(self.rows)
        if not fits and (size > 100 or self.when_full is WhenFull.REFUSE):
            with pytest.raises(LimitError):
                self.backlog.put(0, size, self.now)
            return
        self.count += 1
        entry, dropped = self.backlog.put(self.count, size, self.now)
        assert entry == Entry(f"me.{self.count}", self.count, size, self.now, 0)
        self.assert_told(dropped, self.rows[: len(self.rows) - len(rows)])
        self.rows = [*rows, [self.count, size, self.now, 0, False]]

    @rule()
    def take(self) -> None:
        """One that is too old counts as passed over on this connection."""
        expected = None
        for row in self.rows:
            if row[4]:
                continue
            row[4] = True
            if self.now < row[2] + 10:
                row[3] += 1
                expected = row
                break
        entry = self.backlog.take(self.now)
        assert (entry is None) == (expected is None)
        if entry is not None and expected is not None:
            self.assert_told([entry], [expected])

    @rule(number=st.integers(1, 30))
    def settle(self, number: int) -> None:
        found = [row for row in self.rows if row[0] == number]
        entry = self.backlog.settle(f"me.{number}")
        self.assert_told([] if entry is None else [entry], found)
        self.rows = [row for row in self.rows if row[0] != number]

    @rule()
    def lost(self) -> None:
        self.backlog.lost()
        for row in self.rows:
            row[4] = False

    @rule(seconds=st.integers(0, 12))
    def time_passes_unnoticed(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def tick(self) -> None:
        old = [row for row in self.rows if self.now >= row[2] + 10]
        self.assert_told(self.backlog.tick(self.now), old)
        self.rows = [row for row in self.rows if row not in old]
        assert self.backlog.deadline > self.now

    @rule()
    def clear(self) -> None:
        self.assert_told(self.backlog.clear(), self.rows)
        self.rows = []

    def assert_told(self, entries: Sequence[Entry[int]], rows: list[list[int]]) -> None:
        told = [[entry.event, entry.size_bytes, entry.added, entry.sends] for entry in entries]
        assert told == [row[:4] for row in rows]
        assert [entry.key for entry in entries] == [f"me.{row[0]}" for row in rows]

    @invariant()
    def is_as_the_model(self) -> None:
        assert len(self.backlog) == len(self.rows) <= 3
        assert self.backlog.size_bytes == sum(row[1] for row in self.rows) <= 100
        assert self.backlog.unsent == sum(not row[4] for row in self.rows)
        ends = [row[2] + 10 for row in self.rows]
        assert self.backlog.deadline == min(ends, default=math.inf)


TestBacklogModel = BacklogModel.TestCase
