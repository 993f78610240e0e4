"""Matchmaking: cell by cell, what a match is made of, and what holds for any tickets."""

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trio_rt.machine.matchmaking import (
    ALREADY_WAITING,
    BAD_TICKET,
    FULL,
    NEAREST,
    Expired,
    Matched,
    Matchmaker,
    MatchRules,
    Ticket,
)

PACE, GIVE_UP = 1.0, 60.0


def rules(**changes: Any) -> MatchRules:
    options: dict[str, Any] = {
        "size": 2,
        "window": 10,
        "widen": 5,
        "max_window": 100,
        "pace": PACE,
        "give_up": GIVE_UP,
    }
    return MatchRules(**{**options, **changes})


def new_matchmaker(*tickets: Ticket, **changes: Any) -> Matchmaker:
    """A matchmaker with tickets, all of time 0."""
    matchmaker = Matchmaker(rules(**changes))
    for ticket in tickets:
        assert matchmaker.add(ticket, 0.0) is None
    return matchmaker


def ids(effects: list[Any]) -> list[tuple[str, ...]]:
    """Who was matched with whom."""
    assert all(isinstance(effect, Matched) for effect in effects)
    return [tuple(ticket.id for ticket in effect.tickets) for effect in effects]


ANN, BOB = Ticket("ann", 100.0), Ticket("bob", 110.0)
FAR = Ticket("far", 200.0)

# --- The table


def test_absent_add() -> None:
    """A ticket that is added waits, and is looked at at once."""
    matchmaker = new_matchmaker()
    assert matchmaker.deadline == math.inf
    assert matchmaker.add(ANN, 5.0) is None
    assert "ann" in matchmaker
    assert len(matchmaker) == 1
    assert matchmaker.deadline == 5.0


def test_absent_cancel() -> None:
    """A ticket that does not wait cannot be taken back."""
    assert new_matchmaker().cancel("ann") is False


def test_waiting_add() -> None:
    """A ticket waits once."""
    matchmaker = new_matchmaker(ANN)
    assert matchmaker.add(Ticket("ann", 5.0), 1.0) == ALREADY_WAITING
    assert len(matchmaker) == 1


def test_waiting_cancel() -> None:
    """A ticket that was taken back is in no match."""
    matchmaker = new_matchmaker(ANN, BOB)
    assert matchmaker.cancel("ann") is True
    assert "ann" not in matchmaker
    assert matchmaker.tick(0.0) == []
    assert matchmaker.cancel("bob") is True
    assert matchmaker.deadline == math.inf


def test_waiting_others_fit() -> None:
    """Two who fit play together, the one who has waited longest first, and wait no more."""
    matchmaker = new_matchmaker(ANN, BOB)
    assert matchmaker.tick(0.0) == [Matched((ANN, BOB))]
    assert len(matchmaker) == 0
    assert matchmaker.deadline == math.inf
    assert matchmaker.cancel("ann") is False


def test_waiting_too_long() -> None:
    """A ticket that finds no match in time is given up, and may be added again."""
    matchmaker = new_matchmaker(ANN)
    now = run_until(matchmaker, GIVE_UP - 0.1)
    assert "ann" in matchmaker
    assert matchmaker.deadline == GIVE_UP
    assert matchmaker.tick(GIVE_UP - 0.01) == []
    assert matchmaker.tick(GIVE_UP) == [Expired(ANN)]
    assert matchmaker.deadline == math.inf
    assert matchmaker.add(ANN, now) is None


def run_until(matchmaker: Matchmaker, end: float) -> float:
    """Ticks at each deadline before `end`, at which nothing must happen."""
    while matchmaker.deadline < end:
        assert matchmaker.tick(matchmaker.deadline) == []
    return end


def test_the_last_moment() -> None:
    """Who finds a match in the moment of being given up has found it."""
    matchmaker = new_matchmaker(ANN)
    run_until(matchmaker, GIVE_UP)
    matchmaker.add(BOB, GIVE_UP)
    assert matchmaker.tick(GIVE_UP) == [Matched((ANN, BOB))]


@pytest.mark.parametrize(
    "ticket",
    [
        Ticket("x", math.nan),
        Ticket("x", math.inf),
        Ticket("x", 1.0, size=0),
        Ticket("x", 1.0, size=3),
    ],
)
def test_bad_ticket(ticket: Ticket) -> None:
    """A ticket that could never be matched, or would break the order, is refused."""
    matchmaker = new_matchmaker()
    assert matchmaker.add(ticket, 0.0) == BAD_TICKET
    assert len(matchmaker) == 0


