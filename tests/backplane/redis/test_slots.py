"""Slots of keys, and who has them, without any server."""

import pytest
from redis.crc import key_slot

from trio_rt.backplane.redis.keys import Keys, LogName
from trio_rt.backplane.redis.names import NodeKeys, SocketLog
from trio_rt.backplane.redis.slots import HOME, SLOTS, TAGS, SlotMap, partition_of, slot_of

REPLY = [
    [0, 5460, [b"10.0.0.1", 6379, b"id", []], [b"10.0.0.4", 6379, b"id", []]],
    [5461, 10922, [b"", 6380, b"id", []]],
    [10923, 16000, [None, 6381, b"id", []]],
    [16001, 16001, [b"?", 6382, b"id", []]],
]


@pytest.mark.parametrize(
    "key", ["a", "", "é", "{a}b", "x{a}", "{}a", "{a", "a}{b}", "{{a}}", "{a}{b}", "rt:{10}:c"]
)
def test_slot(key: str) -> None:
    """The slot of a key is the one that redis-py finds, and that of its tag."""
    assert slot_of(key) == slot_of(key.encode()) == key_slot(key.encode())


def test_specification() -> None:
    """The specification's example: the CRC16 of 123456789 is 0x31C3."""
    assert slot_of("123456789") == 0x31C3 % SLOTS


def test_tags() -> None:
    """Each tag has its own 64th of the slots; one of them is at home."""
    assert [slot_of(tag) * 64 // SLOTS for tag in TAGS] == list(range(64))
    assert HOME in TAGS


def test_partitions() -> None:
    """Namespaces are spread over all partitions."""
    assert {partition_of(f"/tenant-{number}") for number in range(1000)} == set(range(64))


def test_one_slot() -> None:
    """All keys and channels of one partition are in one slot, whatever is in their names."""
    keys = NodeKeys("p", TAGS[3], is_sharded=True)
    log = LogName("/a{b}:", "r{x}")
    names = [keys.clock(), keys.stream(log), keys.meta(log), keys.channel(log), keys.appended("k")]
    names += [keys.wide(), keys.node("n"), keys.session("s"), keys.meta(SocketLog("/", "s" * 20))]
    assert {slot_of(name) for name in names} == {slot_of(TAGS[3])}


def test_spread_keys() -> None:
    """Keys that no script uses with others are everywhere in a cluster, and else with all."""
    sharded = Keys(is_sharded=True)
    assert len({slot_of(sharded.spread("once", str(number))) for number in range(1000)}) == 64
    assert Keys().spread("once", "a") == "rt:{0}:once:a"


def test_map() -> None:
    """Who has which slot is read from CLUSTER SLOTS; who does not know its host is where it was
    asked, and one whose host is unknown is nowhere."""
    slots = SlotMap()
    assert slots[0] is None
    assert slots.primaries == frozenset()
    slots.read(REPLY, "asked")
    assert slots[0] == slots[5460] == ("10.0.0.1", 6379)
    assert slots[5461] == ("asked", 6380)
    assert slots[16000] == ("asked", 6381)
    assert slots[16001] is slots[16383] is None
    assert slots.primaries == {("10.0.0.1", 6379), ("asked", 6380), ("asked", 6381)}


def test_moved() -> None:
    """A slot that has moved is elsewhere, until all of it is read again."""
    slots = SlotMap()
    slots.read(REPLY, "asked")
    slots.move(7, ("10.0.0.9", 1))
    assert [slots[6], slots[7]] == [("10.0.0.1", 6379), ("10.0.0.9", 1)]
    assert [*slots.ranges()][:3] == [
        (0, 6, ("10.0.0.1", 6379)),
        (7, 7, ("10.0.0.9", 1)),
        (8, 5460, ("10.0.0.1", 6379)),
    ]
    slots.read(REPLY, "asked")
    assert slots[7] == ("10.0.0.1", 6379)


@pytest.mark.parametrize("reply", [[1], [[0]], [[0, 99999, [b"a", 1]]], 7, [[0, 1, [b"a"]]]])
def test_no_map(reply: object) -> None:
    """What is no answer to CLUSTER SLOTS is an error, and what was known stays."""
    slots = SlotMap()
    slots.read(REPLY, "asked")
    with pytest.raises(ValueError, match=r"(?i)slots"):
        slots.read(reply, "asked")  # type: ignore[arg-type]
    assert slots[0] == ("10.0.0.1", 6379)
