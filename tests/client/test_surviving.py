"""What a client does when its connection is lost, slow, dead, full or refused."""

import logging
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.client.script import DEADLINE, Script
from trio_rt import (
    BacklogLimits,
    CallTimeout,
    Change,
    ConnectionState,
    Disconnected,
    LimitError,
    ReconnectLimits,
    Refused,
    WhenFull,
    open_client,
    reasons,
)
from trio_rt.errors import TransportClosed

STEADY = ReconnectLimits(backoff_base=1, backoff_max=1)
"""Dials again within a second."""


async def states(client: Any, count: int) -> list[str]:
    """The next states of a client."""
    found: list[str] = []
    with trio.fail_after(1000):
        async for change in client.changes():
            found.append(change.state.value)
            if len(found) == count:
                break
    return found


# Coming back


async def test_comes_back(autojump_clock: MockClock) -> None:
    """After a loss it dials again, and what was emitted meanwhile is sent in order."""
    script = Script()
    async with open_client("http://x", dial=script) as client:
        line = await script.accept()
        await client.wait_connected()
        line.close()
        await wait_all_tasks_blocked()
        assert client.state.value == "backing off"
        assert client.reason is not None
        assert client.reason.code == "transport close"
        for n in range(3):
            await client.emit("n", n)
        line = await script.accept()
        assert [await line.hear() for _ in range(3)] == [f'42["n",{n}]' for n in range(3)]
        assert client.state is ConnectionState.CONNECTED
        assert client.reason is None


async def test_changes(autojump_clock: MockClock) -> None:
    """Every step of a connection is told in order, with its reason, to all who listen."""
    script = Script()
    async with open_client("http://x", dial=script, reconnect=STEADY) as client:
        changes, others = client.changes(), client.changes()
        line = await script.accept(pid="P")
        await wait_all_tasks_blocked()
        line.close()
        line = await script.accept(pid="P")
        await wait_all_tasks_blocked()
        line.say("41")
        await wait_all_tasks_blocked()
    told = [change async for change in changes]
    s = ConnectionState
    closed = reasons.TRANSPORT_CLOSE
    assert [(c.before, c.state) for c in told] == [
        (s.CONNECTING, s.CONNECTED),
        (s.CONNECTED, s.BACKING_OFF),
        (s.BACKING_OFF, s.CONNECTING),
        (s.CONNECTING, s.CONNECTED),
        (s.CONNECTED, s.DISCONNECTED),
        (s.DISCONNECTED, s.CLOSED),
    ]
    assert told[1].reason == closed
    assert [c.recovered for c in told] == [False, False, False, True, True, True]
    assert told[4].reason == reasons.SERVER_DISCONNECT
    assert [change async for change in others] == told
    assert [change async for change in client.changes()] == []


async def test_slow_reader_of_changes(autojump_clock: MockClock) -> None:
    """Who reads no changes keeps the newest 16."""
    script = Script()
    async with open_client("http://x", dial=script, reconnect=STEADY) as client:
        changes = client.changes()
        for _ in range(20):
            (await script.answer()).close()
    told = [change async for change in changes]
    assert len(told) == 16
    assert told[-1].state is ConnectionState.CLOSED
    assert isinstance(told[0], Change)


async def test_backoff(autojump_clock: MockClock) -> None:
    """Dials in vain come later and later, never later than the cap."""
    script = Script()
    script.error = OSError("nobody there")
    limits = ReconnectLimits(backoff_base=1, backoff_max=30, backoff_factor=2)
    async with open_client("http://x", dial=script, reconnect=limits) as client:
        await trio.sleep(2_000)
        assert client.reason is not None
        assert "nobody there" in client.reason.text
    waits = [b - a for a, b in zip(script.times, script.times[1:], strict=False)]
    for attempt, wait in enumerate(waits, 1):
        assert 0 <= wait <= min(30, 2**attempt)
    assert max(waits) > 10
    assert len({round(wait, 3) for wait in waits}) > len(waits) // 2, "no jitter"