def test_max_tickets() -> None:
    """Only so many wait at once."""
    matchmaker = new_matchmaker(ANN, max_tickets=1)
    assert matchmaker.add(BOB, 0.0) == FULL
    matchmaker.cancel("ann")
    assert matchmaker.add(BOB, 0.0) is None


@pytest.mark.parametrize(
    "changes",
    [{"size": 1}, {"window": -1}, {"widen": -1}, {"max_window": -1}, {"pace": 0}, {"give_up": 0}],
)
def test_bad_rules(changes: dict[str, Any]) -> None:
    """Rules that mean nothing are refused where they are written."""
    with pytest.raises(ValueError, match=next(iter(changes))):
        rules(**changes)


# --- Windows and time


def test_window_widens() -> None:
    """Ratings that are too far apart at first are near enough after a while."""
    matchmaker = new_matchmaker(ANN, FAR)
    run_until(matchmaker, 18.0)
    assert matchmaker.deadline == 18.0  # 10 + 18 * 5 = 100
    assert ids(matchmaker.tick(18.0)) == [("ann", "far")]


def test_max_window() -> None:
    """Ratings may be so far apart and no further, and then only new tickets are waited for."""
    matchmaker = new_matchmaker(ANN, FAR, max_window=99)
    run_until(matchmaker, GIVE_UP)
    assert matchmaker.deadline == GIVE_UP
    matchmaker = new_matchmaker(ANN, max_window=10)
    assert matchmaker.tick(0.0) == []
    assert matchmaker.deadline == GIVE_UP
    matchmaker.add(BOB, 30.0)
    assert matchmaker.deadline == 30.0


def test_the_older_ones_window_counts() -> None:
    """Who has waited long may play with one who has just come."""
    matchmaker = new_matchmaker(ANN)
    run_until(matchmaker, 18.0)
    matchmaker.add(FAR, 18.0)
    assert ids(matchmaker.tick(18.0)) == [("ann", "far")]


def test_pace() -> None:
    """Tickets that come in a crowd are matched together, one tick each pace."""
    matchmaker = new_matchmaker(ANN)
    matchmaker.tick(0.0)
    matchmaker.add(BOB, 0.3)
    assert matchmaker.deadline == PACE
    assert matchmaker.tick(0.9) == []
    assert ids(matchmaker.tick(PACE)) == [("ann", "bob")]


# --- Whom


def test_oldest_first() -> None:
    """Of several who would fit, those who have waited longest play."""
    tickets = [Ticket(name, 100.0) for name in "zyxw"]
    assert ids(new_matchmaker(*tickets, size=3).tick(0.0)) == [("z", "y", "x")]


def test_those_who_are_alone_too() -> None:
    """One who fits nobody does not keep those behind from their match."""
    matchmaker = new_matchmaker(FAR, ANN, BOB)
    assert ids(matchmaker.tick(0.0)) == [("ann", "bob")]
    assert "far" in matchmaker


def test_parties() -> None:
    """Those who come together play together, and the match is filled exactly."""
    tickets = [Ticket("a", 100.0, 2), Ticket("b", 100.0, 3), Ticket("c", 100.0), Ticket("d", 100.0)]
    assert ids(new_matchmaker(*tickets, size=4).tick(0.0)) == [("a", "c", "d")]
    assert ids(new_matchmaker(*tickets, size=5).tick(0.0)) == [("a", "b")]


def test_a_whole_party() -> None:
    """Those who are enough by themselves need nobody else."""
    assert ids(new_matchmaker(Ticket("a", 1.0, 2)).tick(0.0)) == [("a",)]


def test_a_crowd() -> None:
    """In a crowd the nearest are looked at, on both sides."""
    crowd = [Ticket(f"t{number}", 100.0 + number / 100) for number in range(4 * NEAREST)]
    matchmaker = new_matchmaker(*crowd, Ticket("last", 101.0), window=1000, max_window=1000)
    matched = matchmaker.tick(0.0)
    assert len(matched) == 2 * NEAREST
    assert len(matchmaker) == 1
    for match in matched:
        assert isinstance(match, Matched)
        first, second = match.tickets
        assert abs(first.rating - second.rating) <= (NEAREST + 2) / 100


# --- Any tickets

TICKETS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 3), st.integers(0, 3)), max_size=12
).map(
    lambda rows: [
        (Ticket(f"t{number}", float(rating), size), after)
        for number, (rating, size, after) in enumerate(rows)
    ]
)


