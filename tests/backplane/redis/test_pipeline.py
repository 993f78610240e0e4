"""Replies go to the commands in their order, whatever is cancelled, and however bytes are cut."""

from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from trio_rt.backplane.redis.pipeline import Pipeline
from trio_rt.backplane.redis.resp import ProtocolError, pack
from trio_rt.errors import BackplaneDown


def make(max_commands: int = 100, max_bytes: int = 1000) -> Pipeline:
    return Pipeline(max_commands, max_bytes)


@given(st.lists(st.integers(0, 10**6), min_size=1), st.integers(1, 5))
def test_replies_in_order(numbers: list[int], size: int) -> None:
    """However the bytes are cut, each command gets its own reply."""
    pipeline = make()
    replies = [pipeline.add(pack(("ECHO", number)), 0.0) for number in numbers]
    pipeline.take()
    answers = b"".join(b":%d\r\n" % number for number in numbers)
    for start in range(0, len(answers), size):
        assert pipeline.feed(answers[start : start + size], 0.0) == []
    assert [reply.take() for reply in replies] == numbers
    assert len(pipeline) == 0


def test_take_joins() -> None:
    """What was added since the last time leaves in one piece, once."""
    pipeline = make()
    pipeline.add(b"a", 0.0)
    pipeline.add(b"b", 0.0)
    assert pipeline.take() == b"ab"
    pipeline.add(b"c", 0.0)
    assert pipeline.take() == b"c"
    assert pipeline.take() == b""


async def test_cancelled_before_it_left(nursery: trio.Nursery) -> None:
    """A command whose caller went before it left is not sent."""
    pipeline = make()
    gone, kept = pipeline.add(b"gone", 0.0), pipeline.add(b"kept", 0.0)
    with trio.move_on_after(0):
        await gone.wait()
    assert pipeline.take() == b"kept"
    pipeline.feed(b"+kept\r\n", 0.0)
    assert kept.take() == b"kept"


async def test_cancelled_after_it_left() -> None:
    """The reply of a command whose caller went takes its turn, and is dropped."""
    pipeline = make()
    gone, kept = pipeline.add(b"gone", 0.0), pipeline.add(b"kept", 0.0)
    pipeline.take()
    with trio.move_on_after(0):
        await gone.wait()
    pipeline.feed(b"+gone\r\n+kept\r\n", 0.0)
    assert await kept.wait() == b"kept"


async def test_wait_wakes(nursery: trio.Nursery) -> None:
    """A waiting task gets its reply."""
    pipeline = make()
    reply = pipeline.add(b"x", 0.0)
    pipeline.take()
    got: list[Any] = []

    @nursery.start_soon
    async def waiter() -> None:
        got.append(await reply.wait())

    await trio.testing.wait_all_tasks_blocked()
    pipeline.feed(b"%1\r\n+a\r\n:1\r\n", 0.0)
    await trio.testing.wait_all_tasks_blocked()
    assert got == [{b"a": 1}]


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        (b"-NOSCRIPT No matching script", NoScriptError, "No matching script"),
        (b"-READONLY You can't write", ReadOnlyError, "You can't write"),
        (b"-ERR no such thing", ResponseError, "ERR no such thing"),
        (b"-ODD", ResponseError, "ODD"),
    ],
)
async def test_error_reply(line: bytes, kind: type[Exception], text: str) -> None:
    """An error reply raises redis-py's exception for its first word, in the right command."""
    pipeline = make()
    wrong, right = pipeline.add(b"x", 0.0), pipeline.add(b"y", 0.0)
    pipeline.take()
    pipeline.feed(line + b"\r\n+OK\r\n", 0.0)
    with pytest.raises(kind, match=text):
        await wrong.wait()
    assert await right.wait() == b"OK"


async def test_fail_tells_sent_from_unsent() -> None:
    """When the link breaks, what has left may have been done, and what has not was not."""
    pipeline = make()
    sent = pipeline.add(b"x", 0.0)
    pipeline.take()
    unsent = pipeline.add(b"y", 0.0)
    pipeline.fail("broken")
    with pytest.raises(BackplaneDown, match="may have been") as unknown:
        await sent.wait()
    with pytest.raises(BackplaneDown, match="was not carried") as not_done:
        await unsent.wait()
    assert unknown.value.outcome_unknown
    assert not not_done.value.outcome_unknown
    assert len(pipeline) == 0