async def test_call_without_a_connection(autojump_clock: MockClock) -> None:
    """A call that was never sent says why, and not only that nobody answered."""
    script = Script()
    script.error = OSError("nobody there")
    async with open_client("http://x", dial=script, close_timeout=1) as client:
        with pytest.raises(CallTimeout, match=r"within 1 s; it is backing off: .*nobody there"):
            await client.call("x", timeout=1)


async def test_attempts_are_used_up(autojump_clock: MockClock) -> None:
    """With `max_attempts` it gives up, and says why to those who wait."""
    script = Script()
    script.error = TransportClosed(reasons.TRANSPORT_ERROR)
    limits = ReconnectLimits(max_attempts=3)
    async with open_client("http://x", dial=script, reconnect=limits) as client:
        with pytest.raises(Disconnected) as ended:
            await client.wait_connected()
        assert ended.value.reason.code == "transport error"
        assert len(script.urls) == 3
        with pytest.raises(Disconnected):
            await client.call("x")


async def test_stability(autojump_clock: MockClock) -> None:
    """Dials are counted anew only after a connection that was stable."""
    script = Script()
    limits = ReconnectLimits(max_attempts=2, stable_after=10)
    async with open_client("http://x", dial=script, reconnect=limits) as client:
        for seconds in (11, 11, 5):
            line = await script.accept()
            await client.wait_connected()
            await trio.sleep(seconds)
            line.close()
        line = await script.accept()
        await client.wait_connected()
        line.close()
        await wait_all_tasks_blocked()
        assert client.state is ConnectionState.DISCONNECTED


@pytest.mark.parametrize("silent_at", ["dial", "open", "connect", "token"])
async def test_connect_timeout(autojump_clock: MockClock, silent_at: str) -> None:
    """A dial that does not end in a connection is given up in time, whatever it waits for."""
    script = Script()
    script.is_silent = silent_at == "dial"
    limits = ReconnectLimits(connect_timeout=7, backoff_base=1, backoff_max=1)

    async def token() -> dict[str, str]:
        if silent_at == "token" and len(script.urls) == 1:
            await trio.sleep_forever()
        return {}

    async with open_client("http://x", auth=token, dial=script, reconnect=limits) as client:
        if silent_at != "dial":
            line = await script.answer()
            if silent_at == "connect":
                await line.hear()
        await trio.sleep(6.9)
        assert client.state is ConnectionState.CONNECTING
        await trio.sleep(0.2)
        assert client.reason is not None
        assert client.reason.code == "connect timeout"
        script.is_silent = False
        await script.accept()
        await client.wait_connected()


async def test_token_is_asked_each_time(autojump_clock: MockClock) -> None:
    """What is shown is asked for at each attempt."""
    script = Script()
    count = 0

    def token() -> dict[str, int]:
        nonlocal count
        count += 1
        return {"token": count}

    async with open_client("http://x", auth=token, dial=script, reconnect=STEADY):
        for n in range(1, 4):
            line = await script.answer()
            assert (await line.admit())["token"] == n
            line.close()


async def test_token_that_cannot_be_had(autojump_clock: MockClock) -> None:
    """A token that cannot be had now is asked for again later."""
    script = Script()
    answers: list[Any] = [OSError("no route"), TransportClosed(reasons.TRANSPORT_ERROR), {}]

    async def token() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with open_client("http://x", auth=token, dial=script, reconnect=STEADY) as client:
        for _ in range(2):
            line = await script.answer()
            with trio.fail_after(DEADLINE):
                await line.ended.wait()
        await script.accept()
        await client.wait_connected()


async def test_token_function_that_fails(autojump_clock: MockClock) -> None:
    """Any other exception of the function ends the block, and comes out as it is."""
    script = Script()

    def token() -> dict[str, str]:
        raise KeyError("mine")

    async def run() -> None:
        async with open_client("http://x", auth=token, dial=script):
            await script.answer()
            await trio.sleep_forever()

    with pytest.raises(KeyError, match="mine"):
        await run()