def naive_match(
    waiting: list[tuple[Ticket, float]], size: int, now: float
) -> tuple[Ticket, ...] | None:
    """The match that is due: the oldest who can have one, with the oldest of those who fit."""
    for ticket, since in waiting:
        near = [
            other
            for other, _ in waiting
            if other is not ticket
            and abs(other.rating - ticket.rating) <= rules().window_after(now - since)
        ]
        found = [
            places
            for count in range(size)
            for places in itertools.combinations(range(len(near)), count)
            if ticket.size + sum(near[place].size for place in places) == size
        ]
        if found:
            best = min(found, key=lambda places: places[::-1])
            return (ticket, *(near[place] for place in best))
    return None


@given(tickets=TICKETS, size=st.integers(2, 5))
def test_model(tickets: list[tuple[Ticket, int]], size: int) -> None:
    """A naive matchmaker tries all combinations: it makes the same matches at the same times."""
    matchmaker = Matchmaker(rules(size=size, give_up=20))
    waiting: list[tuple[Ticket, float]] = []
    coming = list(tickets)
    now = 0.0
    until = coming[0][1] if coming else 0
    for _ in range(60):
        while coming and now >= until:
            ticket, _ = coming.pop(0)
            if matchmaker.add(ticket, now) is None:
                waiting.append((ticket, now))
            until = now + coming[0][1] if coming else 0
        expected: list[Any] = []
        while (match := naive_match(waiting, size, now)) is not None:
            expected.append(Matched(match))
            waiting = [row for row in waiting if row[0] not in match]
        expected += [Expired(ticket) for ticket, since in waiting if since + 20 <= now]
        waiting = [row for row in waiting if row[1] + 20 > now]
        assert matchmaker.tick(now) == expected
        now += PACE
    assert matchmaker.deadline == math.inf
    assert not coming


class MatchmakerModel(RuleBasedStateMachine):
    """Whatever comes and goes whenever: the promises hold."""

    @initialize(size=st.integers(2, 4))
    def begin(self, size: int) -> None:
        self.rules = rules(size=size, give_up=12, max_window=60)
        self.matchmaker = Matchmaker(self.rules)
        self.now = 0.0
        self.waiting: dict[str, tuple[Ticket, float]] = {}
        self.names = map(str, itertools.count())

    @rule(rating=st.integers(0, 100), size=st.integers(1, 2))
    def add(self, rating: int, size: int) -> None:
        ticket = Ticket(next(self.names), float(rating), size)
        assert self.matchmaker.add(ticket, self.now) is None
        self.waiting[ticket.id] = ticket, self.now

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from([*self.waiting, "nobody"]))
        assert self.matchmaker.cancel(id) is (id in self.waiting)
        self.waiting.pop(id, None)

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 5.0]), is_at_deadline=st.booleans())
    def time_passes(self, seconds: float, is_at_deadline: bool) -> None:
        self.now += seconds
        if is_at_deadline and self.matchmaker.deadline < math.inf:
            self.now = max(self.now, self.matchmaker.deadline)
        is_due = self.now >= self.matchmaker.deadline
        effects = self.matchmaker.tick(self.now)
        for effect in effects:
            if isinstance(effect, Matched):
                self.check_match(effect.tickets)
            else:
                _, since = self.waiting.pop(effect.ticket.id)
                assert self.now >= since + self.rules.give_up
        if is_due:
            self.check_nobody_is_passed_over()

    def check_match(self, tickets: tuple[Ticket, ...]) -> None:
        """Nobody twice, as many as are wanted, all in the window of the first, the oldest first."""
        rows = [self.waiting.pop(ticket.id) for ticket in tickets]
        assert sum(ticket.size for ticket in tickets) == self.rules.size
        window = self.rules.window_after(self.now - rows[0][1])
        assert all(abs(ticket.rating - tickets[0].rating) <= window for ticket in tickets)
        assert [int(ticket.id) for ticket in tickets[1:]] == sorted(
            int(ticket.id) for ticket in tickets[1:]
        )

    def check_nobody_is_passed_over(self) -> None:
        """Whoever is left has not enough others in the window."""
        for ticket, since in self.waiting.values():
            window = self.rules.window_after(self.now - since)
            near = [
                other.size
                for other, _ in self.waiting.values()
                if other is not ticket and abs(other.rating - ticket.rating) <= window
            ]
            sums = {0}
            for size in near:
                sums |= {made + size for made in sums}
            assert self.rules.size - ticket.size not in sums

    @invariant()
    def has_a_deadline_while_somebody_waits(self) -> None:
        assert len(self.matchmaker) == len(self.waiting)
        assert (self.matchmaker.deadline < math.inf) == bool(self.waiting)
        if self.waiting:
            oldest = min(since for _, since in self.waiting.values())
            assert self.matchmaker.deadline <= max(oldest + self.rules.give_up, self.now + PACE)


TestMatchmakerModel = MatchmakerModel.TestCase
