"""A lobby: cell by cell, each rule, and up to eight people against a naive model."""

import json
import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trio_rt.machine.lobby import Lobby
from trio_rt.machine.lobby_effects import (
    ALREADY_HERE,
    BAD_INVITE,
    BANNED,
    FULL,
    NOT_ENOUGH,
    NOT_HERE,
    NOT_HOST,
    NOT_YOURSELF,
    TOO_MANY_INVITES,
    Held,
    HostChanged,
    Invited,
    LobbyEffect,
    Phase,
    PhaseChanged,
    ReadyChanged,
    Refused,
    Reserved,
    Returned,
    Rules,
    Seated,
    SeatFreed,
    StoppedWatching,
    Watching,
    Why,
    wrong_phase,
)

OPEN, COUNTDOWN, PLAYING, ENDED, CLOSED = Phase
HOLD, HOST_GRACE, RESERVATION, COUNT, LINGER, REMATCH, INVITE = 30, 10, 20, 3, 60, 120, 600


def rules(**changes: Any) -> Rules:
    options: dict[str, Any] = {
        "seats": 3,
        "at_least": 2,
        "hold": HOLD,
        "host_grace": HOST_GRACE,
        "reservation": RESERVATION,
        "countdown": COUNT,
        "linger": LINGER,
        "rematch": REMATCH,
        "invite": INVITE,
    }
    return Rules(**{**options, **changes})


def new_lobby(*players: str, **changes: Any) -> Lobby:
    """A lobby with these players, opened at 0."""
    lobby = Lobby(rules(**changes), 0.0)
    for player in players:
        lobby.join(player, 0.0)
    return lobby


def opened() -> Lobby:
    """With two players, of whom the second is ready."""
    lobby = new_lobby("ann", "bob")
    lobby.ready("bob", 0.0)
    return lobby


def counting() -> Lobby:
    """Starting at 3."""
    lobby = opened()
    lobby.ready("ann", 0.0)
    return lobby


def playing() -> Lobby:
    lobby = opened()
    lobby.start("ann", 0.0)
    return lobby


def ended() -> Lobby:
    """Closing at 120."""
    lobby = playing()
    lobby.end("ann", 0.0)
    return lobby


def closed() -> Lobby:
    """Somebody watched, too, and somebody was expected."""
    lobby = new_lobby("ann", "bob")
    lobby.watch("eve", 0.0)
    lobby.reserve("fay", 0.0)
    lobby.close(0.0)
    return lobby


STATES: dict[Callable[[], Lobby], Phase] = {
    opened: OPEN,
    counting: COUNTDOWN,
    playing: PLAYING,
    ended: ENDED,
    closed: CLOSED,
}


@pytest.mark.parametrize("make", STATES, ids=lambda make: make.__name__)
def test_phases(make: Callable[[], Lobby]) -> None:
    """Each phase is reached, and ends at its time if it has one."""
    lobby = make()
    phase = STATES[make]
    assert lobby.phase is phase
    assert lobby.deadline == {COUNTDOWN: COUNT, ENDED: REMATCH}.get(phase, math.inf)


# --- The table: what each phase makes of each input. A cell that is None is refused.

INPUTS: dict[str, Callable[[Lobby, float], list[LobbyEffect]]] = {
    "ready": lambda lobby, now: lobby.ready("ann", now),
    "unready": lambda lobby, now: lobby.unready("bob", now),
    "join": lambda lobby, now: lobby.join("cy", now),
    "watch": lambda lobby, now: lobby.watch("cy", now),
    "leave": lambda lobby, now: lobby.leave("bob", now),
    "dropped": lambda lobby, now: lobby.dropped("bob", now),
    "reserve": lambda lobby, now: lobby.reserve("cy", now),
    "invite": lambda lobby, now: lobby.invite("ann", "x", now),
    "kick": lambda lobby, now: lobby.kick("ann", "bob", now),
    "start": lambda lobby, now: lobby.start("ann", now),
    "end": lambda lobby, now: lobby.end("ann", now),
    "rematch": lambda lobby, now: lobby.rematch("ann", now),
    "ready check": lambda lobby, now: lobby.ready_check(3, now),
    "close": lambda lobby, now: lobby.close(now),
    "its time": lambda lobby, now: lobby.tick(min(lobby.deadline, 1e9)),
}
BEGUN = [PhaseChanged(PLAYING)]
STOPPED = PhaseChanged(OPEN)
FREED, KICKED = SeatFreed("bob", Why.LEFT), SeatFreed("bob", Why.KICKED)
HELD = Held("bob", 1.0 + HOLD)
TABLE: dict[str, list[Any]] = {
    # input: OPEN, COUNTDOWN, PLAYING, ENDED, CLOSED
    "ready": [
        [ReadyChanged("ann", True), PhaseChanged(COUNTDOWN, 1.0 + COUNT)],
        [],
        None,
        None,
        None,
    ],
    "unready": [
        [ReadyChanged("bob", False)],
        [ReadyChanged("bob", False), STOPPED],
        None,
        None,
        None,
    ],
    "join": [[Seated("cy")], [Seated("cy"), STOPPED], None, [Seated("cy")], None],
    "watch": [*[[Watching("cy")]] * 4, None],
    "leave": [[FREED], [STOPPED, FREED], [FREED], [FREED], None],
    "dropped": [
        [ReadyChanged("bob", False), HELD],
        [ReadyChanged("bob", False), HELD, STOPPED],
        [HELD],
        [HELD],
        [],
    ],
    "reserve": [
        [Reserved("cy", 1.0 + RESERVATION)],
        [Reserved("cy", 1.0 + RESERVATION), STOPPED],
        None,
        [Reserved("cy", 1.0 + RESERVATION)],
        None,
    ],
    "invite": [*[[Invited("x", 1.0 + INVITE)]] * 4, None],
    "kick": [[KICKED], [STOPPED, KICKED], [KICKED], [KICKED], None],
    "start": [BEGUN, BEGUN, None, None, None],
    "end": [None, None, [PhaseChanged(ENDED, 1.0 + REMATCH)], None, None],
    "rematch": [None, None, None, [STOPPED], None],
    "ready check": [[], [STOPPED], None, None, None],
    "close": [*[[PhaseChanged(CLOSED)]] * 4, []],
    "its time": [[], BEGUN, [], [PhaseChanged(CLOSED)], []],
}
CELLS = [(make, name) for name in TABLE for make in STATES]


