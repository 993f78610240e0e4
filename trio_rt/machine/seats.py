"""Who sits in a lobby: seats, reservations, seats that are held, and the host.

    player    sit      hold  take_back  mark ready  free  time passes
    --------  -------  ----  ---------  ----------  ----  ---------------------------
    ABSENT    SEATED
    RESERVED  SEATED                                ABSENT  ABSENT, once it has expired
    SEATED             HELD             READY       ABSENT
    READY              HELD             SEATED      ABSENT
    HELD                     SEATED                 ABSENT  ABSENT, once it was held long enough

The host is the player who sits longest. A host who was lost hands over after a grace, if anybody
is there to take over; otherwise to the first who comes.

Permission is the lobby's matter: whoever calls has made sure that what is asked for can be.
"""

import math
from collections.abc import Mapping
from typing import Any

import attrs

from trio_rt.machine.lobby_effects import (
    Held,
    HostChanged,
    LobbyEffect,
    ReadyChanged,
    Reserved,
    Returned,
    Rules,
    Seated,
    SeatFreed,
    Why,
)


@attrs.define
class Player:
    """One who has a seat."""

    is_ready: bool = False

    lost_at: float | None = None
    """When the connection was lost; `None`: it is there."""

    hold: float | None = None
    """Seconds that the seat is held then, if not as long as the rules say."""


class Seats:
    """The seats of one lobby."""

    __slots__ = ("_rules", "host", "players", "reserved")

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.players: dict[str, Player] = {}
        """Who has a seat, the longest first."""
        self.reserved: dict[str, float] = {}
        """Until when a seat waits for whom."""
        self.host: str | None = None

    @property
    def free(self) -> int:
        """Seats that anybody may take."""
        return self._rules.seats - len(self.players) - len(self.reserved)

    @property
    def present(self) -> list[str]:
        """The players whose connection is there, the longest first."""
        return [name for name, player in self.players.items() if player.lost_at is None]

    def are_ready(self, at_least: int) -> bool:
        """Whether enough are there, all ready, and nobody is waited for."""
        return (
            len(self.players) >= at_least
            and not self.reserved
            and all(player.is_ready for player in self.players.values())
        )

    def sit(self, name: str) -> list[LobbyEffect]:
        """Somebody takes a free seat, or the one reserved for them."""
        self.reserved.pop(name, None)
        self.players[name] = Player()
        return [Seated(name)]

    def reserve(self, name: str, now: float) -> list[LobbyEffect]:
        """A free seat waits for somebody, from now on."""
        self.reserved[name] = now + self._rules.reservation
        return [Reserved(name, self.reserved[name])]

    def free_seat(self, name: str, why: Why) -> list[LobbyEffect]:
        """A seat, taken or reserved, is given up."""
        self.players.pop(name, None)
        self.reserved.pop(name, None)
        return [SeatFreed(name, why)]

    def hold(self, name: str, now: float) -> list[LobbyEffect]:
        """A player was lost."""
        self.players[name].lost_at = now
        return [*self.mark(name, False), Held(name, self.held_until(name))]

    def held_until(self, name: str) -> float:
        """When a player is given up; never for one who is there."""
        player = self.players[name]
        seconds = self._rules.hold if player.hold is None else player.hold
        return math.inf if player.lost_at is None else player.lost_at + seconds

    def take_back(self, name: str) -> list[LobbyEffect]:
        """A player who was lost is back."""
        self.players[name].lost_at = None
        return [Returned(name)]

    def mark(self, name: str, is_ready: bool) -> list[LobbyEffect]:
        """A player is ready, or not."""
        if self.players[name].is_ready is is_ready:
            return []
        self.players[name].is_ready = is_ready
        return [ReadyChanged(name, is_ready)]

    def clear_marks(self) -> None:
        """Nobody is ready any more."""
        for player in self.players.values():
            player.is_ready = False

    def settle_host(self, now: float) -> list[LobbyEffect]:
        """There is one host while there are players, and one who is there if that can be."""
        if self.host in self.players and now < self._handover:
            return []
        host = next(iter(self.present), next(iter(self.players), None))
        if host == self.host:
            return []
        self.host = host
        return [HostChanged(host)]

    def tick(self, now: float) -> list[LobbyEffect]:
        """Time has passed: seats that waited long enough are free."""
        lost = [name for name in self.players if self.held_until(name) <= now]
        expired = [name for name, until in self.reserved.items() if until <= now]
        effects: list[LobbyEffect] = []
        for name in lost:
            effects += self.free_seat(name, Why.LOST)
        for name in expired:
            effects += self.free_seat(name, Why.EXPIRED)
        return effects

    @property
    def deadline(self) -> float:
        """When `tick`, and then `settle_host`, want to be called."""
        held = map(self.held_until, self.players)
        return min((*held, *self.reserved.values(), self._handover))

    def dump(self, now: float) -> dict[str, Any]:
        """All of it as JSON, with times counted from `now`."""
        return {
            "players": {
                name: [
                    player.is_ready,
                    None if player.lost_at is None else now - player.lost_at,
                    player.hold,
                ]
                for name, player in self.players.items()
            },
            "reserved": {name: until - now for name, until in self.reserved.items()},
            "host": self.host,
        }

    @classmethod
    def load(cls, rules: Rules, dumped: Mapping[str, Any], now: float) -> "Seats":
        """What `dump` gave, on another clock."""
        seats = cls(rules)
        seats.players = {
            name: Player(is_ready, None if lost_for is None else now - lost_for, hold)
            for name, (is_ready, lost_for, hold) in dumped["players"].items()
        }
        seats.reserved = {name: now + seconds for name, seconds in dumped["reserved"].items()}
        seats.host = dumped["host"]
        return seats

    @property
    def _handover(self) -> float:
        """When the host has to hand over; never while the host is there, or nobody else."""
        if self.host is None or self.host not in self.players or not self.present:
            return math.inf
        lost_at = self.players[self.host].lost_at
        return math.inf if lost_at is None else lost_at + self._rules.host_grace
