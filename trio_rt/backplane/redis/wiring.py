"""How a node is joined to Redis: by two links to one server, or to the primaries of a cluster.

    one server   a link for commands, and one for subscriptions
    cluster      a link for commands to each primary, and one for subscriptions in each partition

Everything else is the same for both.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from trio_rt.backplane.redis.cluster_link import ClusterLink
from trio_rt.backplane.redis.dial import Dial
from trio_rt.backplane.redis.epoch import EpochDial, Epochs
from trio_rt.backplane.redis.keys import Keys
from trio_rt.backplane.redis.settings import RedisSettings
from trio_rt.backplane.redis.slot_link import SlotLink
from trio_rt.backplane.redis.slots import HOME, TAGS, partition_of, slot_of
from trio_rt.backplane.redis.steady import CommandLink, SteadyLink
from trio_rt.backplane.redis.subscriptions import Subscriptions
from trio_rt.backplane.redis.topology import ClusterServers, SlotDial, Topology


class Wiring(ABC):
    """The links of one node, for one life of it."""

    is_sharded: bool
    """Whether keys and channels have slots."""

    tags: tuple[str, ...]
    """Of all partitions there may be: namespaces that share one order."""

    link: CommandLink
    """For commands whose keys may be anywhere."""

    settings: RedisSettings
    """Of all links."""

    @abstractmethod
    async def run(self) -> None:
        """Keeps `link` up, until it is cancelled.

        Raises:
            BackplaneRefused: if Redis does not let us in.
        """

    @abstractmethod
    def choose(self, namespace: str) -> int:
        """The partition that a namespace belongs to: a number in `tags`."""

    @abstractmethod
    def link_at(self, tag: str) -> CommandLink:
        """For commands whose keys all have a tag."""

    @abstractmethod
    def subscriptions_at(self, tag: str, ignored: bytes) -> Subscriptions:
        """For the channels that have a tag. Whoever gets them runs them."""


class OneServer(Wiring):
    """A Redis by itself, or behind Sentinels.

    Args:
        dial: where connections come from.
        node: named in CLIENT LIST.
        keys, on_change: see `Epochs`.
    """

    is_sharded = False
    tags = (HOME,)

    def __init__(self, dial: Dial, node: str, keys: Keys, on_change: Callable[[str], None]) -> None:
        self._dial = dial
        self._node = node
        self.settings = dial.settings
        epochs = Epochs(keys, self.tags, on_change)
        self._steady = SteadyLink(EpochDial(dial, epochs), f"trio_rt-{node}-commands")
        self.link = self._steady

    async def run(self) -> None:
        """See `Wiring`."""
        await self._steady.run()

    def choose(self, namespace: str) -> int:
        """See `Wiring`."""
        return 0

    def link_at(self, tag: str) -> CommandLink:
        """See `Wiring`."""
        return self.link

    def subscriptions_at(self, tag: str, ignored: bytes) -> Subscriptions:
        """See `Wiring`."""
        return Subscriptions(self._dial, f"trio_rt-{self._node}-subscriptions", ignored)


class ManyServers(Wiring):
    """A Redis Cluster, or a Valkey Cluster.

    Args:
        servers: some of them.
        node: named in CLIENT LIST.
        keys, on_change: see `Epochs`.
    """

    is_sharded = True
    tags = TAGS

    def __init__(
        self, servers: ClusterServers, node: str, keys: Keys, on_change: Callable[[str], None]
    ) -> None:
        self._topology = Topology(servers)
        self._node = node
        self.settings = servers.settings
        epochs = Epochs(keys, self.tags, on_change)
        self._cluster = ClusterLink(self._topology, f"trio_rt-{node}-commands", epochs)
        self.link = self._cluster

    async def run(self) -> None:
        """See `Wiring`."""
        await self._cluster.run()

    def choose(self, namespace: str) -> int:
        """See `Wiring`."""
        return partition_of(namespace)

    def link_at(self, tag: str) -> CommandLink:
        """See `Wiring`."""
        return SlotLink(self._cluster, slot_of(f"{{{tag}}}"))

    def subscriptions_at(self, tag: str, ignored: bytes) -> Subscriptions:
        """See `Wiring`. The link is at the primary that has their slot."""
        dial = SlotDial(self._topology, slot_of(f"{{{tag}}}"), is_late=tag != HOME)
        name = f"trio_rt-{self._node}-subscriptions-{tag}"
        return Subscriptions(dial, name, ignored, is_sharded=True)


def wire(
    servers: Dial | ClusterServers, node: str, prefix: str, on_change: Callable[[str], None]
) -> Wiring:
    """The links of one node to a server, or to a cluster.

    Args:
        servers: where they are.
        node: named in CLIENT LIST.
        prefix: what all keys begin with.
        on_change: called with a partition's tag when another epoch has begun there.
    """
    if isinstance(servers, ClusterServers):
        return ManyServers(servers, node, Keys(prefix, is_sharded=True), on_change)
    return OneServer(servers, node, Keys(prefix), on_change)
