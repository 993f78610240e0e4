"""What is kept for those who come back: case by case, and against a list of everything."""

from typing import Any

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trio_rt.codec.envelope import Envelope
from trio_rt.codec.position import START, Position
from trio_rt.codec.socketio import Encoded
from trio_rt.machine.history import History, HistoryLimits
from trio_rt.machine.membership import Membership

SIZE = Envelope("/", (), (), Encoded(b"x")).size_bytes
"""What the small events of these tests take, each."""


def limits(**changes: Any) -> HistoryLimits:
    """Wide ones, but for the changes."""
    wide = {"max_events": 100, "max_bytes": 10**6, "max_recovered_bytes": 10**6, "seconds": 60.0}
    return HistoryLimits(**{**wide, **changes})


def at(sequence: int) -> Position:
    """A place in the order."""
    return Position(1, sequence)


def event(
    sequence: int, *rooms: str, excepted: tuple[str, ...] = (), text: bytes = b"x", name: str = "/"
) -> Envelope:
    """An event with its place."""
    return Envelope(name, rooms, excepted, Encoded(text), position=at(sequence))


def member(*rooms: str, sid: str = "me", since: int = 0) -> Membership:
    """A session in rooms from its beginning on."""
    membership = Membership(sid, at(since))
    for room in rooms:
        membership.join(room, at(since))
    return membership


def history_of(*rooms: str, **changes: Any) -> History:
    """A history in which somebody needs these rooms, and what goes to everybody."""
    history = History(limits(**changes))
    for room in ("", *rooms):
        history.begin("/", room)
    return history


def sequences(found: list[Envelope] | None) -> list[int] | None:
    """The places of what was found."""
    if found is None:
        return None
    return [envelope.position.sequence for envelope in found if envelope.position is not None]


def missed(history: History, membership: Membership, since: int) -> list[int] | None:
    """The places of what a session has missed that has got everything up to `since`."""
    return sequences(history.missed("/", membership, at(since)))


# What is found


def test_one_room_and_everybody() -> None:
    """What went to a room, to several, to everybody and to the socket alone is found, in order."""
    history = history_of("a", "b", "me")
    for envelope in [
        event(1, "a"),
        event(2, "b"),
        event(3, "b", "a"),
        event(4),
        event(5, "me"),
        event(6, "b", "c"),
        event(7, "a"),
    ]:
        history.append(envelope, 0.0)
    assert missed(history, member("a"), 0) == [1, 3, 4, 5, 7]
    assert missed(history, member("a", "b"), 0) == [1, 2, 3, 4, 5, 6, 7]
    assert missed(history, member("a"), 4) == [5, 7]
    assert missed(history, member("a"), 7) == []


def test_left_out() -> None:
    """Who was left out of an event, by a room or by its own id, does not get it later either."""
    history = history_of("a")
    history.append(event(1, "a", excepted=("me",)), 0.0)
    history.append(event(2, "a", excepted=("b",)), 0.0)
    history.append(event(3, excepted=("me",)), 0.0)
    history.append(event(4, "a"), 0.0)
    assert missed(history, member("a", "b"), 0) == [4]
    assert missed(history, member("a"), 0) == [2, 4]


def test_other_namespaces() -> None:
    """Rooms of the same name in another namespace are others."""
    history = history_of("a")
    history.begin("/other", "a")
    history.append(event(1, "a", name="/other"), 0.0)
    assert missed(history, member("a"), 0) == []
    assert sequences(history.missed("/other", member("a"), START)) == [1]


def test_joined_and_left() -> None:
    """Only what went to a room while the session was in it is found."""
    history = history_of("a")
    session = member()
    history.append(event(1, "a"), 0.0)
    session.join("a", at(1))
    history.append(event(2, "a"), 0.0)
    session.leave("a", at(2))
    history.append(event(3, "a"), 0.0)
    session.join("a", at(3))
    history.append(event(4, "a"), 0.0)
    assert missed(history, session, 0) == [2, 4]
    assert missed(history, session, 2) == [4]