@pytest.mark.parametrize(("make", "name"), CELLS, ids=lambda part: getattr(part, "__name__", part))
def test_table(make: Callable[[], Lobby], name: str) -> None:
    """Each input does, in each phase, what the table says, and a refusal changes nothing."""
    lobby = make()
    expected = TABLE[name][list(STATES).index(make)]
    before = snapshot(lobby)
    effects = INPUTS[name](lobby, 1.0)
    if expected is None:
        [refusal] = effects
        assert isinstance(refusal, Refused)
        assert snapshot(lobby) == before
    else:
        assert effects == expected


MORE_INPUTS = {
    **INPUTS,
    "returned": lambda lobby, now: lobby.returned("bob", now),
    "hold": lambda lobby, now: lobby.hold("dan", 5.0, now),
}


@pytest.mark.parametrize("name", MORE_INPUTS)
def test_each_input_lets_time_pass_first(name: str) -> None:
    """What comes late means what it means then: the game has begun meanwhile."""
    act = MORE_INPUTS[name]
    on_time, late = counting(), counting()
    assert on_time.tick(COUNT) == BEGUN
    assert act(late, 100.0) == [*BEGUN, *act(on_time, 100.0)]


def snapshot(lobby: Lobby) -> Any:
    """All that can be seen of a lobby."""
    return (
        lobby.phase,
        lobby.host,
        lobby.players,
        lobby.held,
        lobby.ready_players,
        lobby.reserved,
        lobby.spectators,
        lobby.free_seats,
        lobby.deadline,
    )


def test_closed_is_empty() -> None:
    """Nobody is in a lobby that is closed."""
    lobby = closed()
    assert snapshot(lobby) == (CLOSED, None, (), (), (), (), (), 3, math.inf)


# --- Refusals


def test_full() -> None:
    """No more players than seats, and reserved seats are taken."""
    lobby = new_lobby("ann", "bob")
    lobby.reserve("dan", 0.0)
    assert lobby.free_seats == 0
    assert lobby.join("cy", 1.0) == [FULL]
    assert lobby.reserve("cy", 1.0) == [FULL]
    assert lobby.join("dan", 1.0) == [Seated("dan")]


def test_full_of_spectators() -> None:
    """No more spectators than the rules allow."""
    lobby = new_lobby("ann", max_spectators=1)
    assert lobby.watch("cy", 0.0) == [Watching("cy")]
    assert lobby.watch("dan", 0.0) == [FULL]
    lobby.leave("cy", 0.0)
    assert lobby.watch("dan", 0.0) == [Watching("dan")]


def test_banned() -> None:
    """Who was kicked does not come back by any door."""
    lobby = new_lobby("ann", "bob")
    lobby.invite("ann", "x", 0.0)
    lobby.kick("ann", "bob", 0.0)
    assert lobby.join("bob", 1.0, code="x") == [BANNED]
    assert lobby.watch("bob", 1.0, code="x") == [BANNED]
    assert lobby.reserve("bob", 1.0) == [BANNED]
    assert lobby.returned("bob", 1.0) == [NOT_HERE]


def test_bans_are_bounded() -> None:
    """Of too many that were kicked, the first is forgotten."""
    lobby = new_lobby("ann", max_bans=2)
    for name in ("b", "c", "d"):
        lobby.watch(name, 0.0)
        lobby.kick("ann", name, 0.0)
    assert lobby.join("c", 1.0) == [BANNED]
    assert lobby.join("d", 1.0) == [BANNED]
    assert lobby.join("b", 1.0) == [Seated("b")]


@pytest.mark.parametrize("why", ["seat", "watching", "reserved"])
def test_kick_everywhere(why: str) -> None:
    """A player, a spectator and one who is expected can all be put out."""
    lobby = new_lobby("ann")
    {"seat": lobby.join, "watching": lobby.watch, "reserved": lobby.reserve}[why]("bob", 0.0)
    place = StoppedWatching if why == "watching" else SeatFreed
    assert lobby.kick("ann", "bob", 1.0) == [place("bob", Why.KICKED)]
    assert lobby.join("bob", 1.0) == [BANNED]


def test_kick_refused() -> None:
    """Only the host kicks, others, who are here; the program kicks whom it likes."""
    lobby = new_lobby("ann", "bob")
    assert lobby.kick("bob", "ann", 0.0) == [NOT_HOST]
    assert lobby.kick("cy", "ann", 0.0) == [NOT_HOST]
    assert lobby.kick("ann", "ann", 0.0) == [NOT_YOURSELF]
    assert lobby.kick("ann", "cy", 0.0) == [NOT_HERE]
    assert lobby.kick(None, "ann", 0.0) == [SeatFreed("ann", Why.KICKED), HostChanged("bob")]


