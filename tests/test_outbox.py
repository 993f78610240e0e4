"""What waits for a slow client: bounds, policies, and a naive model of both."""

import attrs
import pytest
import trio
import trio.testing
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trio_rt.outbox import Outbox, Overflow
from trio_rt.policies import Block, Close, DropOldest, Latest, Policy

EVERYTHING = 1 << 30


def outbox_with(*puts: tuple[bytes, Policy], max_messages: int = 3, max_bytes: int = 10) -> Outbox:
    outbox = Outbox(max_messages, max_bytes)
    for data, policy in puts:
        outbox.put(data, policy)
    return outbox


def keep(data: bytes) -> tuple[bytes, Policy]:
    return data, Close()


def drop(data: bytes) -> tuple[bytes, Policy]:
    return data, DropOldest()


def state(data: bytes, key: str = "k") -> tuple[bytes, Policy]:
    return data, Latest(key)


def assert_holds(outbox: Outbox, data: bytes, *, dropped: int = 0) -> None:
    assert outbox.dropped == dropped
    assert outbox.take(EVERYTHING) == data
    assert len(outbox) == 0


# --- Bounds


def test_order() -> None:
    """Frames leave in the order in which they came, whatever their policies."""
    outbox = outbox_with(keep(b"a"), drop(b"b"), state(b"c"))
    assert len(outbox) == 3
    assert_holds(outbox, b"abc")


def test_full_in_messages() -> None:
    """As many frames as the limit says may wait."""
    outbox = outbox_with(keep(b"a"), keep(b"b"))
    assert outbox.has_room(1)
    outbox.put(b"c")
    assert not outbox.has_room(0)


def test_full_in_bytes() -> None:
    """As many bytes as the limit says may wait."""
    outbox = outbox_with(keep(b"12345678"))
    assert outbox.has_room(2)
    assert not outbox.has_room(3)
    outbox.put(b"90")
    assert not outbox.has_room(1)


def test_one_large_frame() -> None:
    """A frame that is larger than everything that may wait can wait alone."""
    outbox = Outbox(3, 10)
    assert outbox.has_room(1_000)
    outbox.put(bytes(1_000))
    assert not outbox.has_room(0)
    assert_holds(outbox, bytes(1_000))


@pytest.mark.parametrize("policy", [Close(), Block()])
@pytest.mark.parametrize("full", [[keep(b"x")] * 3, [keep(b"x" * 10)]], ids=["messages", "bytes"])
def test_overflow(full: list[tuple[bytes, Policy]], policy: Policy) -> None:
    """What may neither be dropped nor fits is an overflow, which says how full it is."""
    outbox = outbox_with(*full)
    with pytest.raises(Overflow) as caught:
        outbox.put(b"new", policy)
    waiting = b"".join(data for data, _ in full)
    for number in (len(full), len(waiting), 3, 10):
        assert str(number) in str(caught.value)
    assert_holds(outbox, waiting)


def test_close_is_the_default() -> None:
    """Without a policy nothing is dropped."""
    outbox = outbox_with(*[keep(b"x")] * 3)
    with pytest.raises(Overflow):
        outbox.put(b"y")


def test_overflow_drops_nobody_elses() -> None:
    """What could be dropped stays when something arrives that does not ask for it."""
    outbox = outbox_with(*[drop(b"x")] * 3)
    with pytest.raises(Overflow):
        outbox.put(b"y", Close())
    assert_holds(outbox, b"xxx")


# --- DropOldest


def test_drop_oldest_in_messages() -> None:
    """The oldest frame that may be dropped makes room, and is counted."""
    outbox = outbox_with(keep(b"a"), drop(b"b"), drop(b"c"))
    outbox.put(b"d", DropOldest())
    assert_holds(outbox, b"acd", dropped=1)


def test_drop_oldest_in_bytes() -> None:
    """As many make room as it takes."""
    outbox = outbox_with(drop(b"aaa"), keep(b"bbb"), drop(b"ccc"))
    outbox.put(b"ddddd", DropOldest())
    assert_holds(outbox, b"bbbddddd", dropped=2)


