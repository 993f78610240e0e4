"""Which primary of a Redis Cluster has which slot. No I/O.

    key ──its tag, or all of it──> CRC16 ──modulo 16384──> slot ──map──> host and port of a primary

A cluster gives each key one of 16384 slots, and each slot to one primary. A script, and the channel
that it publishes to, have to be in one slot; keys share one if they share the part in braces, their
tag. Source: the specification of Redis Cluster.
"""

from binascii import crc_hqx
from collections.abc import Iterator, Sequence
from typing import Any

SLOTS = 16_384

Place = tuple[str, int]
"""Host and port of a server."""

# fmt: off
TAGS = (
    "10", "18", "113", "342", "29", "21", "3", "122", "69", "61", "72", "162", "50", "58", "153",
    "43", "11", "19", "112", "343", "28", "20", "2", "123", "68", "60", "73", "163", "51", "59",
    "152", "42", "12", "102", "111", "119", "133", "23", "1", "9", "173", "63", "70", "78", "52",
    "142", "49", "41", "13", "103", "110", "118", "132", "22", "0", "8", "172", "62", "71", "79",
    "53", "143", "48", "40",
)
"""The tags of the 64 partitions: each the first number in its 64th of all slots, so that whatever
primaries there are have the same share of them."""
# fmt: on

HOME = "0"
"""The tag of what belongs to no namespace, and of everything where there is no cluster."""


def slot_of(key: str | bytes) -> int:
    """The slot of a key, or of a sharded channel."""
    data = key.encode() if isinstance(key, str) else key
    start = data.find(b"{")
    if start >= 0:
        end = data.find(b"}", start + 1)
        if end > start + 1:
            data = data[start + 1 : end]
    return crc_hqx(data, 0) % SLOTS


def partition_of(name: str) -> int:
    """The number of the partition that a name belongs to: of its tag in `TAGS`."""
    return crc_hqx(name.encode(), 0) % len(TAGS)


class SlotMap:
    """Who has which slot, as far as is known."""

    def __init__(self) -> None:
        self._owners: list[Place | None] = [None] * SLOTS

    def __getitem__(self, slot: int) -> Place | None:
        return self._owners[slot]

    @property
    def primaries(self) -> frozenset[Place]:
        """Those who have any."""
        return frozenset(owner for owner in self._owners if owner is not None)

    def read(self, reply: Sequence[Any], asked: str) -> None:
        """Takes an answer to CLUSTER SLOTS instead of all that was known.

        Args:
            reply: ranges, each with its primary and then its replicas.
            asked: the host that gave it. One that does not know its own name leaves it out.

        Raises:
            ValueError: if it is no such answer.
        """
        owners: list[Place | None] = [None] * SLOTS
        try:
            for first, last, primary, *_replicas in reply:
                owner = _read_place(primary, asked)
                owners[first : last + 1] = [owner] * (last + 1 - first)
        except (TypeError, ValueError, LookupError) as error:
            raise ValueError(f"no answer to CLUSTER SLOTS: {reply!r:.200}") from error
        if len(owners) != SLOTS:
            raise ValueError(f"more than {SLOTS} slots: {reply!r:.200}")
        self._owners = owners

    def move(self, slot: int, owner: Place) -> None:
        """A slot is somebody else's, as a server has said."""
        self._owners[slot] = owner

    def ranges(self) -> Iterator[tuple[int, int, Place | None]]:
        """First and last slot, and owner, in order; for people and tests."""
        first = 0
        for slot in range(1, SLOTS + 1):
            if slot == SLOTS or self._owners[slot] != self._owners[first]:
                yield first, slot - 1, self._owners[first]
                first = slot


def _read_place(node: Sequence[Any], asked: str) -> Place | None:
    """Where a node is; None for one whose host nobody knows."""
    host = "" if node[0] is None else node[0].decode()
    return None if host == "?" else (host or asked, int(node[1]))
