"""What was said to whom, and what should come of it: the naive model of delivery and recovery.

It knows nothing of positions, logs and connections. It writes down when a server's handler began
and ended to join, to leave and to emit, and what came to whom; the promise is looked up in that.

    sure      was a member from before the emission to behind it: has to get it
    possible  was a member for a part of that: may get it, in order and once
"""

import itertools
from collections.abc import Iterable
from typing import Any

import attrs

NEVER = 10**9


@attrs.frozen
class Limits:
    """Of what a server keeps."""

    window: float
    events: int
    seconds: float


@attrs.define(eq=False)
class Said:
    """One emission of a server."""

    number: int
    life: int
    """Which server."""
    rooms: tuple[str, ...]
    excepted: tuple[str, ...]
    arguments: list[Any]
    is_stored: bool
    """Whether it can be recovered: neither volatile nor with an acknowledgement."""
    began: int
    """The moment, as all that are numbers here: a place in the journal, not a time."""
    at: float
    """The time."""
    ended: int = NEVER
    """When `emit` returned; never, if it was cancelled."""
    offset: str | None = None
    """What the first who got it saw; everybody has to see the same."""

    @property
    def log(self) -> str:
        """Where it may be kept: with its room, or with the namespace."""
        return self.rooms[0] if len(self.rooms) == 1 else ""


@attrs.define(eq=False)
class Stay:
    """A time in a room."""

    room: str
    joins: int
    joined: int = NEVER
    leaves: int = NEVER
    left: int = NEVER

    def surely(self, said: Said) -> bool:
        """Whether it was there all the time."""
        return self.joined < said.began and said.ended < self.leaves

    def possibly(self, said: Said) -> bool:
        """Whether it was there for some of the time."""
        return self.joins < said.ended and said.began < self.left


@attrs.define(eq=False)
class Visit:
    """One session: from `on_connect` to `on_leave`, over any number of connections."""

    sid: str
    life: int
    began: int
    connected: int = NEVER
    """When its client had surely been told that it is connected: an emission to it alone, or a
    room that was joined; at the latest when `on_connect` had returned."""
    stays: list[Stay] = attrs.field(factory=list)
    got: dict[Said, None] = attrs.field(factory=dict, repr=lambda got: str([s.number for s in got]))
    """What its client read, in order."""
    lost_at: float | None = None
    """The time at which the server noticed; None while it believes in the connection."""
    has_left: bool = False
    had_to_leave: bool = False
    """Whether it left because its client wanted to, or did not come back in time."""

    def surely_in(self, rooms: Iterable[str], said: Said) -> bool:
        return any(
            (room == self.sid and self.connected <= said.began)
            or any(stay.room == room and stay.surely(said) for stay in self.stays)
            for room in rooms
        )

    def possibly_in(self, rooms: Iterable[str], said: Said) -> bool:
        return any(
            (room == self.sid and self.began < said.ended)
            or any(stay.room == room and stay.possibly(said) for stay in self.stays)
            for room in rooms
        )

    def has_to_get(self, said: Said) -> bool:
        """Whether it was surely meant."""
        if said.life != self.life or not said.is_stored or said.ended == NEVER:
            return False
        if self.possibly_in(said.excepted, said):
            return False
        if not said.rooms:
            return self.connected < said.began
        return self.surely_in(said.rooms, said)

    def may_get(self, said: Said) -> bool:
        """Whether it was possibly meant."""
        if said.life != self.life or self.surely_in(said.excepted, said):
            return False
        if not said.rooms:
            return self.began < said.ended
        return self.possibly_in(said.rooms, said)

    def is_late(self, now: float, limits: Limits) -> bool:
        """Whether it was lost for too long."""
        return self.lost_at is not None and now >= self.lost_at + limits.window

    def was_told(self, moment: int) -> None:
        """The client is connected since then, if not before."""
        self.connected = min(self.connected, moment)

    @property
    def rooms(self) -> tuple[set[str], set[str]]:
        """Where it surely is now, and where it possibly is."""
        surely = {s.room for s in self.stays if s.joined < NEVER and s.leaves == NEVER}
        return surely, {stay.room for stay in self.stays if stay.left == NEVER}