@pytest.mark.parametrize("act", ["start", "end", "rematch"])
def test_not_host(act: str) -> None:
    """What the host may do, nobody else may, but for the program."""
    lobby = {"start": opened, "end": playing, "rematch": ended}[act]()
    assert getattr(lobby, act)("bob", 1.0) == [NOT_HOST]
    assert len(getattr(lobby, act)(None, 1.0)) == 1


def test_already_here() -> None:
    """One place each; but a spectator may take a seat, and one who is expected may watch."""
    lobby = new_lobby("ann")
    lobby.watch("cy", 0.0)
    assert lobby.join("ann", 0.0) == [ALREADY_HERE]
    assert lobby.watch("ann", 0.0) == [ALREADY_HERE]
    assert lobby.reserve("ann", 0.0) == [ALREADY_HERE]
    assert lobby.watch("cy", 0.0) == [ALREADY_HERE]
    assert lobby.join("cy", 0.0) == [StoppedWatching("cy", Why.SEATED), Seated("cy")]
    assert lobby.spectators == ()


def test_not_here() -> None:
    """Who is not here can neither leave, return, be ready nor invite."""
    lobby = new_lobby("ann")
    lobby.watch("cy", 0.0)
    for act in (lobby.leave, lobby.returned, lobby.ready, lobby.unready):
        assert act("bob", 0.0) == [NOT_HERE]
    for act in (lobby.returned, lobby.ready, lobby.unready):
        assert act("cy", 0.0) == [NOT_HERE]
    assert lobby.invite("bob", "x", 0.0) == [NOT_HERE]
    assert lobby.invite("cy", "x", 0.0) == [NOT_HERE]
    assert lobby.dropped("bob", 0.0) == []


def test_not_enough() -> None:
    """A game needs as many as the ready check says, with their connections there."""
    lobby = new_lobby("ann")
    assert lobby.start("ann", 0.0) == [NOT_ENOUGH]
    lobby.join("bob", 0.0)
    lobby.dropped("bob", 0.0)
    assert lobby.start("ann", 0.0) == [NOT_ENOUGH]
    lobby.returned("bob", 0.0)
    assert lobby.start("ann", 0.0) == BEGUN


def test_somebody_is_needed() -> None:
    """Without a ready check one player will do, and nobody will not."""
    lobby = new_lobby(at_least=None)
    assert lobby.start(None, 0.0) == [NOT_ENOUGH]
    lobby.join("ann", 0.0)
    assert lobby.ready("ann", 0.0) == [ReadyChanged("ann", True)]
    assert lobby.start(None, 0.0) == BEGUN


def test_wrong_phase_names_it() -> None:
    """A refusal says in which phase the lobby is."""
    assert playing().join("cy", 0.0) == [wrong_phase(PLAYING)]
    assert "playing" in wrong_phase(PLAYING).message


# --- Invites and reservations


def test_invite_only() -> None:
    """Without a good code nobody comes in, for as long as the code is good."""
    lobby = new_lobby(invite_only=True, seats=4)
    lobby.reserve("ann", 0.0)
    assert lobby.join("ann", 0.0) == [Seated("ann"), HostChanged("ann")]
    lobby.invite("ann", "x", 0.0)
    assert lobby.join("bob", 1.0) == [BAD_INVITE]
    assert lobby.watch("bob", 1.0) == [BAD_INVITE]
    assert lobby.join("bob", 1.0, code="y") == [BAD_INVITE]
    assert lobby.join("bob", 1.0, code="x") == [Seated("bob")]
    assert lobby.watch("cy", 1.0, code="x") == [Watching("cy")]
    assert lobby.join("dan", INVITE, code="x") == [BAD_INVITE]
    assert lobby.join("cy", INVITE)[-1] == Seated("cy")


def test_a_bad_code_is_bad_anywhere() -> None:
    """Who shows a code that is not good is told so even where none is needed."""
    assert new_lobby().join("ann", 0.0, code="x") == [BAD_INVITE]


def test_invite_by_the_program() -> None:
    """The program invites without being here, and an invite anew is good for longer."""
    lobby = new_lobby()
    assert lobby.invite(None, "x", 0.0) == [Invited("x", INVITE)]
    assert lobby.invite(None, "x", 5.0) == [Invited("x", INVITE + 5.0)]


def test_max_invites() -> None:
    """Codes are bounded, and those that are not good any more make room."""
    lobby = new_lobby("ann", max_invites=1)
    lobby.invite("ann", "x", 0.0)
    assert lobby.invite("ann", "y", 1.0) == [TOO_MANY_INVITES]
    assert lobby.invite("ann", "x", 1.0) == [Invited("x", 1.0 + INVITE)]
    assert lobby.invite("ann", "y", 1.0 + INVITE) == [Invited("y", 1.0 + 2 * INVITE)]


def test_reservation_expires() -> None:
    """A seat waits as long as the rules say, and longer when it is reserved anew."""
    lobby = new_lobby("ann")
    lobby.reserve("bob", 0.0)
    assert lobby.deadline == RESERVATION
    lobby.reserve("bob", 5.0)
    assert lobby.tick(RESERVATION + 4.9) == []
    assert lobby.tick(RESERVATION + 5.0) == [SeatFreed("bob", Why.EXPIRED)]
    assert lobby.free_seats == 2


