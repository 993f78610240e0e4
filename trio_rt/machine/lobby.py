"""A lobby before, during and after a game: who comes in, who is ready, when it starts and ends.

    phase      all ready  one not, or leaves  start    end    rematch  no players  nobody  its time
    ---------  ---------  ------------------  -------  -----  -------  ----------  ------  --------
    OPEN       COUNTDOWN                      PLAYING                              CLOSED
    COUNTDOWN             OPEN                PLAYING                                      PLAYING
    PLAYING                                            ENDED           ENDED
    ENDED                                                     OPEN                 CLOSED  CLOSED
    CLOSED

An empty cell is refused, or changes nothing. "Nobody" is nobody seated, held, expected or watching,
for `Rules.linger` seconds; `close` closes at once.

Each input lets time pass first, as `tick` would: who comes back too late finds the seat gone,
however late `tick` is called. What is due happens at its own time, one thing after the other.

`by` is the player who asks; `None` is the program itself, which may do everything.

Longer than other machines, because every input lets time pass, may be refused, and settles what
follows: apart, these three would have to know all of each other.
"""

import math
from collections.abc import Mapping, Set
from typing import Any

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
    Invited,
    LobbyEffect,
    Phase,
    PhaseChanged,
    Refused,
    Rules,
    StoppedWatching,
    Watching,
    Why,
    wrong_phase,
)
from trio_rt.machine.seats import Seats

GATHERING = frozenset({Phase.OPEN, Phase.COUNTDOWN})
ALIVE = frozenset(Phase) - {Phase.CLOSED}