# What is not kept


def test_too_many_in_one_room() -> None:
    """Of each room the newest are kept; who needs one that is not is told so."""
    history = history_of("a", max_events=3)
    for sequence in range(1, 6):
        history.append(event(sequence, "a"), 0.0)
    assert len(history) == 3
    assert missed(history, member("a"), 2) == [3, 4, 5]
    assert missed(history, member("a"), 1) is None


def test_too_many_to_recover() -> None:
    """One session recovers no more events than a room has, from all its rooms together."""
    history = history_of("a", "b", max_events=3)
    for sequence, room in enumerate("abab", 1):
        history.append(event(sequence, room), 0.0)
    assert missed(history, member("a", "b"), 1) == [2, 3, 4]
    assert missed(history, member("a", "b"), 0) is None


@pytest.mark.parametrize(("bytes_", "found"), [(2 * SIZE, [1, 2]), (2 * SIZE - 1, None)])
def test_too_much_to_recover(bytes_: int, found: list[int] | None) -> None:
    """One session recovers no more bytes than it may."""
    history = history_of("a", max_recovered_bytes=bytes_)
    history.append(event(1, "a"), 0.0)
    history.append(event(2, "a"), 0.0)
    assert missed(history, member("a"), 0) == found


def test_counted_once() -> None:
    """Events of a room that the session was in several times are no more for that."""
    history = history_of("a", max_recovered_bytes=2 * SIZE)
    session = member("a")
    history.append(event(1, "a"), 0.0)
    session.leave("a", at(1))
    session.join("a", at(1))
    history.append(event(2, "a"), 0.0)
    assert missed(history, session, 0) == [1, 2]


def test_too_old() -> None:
    """An event that is older than it may be is dropped when the next one comes."""
    history = history_of("a", seconds=10.0)
    history.append(event(1, "a"), 0.0)
    history.append(event(2, "a"), 5.0)
    history.append(event(3, "a"), 11.0)
    assert missed(history, member("a"), 1) == [2, 3]
    assert missed(history, member("a"), 0) is None


def test_too_old_in_a_quiet_room() -> None:
    """In a room where nothing happens any more events are dropped as well, others stay."""
    history = history_of("a", "b", seconds=10.0)
    history.append(event(1, "a"), 0.0)
    history.append(event(2, "b"), 5.0)
    history.expire(10.0)
    assert len(history) == 2
    history.expire(10.1)
    assert len(history) == 1
    assert history.size_bytes == SIZE
    assert missed(history, member("a"), 0) is None
    assert missed(history, member("b"), 0) == [2]


def test_bytes_of_all_rooms() -> None:
    """When there are too many bytes, the rooms give first where nothing happened for longest."""
    history = history_of("a", "b", "c", max_bytes=3 * SIZE)
    for sequence, room in enumerate("abac", 1):
        history.append(event(sequence, room), 0.0)
    assert history.size_bytes == 3 * SIZE
    assert missed(history, member("b"), 0) is None
    assert missed(history, member("a"), 0) == [1, 3]
    assert missed(history, member("c"), 0) == [4]


def test_one_event_above_all_limits() -> None:
    """An event that is larger than all that may be kept is not kept, and takes nothing else on."""
    history = history_of("a", max_bytes=3 * SIZE)
    history.append(event(1, "a", text=b"x" * 10 * SIZE), 0.0)
    assert (len(history), history.size_bytes) == (0, 0)
    assert missed(history, member("a"), 0) is None
    history.append(event(2, "a"), 0.0)
    assert missed(history, member("a"), 1) == [2]


# Who needs it


def test_nobody_needs_it() -> None:
    """What goes to a room without members is not kept."""
    history = history_of()
    history.append(event(1, "a"), 0.0)
    assert len(history) == 0


