"""Contract of a cluster: which nodes there are, and how they ask and tell each other.

Nodes are known by leases: one that does not renew its own is gone, for everybody, and has to see
that for itself. What is asked is answered by all who are there, or they are named as missing: a
question never waits for a node that is known to be dead.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

import attrs


@attrs.frozen
class Question:
    """Another node, or this one, wants to know something: answer it with `Nodes.answer`."""

    id: str
    node: str
    """Who asks."""
    body: bytes


@attrs.frozen
class Note:
    """Another node tells something about a room; what arrives late or never is asked for anew."""

    node: str
    """Who tells it."""
    namespace: str
    room: str
    body: bytes


@attrs.frozen
class NodeDown:
    """A node is gone: what it held is free, and what it said does not count any more."""

    node: str


@attrs.frozen
class Fenced:
    """The others take this node for dead: what it holds by lease is somebody else's by now.

    Its name is another one from here on.
    """


@attrs.frozen
class Rejoined:
    """This node was cut off for a while: what others told meanwhile, or it told them, may be lost.

    Events are not meant: those arrive, or are told of as a `Gap`.
    """


@attrs.frozen
class Answers:
    """What came back."""

    bodies: Mapping[str, bytes]
    """By node."""

    missing: frozenset[str]
    """Nodes that were there and did not answer in time, or went meanwhile."""


class Nodes(ABC):
    """The nodes of a cluster as one of them sees them."""

    @property
    @abstractmethod
    def node(self) -> str:
        """This node's name: new for each life of it."""

    @property
    @abstractmethod
    def nodes(self) -> frozenset[str]:
        """All nodes that are there, this one included."""

    @abstractmethod
    async def ask(
        self, body: bytes, *, nodes: Iterable[str] | None = None, timeout: float
    ) -> Answers:
        """Asks the other nodes and gathers their answers.

        Args:
            body: the question; what it means is the asker's.
            nodes: whom to ask; None for all others.
            timeout: seconds to wait for those that are there. It returns as soon as all of them
                have answered or gone.
        """

    @abstractmethod
    def answer(self, question: Question, body: bytes) -> None:
        """Answers a question that has arrived."""

    @abstractmethod
    def tell(self, namespace: str, room: str, body: bytes) -> None:
        """Tells the other nodes that have subscribed to a room; best effort, in order."""
