"""Does a child that has ended run again? The restart rules of OTP's supervisors.

    rule       ended normally  failed
    ---------  --------------  ------------------------
    PERMANENT  Again, GiveUp   Again, GiveUp
    TRANSIENT  Done            Again, GiveUp
    TEMPORARY  Done            Done

GiveUp comes in the place of Again where that would be more than `intensity` restarts within
`period` seconds. Restarts that are excused do not count. A machine that has said Done or GiveUp has
no more to say.
Source: OTP's `supervisor`, "Tuning the intensity and period".
"""

import enum
from collections import deque

import attrs


class Restart(enum.Enum):
    """When a child runs again."""

    PERMANENT = "permanent"
    """Always: it is never right that it is not there."""

    TRANSIENT = "transient"
    """If it failed: it has an end of its own."""

    TEMPORARY = "temporary"
    """Never: what it did is gone with it."""


class Ending(enum.Enum):
    """How a child ended by itself."""

    NORMAL = "normal"
    FAILED = "failed"


@attrs.frozen
class Again:
    """Run the child again."""

    delay: float
    """Seconds to wait before."""


@attrs.frozen
class GiveUp:
    """The child failed too often to be run again."""

    text: str
    """The budget that it used up, for people."""


@attrs.frozen
class Done:
    """The child has ended, and that is all right."""


Verdict = Again | GiveUp | Done

_RUN_AGAIN = {
    (Restart.PERMANENT, Ending.NORMAL),
    (Restart.PERMANENT, Ending.FAILED),
    (Restart.TRANSIENT, Ending.FAILED),
}


class Restarts:
    """The restarts of one child.

    Args:
        rule: when it runs again.
        intensity: restarts that it may have within a period; 0 for none at all.
        period: seconds that a restart counts.
        delay: seconds to wait before each restart. With `period / intensity` or more the budget
            never runs out.
    """

    __slots__ = ("_delay", "_intensity", "_period", "_rule", "_times")

    def __init__(
        self, rule: Restart, *, intensity: int = 3, period: float = 10.0, delay: float = 0.0
    ) -> None:
        self._rule = rule
        self._intensity = intensity
        self._period = period
        self._delay = delay
        self._times: deque[float] = deque()  # of the restarts that count, never more than intensity

    def ended(self, ending: Ending, now: float, *, is_excused: bool = False) -> Verdict:
        """The child has ended by itself; what is excused costs nothing of its budget."""
        if (self._rule, ending) not in _RUN_AGAIN:
            return Done()
        if is_excused:
            return Again(self._delay)
        while self._times and now - self._times[0] > self._period:
            self._times.popleft()
        if len(self._times) >= self._intensity:
            return GiveUp(f"more than {self._intensity} restarts within {self._period:g} s")
        self._times.append(now)
        return Again(self._delay)