def test_drop_oldest_drops_itself() -> None:
    """Where nothing may be dropped the new frame is."""
    outbox = outbox_with(*[keep(b"x")] * 3)
    outbox.put(b"y", DropOldest())
    assert_holds(outbox, b"xxx", dropped=1)


# --- Latest


def test_latest() -> None:
    """Only the newest of a key stays, and its place is behind the others."""
    outbox = outbox_with(state(b"a"), keep(b"b"))
    outbox.put(b"c", Latest("k"))
    assert_holds(outbox, b"bc", dropped=1)


def test_latest_of_several_keys() -> None:
    """Each key has its own newest."""
    outbox = outbox_with(state(b"a", "k"), state(b"b", "l"), state(b"c", "k"))
    assert_holds(outbox, b"bc", dropped=1)


def test_latest_when_full() -> None:
    """The frame that it replaces makes the room that it needs."""
    outbox = outbox_with(keep(b"a"), state(b"b"), keep(b"c"))
    outbox.put(b"d", Latest("k"))
    assert_holds(outbox, b"acd", dropped=1)


def test_latest_makes_room() -> None:
    """A new key finds room as any frame does that may be dropped."""
    outbox = outbox_with(drop(b"a"), keep(b"b"), keep(b"c"))
    outbox.put(b"d", Latest("k"))
    assert_holds(outbox, b"bcd", dropped=1)


def test_latest_is_not_dropped() -> None:
    """A state makes room for nothing else: it would be missed."""
    outbox = outbox_with(state(b"a"), keep(b"b"), keep(b"c"))
    outbox.put(b"d", DropOldest())
    assert_holds(outbox, b"abc", dropped=1)


def test_latest_overflows() -> None:
    """A client that is too slow for its newest state is disconnected rather than left with none."""
    outbox = outbox_with(*[keep(b"x")] * 3)
    with pytest.raises(Overflow):
        outbox.put(b"y", Latest("k"))
    assert_holds(outbox, b"xxx")


def test_nobody_makes_room_in_vain() -> None:
    """Where dropping all that may be dropped would not do, nothing is."""
    outbox = outbox_with(keep(b"12345678"), drop(b"a"))
    outbox.put(b"bcd", DropOldest())
    assert_holds(outbox, b"12345678a", dropped=1)


def test_latest_after_it_left() -> None:
    """A state that has been sent is not replaced any more."""
    outbox = outbox_with(state(b"a"))
    assert outbox.take(EVERYTHING) == b"a"
    outbox.put(b"b", Latest("k"))
    assert_holds(outbox, b"b")


# --- Taking


def test_take_in_pieces() -> None:
    """Whole frames are taken, as many as fit."""
    outbox = outbox_with(keep(b"aa"), keep(b"bb"), keep(b"cc"))
    assert outbox.take(5) == b"aabb"
    assert outbox.take(5) == b"cc"
    assert outbox.take(5) == b""


def test_take_at_least_one() -> None:
    """A frame that is larger than a piece is taken alone."""
    outbox = outbox_with(keep(b"aaaa"), keep(b"b"))
    assert outbox.take(1) == b"aaaa"
    assert outbox.take(0) == b"b"


def test_take_makes_room() -> None:
    """What was taken waits no longer."""
    outbox = outbox_with(keep(b"aaaaa"), keep(b"bbbbb"))
    assert not outbox.has_room(1)
    outbox.take(5)
    assert outbox.has_room(5)
    assert not outbox.has_room(6)


@pytest.mark.parametrize("wake", [Outbox.wake, lambda outbox: outbox.take(1)], ids=["wake", "take"])
async def test_wait_room(nursery: trio.Nursery, wake) -> None:
    """All who wait for room go on when frames have left, or when the end is told."""
    outbox, gone_on = outbox_with(*[keep(b"x")] * 3), []

    async def wait(number: int) -> None:
        await outbox.wait_room()
        gone_on.append(number)

    for number in range(3):
        nursery.start_soon(wait, number)
    await trio.testing.wait_all_tasks_blocked()
    assert gone_on == []
    wake(outbox)
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(gone_on) == [0, 1, 2]