def test_last_one_leaves() -> None:
    """What is in a room that the last member has left stays for as long as it may."""
    history = history_of("a", seconds=10.0)
    session = member("a")
    history.append(event(1, "a"), 0.0)
    session.leave("a", at(1))
    history.end("/", "a")
    history.append(event(2, "a"), 1.0)
    assert len(history) == 1
    assert missed(history, session, 0) == [1]
    history.expire(20.0)
    assert missed(history, session, 0) is None


def test_forgotten_and_begun_anew() -> None:
    """A room that was forgotten with what was in it, and is there again, hides no hole."""
    history = history_of("a", seconds=10.0)
    session = member("a")
    history.append(event(1, "a"), 0.0)
    session.leave("a", at(1))
    history.end("/", "a")
    history.expire(20.0)
    history.begin("/", "a")
    assert missed(history, session, 0) is None
    assert missed(history, session, 1) == []


@pytest.mark.parametrize("is_back", [False, True], ids=["gone", "back"])
def test_others_come_and_go(is_back: bool) -> None:
    """A session for which there was nothing is not harmed by what was forgotten of others."""
    history = history_of("quiet", seconds=10.0)
    session = member("quiet")
    history.begin("/", "a")
    history.append(event(1, "a"), 0.0)
    history.end("/", "a")
    history.begin("/", "empty")
    history.end("/", "empty")
    history.expire(20.0)
    if is_back:
        history.begin("/", "a")
    assert missed(history, session, 0) == []


def test_left_an_empty_room() -> None:
    """A room that was left, and in which there never was anything, is no reason to give up."""
    history = history_of("a")
    session = member("a")
    session.leave("a", at(5))
    history.end("/", "a")
    history.begin("/", "a")
    assert missed(history, session, 0) == []


# --- Against a model

ROOMS = st.sampled_from(["a", "b", "c"])
SIDS = ["sid0", "sid1", "sid2"]


@attrs.define
class Session:
    """A session, and what the model knows of it."""

    membership: Membership
    times: list[tuple[str, Position, Position | None]] = attrs.field(factory=list)
    """Every room it ever was in, from when to when."""

    def was_in(self, room: str, position: Position) -> bool:
        """Whether it was in a room at a position."""
        return room == self.membership.sid or any(
            name == room and since < position and (until is None or position <= until)
            for name, since, until in self.times
        )

    def was_meant(self, envelope: Envelope) -> bool:
        """Whether an event was for it."""
        position = envelope.position
        assert position is not None
        return (
            position > self.membership.since
            and (not envelope.rooms or any(self.was_in(r, position) for r in envelope.rooms))
            and not any(self.was_in(room, position) for room in envelope.excepted)
        )