class Lobby:
    """One lobby.

    Args:
        rules: its rules.
        now: the time at which it is opened.
    """

    __slots__ = (
        "_at_least",
        "_banned",
        "_effects",
        "_empty_since",
        "_invites",
        "_rules",
        "_seats",
        "_spectators",
        "_until",
        "phase",
    )

    def __init__(self, rules: Rules, now: float) -> None:
        self._rules = rules
        self._at_least = rules.at_least
        self._seats = Seats(rules)
        self._spectators: dict[str, None] = {}
        self._invites: dict[str, float] = {}  # until when a code is good
        self._banned: dict[str, None] = {}  # the first kicked first
        self._until = math.inf  # of the phase
        self._empty_since: float | None = now
        self._effects: list[LobbyEffect] = []
        self.phase = Phase.OPEN

    # --- Asking

    @property
    def host(self) -> str | None:
        """The player who may start, end and kick."""
        return self._seats.host

    @property
    def players(self) -> tuple[str, ...]:
        """Who has a seat, those whose seat is held included, the longest first."""
        return tuple(self._seats.players)

    @property
    def held(self) -> tuple[str, ...]:
        """The players who were lost."""
        return tuple(name for name in self._seats.players if name not in self._seats.present)

    @property
    def ready_players(self) -> tuple[str, ...]:
        """The players who are ready."""
        return tuple(name for name, player in self._seats.players.items() if player.is_ready)

    @property
    def reserved(self) -> tuple[str, ...]:
        """For whom a seat waits."""
        return tuple(self._seats.reserved)

    @property
    def spectators(self) -> tuple[str, ...]:
        """Who watches."""
        return tuple(self._spectators)

    @property
    def free_seats(self) -> int:
        """Seats that anybody may take."""
        return self._seats.free

    @property
    def until(self) -> float:
        """When the phase ends by itself; never, where it waits for somebody."""
        return self._until

    def held_until(self, player: str) -> float:
        """When the seat of a player who was lost is given up; never for one who is there."""
        return self._seats.held_until(player)

    @property
    def deadline(self) -> float:
        """When `tick` wants to be called."""
        if self.phase is Phase.CLOSED:
            return math.inf
        closing = math.inf if self._empty_since is None else self._empty_since + self._rules.linger
        return min(self._until, closing, self._seats.deadline)

    # --- Coming and going

    def join(self, player: str, now: float, *, code: str | None = None) -> list[LobbyEffect]:
        """Somebody wants a seat, or wants the one back that is held."""
        self._begin(now)
        if player in self.held:
            return self.returned(player, now)
        refusal = self._why_not_join(player, now, code)
        if refusal is None:
            self._stop_watching(player, Why.SEATED)
            self._effects += self._seats.sit(player)
        return self._finish(now, refusal)

    def watch(self, player: str, now: float, *, code: str | None = None) -> list[LobbyEffect]:
        """Somebody wants to watch."""
        self._begin(now)
        refusal = self._why_not_watch(player, now, code)
        if refusal is None:
            self._spectators[player] = None
            self._effects.append(Watching(player))
        return self._finish(now, refusal)

    def leave(self, player: str, now: float) -> list[LobbyEffect]:
        """Somebody goes for good, or does not want the seat that waits."""
        self._begin(now)
        refusal = None if self._is_here(player) else NOT_HERE
        self._put_out(player, Why.LEFT)
        return self._finish(now, refusal)

    def kick(
        self, by: str | None, player: str, now: float, *, why: Why = Why.KICKED
    ) -> list[LobbyEffect]:
        """Somebody is put out, and cannot come back."""
        self._begin(now)
        refusal = self._why_not_host(by)
        if refusal is None and player == by:
            refusal = NOT_YOURSELF
        if refusal is None and not self._is_here(player):
            refusal = NOT_HERE
        if refusal is None:
            self._put_out(player, why)
            self._ban(player)
        return self._finish(now, refusal)

    def dropped(self, player: str, now: float) -> list[LobbyEffect]:
        """Somebody's connection was lost: a seat is held, a spectator is gone."""
        self._begin(now)
        if player in self._seats.present:
            self._effects += self._seats.hold(player, now)
        self._stop_watching(player, Why.LOST)
        return self._finish(now)

    def hold(self, player: str, seconds: float, now: float) -> list[LobbyEffect]:
        """The seat of one player is held for so long: from when the connection was, or is, lost."""
        self._begin(now)
        refusal = None if player in self._seats.players else NOT_HERE
        if refusal is None:
            self._seats.players[player].hold = seconds
            if player in self.held:
                self._effects.append(Held(player, self._seats.held_until(player)))
        return self._finish(now, refusal)

    def returned(self, player: str, now: float) -> list[LobbyEffect]:
        """A player who was lost is back; harmless for one who is there."""
        self._begin(now)
        if player in self.held:
            self._effects += self._seats.take_back(player)
        return self._finish(now, None if player in self._seats.players else NOT_HERE)

    def reserve(self, player: str, now: float) -> list[LobbyEffect]:
        """A seat is to wait for somebody, or to wait longer. The program alone decides that."""
        self._begin(now)
        refusal = self._why_not_reserve(player)
        if refusal is None:
            self._effects += self._seats.reserve(player, now)
        return self._finish(now, refusal)

    def invite(self, by: str | None, code: str, now: float) -> list[LobbyEffect]:
        """A player invites.

        Args:
            by: who does.
            code: what guests will show: random enough that nobody guesses it.
            now: the time.
        """
        self._begin(now)
        self._invites = {code: until for code, until in self._invites.items() if until > now}
        refusal = self._why_not_invite(by, code)
        if refusal is None:
            self._invites[code] = now + self._rules.invite
            self._effects.append(Invited(code, self._invites[code]))
        return self._finish(now, refusal)

    # --- The game

    def ready(self, player: str, now: float) -> list[LobbyEffect]:
        """A player is ready."""
        return self._mark(player, True, now)

    def unready(self, player: str, now: float) -> list[LobbyEffect]:
        """A player is not ready after all."""
        return self._mark(player, False, now)

    def ready_check(self, at_least: int | None, now: float) -> list[LobbyEffect]:
        """From now on so many players, all ready, start the game; `None`: only `start` does."""
        self._begin(now)
        refusal = self._why_not_in(GATHERING)
        if refusal is None:
            self._at_least = at_least
        return self._finish(now, refusal)

    def start(self, by: str | None, now: float) -> list[LobbyEffect]:
        """The game starts at once, whoever is ready."""
        self._begin(now)
        refusal = self._why_not_host(by) or self._why_not_in(GATHERING)
        if refusal is None and len(self._seats.present) < (self._at_least or 1):
            refusal = NOT_ENOUGH
        if refusal is None:
            self._play()
        return self._finish(now, refusal)

    def end(self, by: str | None, now: float) -> list[LobbyEffect]:
        """The game is over."""
        self._begin(now)
        refusal = self._why_not_host(by) or self._why_not_in({Phase.PLAYING})
        if refusal is None:
            self._enter(Phase.ENDED, now + self._rules.rematch)
        return self._finish(now, refusal)

    def rematch(self, by: str | None, now: float) -> list[LobbyEffect]:
        """There will be another game: everybody stays, and gets ready anew."""
        self._begin(now)
        refusal = self._why_not_host(by) or self._why_not_in({Phase.ENDED})
        if refusal is None:
            self._enter(Phase.OPEN)
        return self._finish(now, refusal)

    def close(self, now: float) -> list[LobbyEffect]:
        """The lobby is over, whoever is there."""
        self._begin(now)
        if self.phase is not Phase.CLOSED:
            self._close()
        return self._finish(now)

    def tick(self, now: float) -> list[LobbyEffect]:
        """Time has passed."""
        self._begin(now)
        return self._finish(now)

    # --- From one node to another

    def dump(self, now: float) -> dict[str, Any]:
        """All of it as JSON, with times counted from `now`."""
        return {
            "phase": self.phase.value,
            "seconds": None if self._until == math.inf else self._until - now,
            "at_least": self._at_least,
            "empty": None if self._empty_since is None else now - self._empty_since,
            "seats": self._seats.dump(now),
            "spectators": list(self._spectators),
            "invites": {code: until - now for code, until in self._invites.items()},
            "banned": list(self._banned),
        }

    @classmethod
    def load(cls, rules: Rules, dumped: Mapping[str, Any], now: float) -> "Lobby":
        """What `dump` gave, on another clock; the time between them does not count.

        Whoever was there is there: say `dropped` of those whose connections are not.
        """
        lobby = cls(rules, now)
        lobby.phase = Phase(dumped["phase"])
        lobby._until = math.inf if dumped["seconds"] is None else now + dumped["seconds"]
        lobby._at_least = dumped["at_least"]
        lobby._seats = Seats.load(rules, dumped["seats"], now)
        lobby._spectators = dict.fromkeys(dumped["spectators"])
        lobby._invites = {code: now + seconds for code, seconds in dumped["invites"].items()}
        lobby._banned = dict.fromkeys(dumped["banned"])
        lobby._empty_since = None if dumped["empty"] is None else now - dumped["empty"]
        return lobby

    # --- Why not

    def _why_not_in(self, phases: Set[Phase]) -> Refused | None:
        return None if self.phase in phases else wrong_phase(self.phase)

    def _why_not_host(self, by: str | None) -> Refused | None:
        return None if by is None or by == self.host else NOT_HOST

    def _why_not_join(self, player: str, now: float, code: str | None) -> Refused | None:
        if player in self._banned:
            return BANNED
        if player in self._seats.players:
            return ALREADY_HERE
        if player in self._seats.reserved:
            return None
        refusal = self._why_not_in(self._joinable) or self._why_not_invited(player, now, code)
        return refusal or (FULL if self._seats.free < 1 else None)

    def _why_not_watch(self, player: str, now: float, code: str | None) -> Refused | None:
        if player in self._banned:
            return BANNED
        if player in self._seats.players or player in self._spectators:
            return ALREADY_HERE
        refusal = self._why_not_in(ALIVE) or self._why_not_invited(player, now, code)
        is_full = len(self._spectators) >= self._rules.max_spectators
        return refusal or (FULL if is_full else None)

    def _why_not_invited(self, player: str, now: float, code: str | None) -> Refused | None:
        if self._is_here(player) or (code is None and not self._rules.invite_only):
            return None
        is_good = code is not None and now < self._invites.get(code, -math.inf)
        return None if is_good else BAD_INVITE

    def _why_not_reserve(self, player: str) -> Refused | None:
        if player in self._banned:
            return BANNED
        if player in self._seats.players:
            return ALREADY_HERE
        if player in self._seats.reserved:
            return None
        return self._why_not_in(self._joinable) or (FULL if self._seats.free < 1 else None)

    def _why_not_invite(self, by: str | None, code: str) -> Refused | None:
        if by is not None and by not in self._seats.players:
            return NOT_HERE
        if code not in self._invites and len(self._invites) >= self._rules.max_invites:
            return TOO_MANY_INVITES
        return self._why_not_in(ALIVE)

    @property
    def _joinable(self) -> Set[Phase]:
        return ALIVE if self._rules.late_join else ALIVE - {Phase.PLAYING}

    def _is_here(self, player: str) -> bool:
        seats = self._seats
        return player in seats.players or player in seats.reserved or player in self._spectators

    # --- What is done

    def _mark(self, player: str, is_ready: bool, now: float) -> list[LobbyEffect]:
        self._begin(now)
        refusal = None if player in self._seats.present else NOT_HERE
        refusal = refusal or self._why_not_in(GATHERING)
        if refusal is None:
            self._effects += self._seats.mark(player, is_ready)
        return self._finish(now, refusal)

    def _put_out(self, player: str, why: Why) -> None:
        if player in self._seats.players and self.phase is Phase.COUNTDOWN:
            self._enter(Phase.OPEN)
        if player in self._seats.players or player in self._seats.reserved:
            self._effects += self._seats.free_seat(player, why)
        self._stop_watching(player, why)

    def _stop_watching(self, player: str, why: Why) -> None:
        if player in self._spectators:
            del self._spectators[player]
            self._effects.append(StoppedWatching(player, why))

    def _ban(self, player: str) -> None:
        self._banned[player] = None
        if len(self._banned) > self._rules.max_bans:
            del self._banned[next(iter(self._banned))]

    def _play(self) -> None:
        self._seats.clear_marks()
        self._enter(Phase.PLAYING)

    def _close(self) -> None:
        self._seats = Seats(self._rules)
        self._spectators, self._invites = {}, {}
        self._enter(Phase.CLOSED)

    def _enter(self, phase: Phase, until: float = math.inf) -> None:
        self.phase = phase
        self._until = until
        self._effects.append(PhaseChanged(phase, None if until == math.inf else until))

    # --- Time, and what follows by itself

    def _begin(self, now: float) -> None:
        """Everything that was due until now happens, each thing at its own time."""
        while (due := self.deadline) <= now:
            self._pass(due)
            self._settle(due)

    def _finish(self, now: float, refusal: Refused | None = None) -> list[LobbyEffect]:
        """What follows from what was done."""
        if refusal is not None:
            self._effects.append(refusal)
        self._settle(now)
        self._begin(now)  # where a time is zero
        effects, self._effects = self._effects, []
        return effects

    def _pass(self, now: float) -> None:
        """Time is up for something."""
        self._effects += self._seats.tick(now)
        is_empty = self._empty_since is not None and self._empty_since + self._rules.linger <= now
        if self._until <= now and self.phase is Phase.COUNTDOWN:
            self._play()
        elif self._until <= now or is_empty:
            self._close()

    def _settle(self, now: float) -> None:
        """The rules that hold whatever has happened."""
        is_start = self._at_least is not None and self._seats.are_ready(self._at_least)
        if self.phase is Phase.OPEN and is_start:
            self._enter(Phase.COUNTDOWN, now + self._rules.countdown)
        elif self.phase is Phase.COUNTDOWN and not is_start:
            self._enter(Phase.OPEN)
        elif self.phase is Phase.PLAYING and not self._seats.players:
            self._enter(Phase.ENDED, now + self._rules.rematch)
        self._effects += self._seats.settle_host(now)
        if self._seats.players or self._seats.reserved or self._spectators:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = now