async def test_wait_room_cancelled() -> None:
    """Whoever stops waiting leaves nothing behind."""
    outbox = outbox_with(*[keep(b"x")] * 3)
    with trio.move_on_after(0) as scope:
        await outbox.wait_room()
    assert scope.cancelled_caught
    assert outbox.take(1) == b"x"


# --- Against a model


@attrs.frozen
class Waiting:
    """A frame in the model. Its data is its number and filling, so that no two are alike."""

    data: bytes
    policy: Policy

    @property
    def may_drop(self) -> bool:
        return isinstance(self.policy, DropOldest)


policies = st.sampled_from([Close(), Block(), DropOldest(), Latest("k"), Latest("l")])


class OutboxModel(RuleBasedStateMachine):
    """The model is a list that is looked through from its beginning each time."""

    @initialize(max_messages=st.integers(1, 5), max_bytes=st.integers(1, 60))
    def begin(self, max_messages: int, max_bytes: int) -> None:
        self.max_messages, self.max_bytes = max_messages, max_bytes
        self.outbox = Outbox(max_messages, max_bytes)
        self.waiting: list[Waiting] = []
        self.dropped = 0
        self.count = 0

    def fits(self, size: int) -> bool:
        used = sum(len(one.data) for one in self.waiting)
        return not self.waiting or (
            len(self.waiting) < self.max_messages and used + size <= self.max_bytes
        )

    def drop(self, one: Waiting) -> None:
        self.waiting = [other for other in self.waiting if other is not one]
        self.dropped += 1

    @rule(filling=st.integers(0, 30), policy=policies)
    def put(self, filling: int, policy: Policy) -> None:
        self.count += 1
        new = Waiting(b"%d" % self.count + b"." * filling, policy)
        if isinstance(policy, DropOldest | Latest):
            self.put_with_room_made(new)
        elif self.fits(len(new.data)):
            self.outbox.put(new.data, policy)
            self.waiting.append(new)
        else:
            with pytest.raises(Overflow):
                self.outbox.put(new.data, policy)

    def put_with_room_made(self, new: Waiting) -> None:
        if isinstance(new.policy, Latest):
            for old in [one for one in self.waiting if one.policy == new.policy]:
                self.drop(old)
        before = (self.waiting, self.dropped)
        for old in [one for one in self.waiting if one.may_drop]:
            if self.fits(len(new.data)):
                break
            self.drop(old)
        if self.fits(len(new.data)):
            self.outbox.put(new.data, new.policy)
            self.waiting.append(new)
            return
        self.waiting, self.dropped = before  # then nobody makes room
        if isinstance(new.policy, DropOldest):
            self.outbox.put(new.data, new.policy)
            self.dropped += 1
        else:
            with pytest.raises(Overflow):
                self.outbox.put(new.data, new.policy)

    @rule(max_bytes=st.integers(0, 80))
    def take(self, max_bytes: int) -> None:
        taken = self.waiting[:1]
        while len(taken) < len(self.waiting):
            more = self.waiting[: len(taken) + 1]
            if sum(len(one.data) for one in more) > max_bytes:
                break
            taken = more
        assert self.outbox.take(max_bytes) == b"".join(one.data for one in taken)
        self.waiting = self.waiting[len(taken) :]

    @invariant()
    def is_within_its_bounds(self) -> None:
        assert len(self.outbox) == len(self.waiting) <= self.max_messages
        used = sum(len(one.data) for one in self.waiting)
        assert used <= self.max_bytes or len(self.waiting) == 1
        for size in (0, 1, self.max_bytes - used, self.max_bytes - used + 1):
            assert self.outbox.has_room(size) == self.fits(size)

    @invariant()
    def counts_what_it_dropped(self) -> None:
        assert self.outbox.dropped == self.dropped

    def teardown(self) -> None:
        if hasattr(self, "outbox"):
            rest = b"".join(one.data for one in self.waiting)
            assert self.outbox.take(EVERYTHING) == rest


TestOutboxModel = OutboxModel.TestCase