class HistoryModel(RuleBasedStateMachine):
    """The model keeps all events for good, and looks which ones the history still has."""

    @initialize(
        max_events=st.integers(1, 6),
        max_bytes=st.integers(1, 20),
        recovered=st.integers(1, 10),
        seconds=st.integers(1, 5),
    )
    def start(self, max_events: int, max_bytes: int, recovered: int, seconds: int) -> None:
        self.limits = HistoryLimits(max_events, max_bytes * SIZE, recovered * SIZE, float(seconds))
        self.history = History(self.limits)
        self.now = 0.0
        self.last = START
        self.all: list[Envelope] = []
        self.needed: set[Position] = set()  # kept at first, for whoever was there
        self.sessions: dict[str, Session] = {}

    @rule(sid=st.sampled_from(SIDS))
    def come(self, sid: str) -> None:
        if sid not in self.sessions:
            self.sessions[sid] = Session(Membership(sid, self.last))
            self.history.begin("/", "")
            self.history.begin("/", sid)

    @rule(sid=st.sampled_from(SIDS))
    def go(self, sid: str) -> None:
        session = self.sessions.pop(sid, None)
        if session is not None:
            for room in session.membership.rooms:
                self.history.end("/", room)
            self.history.end("/", "")
            self.history.end("/", sid)

    @rule(sid=st.sampled_from(SIDS), room=ROOMS)
    def join(self, sid: str, room: str) -> None:
        session = self.sessions.get(sid)
        if session is not None and room not in session.membership:
            self.history.begin("/", room)
            session.membership.join(room, self.last)
            session.times.append((room, self.last, None))

    @rule(sid=st.sampled_from(SIDS), room=ROOMS)
    def leave(self, sid: str, room: str) -> None:
        session = self.sessions.get(sid)
        if session is not None and room in session.membership:
            session.membership.leave(room, self.last)
            self.history.end("/", room)
            session.times = [
                (name, since, self.last if (name, until) == (room, None) else until)
                for name, since, until in session.times
            ]

    @rule(
        rooms=st.lists(ROOMS | st.sampled_from(SIDS), max_size=2, unique=True),
        excepted=st.lists(ROOMS | st.sampled_from(SIDS), max_size=1),
        size=st.integers(0, 3),
    )
    def publish(self, rooms: list[str], excepted: list[str], size: int) -> None:
        self.last = Position(self.last.time_ms, self.last.sequence + 1)
        text = b"x" * (1 + size * SIZE)
        envelope = Envelope("/", tuple(rooms), tuple(excepted), Encoded(text), position=self.last)
        self.all.append(envelope)
        members = {room for s in self.sessions.values() for room in s.membership.rooms}
        if self.sessions if len(rooms) != 1 else rooms[0] in members | set(self.sessions):
            self.needed.add(self.last)
        self.history.append(envelope, self.now)

    @rule(seconds=st.integers(1, 3))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def expire(self) -> None:
        self.history.expire(self.now)

    @invariant()
    def is_bounded(self) -> None:
        kept = self.kept()
        assert len(self.history) == sum(map(len, kept.values()))
        assert self.history.size_bytes == sum(e.size_bytes for log in kept.values() for _, e in log)
        assert self.history.size_bytes <= self.limits.max_bytes
        for log in kept.values():
            assert len(log) <= self.limits.max_events
        members = {room for s in self.sessions.values() for room in s.membership.rooms}
        for (_, room), log in kept.items():
            assert log or room in members | set(self.sessions) | {""}, "an empty log of nobody's"

    @rule(sid=st.sampled_from(SIDS), back=st.integers(0, 8))
    def ask(self, sid: str, back: int) -> None:
        session = self.sessions.get(sid)
        if session is not None:
            since = Position(self.last.time_ms, max(0, self.last.sequence - back))
            self.check(session, max(since, session.membership.since))

    def teardown(self) -> None:
        for sid in SIDS if hasattr(self, "sessions") else ():
            for back in range(10):
                self.ask(sid, back)

    def check(self, session: Session, since: Position) -> None:
        behind = [e for e in self.all if e.position is not None and e.position > since]
        expected = [envelope for envelope in behind if session.was_meant(envelope)]
        found = self.history.missed("/", session.membership, since)
        if found is not None:
            assert found == expected
            return
        size = sum(envelope.size_bytes for envelope in expected)
        is_too_much = (
            len(expected) > self.limits.max_events or size > self.limits.max_recovered_bytes
        )
        assert is_too_much or self.is_something_gone(session, behind), expected

    def is_something_gone(self, session: Session, behind: list[Envelope]) -> bool:
        """Whether something that somebody needed was dropped from the logs that the session looks
        at; for one that has left rooms, from any log."""
        looks_at = {"", session.membership.sid, *(room for room, _, _ in session.times)}
        has_left = any(until is not None for _, _, until in session.times)
        kept = {e.position for log in self.kept().values() for _, e in log}
        return any(
            envelope.position in self.needed - kept
            and (has_left or (envelope.rooms[0] if len(envelope.rooms) == 1 else "") in looks_at)
            for envelope in behind
        )

    def kept(self) -> dict[tuple[str, str], list[tuple[float, Envelope]]]:
        return {key: list(log.events) for key, log in self.history._logs.items()}


TestHistoryModel = HistoryModel.TestCase
