"""Who plays with whom: by size and by ratings, the more widely the longer one waits.

    ticket   add      cancel  tick: others fit  tick: waited too long
    -------  -------  ------  ----------------  ---------------------
    ABSENT   WAITING
    WAITING  Refused  ABSENT  Matched           Expired

A tick goes through the tickets from the oldest on. For each it looks at those whose rating is
within its window, takes the oldest of them that fill the match exactly, and goes on with who is
left. So nobody is passed over for a younger one who could have had the same match, a lonely rating
gets its match as soon as its own window reaches far enough, and the same tickets give the same
matches.
"""

import bisect
import math
from collections.abc import Sequence

import attrs
from attrs.validators import ge, gt

from trio_rt.machine.lobby_effects import Refused

NEAREST = 64
"""Tickets that are looked at for one match, those nearest in rating: with thousands in a window the
oldest of the nearest make the better match, and a tick stays cheap."""


@attrs.frozen(kw_only=True)
class MatchRules:
    """How tickets are matched."""

    size: int = attrs.field(validator=gt(1))
    """Players of a match."""

    window: float = attrs.field(default=100.0, validator=ge(0))
    """How far ratings may be apart at first."""

    widen: float = attrs.field(default=10.0, validator=ge(0))
    """How much that grows in a second."""

    max_window: float = attrs.field(default=math.inf, validator=ge(0))
    """How far ratings may ever be apart."""

    pace: float = attrs.field(default=1.0, validator=gt(0))
    """Seconds from one tick to the next, while somebody waits."""

    give_up: float = attrs.field(default=120.0, validator=gt(0))
    """Seconds after which a ticket is given up."""

    max_tickets: int = attrs.field(default=10_000, validator=gt(0))
    """Tickets that may wait at once."""

    def window_after(self, seconds: float) -> float:
        """How far ratings may be apart for one who has waited so long."""
        return min(self.window + self.widen * seconds, self.max_window)


@attrs.frozen
class Ticket:
    """One player, or several who come together, waiting for a match."""

    id: str
    rating: float
    size: int = 1
    """Players who come together."""


@attrs.frozen
class Matched:
    """These play together."""

    tickets: tuple[Ticket, ...]
    """The one whose window counted first, then the others, the oldest first."""


@attrs.frozen
class Expired:
    """A ticket found no match in time."""

    ticket: Ticket


FULL = Refused("full", "too many are waiting for a match already")
ALREADY_WAITING = Refused("already_waiting", "this ticket waits for a match already")
BAD_TICKET = Refused("bad_ticket", "the ticket has no number for a rating, or too many players")


class Matchmaker:
    """The tickets that wait for matches of one kind.

    Args:
        rules: how they are matched.
    """

    __slots__ = ("_by_rating", "_last_tick", "_next_number", "_rules", "_waiting", "deadline")

    def __init__(self, rules: MatchRules) -> None:
        self._rules = rules
        self._waiting: dict[str, _Waiting] = {}  # the oldest first
        self._by_rating: list[tuple[float, int, _Waiting]] = []  # sorted
        self._next_number = 0
        self._last_tick = -math.inf
        self.deadline = math.inf
        """When `tick` wants to be called."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, id: object) -> bool:
        return id in self._waiting

    def add(self, ticket: Ticket, now: float) -> Refused | None:
        """A ticket waits from now on.

        Returns:
            Why it does not, or `None`.
        """
        if ticket.id in self._waiting:
            return ALREADY_WAITING
        if not math.isfinite(ticket.rating) or not 1 <= ticket.size <= self._rules.size:
            return BAD_TICKET
        if len(self._waiting) >= self._rules.max_tickets:
            return FULL
        waiting = _Waiting(ticket, now, self._next_number)
        self._next_number += 1
        self._waiting[ticket.id] = waiting
        bisect.insort(self._by_rating, waiting.place)
        self.deadline = min(self.deadline, max(now, self._last_tick + self._rules.pace))
        return None

    def cancel(self, id: str) -> bool:
        """A ticket waits no more. False if it did not."""
        if id not in self._waiting:
            return False
        self._forget(self._waiting[id])
        return True

    def tick(self, now: float) -> list[Matched | Expired]:
        """Time has passed: whoever fits plays, and whoever has waited too long is told."""
        if now < self.deadline:
            return []
        effects: list[Matched | Expired] = []
        for waiting in list(self._waiting.values()):
            if waiting.ticket.id in self._waiting:  # and in no match of this tick
                effects += self._match(waiting, now)
        for waiting in list(self._waiting.values()):
            if waiting.since + self._rules.give_up <= now:
                self._forget(waiting)
                effects.append(Expired(waiting.ticket))
        self._last_tick = now
        self.deadline = self._next_tick(now)
        return effects

    def _match(self, waiting: "_Waiting", now: float) -> list[Matched]:
        others = fill(self._near(waiting, now), self._rules.size - waiting.ticket.size)
        if others is None:
            return []
        members = (waiting, *others)
        for member in members:
            self._forget(member)
        return [Matched(tuple(member.ticket for member in members))]

    def _near(self, waiting: "_Waiting", now: float) -> list["_Waiting"]:
        """Those in the window of one, the oldest first."""
        window = self._rules.window_after(now - waiting.since)
        place = bisect.bisect_left(self._by_rating, waiting.place)
        around = self._by_rating[max(0, place - NEAREST) : place + NEAREST + 1]
        near = [
            (abs(rating - waiting.ticket.rating), number, other)
            for rating, number, other in around
            if other is not waiting and abs(rating - waiting.ticket.rating) <= window
        ]
        nearest = sorted(near)[:NEAREST]
        return [other for _, _, other in sorted(nearest, key=lambda found: found[1])]

    def _forget(self, waiting: "_Waiting") -> None:
        del self._waiting[waiting.ticket.id]
        del self._by_rating[bisect.bisect_left(self._by_rating, waiting.place)]
        if not self._waiting:
            self.deadline = math.inf

    def _next_tick(self, now: float) -> float:
        """The next pace while a window grows, at the latest when the oldest is given up."""
        if not self._waiting:
            return math.inf
        oldest = next(iter(self._waiting.values()))
        youngest = next(reversed(self._waiting.values()))
        window, later = (
            self._rules.window_after(now + seconds - youngest.since)
            for seconds in (0.0, self._rules.pace)
        )
        next_pace = now + self._rules.pace if later > window else math.inf
        return min(next_pace, oldest.since + self._rules.give_up)


@attrs.frozen(eq=False)
class _Waiting:
    """A ticket that waits."""

    ticket: Ticket
    since: float
    number: int
    """Which ticket it was that came: lower ones are older."""

    @property
    def place(self) -> "tuple[float, int, _Waiting]":
        """Where it stands among all, sorted by rating."""
        return self.ticket.rating, self.number, self


def fill(candidates: Sequence[_Waiting], size: int) -> tuple[_Waiting, ...] | None:
    """The candidates that make up `size` players exactly, reaching as little back as possible.

    Returns:
        The first candidates with which it can be done; `None` if it cannot.
    """
    ways: dict[int, tuple[_Waiting, ...]] = {0: ()}  # how to make up so many, found first
    for candidate in candidates:
        if size in ways:
            break
        for made, way in list(ways.items()):
            if made + candidate.ticket.size <= size:
                ways.setdefault(made + candidate.ticket.size, (*way, candidate))
    return ways.get(size)