@pytest.mark.parametrize("wrong", [lambda: "text", {"a": object()}, lambda: 7])
async def test_wrong_auth(autojump_clock: MockClock, wrong: Any) -> None:
    """What cannot be shown ends the block with a TypeError, and not as a group."""
    script = Script()

    async def run() -> None:
        async with open_client("http://x", auth=wrong, dial=script):
            await script.answer()
            await trio.sleep_forever()

    with pytest.raises(TypeError):
        await run()


async def test_refusal_after_a_loss(autojump_clock: MockClock) -> None:
    """A refusal when it comes back is final as well, for all that waits."""
    script = Script()
    async with open_client("http://x", dial=script, reconnect=STEADY) as client:
        line = await script.accept(rt=1)
        await client.wait_connected()
        chat = client.namespace("/chat")
        await line.admit(namespace="/chat,", rt=1)
        async with trio.open_nursery() as nursery:
            for each in (client, chat):
                nursery.start_soon(expect_refusal, each)
            await wait_all_tasks_blocked()
            line.close()
            line = await script.answer()
            heard = {await line.hear(), await line.hear()}
            assert {message[:3] for message in heard} == {"40{", "40/"}
            line.say('44{"message":"expired","data":{"code":"token"}}')
        assert client.state is ConnectionState.DISCONNECTED
        assert client.pending == 0


async def expect_refusal(namespace: Any) -> None:
    with pytest.raises(Refused, match="token: expired"):
        await namespace.call("x", timeout=100)


async def test_disconnect_and_connect(autojump_clock: MockClock) -> None:
    """A program may leave for a while."""
    script = Script()
    async with open_client("http://x", dial=script) as client:
        line = await script.accept()
        await client.wait_connected()
        await client.disconnect()
        assert line.heard() == ["41"]
        assert line.ended.is_set()
        assert client.state is ConnectionState.DISCONNECTED
        with pytest.raises(Disconnected):
            await client.emit("x")
        client.connect()
        await script.accept()
        await client.wait_connected()


# The heartbeat


async def test_pings_are_answered(autojump_clock: MockClock) -> None:
    """Every ping is answered at once, whatever a handler does, before what waits to be sent."""
    script = Script(buffer=0)
    async with open_client("http://x", dial=script) as client:

        @client.on("slow")
        async def slow() -> None:
            await trio.sleep(60)

        line = await script.accept()
        line.say('42["slow"]')
        await wait_all_tasks_blocked()
        for n in range(5):
            await client.emit("n", n)
        await wait_all_tasks_blocked()
        line.say("2")
        await wait_all_tasks_blocked()
        await line.expect('42["n",0]')  # on its way already
        await line.expect("3")
        await line.expect('42["n",1]')


@pytest.mark.parametrize("noise", [None, '42["noise"]', "3"])
async def test_silence(autojump_clock: MockClock, noise: str | None) -> None:
    """Without pings the server is dead, whatever else comes; with them it lives."""
    script = Script()
    async with open_client("http://x", dial=script) as client:
        line = await script.answer(interval=10_000, timeout=5_000)
        await line.admit()
        for _ in range(5):
            await trio.sleep(14)
            line.say("2")
        start = trio.current_time()
        while not line.ended.is_set():
            if noise is not None:
                line.say(noise)
            with trio.move_on_after(0.5):
                await line.ended.wait()
        assert trio.current_time() - start == 15
        assert client.reason is not None
        assert client.reason.code == "ping timeout"
        assert line.ended.is_set()


# What is sent again, and what is not


async def test_resending(autojump_clock: MockClock) -> None:
    """With keys, all that is not acknowledged is sent again: the same keys, the same order."""
    script = Script()
    async with open_client("http://x", dial=script, reconnect=STEADY) as client:
        line = await script.accept(rt=1)
        await client.wait_connected()
        for n in range(3):
            await client.emit("n", n)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_answer, client, "seven")
            first = [await line.hear_packet() for _ in range(4)]
            assert [head for head, _ in first] == ["421", "422", "423", "424"]
            line.say("431[]")
            await wait_all_tasks_blocked()
            assert client.pending == 3
            line.close()
            line = await script.accept(rt=1)
            again = [await line.hear_packet() for _ in range(3)]
            assert [data for _, data in again] == [data for _, data in first[1:]]
            assert len({head for head, _ in first + again}) == 7
            line.say('434["late"]', *(f'43{head[2:]}["seven"]' for head, _ in again))
        assert client.pending == 0
        keys = [data[-1] for _, data in first]
        assert len(set(keys)) == 4
        prefix, _, count = keys[0].partition(".")
        assert len(prefix) == 16
        assert count == "1"


