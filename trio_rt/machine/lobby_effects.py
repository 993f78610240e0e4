"""What a lobby decides, as values: the room carries them out and tells its members."""

import enum
from typing import Any

import attrs
from attrs.validators import ge, gt, optional


class Phase(enum.Enum):
    """How far a lobby's game is."""

    OPEN = "open"
    """Players gather."""

    COUNTDOWN = "countdown"
    """All are ready: the game is about to start."""

    PLAYING = "playing"
    """The game runs. Nobody is marked ready any more."""

    ENDED = "ended"
    """The game is over; there may be another one."""

    CLOSED = "closed"
    """The lobby is over, and nobody is in it any more."""


class Why(enum.Enum):
    """Why somebody's place is free again."""

    LEFT = "left"
    KICKED = "kicked"
    FAULTY = "faulty"
    """What they sent made the room fail, and again."""
    LOST = "lost"
    """Their connection was lost, and they did not come back in time."""
    EXPIRED = "expired"
    """They did not take the seat that was reserved for them in time."""
    SEATED = "seated"
    """They do not watch any more, because they took a seat."""


def _seconds(default: float) -> Any:
    return attrs.field(default=default, validator=ge(0))


def _count(default: int) -> Any:
    return attrs.field(default=default, validator=ge(0))


@attrs.frozen(kw_only=True)
class Rules:
    """The rules of one lobby."""

    seats: int = attrs.field(validator=gt(0))
    """Players at most."""

    at_least: int | None = attrs.field(default=None, validator=optional(gt(0)))
    """Players that, all ready, start the game; `None`: only `start` does."""

    countdown: float = _seconds(3.0)
    """Seconds from all being ready to the start."""

    hold: float = _seconds(30.0)
    """Seconds that the seat of a player who was lost is held."""

    host_grace: float = _seconds(10.0)
    """Seconds that a host who was lost stays the host while others are there."""

    reservation: float = _seconds(30.0)
    """Seconds that a reserved seat waits for its player."""

    invite: float = _seconds(600.0)
    """Seconds that an invite code is good for, for any number of guests."""

    rematch: float = _seconds(120.0)
    """Seconds that a lobby whose game has ended waits for another game, and then closes."""

    linger: float = _seconds(60.0)
    """Seconds that a lobby with nobody in it stays open: before the first, and after the last."""

    invite_only: bool = False
    """Whether a code, or a reservation, is needed to come in."""

    late_join: bool = False
    """Whether free seats can be taken while the game runs. Who has a reservation always can."""

    max_spectators: int = _count(100)
    """People who watch."""

    max_invites: int = _count(20)
    """Codes that are good at once."""

    max_bans: int = _count(1_000)
    """Players remembered as kicked; of more, the first is forgotten."""


@attrs.frozen
class Seated:
    """A player has a seat."""

    player: str


@attrs.frozen
class Held:
    """A player was lost, and is not ready any more; the seat waits."""

    player: str
    until: float


@attrs.frozen
class Returned:
    """A player who was lost is back in the seat."""

    player: str


@attrs.frozen
class Reserved:
    """A seat waits for a player."""

    player: str
    until: float


@attrs.frozen
class SeatFreed:
    """A seat, taken or reserved, is free again."""

    player: str
    why: Why


@attrs.frozen
class Watching:
    """Somebody watches."""

    player: str


@attrs.frozen
class StoppedWatching:
    """Somebody does not watch any more."""

    player: str
    why: Why


@attrs.frozen
class ReadyChanged:
    """A player is ready, or not ready any more."""

    player: str
    is_ready: bool


@attrs.frozen
class HostChanged:
    """Another player is the host; `None`: there are no players."""

    host: str | None


@attrs.frozen
class PhaseChanged:
    """The lobby is in another phase."""

    phase: Phase
    until: float | None = None
    """When it ends by itself: a countdown with the start, an ended game with the closing."""


@attrs.frozen
class Invited:
    """An invite code is good."""

    code: str
    until: float


@attrs.frozen
class Refused:
    """Somebody asked for what cannot be: tell them, nothing has changed."""

    code: str
    message: str


LobbyEffect = (
    Seated
    | Held
    | Returned
    | Reserved
    | SeatFreed
    | Watching
    | StoppedWatching
    | ReadyChanged
    | HostChanged
    | PhaseChanged
    | Invited
    | Refused
)

FULL = Refused("full", "no place is free")
BANNED = Refused("banned", "you were put out of this lobby")
NOT_HOST = Refused("not_host", "only the host can do that")
NOT_HERE = Refused("not_here", "nobody of that name has a place here")
ALREADY_HERE = Refused("already_here", "you have a place already")
BAD_INVITE = Refused("bad_invite", "the invite code is not good, or not any more")
TOO_MANY_INVITES = Refused("too_many_invites", "there are enough invite codes already")
NOT_ENOUGH = Refused("not_enough", "there are not enough players yet")
NOT_YOURSELF = Refused("not_yourself", "leave instead of kicking yourself")


def wrong_phase(phase: Phase) -> Refused:
    """A refusal that names the phase in which something cannot be done."""
    return Refused("wrong_phase", f"that cannot be done while the lobby is {phase.value}")