@attrs.define(eq=False)
class Run:
    """One run of a handler."""

    number: int
    life: int
    is_done: bool = False
    """Whether the handler returned; else it runs, or was cancelled."""


@attrs.define(eq=False)
class Order:
    """One event of a client, emitted or called."""

    number: int
    is_call: bool
    at: float
    began: int
    kept: int = NEVER
    """When it surely was in the client's queue."""
    fate: str = "open"
    """Then: refused, answered, given up; and "doubtful" where the client may drop it unseen."""
    answer: Any = None
    runs: list[Run] = attrs.field(factory=list)

    @property
    def done(self) -> list[Run]:
        return [run for run in self.runs if run.is_done]


class Journal:
    """Everything that happened in one example."""

    def __init__(self) -> None:
        self._moments = itertools.count(1)
        self.said: dict[int, Said] = {}
        self.visits: dict[str, Visit] = {}
        self.faults: list[str] = []
        """What may not be, as it was noticed."""
        self.runs = itertools.count(1)
        """Numbers for runs of handlers."""
        self._unchecked: dict[Visit, None] = {}

    def moment(self) -> int:
        """The next one."""
        return next(self._moments)

    def expect(self, is_fine: bool, text: str) -> None:
        """Writes down what is not fine."""
        if not is_fine:
            self.faults.append(text)

    def note(self, **about: Any) -> Said:
        """A server begins to emit."""
        said = Said(len(self.said) + 1, began=self.moment(), **about)
        self.said[said.number] = said
        return said

    def read(self, visit: Visit, said: Said, arguments: list[Any], offset: str | None) -> bool:
        """A client read an event. False if it had before, and may have forgotten that."""
        self._unchecked[visit] = None
        about = f"{said} for {visit}"
        self.expect(visit.may_get(said), f"was not meant: {about}")
        self.expect(arguments == said.arguments, f"{arguments} came: {about}")
        if said.is_stored:
            self.expect(offset is not None, f"no offset: {about}")
            self.expect(said.offset in (None, offset), f"another offset {offset}: {about}")
            said.offset = offset
        if said in visit.got:
            return False
        visit.got[said] = None
        return True

    def holes(self, visit: Visit, until: int) -> list[Said]:
        """What a visit had to get that was said before a moment, and did not."""
        missed = [said for said in self.said.values() if said.ended < until]
        return [said for said in missed if said not in visit.got and visit.has_to_get(said)]

    def check(self) -> None:
        """Whatever a client has got of a session is the beginning of what it had to get."""
        assert not self.faults, "\n".join(self.faults)
        for visit in self._unchecked:
            self._check_visit(visit)
        self._unchecked.clear()

    def _check_visit(self, visit: Visit) -> None:
        last = max(said.began for said in visit.got)
        assert self.holes(visit, last) == [], f"a hole in {visit.sid}"
        places = [_place(said) for said in visit.got if said.is_stored]
        assert places == sorted(set(places)), f"out of order in {visit.sid}"
        self._check_order(visit.got)

    def _check_order(self, got: Iterable[Said]) -> None:
        """What was said behind something else came behind it."""
        latest = 0
        for said in got:
            assert said.ended > latest, f"{said} came behind what was said later"
            latest = max(latest, said.began)

    def excuse(
        self, visit: Visit, life: int, offset: str | None, now: float, limits: Limits
    ) -> str | None:
        """Why a session that was asked for could not be had; None if it should have been."""
        if visit.life != life:
            return "another server"
        if visit.had_to_leave:
            return "it had ended"
        if visit.is_late(now, limits):
            return "too late"
        seen = [said for said in visit.got if offset is not None and said.offset == offset]
        since = seen[0].began if seen else visit.began
        later = [
            said
            for said in self.said.values()
            if said.is_stored and said.life == life and said.ended > since and said not in seen
        ]
        logs = {visit.sid, "", *(stay.room for stay in visit.stays)}
        for log in logs:
            kept = [said for said in later if said.log == log]
            if len(kept) > limits.events:
                return "too much was said"
            if any(said.at < now - limits.seconds for said in kept):
                return "it was too long ago"
        if len([said for said in later if visit.may_get(said)]) > limits.events:
            return "too much was missed"
        return None


def _place(said: Said) -> tuple[int, ...]:
    assert said.offset is not None
    return tuple(map(int, said.offset.split("-")))
