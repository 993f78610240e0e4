"""Contract of leases: what only one node of a cluster may do at a time, and the state of it.

A lease has a fencing token that grows with each new holder, so that a holder who was paused and
does not know that its time is over cannot write any more.
"""

from abc import ABC, abstractmethod

import attrs


@attrs.frozen
class Lease:
    """This node may act for `name` until `expires`, if it is not renewed before."""

    name: str

    token: int
    """Greater than that of every holder before."""

    expires: float
    """On Trio's clock, counted from before it was asked for: the store's end is later. `math.inf`
    where there is nobody else."""


@attrs.frozen
class Held:
    """Another node has the lease."""

    node: str

    seconds: float
    """Until it is free, if it is not renewed."""


class Leases(ABC):
    """Names that one node at a time may act for."""

    @abstractmethod
    async def acquire(self, name: str, seconds: float) -> Lease | Held:
        """Takes a lease, or a new time for one's own; or tells who has it."""

    @abstractmethod
    async def renew(self, lease: Lease, seconds: float) -> Lease | None:
        """A lease with a new time; None if it is somebody else's by now: stop acting at once."""

    @abstractmethod
    async def give_back(self, lease: Lease) -> None:
        """Frees a lease before its time; harmless if it is somebody else's."""

    @abstractmethod
    async def save(self, lease: Lease, state: bytes | None) -> bool:
        """Writes the state that belongs to a lease's name; None removes it.

        Returns:
            Whether it was written: False if somebody has had the lease after this one.
        """

    @abstractmethod
    async def load(self, name: str) -> bytes | None:
        """The state that was last written for a name."""

    @abstractmethod
    async def holders(self, prefix: str) -> dict[str, str]:
        """The nodes that hold leases whose names begin with `prefix`, by name: no ghosts."""