def test_pushes_are_no_replies() -> None:
    """What the server sends unasked is handed out, and answers no command."""
    pipeline = make()
    reply = pipeline.add(b"x", 0.0)
    pipeline.take()
    pushes = pipeline.feed(
        b">3\r\n+message\r\n+ch\r\n+a\r\n+OK\r\n>3\r\n+message\r\n+ch\r\n+b\r\n", 0.0
    )
    assert pushes == [[b"message", b"ch", b"a"], [b"message", b"ch", b"b"]]
    assert reply.take() == b"OK"


def test_confirmations() -> None:
    """SUBSCRIBE is answered by as many pushes as it has channels; messages pass between them."""
    pipeline = make()
    subscribed = pipeline.add(b"x", 0.0, b"subscribe", 2)
    ping = pipeline.add(b"y", 0.0)
    pipeline.take()
    first = b">3\r\n+subscribe\r\n+a\r\n:1\r\n>3\r\n+message\r\n+a\r\n+hi\r\n"
    assert pipeline.feed(first, 0.0) == [[b"message", b"a", b"hi"]]
    assert len(pipeline) == 2
    pipeline.feed(b">3\r\n+subscribe\r\n+b\r\n:2\r\n+PONG\r\n", 0.0)
    assert subscribed.take() is None
    assert ping.take() == b"PONG"


def test_unasked_unsubscription() -> None:
    """A server that ends a subscription by itself answers no command by that."""
    pipeline = make()
    pipeline.add(b"x", 0.0, b"ssubscribe", 1)
    pipeline.take()
    push = b">3\r\n+sunsubscribe\r\n+a\r\n:0\r\n"
    assert pipeline.feed(push, 0.0) == [[b"sunsubscribe", b"a", 0]]
    assert len(pipeline) == 1


def test_subscription_refused() -> None:
    """An error answers SUBSCRIBE at once, whatever number of channels it had."""
    pipeline = make()
    refused, ping = pipeline.add(b"x", 0.0, b"subscribe", 2), pipeline.add(b"y", 0.0)
    pipeline.take()
    pipeline.feed(b"-NOPERM no\r\n+PONG\r\n", 0.0)
    assert isinstance(refused.take(), ResponseError)
    assert ping.take() == b"PONG"


@pytest.mark.parametrize("data", [b"+OK\r\n", b"what?\r\n"])
def test_no_redis(data: bytes) -> None:
    """A reply to nothing, and what is no RESP, breaks the link."""
    with pytest.raises(ProtocolError):
        make().feed(data, 0.0)


def test_room() -> None:
    """There is room up to both limits, and always for one command."""
    pipeline = make(max_commands=2, max_bytes=10)
    assert pipeline.has_room(1000)
    pipeline.add(b"x" * 6, 0.0)
    assert pipeline.has_room(4)
    assert not pipeline.has_room(5)
    pipeline.take()
    assert pipeline.has_room(5)
    pipeline.add(b"y", 0.0)
    pipeline.take()
    assert not pipeline.has_room(1)
    pipeline.feed(b"+OK\r\n", 0.0)
    assert pipeline.has_room(1)


def test_due() -> None:
    """A reply is due after the last one, or after the command that nothing was before."""
    pipeline = make()
    assert pipeline.due(2.0) is None
    pipeline.add(b"x", 10.0)
    pipeline.add(b"y", 11.0)
    pipeline.take()
    assert pipeline.due(2.0) == 12.0
    pipeline.feed(b">3\r\n+message\r\n+ch\r\n+a\r\n", 11.5)
    assert pipeline.due(2.0) == 12.0
    pipeline.feed(b"+OK\r\n", 11.7)
    assert pipeline.due(2.0) == 13.7
    pipeline.feed(b"+OK\r\n", 12.0)
    assert pipeline.due(2.0) is None