def test_reservation_is_declined() -> None:
    """Who does not want the seat may say so."""
    lobby = new_lobby("ann")
    lobby.reserve("bob", 0.0)
    assert lobby.leave("bob", 1.0) == [SeatFreed("bob", Why.LEFT)]


def test_expected_players_are_waited_for() -> None:
    """The game does not start by itself while a seat waits, and does when it waits no more."""
    lobby = opened()
    lobby.reserve("cy", 0.0)
    assert lobby.ready("ann", 1.0) == [ReadyChanged("ann", True)]
    assert lobby.tick(RESERVATION) == [
        SeatFreed("cy", Why.EXPIRED),
        PhaseChanged(COUNTDOWN, RESERVATION + COUNT),
    ]


def test_late() -> None:
    """While the game runs only those who are expected come in, or all where that is the rule."""
    lobby = opened()
    lobby.reserve("cy", 0.0)
    lobby.start("ann", 0.0)
    assert lobby.join("dan", 1.0) == [wrong_phase(PLAYING)]
    assert lobby.join("cy", 1.0) == [Seated("cy")]
    lobby = new_lobby("ann", late_join=True, at_least=1)
    lobby.start("ann", 0.0)
    assert lobby.join("dan", 1.0) == [Seated("dan")]


# --- Drops and returns


def test_return_in_time() -> None:
    """A seat is held, for nobody else, and got back; its player has to get ready again."""
    lobby = new_lobby("ann", "bob", seats=2)
    lobby.ready("bob", 0.0)
    assert lobby.dropped("bob", 1.0) == [ReadyChanged("bob", False), HELD]
    assert lobby.dropped("bob", 2.0) == []
    assert lobby.held == ("bob",)
    assert lobby.join("cy", 2.0) == [FULL]
    assert lobby.ready("bob", 2.0) == [NOT_HERE]
    assert lobby.returned("bob", 30.9) == [Returned("bob")]
    assert lobby.returned("bob", 30.9) == []
    assert lobby.held == ()
    assert lobby.tick(1000.0) == []


def test_return_by_joining() -> None:
    """To join again is to return, without a code."""
    lobby = new_lobby("ann", "bob")
    lobby.dropped("bob", 1.0)
    assert lobby.join("bob", 2.0) == [Returned("bob")]


@pytest.mark.parametrize("is_late", [False, True])
def test_return_too_late(is_late: bool) -> None:
    """A seat is freed at its time, even if nobody looks until its player comes back."""
    lobby = new_lobby("ann", "bob")
    lobby.dropped("bob", 1.0)
    freed = [SeatFreed("bob", Why.LOST)]
    if is_late:
        assert lobby.returned("bob", 31.0) == [*freed, NOT_HERE]
    else:
        assert lobby.tick(30.9) == []
        assert lobby.tick(31.0) == freed


def test_hold() -> None:
    """One player's seat may be held longer, or less long, before the drop or after it."""
    lobby = new_lobby("ann", "bob", "cy")
    assert lobby.hold("bob", 50.0, 0.0) == []
    assert lobby.dropped("bob", 1.0) == [Held("bob", 51.0)]
    lobby.dropped("cy", 1.0)
    assert lobby.hold("cy", 5.0, 2.0) == [Held("cy", 6.0)]
    assert lobby.tick(6.0) == [SeatFreed("cy", Why.LOST)]
    assert lobby.hold("cy", 5.0, 6.0) == [NOT_HERE]
    assert lobby.tick(50.9) == []
    assert lobby.hold("bob", 10.0, 50.9) == [Held("bob", 11.0), SeatFreed("bob", Why.LOST)]


def test_spectators_are_not_held() -> None:
    """A spectator who is lost is gone."""
    lobby = new_lobby("ann")
    lobby.watch("cy", 0.0)
    assert lobby.dropped("cy", 1.0) == [StoppedWatching("cy", Why.LOST)]


def test_no_time_at_all() -> None:
    """Where a time is zero nothing waits."""
    lobby = new_lobby("ann", "bob", hold=0, countdown=0)
    assert lobby.dropped("bob", 1.0) == [Held("bob", 1.0), SeatFreed("bob", Why.LOST)]
    lobby.join("bob", 1.0)
    lobby.ready("ann", 1.0)
    assert lobby.ready("bob", 1.0) == [
        ReadyChanged("bob", True),
        PhaseChanged(COUNTDOWN, 1.0),
        PhaseChanged(PLAYING),
    ]


# --- The host


def test_host() -> None:
    """The first is the host; who sits longest comes next; without players there is none."""
    lobby = new_lobby("ann", "bob", "cy")
    assert lobby.host == "ann"
    assert lobby.leave("ann", 0.0) == [SeatFreed("ann", Why.LEFT), HostChanged("bob")]
    lobby.join("ann", 0.0)
    assert lobby.leave("bob", 0.0)[-1] == HostChanged("cy")
    assert lobby.leave("cy", 0.0)[-1] == HostChanged("ann")
    assert lobby.leave("ann", 0.0)[-1] == HostChanged(None)


def test_spectators_are_no_hosts() -> None:
    """Who only watches is not the host, until there is a seat."""
    lobby = new_lobby()
    lobby.watch("ann", 0.0)
    assert lobby.host is None
    assert lobby.join("ann", 0.0)[-1] == HostChanged("ann")


