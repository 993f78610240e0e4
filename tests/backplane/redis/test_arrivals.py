"""What waits is bounded, in order, and never silently incomplete."""

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trio_rt.backplane.redis.arrivals import Arrivals, Gap, Message

LOST = Gap("lost", is_over=False)
BACK = Gap("back", is_over=True)


def message(data: bytes) -> Message:
    return Message(b"ch", data)


def test_in_order() -> None:
    """Messages and gaps come out in their order, once."""
    arrivals = Arrivals(10, 100)
    arrivals.put([message(b"a"), message(b"b")])
    arrivals.put_gap(LOST)
    arrivals.put([message(b"c")])
    assert arrivals.take() == [message(b"a"), message(b"b"), LOST, message(b"c")]
    assert arrivals.take() == []


def test_gaps_in_a_row_are_the_last_one() -> None:
    """Of gaps with nothing between them only the last stays."""
    arrivals = Arrivals(10, 100)
    for gap in (LOST, BACK, LOST, BACK):
        arrivals.put_gap(gap)
    assert arrivals.take() == [BACK]


@given(st.lists(st.lists(st.binary(max_size=30), max_size=8)))
def test_bounded(batches: list[list[bytes]]) -> None:
    """Neither limit is passed but by one message alone, and all drops stand behind a gap."""
    arrivals = Arrivals(5, 50)
    for batch in batches:
        arrivals.put(map(message, batch))
        assert len(arrivals) <= 5
    left = arrivals.take()
    texts = [item.data for item in left if isinstance(item, Message)]
    assert sum(map(len, texts)) <= 50
    sent = [data for batch in batches for data in batch]
    assert texts == sent[len(sent) - len(texts) :]
    is_whole = len(texts) == len(sent)
    assert is_whole or isinstance(left[0], Gap)
    assert is_whole == (arrivals.overflows == 0)


async def test_wait(nursery: trio.Nursery) -> None:
    """The one who waits is woken once for a batch."""
    arrivals = Arrivals(10, 100)
    sizes = []

    @nursery.start_soon
    async def taker() -> None:
        while True:
            await arrivals.wait()
            sizes.append(len(arrivals.take()))

    await trio.testing.wait_all_tasks_blocked()
    arrivals.put([message(b"a"), message(b"b")])
    await trio.testing.wait_all_tasks_blocked()
    arrivals.put_gap(LOST)
    await trio.testing.wait_all_tasks_blocked()
    assert sizes == [2, 1]
    nursery.cancel_scope.cancel()
