"""One timer for many tasks that need not be punctual: rings bells when their time has come.

A task in `trio.sleep` costs 3,071 bytes and an entry in Trio's deadline heap; a task parked on a
bell costs 1,476. Deadlines are rounded up to a slot of time, so that thousands of heartbeats wake
in groups. A slot is a set of bells, so taking a bell back is cheap and leaves nothing behind.
"""

import math

from trio_rt.schedule.alarms import Alarms
from trio_rt.schedule.bell import Bell

SLOT = 0.02
"""Seconds that a slot spans: what a deadline may be late, far below any heartbeat's interval."""


class Wheel(Alarms):
    """Alarms that ring together with all others of their slot."""

    __slots__ = ()

    def ring_at(self, bell: Bell, deadline: float) -> float:
        """Rings `bell` at `deadline` on Trio's clock, or up to one slot later; never, if infinite.

        Returns:
            When its slot rings, to be handed to `forget`.
        """
        if deadline == math.inf:
            return deadline
        slot = math.ceil(deadline / SLOT)
        if slot * SLOT < deadline:  # who is rung too early would ask for the same slot for ever
            slot += 1
        return super().ring_at(bell, slot * SLOT)