def test_host_is_lost() -> None:
    """A host who was lost stays the host for a while, and does not get that back later."""
    lobby = new_lobby("ann", "bob")
    lobby.dropped("ann", 0.0)
    assert lobby.deadline == HOST_GRACE
    assert lobby.tick(HOST_GRACE - 0.1) == []
    assert lobby.tick(HOST_GRACE) == [HostChanged("bob")]
    lobby.returned("ann", HOST_GRACE)
    assert lobby.host == "bob"


def test_host_returns() -> None:
    """A host who is back in time has never been another."""
    lobby = new_lobby("ann", "bob")
    lobby.dropped("ann", 0.0)
    lobby.returned("ann", HOST_GRACE - 0.1)
    assert lobby.tick(100.0) == []
    assert lobby.host == "ann"


def test_host_has_nobody_to_hand_over_to() -> None:
    """Where all are lost the host stays, and the first who is there takes over."""
    lobby = new_lobby("ann", "bob")
    lobby.dropped("ann", 0.0)
    lobby.dropped("bob", 0.0)
    assert lobby.tick(HOST_GRACE + 1) == []
    assert lobby.returned("bob", HOST_GRACE + 1) == [Returned("bob"), HostChanged("bob")]


def test_host_is_gone_and_all_are_lost() -> None:
    """There is a host as long as there is a player, though it be one who was lost."""
    lobby = new_lobby("ann", "bob", "cy")
    lobby.dropped("bob", 0.0)
    lobby.dropped("cy", 0.0)
    assert lobby.leave("ann", 0.0)[-1] == HostChanged("bob")


def test_one_who_is_there_before_one_who_was_lost() -> None:
    """The next host is one who is there."""
    lobby = new_lobby("ann", "bob", "cy")
    lobby.dropped("bob", 0.0)
    assert lobby.leave("ann", 0.0)[-1] == HostChanged("cy")


# --- Ready


def test_ready_check() -> None:
    """When enough are ready, and nobody is not, the game starts after a countdown."""
    lobby = new_lobby("ann", at_least=2)
    assert lobby.ready("ann", 0.0) == [ReadyChanged("ann", True)]
    assert lobby.ready("ann", 0.0) == []
    lobby.join("bob", 1.0)
    assert lobby.ready("bob", 2.0)[-1] == PhaseChanged(COUNTDOWN, 2.0 + COUNT)
    assert lobby.tick(4.9) == []
    assert lobby.tick(5.0) == BEGUN
    assert lobby.ready_players == ()


def test_ready_check_begins_later() -> None:
    """A check may be asked for when players are there, and are ready already."""
    lobby = new_lobby("ann", at_least=None)
    lobby.ready("ann", 0.0)
    assert lobby.ready_check(1, 1.0) == [PhaseChanged(COUNTDOWN, 1.0 + COUNT)]
    assert lobby.ready_check(None, 2.0) == [STOPPED]


def test_leaving_begins_the_countdown_anew() -> None:
    """When somebody leaves and the others are ready, they have the whole countdown again."""
    lobby = new_lobby("ann", "bob", "cy")
    for name in lobby.players:
        lobby.ready(name, 0.0)
    assert lobby.leave("cy", 1.0) == [
        STOPPED,
        SeatFreed("cy", Why.LEFT),
        PhaseChanged(COUNTDOWN, 1.0 + COUNT),
    ]


def test_spectators_do_not_stop_the_countdown() -> None:
    """Who watches comes and goes as they like."""
    lobby = counting()
    assert lobby.watch("dan", 1.0) == [Watching("dan")]
    assert lobby.leave("dan", 1.0) == [StoppedWatching("dan", Why.LEFT)]


def test_rematch() -> None:
    """Another game needs everybody to get ready anew."""
    lobby = new_lobby("ann", "bob")
    for _ in range(2):
        lobby.ready("ann", 0.0)
        lobby.ready("bob", 0.0)
        lobby.tick(COUNT)
        assert lobby.phase is PLAYING
        lobby.end(None, COUNT)
        lobby.rematch("ann", COUNT)
        assert lobby.ready_players == ()
        assert lobby.phase is OPEN


# --- The end


def test_nobody_comes() -> None:
    """A lobby to which nobody comes closes."""
    lobby = new_lobby()
    assert lobby.deadline == LINGER
    assert lobby.tick(LINGER) == [PhaseChanged(CLOSED)]


def test_all_have_left() -> None:
    """A lobby that all have left waits a while for somebody, and closes."""
    lobby = new_lobby("ann")
    lobby.watch("bob", 0.0)
    lobby.leave("ann", 5.0)
    assert lobby.deadline == math.inf
    lobby.leave("bob", 10.0)
    assert lobby.deadline == 10.0 + LINGER
    lobby.join("ann", 20.0)
    assert lobby.deadline == math.inf
    lobby.leave("ann", 30.0)
    assert lobby.tick(30.0 + LINGER) == [PhaseChanged(CLOSED)]


def test_the_game_ends_without_players() -> None:
    """A game that all have left is over."""
    lobby = playing()
    lobby.leave("ann", 1.0)
    assert lobby.leave("bob", 2.0)[:2] == [FREED, PhaseChanged(ENDED, 2.0 + REMATCH)]