async def expect_answer(client: Any, answer: Any) -> None:
    assert await client.call("call", timeout=100) == answer


async def test_sent_once(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Without keys nothing is sent twice: a call that is under way fails, its outcome unknown."""
    script = Script(buffer=3)
    async with open_client("http://x", dial=script, reconnect=STEADY) as client:
        line = await script.answer()
        await line.admit()
        await client.wait_connected()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def call() -> None:
                with pytest.raises(Disconnected, match="unknown"):
                    await client.call("call")

            await wait_all_tasks_blocked()
            await client.emit("left")
            await client.emit("left")
            await client.emit("half")
            await client.emit("waits")
            await wait_all_tasks_blocked()
            assert client.pending == 2
            line.close()
        assert client.pending == 2
        line = await script.accept()
        await line.expect('42["waits"]')
        await wait_all_tasks_blocked()
        assert client.pending == 0
    assert "half was not delivered" in caplog.text


async def test_offline_refuse(autojump_clock: MockClock) -> None:
    """By default what there is no room for is refused to the caller, and the others stay."""
    script = Script()
    limits = BacklogLimits(max_events=2)
    async with open_client("http://x", dial=script, backlog=limits) as client:
        await client.emit("n", 1)
        await client.emit("n", 2)
        with pytest.raises(LimitError, match="max_events=2"):
            await client.emit("n", 3)
        line = await script.accept()
        assert [await line.hear(), await line.hear()] == ['42["n",1]', '42["n",2]']


async def test_offline_drop_oldest(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """With DROP_OLDEST the newest stay; a call that made room is told."""
    script = Script()
    limits = BacklogLimits(max_events=2, when_full=WhenFull.DROP_OLDEST)
    async with (
        open_client("http://x", dial=script, backlog=limits) as client,
        trio.open_nursery() as nursery,
    ):

        @nursery.start_soon
        async def call() -> None:
            with pytest.raises(LimitError, match="made room"):
                await client.call("call")

        await wait_all_tasks_blocked()
        for n in range(1, 4):
            await client.emit("n", n)
        line = await script.accept()
        assert [await line.hear(), await line.hear()] == ['42["n",2]', '42["n",3]']
    assert "event n was not delivered" in caplog.text


async def test_offline_bytes(autojump_clock: MockClock) -> None:
    """The backlog is bounded in bytes, attachments included."""
    script = Script()
    async with open_client("http://x", dial=script, backlog=BacklogLimits(max_bytes=100)) as client:
        await client.emit("a", b"x" * 50)
        with pytest.raises(LimitError):
            await client.emit("b", b"x" * 50)
        with pytest.raises(LimitError, match="never fits"):
            await client.emit("c", b"x" * 500)
        await script.accept()
        await client.wait_connected()
        with pytest.raises(LimitError, match="never fits"):
            await client.emit("c", b"x" * 500)


async def test_offline_age(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """What waits too long is given up, and its caller told."""
    script = Script()
    limits = BacklogLimits(max_age=10)
    async with open_client("http://x", dial=script, backlog=limits) as client:
        await client.emit("old")
        with pytest.raises(CallTimeout, match="in time"):
            await client.call("old call", timeout=100)
        assert client.pending == 0
        await client.emit("new")
        line = await script.answer()
        if (await line.hear()) == "40":
            raise AssertionError
        line.say('40{"sid":"S"}')
        await line.expect('42["new"]')
    assert "event old was not delivered" in caplog.text


async def test_emit_waits_while_connected(autojump_clock: MockClock) -> None:
    """While connected a full backlog makes `emit` wait for acknowledgements, not fail."""
    script = Script()
    async with (
        open_client("http://x", dial=script, backlog=BacklogLimits(max_events=2)) as client,
        trio.open_nursery() as nursery,
    ):
        line = await script.accept(rt=1)
        await client.wait_connected()

        @nursery.start_soon
        async def emit() -> None:
            for n in range(4):
                await client.emit("n", n)
            with pytest.raises(LimitError):
                await client.emit("n", 4)

        await wait_all_tasks_blocked()
        assert len(line.heard()) == 2
        line.say("431[]")
        await wait_all_tasks_blocked()
        assert len(line.heard()) == 1
        line.say("432[]")
        await wait_all_tasks_blocked()
        assert client.pending == 2
        line.close()  # from here on the policy counts
        await wait_all_tasks_blocked()
        assert client.state.value == "backing off"
        line = await script.accept(rt=1)
        for _ in range(2):
            head, _ = await line.hear_packet()
            line.say(f"43{head[2:]}[]")


async def test_pending_calls(autojump_clock: MockClock) -> None:
    """A server without keys may owe no more answers than `max_pending_calls`."""
    script = Script()
    async with (
        open_client("http://x", dial=script, max_pending_calls=2) as client,
        trio.open_nursery() as nursery,
    ):
        await script.accept()
        await client.wait_connected()
        for _ in range(2):
            nursery.start_soon(time_out, client)
        await wait_all_tasks_blocked()
        with pytest.raises(LimitError, match="max_pending_calls"):
            await client.call("x")


async def time_out(client: Any) -> None:
    with pytest.raises(CallTimeout):
        await client.call("x", timeout=1)


async def test_flush_on_leaving(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """Leaving while it waits to dial dials at once, and waits for what was emitted to arrive."""
    script = Script()
    limits = ReconnectLimits(backoff_base=1_000, backoff_max=1_000)
    acknowledged: list[float] = []

    async def serve_late() -> None:
        line = await script.accept(rt=1)
        head, data = await line.hear_packet()
        assert data[0] == "last"
        await trio.sleep(40)
        acknowledged.append(trio.current_time())
        line.say(f"43{head[2:]}[]")

    async with open_client("http://x", dial=script, reconnect=limits, close_timeout=50) as client:
        line = await script.accept(rt=1)
        await client.wait_connected()
        line.close()
        await wait_all_tasks_blocked()
        await client.emit("last")
        nursery.start_soon(serve_late)
    assert acknowledged == [trio.current_time()]
    assert client.pending == 0


# Recovery


async def test_recovery(autojump_clock: MockClock) -> None:
    """It shows where it stood; missed events come first, once, without what is not theirs."""
    script = Script()
    send, receive = trio.open_memory_channel[Any](10)
    async with open_client("http://x", dial=script, reconnect=STEADY) as client:
        client.on("e")(send.send)

        @client.on_connect
        async def hello() -> None:
            send.send_nowait(f"connected, recovered: {client.recovered}")

        line = await script.answer()
        assert await line.admit(pid="P", rt=1) == {"rt": 1}
        line.say('42["e",1,"o1"]', '427["ask","no offset"]', '42["e",2,"o2"]')
        await line.expect(
            '437[{"error":{"code":"unknown_event","message":"no handler for \'ask\'",'
            '"details":null}}]'
        )
        line.close()
        line = await script.answer()
        _, shown = await line.hear_packet()
        assert shown == {"rt": 1, "pid": "P", "offset": "o2"}
        line.say('42["e",3,"o3"]', '40{"sid":"S","pid":"P","rt":1}', '42["e",4,"o4"]')
        await wait_all_tasks_blocked()
        assert client.recovered
        line.close()
        line = await script.answer()
        assert await line.admit(pid="Q", rt=1) == {"rt": 1, "pid": "P", "offset": "o4"}
        await wait_all_tasks_blocked()
        assert not client.recovered
        line.close()
        line = await script.answer()
        assert await line.admit(pid="Q", rt=1) == {"rt": 1, "pid": "Q"}
        await wait_all_tasks_blocked()
    send.close()
    assert [value async for value in receive] == [
        "connected, recovered: False",
        1,
        2,
        3,
        "connected, recovered: True",
        4,
        "connected, recovered: False",
        "connected, recovered: True",
    ]


async def test_offsets_of_other_servers(autojump_clock: MockClock) -> None:
    """Where any trailing text may be an offset, it is taken off only where it is too much."""
    script = Script()
    send, receive = trio.open_memory_channel[Any](10)
    async with open_client("http://x", dial=script, reconnect=STEADY) as client:

        @client.on("one")
        async def one(text: str) -> None:
            send.send_nowait(("one", text))

        @client.on("all")
        async def everything(*values: Any) -> None:
            send.send_nowait(("all", *values))

        line = await script.accept(pid="P")
        line.say('42["one","a","o1"]', '42["one","b"]', '42["all",1,"o3"]', '42["one",7]')
        await wait_all_tasks_blocked()
        line.close()
        line = await script.answer()
        assert (await line.admit(pid="P"))["offset"] == "o3"
    send.close()
    assert [value async for value in receive] == [("one", "a"), ("one", "b"), ("all", 1, "o3")]


async def test_no_recovery_without_pid(autojump_clock: MockClock) -> None:
    """A server that keeps no sessions is shown no offset, and its texts are the program's."""
    script = Script()
    send, receive = trio.open_memory_channel[Any](10)
    async with open_client("http://x", dial=script, reconnect=STEADY) as client:
        client.on("one")(send.send)
        line = await script.accept()
        line.say('42["one","a"]')
        with trio.fail_after(DEADLINE):
            assert await receive.receive() == "a"
        line.close()
        line = await script.answer()
        assert await line.admit() == {"rt": 1}


# A full inbox


async def test_reading_pauses(autojump_clock: MockClock) -> None:
    """Behind a slow handler reading pauses, pings are answered unseen, and nothing is lost."""
    script = Script()
    seen: list[int] = []
    async with open_client("http://x", dial=script, inbox_messages=4) as client:

        @client.on("n")
        async def slow(n: int) -> None:
            seen.append(n)
            await trio.sleep(100)

        line = await script.answer(interval=10_000, timeout=8_000)
        await line.admit()
        for n in range(30):
            line.say(f'42["n",{n}]')
        await trio.sleep(995)
        assert seen == list(range(10))
        assert client.state is ConnectionState.CONNECTED
        waiting = line._arrives.statistics().current_buffer_used
        assert waiting > 5, "all was read, so nothing is bounded"
        pongs = line.heard()
        assert set(pongs) == {"3"}
        assert 1_000 / 8 < len(pongs) < 1_000 / 3
        await trio.sleep(400)
        line.say("2")  # behind the events
        with trio.fail_after(3_000):
            while len(seen) < 30:
                await trio.sleep(1)
                if not line._arrives.statistics().current_buffer_used:
                    line.say("2")
    assert seen == list(range(30))


async def test_reading_goes_on_for_a_call(autojump_clock: MockClock) -> None:
    """A handler that calls gets its answer, however many events stand before it."""
    script = Script()
    seen: list[int] = []
    async with open_client("http://x", dial=script, inbox_messages=4) as client:

        @client.on("n")
        async def on_n(n: int) -> None:
            if n == 0:
                await client.call("x")
            seen.append(n)

        line = await script.accept()
        for n in range(40):
            line.say(f'42["n",{n}]')
        await line.expect('421["x"]')
        line.say("431[]")
        await wait_all_tasks_blocked()
    assert seen == list(range(40))


async def test_overrun(autojump_clock: MockClock) -> None:
    """More than a waiting handler may leave unread ends the connection; the rest is recovered."""
    script = Script()
    seen: list[int] = []
    async with open_client("http://x", dial=script, inbox_messages=4, reconnect=STEADY) as client:

        @client.on("n")
        async def on_n(n: int) -> None:
            seen.append(n)
            if n == 0:
                with pytest.raises(Disconnected):
                    await client.call("x")

        line = await script.accept(pid="P")
        for n in range(100):
            line.say(f'42["n",{n},"{n}"]')
        line = await script.answer()
        shown = await line.admit(pid="P")
        at = int(shown["offset"])
        assert 60 < at < 99
        for n in range(at + 1, 100):
            line.say(f'42["n",{n},"{n}"]')
        await wait_all_tasks_blocked()
    assert seen == list(range(100))


async def test_slow_answers(autojump_clock: MockClock) -> None:
    """A server that reads no answers makes handlers wait, not memory grow."""
    script = Script(buffer=0)
    handled = 0
    async with open_client("http://x", dial=script) as client:

        @client.on("n")
        async def on_n() -> str:
            nonlocal handled
            handled += 1
            return "x" * 1_000

        line = await script.accept()
        for n in range(100):
            line.say(f'42{n}["n"]')
        await wait_all_tasks_blocked()
        assert handled < 20
        for n in range(100):
            assert str(await line.hear()).startswith(f"43{n}[")
        assert handled == 100


# Servers that break the protocol


@pytest.mark.parametrize(
    "messages",
    [
        ["nonsense"],
        ["9"],
        ["4"],
        ["49"],
        ['42["connect"]'],
        ['40{"sid":"S"}'],
        ["451-[]", "42[]"],
        [b"attachment of nothing"],
        ['4511-["x"]'],
        ["0{}"],
    ],
    ids=str,
)
async def test_broken_protocol(autojump_clock: MockClock, messages: list[Any]) -> None:
    """What is no message of a server ends the connection with a parse error, and it comes back."""
    script = Script()
    async with open_client("http://x", dial=script, reconnect=STEADY) as client:
        line = await script.accept()
        await client.wait_connected()
        line.say(*messages)
        await wait_all_tasks_blocked()
        assert client.reason is not None
        assert client.reason.code == "parse error"
        await script.accept()
        await client.wait_connected()


async def test_harmless(autojump_clock: MockClock) -> None:
    """What means nothing on a WebSocket, or comes too late, does nothing."""
    script = Script()
    async with open_client("http://x", dial=script) as client:
        line = await script.accept()
        await client.wait_connected()
        line.say(
            "1", "3", "5", "6", "43999[]", '42/other,["x"]', "41/other,", '40/other,{"sid":""}'
        )
        await wait_all_tasks_blocked()
        assert client.state is ConnectionState.CONNECTED
        assert client.recovered is False


# Cancelling


class AfterSteps(trio.abc.Instrument):
    """Cancels a scope after so many steps of all tasks."""

    def __init__(self, steps: int, scope: trio.CancelScope) -> None:
        self._left = steps
        self._scope = scope

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self._scope.cancel()


async def live() -> None:
    """The life of a client: it dials, waits, calls, handles, is lost, comes back, and leaves."""
    script = Script(buffer=0)
    limits = ReconnectLimits(backoff_base=1, backoff_max=1, connect_timeout=3)

    async def token() -> dict[str, str]:
        await trio.sleep(1)
        return {}

    async def serve() -> None:
        for keys in (0, 1):
            line = await script.answer()
            assert await line.hear()
            line.say(f'40{{"sid":"S","rt":{keys}}}')
            await line.hear()
            line.say("2", '421["go"]')
            await line.hear()
            await trio.sleep(1)
            line.close()

    async with (
        trio.open_nursery() as nursery,
        open_client("http://x", auth=token, dial=script, reconnect=limits) as client,
    ):
        nursery.start_soon(serve)
        changes = client.changes()

        @client.on("go")
        async def go() -> None:
            with suppress(CallTimeout, Disconnected):
                await client.call("more", timeout=1)

        await client.emit("x")
        await client.wait_connected()
        async for change in changes:
            if change.state is ConnectionState.BACKING_OFF:
                break
        await client.emit("y")


async def test_cancel_at_every_step(
    autojump_clock: MockClock, errors: list[logging.LogRecord]
) -> None:
    """Cancelled at whatever point of its life, it ends at once and leaves nothing behind."""
    steps = 0
    is_over = False
    while not is_over:
        steps += 1
        with trio.CancelScope() as scope:
            instrument = AfterSteps(steps, scope)
            trio.lowlevel.add_instrument(instrument)
            try:
                await live()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        is_over = not scope.cancelled_caught
    assert steps > 50
