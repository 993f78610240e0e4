"""Why a player's place is free, why a room is over, and why it cannot be reached."""

from trio_rt.errors import Refuse
from trio_rt.machine.lobby_effects import Why
from trio_rt.reasons import Reason

LEFT = Reason("left", "the player left", come_back=True)
KICKED = Reason("kicked", "the player was put out", come_back=False)
FAULTY = Reason("faulty", "what the player sent made the room fail", come_back=False)
LOST = Reason("lost", "the player's connection was lost for too long", come_back=True)
EXPIRED = Reason("expired", "the reserved seat was not taken in time", come_back=True)

ENDED = Reason("ended", "the room has come to its end", come_back=False)
EMPTY = Reason("empty", "nobody was in the room any more", come_back=False)
NOT_READY = Reason("not ready", "too few were ready in time", come_back=False)
CRASHED = Reason("crashed", "the room failed, and failed again", come_back=False)
CLOSED = Reason("closed", "the program closed the room", come_back=False)
CANCELLED = Reason("cancelled", "the room was not started after all", come_back=False)

OF_WHY = {
    Why.LEFT: LEFT,
    Why.KICKED: KICKED,
    Why.FAULTY: FAULTY,
    Why.LOST: LOST,
    Why.EXPIRED: EXPIRED,
}
"""What the lobby's decisions are called towards hooks and members."""

NOT_FOUND = Refuse("not_found", "there is no such room")
UNAVAILABLE = Refuse("unavailable", "the room cannot be reached now; try again")
UNKNOWN = Refuse("unavailable", "the room's node did not answer; it may have done what was asked")
