"""A client that comes back: its connection and its backlog together, against a naive model.

The model keeps a diary of the connection and looks everything up in that, and it plays the other
parts: the shell that carries out effects, the wire, the server, and a token that gets stale.
All times are multiples of 1/8 s, so that floats are exact.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_rt import reasons
from trio_rt.errors import LimitError
from trio_rt.machine.backlog import Backlog, BacklogLimits, Entry, WhenFull
from trio_rt.machine.reconnect import (
    MOVES,
    Changed,
    ConnectionState,
    Dial,
    Effect,
    GiveUp,
    HangUp,
    Reconnect,
    ReconnectLimits,
)
from trio_rt.reasons import Reason

ALL_REASONS = [value for value in vars(reasons).values() if isinstance(value, Reason)]
STALE_TOKEN = reasons.REFUSED.because("the token is stale")
MAX_EVENTS, MAX_BYTES, MAX_AGE = 4, 100, BacklogLimits().max_age
LATENCY = 45.0
"""Seconds after which a heartbeat has found a dead wire: nothing travels longer."""
WINDOW = 120.0
"""Seconds for which the server knows a key again."""

DICE = st.integers(0, 7).map(lambda eighths: eighths / 8)
SECONDS = st.sampled_from([0.0, 0.125, 0.5, 1.0, 3.0, 10.0, 25.0, 80.0])


@attrs.define
class Run:
    """One event that the server has run."""

    number: int
    at: float


class ComingBack(RuleBasedStateMachine):
    """One client and its server."""

    @initialize(
        base=st.sampled_from([0.5, 1.0, 4.0]),
        factor=st.sampled_from([1.0, 1.5, 2.0]),
        stable_after=st.sampled_from([0.0, 3.0, 10.0]),
        max_attempts=st.sampled_from([None, None, 1, 3]),
        when_full=st.sampled_from(WhenFull),
    )
    def begin(
        self,
        base: float,
        factor: float,
        stable_after: float,
        max_attempts: int | None,
        when_full: WhenFull,
    ) -> None:
        self.limits = ReconnectLimits(
            backoff_base=base,
            backoff_max=5.0,
            backoff_factor=factor,
            stable_after=stable_after,
            connect_timeout=20.0,
            max_attempts=max_attempts,
        )
        self.when_full = when_full
        self.machine = Reconnect(self.limits)
        self.backlog: Backlog[int] = Backlog(
            BacklogLimits(
                max_events=MAX_EVENTS, max_bytes=MAX_BYTES, max_age=MAX_AGE, when_full=when_full
            ),
            "me",
        )
        self.now = 0.0
        # The connection
        self.diary: list[tuple[str, float]] = []
        self.state = "disconnected"  # by the model
        self.shown = ConnectionState.DISCONNECTED  # by what `Changed` has told
        self.wait: tuple[float, float] | None = None  # since when, and until when at the latest
        self.dial: Dial | None = None  # what the shell has up
        self.old_dials: list[Dial] = []
        self.dials = 0
        # The token: a number that grows; each dial asks for the newest
        self.token = 0
        self.dialled_with = 0
        # The events
        self.numbers = 0
        self.open_events: dict[int, tuple[int, float]] = {}  # number -> size, time
        self.fates: dict[int, str] = {}  # how the others ended
        self.sends: dict[int, int] = {}
        self.sent: list[int] = []  # on the present connection
        self.wire: list[tuple[Entry[int], float]] = []
        self.acks: list[Entry[int]] = []
        self.ran: list[Run] = []

    # --- The shell

    def carry_out(self, effects: Sequence[Effect]) -> list[type]:
        """Does what is to be done, and checks that it makes sense, in this order."""
        assert self.shown is not ConnectionState.CLOSED or not effects
        for effect in effects:
            match effect:
                case HangUp(dial, _):
                    assert dial is self.dial
                    self.hang_up()
                case Changed(was, becomes, reason):
                    assert was is self.shown
                    assert becomes in MOVES[was].values()
                    assert reason is self.machine.reason
                    assert (becomes is ConnectionState.CONNECTED) <= (reason is None)
                    self.shown = becomes
                case Dial(attempt):
                    assert self.dial is None, "two dials at once"
                    assert self.shown is ConnectionState.CONNECTING
                    assert 1 <= attempt <= (self.limits.max_attempts or math.inf)
                    self.dial = effect
                    self.dials += 1
                    self.dialled_with = self.token  # the shell asks for it anew
                case GiveUp(reason):
                    assert self.shown is ConnectionState.DISCONNECTED
                    assert reason is self.machine.reason
        return [type(effect) for effect in effects]

    def hang_up(self) -> None:
        assert self.dial is not None
        self.old_dials = [*self.old_dials, self.dial][-3:]
        self.dial = None
        self.wire.clear()
        self.acks.clear()
        self.sent.clear()
        self.backlog.lost()

    @precondition(lambda self: self.state == "connected")
    @rule(most=st.sampled_from([0, 1, 2, 99]))
    def writer_sends(self, most: int) -> None:
        """As many events as the wire takes now."""
        for _ in range(most):
            entry = self.backlog.take(self.now)
            if entry is None:
                young = [n for n, (_, at) in self.open_events.items() if self.now < at + MAX_AGE]
                assert set(young) <= set(self.sent)
                assert self.backlog.unsent == 0
                return
            number = entry.event
            assert self.now < self.open_events[number][1] + MAX_AGE
            assert all(earlier < number for earlier in self.sent), "out of order, or twice"
            assert entry.key == f"me.{number}"
            self.sends[number] = self.sends.get(number, 0) + 1
            assert entry.sends == self.sends[number]
            self.sent.append(number)
            self.wire.append((entry, self.now))

    def told(self, entries: Sequence[Entry[int]], fate: str) -> list[int]:
        for entry in entries:
            assert entry.sends == self.sends.get(entry.event, 0)
            del self.open_events[entry.event]
            self.fates[entry.event] = fate
        return [entry.event for entry in entries]

    # --- The connection, by the diary

    def attempts(self) -> int:
        """Dials since the last `open` from rest, or since a stable connection was lost."""
        count = 0
        for what, _ in reversed(self.diary):
            if what in ("opened", "stable one lost"):
                break
            count += what == "dialled"
        return count

    def becomes_connecting(self) -> None:
        self.state = "connecting"
        self.diary.append(("dialled", self.now))
        self.wait = (self.now, self.now + 20.0)

    def becomes_down(self, come_back: bool, dice: float) -> None:
        """After an ending, by whatever cause."""
        if come_back and self.attempts() < (self.limits.max_attempts or math.inf):
            longest = self.limits.backoff_base
            for _ in range(self.attempts()):
                longest = min(5.0, longest * self.limits.backoff_factor)
            longest = min(5.0, longest)
            self.state = "backing off"
            self.wait = (self.now, self.now + longest)
            assert self.machine.deadline == self.now + dice * longest
        else:
            self.state = "disconnected"
            self.wait = None

    @rule()
    def user_opens(self) -> None:
        effects = self.carry_out(self.machine.open(self.now))
        if self.state == "disconnected":
            self.diary.append(("opened", self.now))
        if self.state in ("disconnected", "backing off"):
            assert effects == [Changed, Dial]
            self.becomes_connecting()
        else:
            assert effects == []

    @rule()
    def user_disconnects(self) -> None:
        was_up = self.dial is not None
        effects = self.carry_out(self.machine.disconnect())
        if self.state in ("disconnected", "closed"):
            assert effects == []
            return
        assert effects == ([HangUp, Changed] if was_up else [Changed])
        self.state, self.wait = "disconnected", None

    @precondition(lambda self: self.state == "connecting")
    @rule(dice=DICE)
    def dial_is_answered(self, dice: float) -> None:
        """A stale token is refused for good; opening again asks for a fresh one."""
        assert self.dial is not None
        if self.dialled_with != self.token:
            self.ends(STALE_TOKEN, dice)
            return
        assert self.carry_out(self.machine.connected(self.dial, self.now)) == [Changed]
        assert list(self.machine.connected(self.dial, self.now + 1.0)) == []
        self.state, self.wait = "connected", None
        self.diary.append(("connected", self.now))

    @precondition(lambda self: self.dial is not None)
    @rule(reason=st.sampled_from(ALL_REASONS), dice=DICE)
    def dial_or_connection_ends(self, reason: Reason, dice: float) -> None:
        self.ends(reason, dice)

    @precondition(lambda self: self.state == "connected")
    @rule(reason=st.sampled_from([reason for reason in ALL_REASONS if reason.come_back]))
    def connection_drops(self, reason: Reason) -> None:
        self.ends(reason, 0.25)

    def ends(self, reason: Reason, dice: float) -> None:
        assert self.dial is not None
        effects = self.carry_out(self.machine.ended(self.dial, reason, self.now, dice))
        self.hang_up()
        what, since = self.diary[-1]
        if what == "connected" and self.now - since >= self.limits.stable_after:
            self.diary.append(("stable one lost", self.now))
        self.becomes_down(reason.come_back, dice)
        assert effects == ([Changed, GiveUp] if self.state == "disconnected" else [Changed])

    @precondition(lambda self: self.old_dials)
    @rule(data=st.data(), reason=st.sampled_from(ALL_REASONS))
    def old_dial_is_heard_of(self, data: st.DataObject, reason: Reason) -> None:
        old = data.draw(st.sampled_from(self.old_dials))
        assert list(self.machine.connected(old, self.now)) == []
        assert list(self.machine.ended(old, reason, self.now, 0.5)) == []

    @precondition(lambda self: self.state == "connecting")
    @rule()
    def token_gets_stale(self) -> None:
        self.token += 1

    @precondition(lambda self: self.state not in ("connected", "closed"))
    @rule(dice=DICE)
    def comes_back(self, dice: float) -> None:
        """As it goes when all goes well; without it few examples would get far."""
        if self.state == "backing off":
            self.tick_at_the_deadline(dice)
        if self.state == "connecting":
            self.dial_is_answered(dice)
        if self.state == "disconnected":
            self.user_opens()
            self.dial_is_answered(dice)

    # --- Time

    @rule(seconds=SECONDS)
    def time_passes_unnoticed(self, seconds: float) -> None:
        """As when the program does not give the loop a turn."""
        self.advance(seconds)

    @rule(dice=DICE)
    def tick(self, dice: float) -> None:
        due = self.machine.deadline <= self.now
        effects = self.carry_out(self.machine.tick(self.now, dice))
        if not due:
            assert effects == []
        elif self.state == "backing off":
            assert effects == [Changed, Dial]
            self.becomes_connecting()
        else:
            assert self.state == "connecting"
            self.becomes_down(True, dice)
            give_up = [GiveUp] if self.state == "disconnected" else []
            assert effects == [HangUp, Changed, *give_up]
        old = [n for n, (_, at) in self.open_events.items() if self.now >= at + MAX_AGE]
        assert self.told(self.backlog.tick(self.now), "too old") == old

    @precondition(lambda self: self.machine.deadline < math.inf)
    @rule(dice=DICE)
    def tick_at_the_deadline(self, dice: float) -> None:
        """As it is usually called: nothing happens before, and something must happen then."""
        deadline = max(self.machine.deadline, self.now)
        if deadline > self.now:
            assert list(self.machine.tick((self.now + deadline) / 2, dice)) == []
        before = self.state
        self.advance(deadline - self.now)
        self.tick(dice)
        assert self.state != before, "a state without an exit"

    @precondition(lambda self: self.backlog.deadline < math.inf)
    @rule(early=st.booleans())
    def time_passes_until_the_oldest_is_too_old(self, early: bool) -> None:
        until = self.backlog.deadline - (0.125 if early else 0.0)
        self.advance(max(0.0, until - self.now))

    def advance(self, seconds: float) -> None:
        for entry, at in list(self.wire):
            if self.now + seconds - at > LATENCY:
                self.server_reads()
                assert entry.event not in [waiting.event for waiting, _ in self.wire]
        self.now += seconds

    # --- Events

    @rule(size=st.sampled_from([1, 2, 25, 40, 99, 101]))
    def user_emits(self, size: int) -> None:
        events = list(self.open_events)
        gone: list[int] = []
        while len(events) >= MAX_EVENTS or self.size(events) + size > MAX_BYTES:
            if size > MAX_BYTES or self.when_full is WhenFull.REFUSE:
                assert size > MAX_BYTES or not self.backlog.has_room(size)
                with pytest.raises(LimitError):
                    self.backlog.put(-1, size, self.now)
                return
            gone.append(events.pop(0))
        self.numbers += 1
        entry, dropped = self.backlog.put(self.numbers, size, self.now)
        assert self.told(dropped, "dropped") == gone
        assert entry.key == f"me.{self.numbers}"
        self.open_events[self.numbers] = (size, self.now)

    @precondition(lambda self: self.open_events)
    @rule(data=st.data())
    def user_stops_waiting(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(list(self.open_events)))
        entry = self.backlog.settle(f"me.{number}")
        assert entry is not None
        self.told([entry], "cancelled")
        assert self.backlog.settle(f"me.{number}") is None

    @precondition(lambda self: self.wire)
    @rule()
    def server_reads(self) -> None:
        """It runs an event once within its window, and acknowledges it each time."""
        entry, _ = self.wire.pop(0)
        known = [run for run in self.ran if run.number == entry.event]
        if not known or self.now - known[-1].at >= WINDOW:
            self.ran.append(Run(entry.event, self.now))
        self.acks.append(entry)

    @precondition(lambda self: self.acks)
    @rule()
    def client_reads_an_acknowledgement(self) -> None:
        entry = self.acks.pop(0)
        settled = self.backlog.settle(entry.key)
        if entry.event in self.open_events:
            assert settled is not None
            self.told([settled], "acknowledged")
        else:
            assert settled is None

    def size(self, events: list[int]) -> int:
        return sum(self.open_events[number][0] for number in events)

    # --- The end

    @rule(how_sure=st.integers(0, 15))
    def user_closes(self, how_sure: int) -> None:
        """In a copy, most times: everything is over then."""
        if how_sure < 15:
            self.close(*copy.deepcopy((self.machine, self.backlog, self.dial)))
            return
        self.close(self.machine, self.backlog, self.dial)
        self.state, self.wait, self.dial = "closed", None, None
        self.shown = ConnectionState.CLOSED
        self.wire.clear()
        self.acks.clear()
        self.fates.update(dict.fromkeys(self.open_events, "closed"))
        self.open_events.clear()

    def close(self, machine: Reconnect, backlog: Backlog[int], dial: Dial | None) -> None:
        """From anywhere: what is up is hung up, it is told once, and nothing comes after it."""
        reason = reasons.CLIENT_DISCONNECT
        expected: list[Effect] = []
        if self.state != "closed":
            expected = [Changed(self.shown, ConnectionState.CLOSED, reason)]
        if dial is not None:
            expected.insert(0, HangUp(dial, reason))
        assert list(machine.close()) == expected
        assert [entry.event for entry in backlog.clear()] == list(self.open_events)
        assert (list(backlog), backlog.size_bytes, backlog.deadline) == ([], 0, math.inf)
        for old in filter(None, [dial, *self.old_dials]):
            assert list(machine.connected(old, self.now)) == []
            assert list(machine.ended(old, reasons.TRANSPORT_CLOSE, self.now, 0.5)) == []
        assert list(machine.open(self.now)) == list(machine.tick(self.now + 1e9, 0.5)) == []
        assert list(machine.disconnect()) == list(machine.close()) == []
        assert (machine.state, machine.deadline) == (ConnectionState.CLOSED, math.inf)

    # --- What always holds

    @invariant()
    def is_where_the_model_is(self) -> None:
        assert self.machine.state is self.shown
        assert self.machine.state.value == self.state
        assert self.machine.attempt == self.attempts()
        assert self.dials == [what for what, _ in self.diary].count("dialled")
        assert (self.dial is not None) == (self.state in ("connecting", "connected"))

    @invariant()
    def has_an_exit(self) -> None:
        """In time, where nobody else is there to wait for."""
        if self.wait is None:
            assert self.state in ("disconnected", "connected", "closed")
            assert self.machine.deadline == math.inf
        else:
            since, latest = self.wait
            assert since <= self.machine.deadline <= latest

    @invariant()
    def says_why_it_is_down(self) -> None:
        if self.state == "connected":
            assert self.machine.reason is None
        elif self.state in ("backing off", "closed"):
            assert self.machine.reason is not None

    @invariant()
    def backlog_is_bounded_and_in_order(self) -> None:
        assert len(self.backlog) == len(self.open_events) <= MAX_EVENTS
        assert self.backlog.size_bytes == self.size(list(self.open_events)) <= MAX_BYTES
        ends = [at + MAX_AGE for _, at in self.open_events.values()]
        assert self.backlog.deadline == min(ends, default=math.inf)
        assert [entry.event for entry in self.backlog] == list(self.open_events)

    @invariant()
    def server_ran_each_once_and_in_order(self) -> None:
        numbers = [run.number for run in self.ran]
        assert numbers == sorted(set(numbers))
        for number, fate in self.fates.items():
            assert fate != "acknowledged" or number in numbers

    def teardown(self) -> None:
        """Whatever has happened, it comes back if the user wants it, and nothing is left behind."""
        if not hasattr(self, "machine") or self.state == "closed":
            return
        self.tick(0.5)
        if self.state != "connected":
            self.comes_back(0.5)
        assert self.state == "connected"
        self.writer_sends(99)
        while self.wire:
            self.server_reads()
        while self.acks:
            self.client_reads_an_acknowledgement()
        assert list(self.open_events) == []
        assert sorted(self.fates) == list(range(1, self.numbers + 1))
        self.server_ran_each_once_and_in_order()


TestComingBack: Any = ComingBack.TestCase
# The most tangled part of the client: five times as many examples as usual, all in each profile.
TestComingBack.settings = settings(
    max_examples=max(500, settings().max_examples), stateful_step_count=40
)