def test_everything_at_its_own_time() -> None:
    """Who looks much too late finds what would have happened in between."""
    lobby = playing()
    lobby.dropped("ann", 0.0)
    lobby.dropped("bob", 5.0)
    assert lobby.tick(10_000.0) == [
        SeatFreed("ann", Why.LOST),
        HostChanged("bob"),
        SeatFreed("bob", Why.LOST),
        PhaseChanged(ENDED, 5.0 + HOLD + REMATCH),
        HostChanged(None),
        PhaseChanged(CLOSED),
    ]


def test_a_late_tick_keeps_the_order() -> None:
    """What was due first happens first, however late the tick."""
    lobby = new_lobby("ann", "bob", hold=5, host_grace=10)
    lobby.dropped("ann", 0.0)
    assert lobby.tick(20.0) == [SeatFreed("ann", Why.LOST), HostChanged("bob")]


@pytest.mark.parametrize("changes", [{"seats": 0}, {"at_least": 0}, {"hold": -1}, {"max_bans": -1}])
def test_bad_rules(changes: dict[str, Any]) -> None:
    """Rules that mean nothing are refused where they are written."""
    with pytest.raises(ValueError, match=next(iter(changes))):
        rules(**changes)


# --- Going elsewhere


def test_dump_and_load() -> None:
    """Another node, with another clock, goes on where this one was."""
    lobby = new_lobby("ann", "bob", "cy", invite_only=False, seats=5)
    lobby.watch("dan", 0.0)
    lobby.kick("ann", "cy", 0.0)
    lobby.invite("ann", "x", 0.0)
    lobby.reserve("eve", 0.0)
    lobby.ready("ann", 0.0)
    lobby.dropped("bob", 0.0)
    lobby.ready_check(None, 0.0)
    written = json.dumps(lobby.dump(5.0))
    moved = Lobby.load(rules(seats=5), json.loads(written), 105.0)
    assert snapshot(moved)[:-1] == snapshot(lobby)[:-1]
    assert moved.deadline == lobby.deadline + 100
    assert moved.dump(105.0) == lobby.dump(5.0)
    assert moved.join("cy", 105.0) == [BANNED]
    assert moved.join("fay", 105.0, code="x") == [Seated("fay")]
    assert moved.tick(100.0 + RESERVATION) == [SeatFreed("eve", Why.EXPIRED)]
    assert moved.tick(100.0 + HOLD) == [SeatFreed("bob", Why.LOST)]


@pytest.mark.parametrize("make", STATES, ids=lambda make: make.__name__)
def test_load_in_each_phase(make: Callable[[], Lobby]) -> None:
    """A lobby that moves stays in its phase, and leaves it at the same time."""
    lobby = make()
    moved = Lobby.load(rules(), lobby.dump(1.0), 1.0)
    assert snapshot(moved) == snapshot(lobby)
    assert moved.tick(1000.0) == lobby.tick(1000.0)


# --- Against a model

PEOPLE = [f"p{number}" for number in range(8)]
WHO = st.sampled_from(PEOPLE)
BY = st.sampled_from([*PEOPLE, None])


class Picture:
    """What somebody knows of a lobby who hears all its effects, and nothing else."""

    def __init__(self) -> None:
        self.phase: Phase = OPEN
        self.host: str | None = None
        self.players: dict[str, None] = {}
        self.held: set[str] = set()
        self.ready: set[str] = set()
        self.reserved: set[str] = set()
        self.spectators: set[str] = set()

    def hear(self, effects: Iterable[LobbyEffect]) -> None:
        for effect in effects:
            match effect:
                case Seated(player):
                    self.reserved.discard(player)
                    assert player not in self.players
                    self.players[player] = None
                case Held(player):  # or held for another time
                    self.held.add(player)
                case Returned(player):
                    self.held.remove(player)
                case Reserved(player):
                    self.reserved.add(player)
                case SeatFreed(player):
                    assert player in self.players or player in self.reserved
                    self.players.pop(player, None)
                    for people in (self.held, self.ready, self.reserved):
                        people.discard(player)
                case Watching(player):
                    assert player not in self.spectators
                    self.spectators.add(player)
                case StoppedWatching(player):
                    self.spectators.remove(player)
                case ReadyChanged(player, is_ready):
                    assert is_ready is (player not in self.ready)
                    self.ready ^= {player}
                case HostChanged(host):
                    assert host != self.host
                    self.host = host
                case PhaseChanged(phase):
                    assert phase is not self.phase
                    self.phase = phase
                    if phase is PLAYING:
                        self.ready.clear()
                    if phase is CLOSED:
                        self.__init__()  # type: ignore[misc]
                        self.phase = CLOSED


