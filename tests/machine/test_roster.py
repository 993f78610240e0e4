"""Presence: row by row, the laws of merging, and several nodes over a careless network."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_rt.machine.roster import (
    MAX_DOWN,
    Delta,
    Entry,
    PresenceDiff,
    Roster,
    State,
    View,
    diff,
)

GRACE = 10.0
IDLE, BUSY = {"status": "idle"}, {"status": "busy"}


def new_roster(node: str = "n", incarnation: int = 1, *, grace: float = GRACE) -> Roster:
    return Roster(node, incarnation, grace=grace)


def absent() -> Roster:
    return new_roster()


def present() -> Roster:
    """Ann is there by socket s, idle, and everybody knows."""
    roster = absent()
    roster.track("s", "ann", IDLE)
    roster.take_diff()
    roster.take_delta()
    return roster


def dropped() -> Roster:
    """The same, lost at 0."""
    roster = present()
    roster.dropped("s", 0.0)
    return roster


def told(roster: Roster) -> tuple[list[Any], list[Any]] | None:
    """The next diff without refs: who joins and who leaves, with which metas."""
    found = roster.take_diff()
    if found is None:
        return None
    return shown(found.joins), shown(found.leaves)


def shown(state: State) -> list[tuple[str, Any]]:
    """A state without refs."""
    return [(key, meta) for key, metas in state.items() for meta in metas.values()]


def gone(roster: Roster) -> bool:
    """Whether nothing reminds of anybody."""
    return not any(
        getattr(roster, name)
        for name in ("_users", "_refs", "_sockets", "_by_socket", "_dropped", "_joined", "_left")
    )


# --- A socket of ours

ANN_IDLE, ANN_BUSY = [("ann", IDLE)], [("ann", BUSY)]

ACTS = {
    "track": lambda roster: roster.track("s", "ann", IDLE),
    "track busy": lambda roster: roster.track("s", "ann", BUSY),
    "update": lambda roster: roster.update("s", BUSY),
    "update the same": lambda roster: roster.update("s", IDLE),
    "untrack": lambda roster: roster.untrack("s"),
    "dropped": lambda roster: roster.dropped("s", 5.0),
    "too early": lambda roster: roster.tick(GRACE - 0.01),
    "grace passed": lambda roster: roster.tick(GRACE),
}
JOIN, LEAVE, CHANGE = (ANN_IDLE, []), ([], ANN_IDLE), (ANN_BUSY, ANN_IDLE)
NEVER = math.inf
# What is told, and until when the socket stays.
TABLE: dict[Any, dict[str, tuple[Any, float]]] = {
    absent: {
        "track": (JOIN, NEVER),
        "track busy": ((ANN_BUSY, []), NEVER),
        "update": (None, NEVER),
        "update the same": (None, NEVER),
        "untrack": (None, NEVER),
        "dropped": (None, NEVER),
        "too early": (None, NEVER),
        "grace passed": (None, NEVER),
    },
    present: {
        "track": (None, NEVER),
        "track busy": (CHANGE, NEVER),
        "update": (CHANGE, NEVER),
        "update the same": (None, NEVER),
        "untrack": (LEAVE, NEVER),
        "dropped": (None, 15.0),
        "too early": (None, NEVER),
        "grace passed": (None, NEVER),
    },
    dropped: {
        "track": (None, NEVER),
        "track busy": (CHANGE, NEVER),
        "update": (CHANGE, 10.0),
        "update the same": (None, 10.0),
        "untrack": (LEAVE, NEVER),
        "dropped": (None, 10.0),
        "too early": (None, 10.0),
        "grace passed": (LEAVE, NEVER),
    },
}
CELLS = [(make, name) for make, row in TABLE.items() for name in row]


@pytest.mark.parametrize(("make", "name"), CELLS, ids=lambda part: getattr(part, "__name__", part))
def test_table(make: Any, name: str) -> None:
    """Each input does, in each state of a socket, what the table says."""
    roster = make()
    ACTS[name](roster)
    expected, deadline = TABLE[make][name]
    assert told(roster) == expected
    assert roster.deadline == deadline


def test_nothing_left() -> None:
    """Whoever has left leaves nothing behind."""
    roster = present()
    roster.track("t", "ann", BUSY)
    roster.track("u", "bob", IDLE)
    roster.dropped("u", 1.0)
    roster.untrack("s")
    roster.untrack("t")
    roster.tick(1.0 + GRACE)
    roster.take_diff()
    assert gone(roster)
    assert len(roster) == 0


def test_asking() -> None:
    """A roster says who is there, and with which metas."""
    roster = present()
    roster.track("t", "ann", BUSY)
    assert "ann" in roster
    assert "bob" not in roster
    assert len(roster) == 1
    assert list(roster.metas("ann").values()) == [IDLE, BUSY]
    assert roster.metas("bob") == {}
    assert roster.state() == {"ann": roster.metas("ann")}


def test_another_key() -> None:
    """A socket whose user changes is another user."""
    roster = present()
    roster.track("s", "bob", IDLE)
    found = roster.take_diff()
    assert found is not None
    assert (found.arrived, found.departed) == ({"bob"}, {"ann"})


def test_true_is_not_one() -> None:
    """A change that Python takes for none is one."""
    roster = absent()
    roster.track("s", "ann", {"ready": 1})
    roster.take_diff()
    roster.update("s", {"ready": True})
    assert told(roster) == ([("ann", {"ready": True})], [("ann", {"ready": 1})])


# --- Several tabs, and returns


def test_tabs_are_one_user() -> None:
    """A user arrives with the first meta and departs with the last; each tab is told of."""
    roster = present()
    roster.track("t", "ann", BUSY)
    found = roster.take_diff()
    assert found is not None
    assert (shown(found.joins), found.arrived, found.departed) == (ANN_BUSY, set(), set())
    roster.untrack("s")
    found = roster.take_diff()
    assert found is not None
    assert (shown(found.leaves), found.arrived, found.departed) == (ANN_IDLE, set(), set())
    roster.untrack("t")
    found = roster.take_diff()
    assert found is not None
    assert (shown(found.leaves), found.arrived, found.departed) == (ANN_BUSY, set(), {"ann"})


def test_update_is_no_arrival() -> None:
    """An update is in joins and leaves under different refs, and nobody comes or goes."""
    roster = present()
    roster.update("s", BUSY)
    found = roster.take_diff()
    assert found is not None
    assert found.joins["ann"].keys() != found.leaves["ann"].keys()
    assert (found.arrived, found.departed) == (set(), set())


def test_return_by_another_socket() -> None:
    """Who loads a page again within the grace has never been away, and is not lost later."""
    roster = dropped()
    roster.track("t", "ann", IDLE)
    assert told(roster) is None
    assert roster.deadline == math.inf
    roster.untrack("s")
    assert told(roster) is None
    roster.untrack("t")
    assert told(roster) == LEAVE


def test_return_by_another_socket_with_another_meta() -> None:
    """A return with news is a change."""
    roster = dropped()
    roster.track("t", "ann", BUSY)
    assert told(roster) == CHANGE
    assert roster.deadline == math.inf


def test_return_takes_the_same_meta_first() -> None:
    """Of several that were dropped, the one with the same meta comes back."""
    roster = present()
    roster.track("t", "ann", BUSY)
    roster.dropped("s", 0.0)
    roster.dropped("t", 1.0)
    roster.take_diff()
    roster.track("x", "ann", BUSY)
    assert told(roster) is None
    assert roster.deadline == GRACE
    roster.tick(GRACE)
    assert told(roster) == LEAVE


def test_return_after_being_replaced() -> None:
    """A socket that comes back when another has taken its place is one more."""
    roster = dropped()
    roster.track("t", "ann", IDLE)
    roster.track("s", "ann", IDLE)
    assert told(roster) == JOIN
    assert len(roster.metas("ann")) == 2


def test_others_take_nobodys_place() -> None:
    """Another user, or another tab, is no return."""
    roster = dropped()
    roster.track("t", "bob", IDLE)
    assert told(roster) == ([("bob", IDLE)], [])
    roster = present()
    roster.track("t", "ann", IDLE)
    assert told(roster) == JOIN


def test_grace_one_by_one() -> None:
    """Each who was lost has a grace of its own."""
    roster = present()
    roster.track("t", "bob", IDLE)
    roster.dropped("t", 1.0)
    roster.dropped("s", 2.0)
    roster.take_diff()
    assert roster.deadline == 11.0
    roster.tick(11.5)
    assert told(roster) == ([], [("bob", IDLE)])
    assert roster.deadline == 12.0


def test_no_grace() -> None:
    """Without a grace who is lost leaves with the next tick."""
    roster = new_roster(grace=0.0)
    roster.track("s", "ann", IDLE)
    roster.dropped("s", 5.0)
    assert roster.deadline == 5.0
    roster.tick(5.0)
    assert gone(roster)


# --- Diffs


def test_came_and_went() -> None:
    """Who came and went between two diffs is not told of."""
    roster = absent()
    roster.track("s", "ann", IDLE)
    roster.untrack("s")
    assert roster.take_diff() is None
    assert roster.take_delta() is None


def test_went_and_came() -> None:
    """Who went and came between two diffs has changed, and neither arrived nor departed."""
    roster = present()
    roster.untrack("s")
    roster.track("s", "ann", BUSY)
    found = roster.take_diff()
    assert found is not None
    assert (shown(found.joins), shown(found.leaves)) == CHANGE
    assert (found.arrived, found.departed) == (set(), set())


METAS = st.dictionaries(st.sampled_from("rst"), st.just(IDLE), min_size=1)
STATES = st.dictionaries(st.sampled_from(["ann", "bob", "cy"]), METAS)


@given(before=STATES, after=STATES)
def test_diff(before: State, after: State) -> None:
    """A diff names what is in one state and not in the other."""

    def pairs(state: State) -> set[tuple[str, str]]:
        return {(key, ref) for key, metas in state.items() for ref in metas}

    found = diff(before, after)
    assert pairs(found.joins) == pairs(after) - pairs(before)
    assert pairs(found.leaves) == pairs(before) - pairs(after)
    assert found.arrived == after.keys() - before.keys()
    assert found.departed == before.keys() - after.keys()
    assert bool(found) == (before != after)
    assert all(found.joins.values())
    assert all(found.leaves.values())


# --- Other nodes


def view(node: str, incarnation: int, version: int, *keys: str) -> View:
    """What a node says: its users are known by their keys."""
    entries = {f"{node}:{incarnation}:{key}": Entry(key, IDLE) for key in keys}
    return View(node, incarnation, version, entries)


def delta(node: str, incarnation: int, since: int, version: int, *keys: str) -> Delta:
    added = view(node, incarnation, version, *keys).entries
    return Delta(node, incarnation, since, version, added, ())


def users(roster: Roster) -> list[str]:
    return sorted(roster.state())


def test_unknown_view() -> None:
    """What an unknown node says is believed."""
    roster = absent()
    roster.merge(view("m", 1, 3, "ann", "bob"))
    assert users(roster) == ["ann", "bob"]
    found = roster.take_diff()
    assert found is not None
    assert found.arrived == {"ann", "bob"}


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        (view("m", 1, 4, "bob"), ["bob"]),
        (view("m", 1, 3, "bob"), ["ann"]),
        (view("m", 1, 2, "bob"), ["ann"]),
        (view("m", 2, 0, "bob"), ["bob"]),
        (view("m", 0, 9, "bob"), ["ann"]),
        (view("k", 1, 1, "bob"), ["ann", "bob"]),
        (view("n", 1, 9, "bob"), ["ann"]),
        (view("n", 2, 9, "bob"), ["ann"]),
    ],
    ids=["newer", "same", "older", "next start", "last start", "another", "ours", "our next"],
)
def test_known_view(later: View, expected: list[str]) -> None:
    """The word with the higher number counts, and nobody else speaks for us."""
    roster = absent()
    roster.merge(view("m", 1, 3, "ann"))
    roster.merge(later)
    assert users(roster) == expected


@pytest.mark.parametrize(
    ("later", "is_known", "expected"),
    [
        (delta("m", 1, 3, 4, "bob"), True, ["ann", "bob"]),
        (delta("m", 1, 2, 4, "bob"), True, ["ann", "bob"]),
        (delta("m", 1, 4, 5, "bob"), False, ["ann"]),
        (delta("m", 1, 2, 3, "bob"), True, ["ann"]),
        (delta("m", 2, 0, 1, "bob"), True, ["bob"]),
        (delta("m", 2, 1, 2, "bob"), False, ["ann"]),
        (delta("m", 0, 0, 9, "bob"), True, ["ann"]),
        (delta("k", 1, 0, 1, "bob"), True, ["ann", "bob"]),
        (delta("k", 1, 1, 2, "bob"), False, ["ann"]),
        (delta("n", 1, 5, 6, "bob"), True, ["ann"]),
    ],
    ids=[
        "next",
        "overlapping",
        "gap",
        "old",
        "next start",
        "gap in the next start",
        "last start",
        "another",
        "gap of another",
        "ours",
    ],
)
def test_delta(later: Delta, is_known: bool, expected: list[str]) -> None:
    """A delta counts if nothing before it was missed, and says if something was."""
    roster = absent()
    roster.merge(view("m", 1, 3, "ann"))
    assert roster.apply(later) is is_known
    assert users(roster) == expected


def test_node_down() -> None:
    """Whoever was on a dead node leaves at once, other tabs stay."""
    roster = present()
    roster.merge(view("m", 1, 3, "ann", "bob"))
    roster.take_diff()
    roster.node_down("m", 1)
    found = roster.take_diff()
    assert found is not None
    assert sorted(found.leaves) == ["ann", "bob"]
    assert found.departed == {"bob"}
    assert users(roster) == ["ann"]


@pytest.mark.parametrize("is_known", [False, True])
def test_down_is_down(is_known: bool) -> None:
    """Late words of a dead node bring nobody back; those of its next start count."""
    roster = absent()
    if is_known:
        roster.merge(view("m", 2, 3, "ann"))
    roster.node_down("m", 2)
    roster.node_down("m", 1)
    roster.merge(view("m", 2, 9, "ann"))
    assert roster.apply(delta("m", 2, 3, 4, "ann")) is True
    assert users(roster) == []
    assert roster.apply(delta("m", 3, 0, 1, "bob")) is True
    assert users(roster) == ["bob"]


def test_an_earlier_start_is_down() -> None:
    """That an earlier start of a node is dead is no news of the present one."""
    roster = absent()
    roster.merge(view("m", 2, 3, "ann"))
    roster.node_down("m", 1)
    assert users(roster) == ["ann"]


def test_we_are_not_down() -> None:
    """Whoever takes us for dead does not make us so."""
    roster = present()
    roster.node_down("n", 9)
    assert users(roster) == ["ann"]


def test_max_down() -> None:
    """Only the latest of the dead are remembered."""
    roster = absent()
    for number in range(MAX_DOWN):
        roster.node_down(f"m{number}", 1)
    roster.node_down("m0", 1)
    roster.node_down("another", 1)
    roster.merge(view("m0", 1, 1, "ann"))
    roster.merge(view("m1", 1, 1, "bob"))
    roster.merge(view("m2", 1, 1, "cy"))
    assert users(roster) == ["bob"]


def test_one_at_a_time() -> None:
    """A delta leads from the last one to now, and says nothing twice."""
    roster = absent()
    roster.track("s", "ann", IDLE)
    first = roster.take_delta()
    assert first is not None
    assert (first.node, first.incarnation, first.since) == ("n", 1, 0)
    assert [entry.key for entry in first.added.values()] == ["ann"]
    assert roster.take_delta() is None
    roster.untrack("s")
    second = roster.take_delta()
    assert second is not None
    assert (second.since, second.added) == (first.version, {})
    assert second.removed == tuple(first.added)


def test_seen_in_a_view() -> None:
    """Who came and went between two deltas, but was seen in a view, is taken back."""
    roster, other = absent(), new_roster("m")
    roster.track("s", "ann", IDLE)
    other.merge(roster.view())
    roster.untrack("s")
    found = roster.take_delta()
    assert found is not None
    assert other.apply(found)
    assert users(other) == []


def test_heard_in_a_view_and_a_delta() -> None:
    """Who was seen in a view does not join again with the delta that says the same."""
    roster, other = absent(), new_roster("m")
    roster.track("s", "ann", IDLE)
    other.merge(roster.view())
    assert told(other) == JOIN
    roster.track("t", "bob", IDLE)
    found = roster.take_delta()
    assert found is not None
    assert other.apply(found)
    assert told(other) == ([("bob", IDLE)], [])


def test_knows() -> None:
    """A node can tell whether it has missed a word."""
    roster = absent()
    roster.merge(view("m", 2, 3))
    assert roster.knows("m", 2, 3)
    assert roster.knows("m", 1, 9)
    assert not roster.knows("m", 2, 4)
    assert not roster.knows("m", 3, 0)
    assert not roster.knows("k", 0, 0)


# --- A socket on two nodes


def moved(roster: Roster, moves: int, *, node: str = "m", key: str = "ann") -> Delta:
    """A node that says that socket s is on it."""
    entry = Entry(key, IDLE, "s", moves)
    return Delta(node, 1, 0, 1, {f"{node}:1:1": entry}, ())


def test_back_elsewhere() -> None:
    """A socket that is back on another node is shown once: there."""
    roster = absent()
    roster.apply(moved(roster, 0, node="k"))
    assert told(roster) == JOIN
    roster.apply(moved(roster, 1))
    found = roster.take_diff()
    assert found is not None
    assert [*found.joins["ann"]] == ["m:1:1"]
    assert [*found.leaves["ann"]] == ["k:1:1"]
    assert (found.arrived, found.departed) == (set(), set())
    roster.node_down("k", 1)
    assert told(roster) is None
    roster.node_down("m", 1)
    assert told(roster) == LEAVE
    assert gone(roster)


def test_where_it_was_is_heard_of_late() -> None:
    """An older entry of a socket is never shown beside a newer one, and is while there is none."""
    roster = absent()
    roster.apply(moved(roster, 1))
    roster.take_diff()
    roster.apply(moved(roster, 0, node="k"))
    assert told(roster) is None
    roster.node_down("m", 1)
    found = roster.take_diff()
    assert found is not None
    assert [*roster.state()["ann"]] == ["k:1:1"]
    assert found.departed == set()


@pytest.mark.parametrize("is_heard_first", [True, False])
def test_lost_here_and_back_elsewhere(is_heard_first: bool) -> None:
    """A socket that was lost here and is back elsewhere is not waited for, so that it can leave."""
    roster = present()
    if is_heard_first:
        roster.apply(moved(roster, 1))
        roster.dropped("s", 0.0)
    else:
        roster.dropped("s", 0.0)
        roster.apply(moved(roster, 1))
    found = roster.take_delta()
    assert found is not None
    assert len(found.removed) == 1
    assert roster.deadline == math.inf
    roster.node_down("m", 1)
    assert users(roster) == []


def test_still_here_is_not_given_up() -> None:
    """A socket that is connected here stays, whatever others say."""
    roster = present()
    roster.apply(moved(roster, 1))
    assert roster.take_delta() is None
    roster.node_down("m", 1)
    assert users(roster) == ["ann"]


def test_back_here() -> None:
    """A socket that is back with more moves is newer than what others say of it."""
    roster = absent()
    roster.apply(moved(roster, 1))
    roster.take_diff()
    roster.track("s", "ann", IDLE, 2)
    assert [ref.partition(":")[0] for ref in roster.state()["ann"]] == ["n"]


def test_place_that_another_socket_took() -> None:
    """The others learn, unseen, whose a meta is that another socket took over, and may lose it."""
    roster, other = dropped(), new_roster("m")
    other.merge(roster.view())
    other.take_diff()
    roster.track("t", "ann", IDLE)
    for socket, is_newer in (("s", False), ("t", True)):
        hearing = new_roster("k")
        hearing.merge(roster.view())
        hearing.merge(View("x", 1, 1, {"x:1:1": Entry("ann", IDLE, socket, 1)}))
        assert len(hearing.metas("ann")) == (1 if is_newer else 2)
    found = roster.take_delta()
    assert found is not None
    assert other.apply(found)
    assert told(other) is None
    roster.untrack("t")
    found = roster.take_delta()
    assert found is not None
    assert other.apply(found)
    assert told(other) == LEAVE


def test_relabelled_and_gone() -> None:
    """A meta whose socket changed and left between two deltas is taken back."""
    roster, other = dropped(), new_roster("m")
    other.merge(roster.view())
    roster.track("t", "ann", IDLE)
    roster.untrack("t")
    found = roster.take_delta()
    assert found is not None
    assert other.apply(found)
    assert users(other) == []


def test_another_name() -> None:
    """A node that was taken for dead, and has another name, is heard again."""
    roster, other = present(), new_roster("m")
    roster.track("t", "bob", IDLE)
    roster.dropped("t", 0.0)
    other.merge(roster.view())
    other.node_down("n", 1)
    other.take_diff()
    roster.rename("n2")
    found = roster.take_delta()
    assert found is not None
    assert other.apply(found)
    assert users(other) == ["ann", "bob"]
    assert roster.deadline == GRACE


def test_nobody() -> None:
    """Who was on a node that does not keep the room any more is gone; what it says later counts."""
    roster = absent()
    roster.merge(view("m", 1, 5, "ann"))
    roster.nobody("m")
    roster.nobody("k")
    assert users(roster) == []
    assert roster.apply(delta("m", 2, 0, 1, "bob"))
    assert users(roster) == ["bob"]


# --- The laws of merging

Word = View | tuple[str, int]


@st.composite
def words(draw: st.DrawFn) -> list[Word]:
    """What nodes said at different times, and who was declared dead."""
    found: list[Word] = []
    for node, incarnation in itertools.product("ab", (1, 2)):
        for version in range(draw(st.integers(0, 3))):
            keys = draw(st.lists(st.sampled_from(["ann", "bob", "cy"]), unique=True))
            moves = draw(st.integers(0, 2))  # the same sockets, on all nodes
            ref = f"{node}:{incarnation}:{version}"
            entries = {f"{ref}:{key}": Entry(key, IDLE, key, moves) for key in keys}
            found.append(View(node, incarnation, version, entries))
        if draw(st.booleans()):
            found.append((node, incarnation))
    return found


def hear(roster: Roster, heard: Sequence[Word]) -> Roster:
    for word in heard:
        if isinstance(word, View):
            roster.merge(word)
        else:
            roster.node_down(*word)
    return roster


@given(data=st.data(), said=words())
def test_merge_is_commutative_and_associative(data: st.DataObject, said: list[Word]) -> None:
    """Whatever the order in which words come, who is there is the same in the end."""
    one = hear(absent(), said)
    other = hear(absent(), data.draw(st.permutations(said)))
    assert one.state() == other.state()


@given(said=words(), data=st.data())
def test_merge_is_idempotent(said: list[Word], data: st.DataObject) -> None:
    """A word that is heard again changes nothing."""
    roster = hear(absent(), said)
    before = roster.state()
    roster.take_diff()
    hear(roster, data.draw(st.lists(st.sampled_from(said)) if said else st.just([])))
    assert roster.state() == before
    assert roster.take_diff() is None


# --- Against a model

NODES = ["a", "b", "c"]
SOCKETS = ["s", "t", "u"]
KEYS = ["ann", "bob"]


class RosterModel(RuleBasedStateMachine):
    """Three nodes over a network that loses, doubles and reorders what they say.

    The model knows who is on each node, and what each node has said at which version.
    """

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.incarnations = dict.fromkeys(NODES, 0)
        self.rosters: dict[str, Roster] = {}
        self.there: dict[str, dict[str, tuple[str, int, float | None]]] = {}
        self.places: dict[
            str, tuple[str, int]
        ] = {}  # where a socket was last, after how many moves
        self.moves_on: dict[str, dict[str, int]] = {}
        self.members: dict[str, State] = {}  # what the members of each node were told
        self.wire: list[tuple[str, View | Delta]] = []
        self.history: dict[tuple[str, int, int], set[str]] = {}
        for node in NODES:
            self.begin_node(node)

    def begin_node(self, node: str) -> None:
        self.incarnations[node] += 1
        self.rosters[node] = new_roster(node, self.incarnations[node])
        self.there[node] = {}
        self.moves_on.setdefault(node, {})
        self.members[node] = {}
        self.note(node)

    def note(self, node: str) -> None:
        """What a node knows of its own now goes down in history."""
        own = self.rosters[node]._own
        self.history[node, own.incarnation, own.version] = set(own.entries)

    @rule(
        node=st.sampled_from(NODES),
        socket=st.sampled_from(SOCKETS),
        key=st.sampled_from(KEYS),
        number=st.integers(0, 1),
    )
    def track(self, node: str, socket: str, key: str, number: int) -> None:
        there = self.there[node]
        if socket not in there:  # another one's place is taken, if that was lost
            lost = [s for s, (k, _, until) in there.items() if k == key and until is not None]
            same = [s for s in lost if there[s][1] == number]
            refs = list(self.rosters[node].metas(key))
            lost.sort(key=lambda s: refs.index(self.rosters[node]._refs[s]))
            same.sort(key=lambda s: refs.index(self.rosters[node]._refs[s]))
            for other in (same or lost)[:1]:
                del there[other]
        there[socket] = (key, number, None)
        before, moves = self.places.get(socket, (node, 0))
        self.places[socket] = node, moves + (before != node)
        self.moves_on[node][socket] = self.places[socket][1]
        self.rosters[node].track(socket, key, {"number": number}, self.places[socket][1])
        self.note(node)

    def give_up_overtaken(self, node: str) -> None:
        """Who was lost here, and is known to be on another node, is not waited for here."""
        views = self.rosters[node]._views.values()
        newest = {
            socket: max(
                (e.moves for known in views for e in known.entries.values() if e.socket == socket),
                default=-1,
            )
            for socket in SOCKETS
        }
        for socket, (_, _, until) in list(self.there[node].items()):
            if until is not None and newest[socket] > self.moves_on[node][socket]:
                del self.there[node][socket]
        self.note(node)

    @rule(node=st.sampled_from(NODES), socket=st.sampled_from(SOCKETS), number=st.integers(0, 1))
    def update(self, node: str, socket: str, number: int) -> None:
        if socket in self.there[node]:
            key, _, until = self.there[node][socket]
            self.there[node][socket] = (key, number, until)
        self.rosters[node].update(socket, {"number": number})
        self.note(node)

    @rule(node=st.sampled_from(NODES), socket=st.sampled_from(SOCKETS))
    def untrack(self, node: str, socket: str) -> None:
        self.there[node].pop(socket, None)
        self.rosters[node].untrack(socket)
        self.note(node)

    @rule(node=st.sampled_from(NODES), socket=st.sampled_from(SOCKETS))
    def dropped(self, node: str, socket: str) -> None:
        if socket in self.there[node]:
            key, number, until = self.there[node][socket]
            until = self.now + GRACE if until is None else until
            self.there[node][socket] = (key, number, until)
        self.rosters[node].dropped(socket, self.now)
        self.give_up_overtaken(node)

    @rule(seconds=st.sampled_from([0.0, 1.0, GRACE / 2, GRACE]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for node in NODES:
            self.rosters[node].tick(self.now)
            self.there[node] = {
                socket: (key, number, until)
                for socket, (key, number, until) in self.there[node].items()
                if until is None or until > self.now
            }
            self.note(node)

    @rule(node=st.sampled_from(NODES), is_view=st.booleans())
    def say(self, node: str, is_view: bool) -> None:
        roster = self.rosters[node]
        word = roster.view() if is_view else roster.take_delta()
        if word is not None:
            self.wire.extend((other, word) for other in NODES if other != node)

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), is_doubled=st.booleans(), is_lost=st.booleans())
    def deliver(self, data: st.DataObject, is_doubled: bool, is_lost: bool) -> None:
        number = data.draw(st.integers(0, len(self.wire) - 1))
        to, word = self.wire[number] if is_doubled else self.wire.pop(number)
        if is_lost:
            return
        if isinstance(word, View):
            self.rosters[to].merge(word)
        elif not self.rosters[to].apply(word):
            self.rosters[to].merge(self.rosters[word.node].view())
        self.give_up_overtaken(to)

    @rule(node=st.sampled_from(NODES))
    def fall_and_rise(self, node: str) -> None:
        for other in NODES:
            if other != node:
                self.rosters[other].node_down(node, self.incarnations[node])
                assert not [
                    ref for ref in refs_of(self.rosters[other].state()) if ref.startswith(node)
                ]
        self.begin_node(node)

    @rule(node=st.sampled_from(NODES))
    def members_are_told(self, node: str) -> None:
        roster = self.rosters[node]
        state = roster.state()
        expected = diff(self.members[node], state)
        found = roster.take_diff() or PresenceDiff({}, {}, frozenset(), frozenset())
        assert found == expected
        self.members[node] = state
        assert roster.take_diff() is None

    @invariant()
    def knows_its_own(self) -> None:
        for node, roster in self.rosters.items():
            own = sorted((e.key, e.meta["number"]) for e in roster._own.entries.values())
            assert own == sorted((key, number) for key, number, _ in self.there[node].values())
            times = [until for _, _, until in self.there[node].values() if until is not None]
            assert roster.deadline == min(times, default=math.inf)
            assert roster._sockets.keys() == roster._own.entries.keys()
            assert {ref: socket for socket, ref in roster._refs.items()} == roster._sockets

    @invariant()
    def knows_of_others_what_they_said(self) -> None:
        for roster in self.rosters.values():
            for node, known in roster._views.items():
                assert set(known.entries) == self.history[node, *known.number]

    def teardown(self) -> None:
        """In the end every node says all it knows, and all agree."""
        if not hasattr(self, "rosters"):
            return
        for _ in range(2):  # the first time some learn that a socket is not theirs any more
            for one, other in itertools.permutations(NODES, 2):
                self.rosters[one].merge(self.rosters[other].view())
                self.give_up_overtaken(one)
        states = [roster.state() for roster in self.rosters.values()]
        assert states[0] == states[1] == states[2]
        newest: dict[str, tuple[int, str, int]] = {}
        for node, there_too in self.there.items():
            for socket, (key, number, _) in there_too.items():
                entry = (self.moves_on[node][socket], key, number)
                newest[socket] = max(newest.get(socket, entry), entry)
        there = sorted((key, number) for _, key, number in newest.values())
        assert sorted((key, meta["number"]) for key, meta in shown(states[0])) == there


def refs_of(state: State) -> list[str]:
    return [ref for metas in state.values() for ref in metas]


TestRosterModel = RosterModel.TestCase
