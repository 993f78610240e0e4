"""When a session was in which rooms: case by case, and against a list of all that happened."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_rt.codec.envelope import Envelope
from trio_rt.codec.position import START, Position
from trio_rt.codec.socketio import Encoded
from trio_rt.machine.membership import MAX_LEFT, Membership, Stay


def at(sequence: int) -> Position:
    """A place in the order."""
    return Position(1, sequence)


def event(sequence: int, *rooms: str, excepted: tuple[str, ...] = ()) -> Envelope:
    """An event with its place."""
    return Envelope("/", rooms, excepted, Encoded(b""), position=at(sequence))


def meant(membership: Membership, room: str) -> list[int]:
    """The places at which an event for a room would have been for this session, of the first 9."""
    return [n for n in range(1, 10) if membership.was_meant(event(n, room))]


def test_join() -> None:
    """Who joins a room is in it, and what comes behind that position is meant."""
    session = Membership("me", at(2))
    session.join("a", at(4))
    assert "a" in session
    assert (len(session), session.rooms) == (1, {"a"})
    assert meant(session, "a") == [5, 6, 7, 8, 9]
    assert meant(session, "b") == []


def test_join_twice() -> None:
    """Who joins again has been in the room since the first time."""
    session = Membership("me")
    session.join("a", at(4))
    session.join("a", at(6))
    assert meant(session, "a") == [5, 6, 7, 8, 9]


def test_leave() -> None:
    """Who leaves is not in the room, and what came up to that position was meant."""
    session = Membership("me")
    session.join("a", at(4))
    session.leave("a", at(6))
    assert "a" not in session
    assert session.rooms == set()
    assert meant(session, "a") == [5, 6]


def test_leave_where_it_is_not() -> None:
    """Leaving a room that one is not in is nothing."""
    session = Membership("me")
    session.leave("a", at(6))
    session.join("b", at(4))
    session.leave("a", at(6))
    assert session.rooms == {"b"}
    assert meant(session, "a") == []


def test_leave_at_once() -> None:
    """A time in a room in which nothing can have come is not remembered."""
    session = Membership("me")
    session.join("a", at(4))
    session.leave("a", at(4))
    assert list(session.stays(START)) == [Stay("me", START), Stay("", START)]


def test_several_times() -> None:
    """Each time in a room counts."""
    session = Membership("me")
    for since, until in [(1, 3), (5, 7)]:
        session.join("a", at(since))
        session.leave("a", at(until))
    session.join("a", at(8))
    assert meant(session, "a") == [2, 3, 6, 7, 9]


def test_its_own_room_and_everybody() -> None:
    """What is for the socket, or for everybody, is meant from the session's beginning on."""
    session = Membership("me", at(3))
    assert meant(session, "me") == [4, 5, 6, 7, 8, 9]
    assert [n for n in range(6) if session.was_meant(event(n))] == [4, 5]
    assert meant(session, "you") == []


@pytest.mark.parametrize(
    ("excepted", "is_meant"),
    [
        pytest.param(("me",), False, id="itself"),
        pytest.param(("a",), False, id="its room"),
        pytest.param(("left",), False, id="room it left later"),
        pytest.param(("before",), True, id="room it had left"),
        pytest.param(("after",), True, id="room it joined later"),
        pytest.param(("b", "you"), True, id="others"),
    ],
)
@pytest.mark.parametrize("rooms", [(), ("a",), ("b", "a"), ("me",)])
def test_left_out(rooms: tuple[str, ...], excepted: tuple[str, ...], is_meant: bool) -> None:
    """Who was in a room that was left out, when the event was sent, was not meant."""
    session = Membership("me")
    for room in ("a", "left", "before"):
        session.join(room, at(1))
    session.leave("before", at(4))
    session.leave("left", at(5))
    session.join("after", at(5))
    assert session.was_meant(event(5, *rooms, excepted=excepted)) is is_meant


def test_without_a_place() -> None:
    """What has no place in the order is not for those who come back."""
    assert not Membership("me").was_meant(Envelope("/", (), (), Encoded(b"")))


def test_stays() -> None:
    """The times that reach behind a position are told, its own room and everybody first."""
    session = Membership("me", at(1))
    for room in ("a", "b", "c"):
        session.join(room, at(2))
    session.leave("b", at(4))
    session.leave("c", at(6))
    assert list(session.stays(at(4))) == [
        Stay("me", at(1)),
        Stay("", at(1)),
        Stay("a", at(2)),
        Stay("c", at(2), at(6)),
    ]


def test_bounded() -> None:
    """Of the rooms that were left the newest are remembered."""
    session = Membership("me")
    for number in range(MAX_LEFT + 2):
        session.join(f"room {number}", at(number))
        session.leave(f"room {number}", at(number + 1))
    stays = [stay.room for stay in session.stays(START)][2:]
    assert stays == [f"room {number}" for number in range(2, MAX_LEFT + 2)]


@given(
    since=st.integers(0, 5),
    moves=st.lists(st.tuples(st.sampled_from("+-."), st.sampled_from("ab")), max_size=30),
    excepted=st.sampled_from([(), ("a",), ("b",), ("me",)]),
)
def test_as_in_a_diary(since: int, moves: list[tuple[str, str]], excepted: tuple[str, ...]) -> None:
    """Whatever is joined and left, an event is meant for who was there by a diary of it all."""
    session = Membership("me", at(since))
    now, inside = since, set[str]()
    events: list[tuple[Envelope, bool]] = []
    for move, room in moves:
        if move == "+":
            session.join(room, at(now))
            inside.add(room)
        elif move == "-":
            session.leave(room, at(now))
            inside.discard(room)
        else:
            now += 1
            is_meant = room in inside and not {*excepted} & {"me", *inside}
            events.append((event(now, room, excepted=excepted), is_meant))
            assert session.rooms == inside
    for envelope, is_meant in events:
        assert session.was_meant(envelope) is is_meant