class LobbyModel(RuleBasedStateMachine):
    """The model has a line for each person and looks at all of them every second."""

    @initialize(
        options=st.fixed_dictionaries(
            {
                "seats": st.integers(1, 4),
                "at_least": st.sampled_from([None, 1, 2, 3]),
                "late_join": st.booleans(),
                "host_grace": st.sampled_from([0, 3, 9]),
                "hold": st.sampled_from([1, 6]),
                "countdown": st.sampled_from([0, 2]),
            }
        )
    )
    def begin(self, options: dict[str, Any]) -> None:
        self.rules = Rules(**options, reservation=4, rematch=10, linger=7, max_spectators=2)
        self.now = 0
        self.lobby = Lobby(self.rules, 0)
        self.picture = Picture()
        self.is_late = False  # whether time has passed that the lobby was not told of
        # The model
        self.phase, self.phase_ends, self.empty_since = OPEN, math.inf, 0.0
        self.host: str | None = None
        self.seated: list[str] = []
        self.lost: dict[str, int] = {}
        self.holds: dict[str, int] = {}
        self.ready: set[str] = set()
        self.reserved: dict[str, int] = {}
        self.spectators: set[str] = set()
        self.banned: set[str] = set()

    def hear(self, effects: list[LobbyEffect], may: bool | None = None) -> None:
        """The picture follows; `may` is whether the model lets it happen."""
        self.is_late = False
        refusals = [effect for effect in effects if isinstance(effect, Refused)]
        if may is not None:
            assert bool(refusals) is not may
        self.picture.hear(effects)

    # What the model holds for right

    def free(self) -> int:
        return self.rules.seats - len(self.seated) - len(self.reserved)

    def is_host(self, by: str | None) -> bool:
        return by is None or by == self.host

    def may_sit(self, who: str) -> bool:
        if who in self.banned or who in self.seated:
            return False
        if who in self.reserved:
            return True
        is_time = self.phase is not CLOSED and (self.phase is not PLAYING or self.rules.late_join)
        return is_time and self.free() > 0

    def remove(self, who: str) -> None:
        if who in self.seated:
            self.seated.remove(who)
            if self.phase is COUNTDOWN:
                self.phase, self.phase_ends = OPEN, math.inf
        self.ready.discard(who)
        self.spectators.discard(who)
        self.lost.pop(who, None)
        self.holds.pop(who, None)
        self.reserved.pop(who, None)

    def follow(self) -> None:
        """What follows from what was done, and from what follows, where times are zero."""
        for _ in range(4):
            self.obey()
            self.fall_due()

    def obey(self) -> None:
        """What the rules make of it, now."""
        at_least = self.rules.at_least
        is_start = (
            at_least is not None
            and len(self.seated) >= at_least
            and self.ready == set(self.seated)
            and not self.reserved
        )
        if self.phase is OPEN and is_start:
            self.phase, self.phase_ends = COUNTDOWN, self.now + self.rules.countdown
        if self.phase is COUNTDOWN and not is_start:
            self.phase, self.phase_ends = OPEN, math.inf
        if self.phase is PLAYING and not self.seated:
            self.phase, self.phase_ends = ENDED, self.now + self.rules.rematch
        present = [who for who in self.seated if who not in self.lost]
        is_over = (
            self.host in self.lost
            and present
            and self.now - self.lost[self.host or ""] >= self.rules.host_grace
        )
        if self.host not in self.seated or is_over:
            self.host = (present or self.seated or [None])[0]
        if self.seated or self.reserved or self.spectators:
            self.empty_since = math.inf
        elif self.empty_since == math.inf:
            self.empty_since = self.now

    def fall_due(self) -> None:
        """What is due by itself, now."""
        for who in [who for who in self.seated if who in self.lost]:
            if self.now - self.lost[who] >= self.holds.get(who, self.rules.hold):
                self.remove(who)
        for who, since in list(self.reserved.items()):
            if self.now - since >= self.rules.reservation:
                del self.reserved[who]
        if self.phase is COUNTDOWN and self.now >= self.phase_ends:
            self.phase, self.phase_ends = PLAYING, math.inf
            self.ready.clear()
        is_over = self.phase is ENDED and self.now >= self.phase_ends
        if self.phase is not CLOSED and (
            is_over or self.now - self.empty_since >= self.rules.linger
        ):
            self.phase, self.phase_ends, self.host = CLOSED, math.inf, None
            for people in (self.seated, self.lost, self.ready, self.reserved, self.spectators):
                people.clear()

    # What happens

    @rule(who=WHO)
    def join(self, who: str) -> None:
        if who in self.lost:
            self.hear(self.lobby.join(who, self.now), may=True)
            del self.lost[who]
        else:
            may = self.may_sit(who)
            self.hear(self.lobby.join(who, self.now), may)
            if may:
                self.reserved.pop(who, None)
                self.spectators.discard(who)
                self.seated.append(who)
        self.follow()

    @rule(who=WHO)
    def watch(self, who: str) -> None:
        may = (
            who not in self.banned | self.spectators | {*self.seated}
            and len(self.spectators) < 2
            and self.phase is not CLOSED
        )
        self.hear(self.lobby.watch(who, self.now), may)
        if may:
            self.spectators.add(who)
        self.follow()

    @rule(who=WHO)
    def leave(self, who: str) -> None:
        may = who in self.seated or who in self.reserved or who in self.spectators
        self.hear(self.lobby.leave(who, self.now), may)
        self.remove(who)
        self.follow()

    @rule(by=BY, who=WHO)
    def kick(self, by: str | None, who: str) -> None:
        is_here = who in self.seated or who in self.reserved or who in self.spectators
        may = self.is_host(by) and by != who and is_here
        self.hear(self.lobby.kick(by, who, self.now), may)
        if may:
            self.remove(who)
            self.banned.add(who)
        self.follow()

    @rule(who=WHO)
    def drop(self, who: str) -> None:
        self.hear(self.lobby.dropped(who, self.now), may=True)
        self.spectators.discard(who)
        if who in self.seated and who not in self.lost:
            self.lost[who] = self.now
            self.ready.discard(who)
        self.follow()

    @rule(who=WHO, seconds=st.integers(0, 9))
    def hold(self, who: str, seconds: int) -> None:
        self.hear(self.lobby.hold(who, seconds, self.now), may=who in self.seated)
        if who in self.seated:
            self.holds[who] = seconds
        self.follow()

    @rule(who=WHO)
    def come_back(self, who: str) -> None:
        self.hear(self.lobby.returned(who, self.now), may=who in self.seated)
        self.lost.pop(who, None)
        self.follow()

    @rule(who=WHO)
    def reserve(self, who: str) -> None:
        may = self.may_sit(who)
        self.hear(self.lobby.reserve(who, self.now), may)
        if may:
            self.reserved[who] = self.now
        self.follow()

    @rule(who=WHO, is_ready=st.sampled_from([True, True, True, False]))
    def mark(self, who: str, is_ready: bool) -> None:
        may = who in self.seated and who not in self.lost and self.phase in (OPEN, COUNTDOWN)
        act = self.lobby.ready if is_ready else self.lobby.unready
        self.hear(act(who, self.now), may)
        if may:
            (self.ready.add if is_ready else self.ready.discard)(who)
        self.follow()

    @rule()
    def all_get_ready(self) -> None:
        for who in list(self.seated):
            self.mark(who, True)

    @rule(by=BY)
    def start(self, by: str | None) -> None:
        present = len(self.seated) - len(self.lost)
        may = (
            self.is_host(by)
            and self.phase in (OPEN, COUNTDOWN)
            and present >= (self.rules.at_least or 1)
        )
        self.hear(self.lobby.start(by, self.now), may)
        if may:
            self.phase, self.phase_ends = PLAYING, math.inf
            self.ready.clear()
        self.follow()

    @rule(by=BY)
    def end(self, by: str | None) -> None:
        may = self.is_host(by) and self.phase is PLAYING
        self.hear(self.lobby.end(by, self.now), may)
        if may:
            self.phase, self.phase_ends = ENDED, self.now + self.rules.rematch
        self.follow()

    @rule(by=BY)
    def rematch(self, by: str | None) -> None:
        may = self.is_host(by) and self.phase is ENDED
        self.hear(self.lobby.rematch(by, self.now), may)
        if may:
            self.phase, self.phase_ends = OPEN, math.inf
        self.follow()

    @rule(seconds=st.integers(1, 12), ticks=st.sampled_from(["every second", "one", "none"]))
    def time_passes(self, seconds: int, ticks: str) -> None:
        """Where there is no tick the next input has to make up for it."""
        for _ in range(seconds):
            self.now += 1
            self.fall_due()
            self.follow()
            if ticks == "every second":
                self.hear(self.lobby.tick(self.now))
        self.is_late = True
        if ticks == "one":
            self.hear(self.lobby.tick(self.now))

    @rule()
    def move(self) -> None:
        """Another node goes on with the lobby, by the clock it has."""
        written = json.dumps(self.lobby.dump(self.now))
        elsewhere = Lobby.load(self.rules, json.loads(written), self.now + 1000)
        self.lobby = Lobby.load(self.rules, elsewhere.dump(self.now + 1000), self.now)

    # What holds

    @invariant()
    def is_what_the_model_says(self) -> None:
        if self.is_late:
            return
        lobby = self.lobby
        assert lobby.phase is self.phase
        assert lobby.host == self.host
        assert lobby.players == tuple(self.seated)
        assert {*lobby.held} == self.lost.keys()
        assert {*lobby.ready_players} == self.ready
        assert {*lobby.reserved} == self.reserved.keys()
        assert {*lobby.spectators} == self.spectators
        assert lobby.free_seats == self.free()

    @invariant()
    def effects_tell_everything(self) -> None:
        lobby, picture = self.lobby, self.picture
        assert picture.phase is lobby.phase
        assert picture.host == lobby.host
        assert tuple(picture.players) == lobby.players
        assert picture.held == {*lobby.held}
        assert picture.ready == {*lobby.ready_players}
        assert picture.reserved == {*lobby.reserved}
        assert picture.spectators == {*lobby.spectators}

    @invariant()
    def seats_are_never_oversold(self) -> None:
        assert len(self.lobby.players) + len(self.lobby.reserved) <= self.rules.seats
        assert not {*self.lobby.players} & {*self.lobby.reserved}
        assert not {*self.lobby.players} & {*self.lobby.spectators}

    @invariant()
    def has_one_host_while_there_are_players(self) -> None:
        assert (self.lobby.host is not None) == bool(self.lobby.players)
        assert self.lobby.host is None or self.lobby.host in self.lobby.players

    @invariant()
    def has_a_deadline_while_something_is_pending(self) -> None:
        if self.is_late:
            return
        lobby = self.lobby
        is_pending = (
            lobby.held
            or lobby.reserved
            or lobby.phase in (COUNTDOWN, ENDED)
            or (lobby.phase is not CLOSED and not lobby.players and not lobby.spectators)
        )
        assert lobby.deadline > self.now
        assert (lobby.deadline < math.inf) == bool(is_pending)

    def teardown(self) -> None:
        """Every lobby ends when all are lost, step by step, each step at its deadline."""
        if not hasattr(self, "lobby"):
            return
        for who in {*self.lobby.players, *self.lobby.spectators}:
            self.lobby.dropped(who, self.now)
        steps = 0
        while self.lobby.deadline < math.inf:
            self.lobby.tick(self.lobby.deadline)
            steps += 1
            assert steps < 40
        assert self.lobby.phase is CLOSED


TestLobbyModel = LobbyModel.TestCase
