"""Events that carry an idempotency key: each is handled once, in memory and on a virtual clock."""

import logging
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.test_recovery import ALICE, MALLORY, ByName, come_back, the_socket, vanish
from trio_rt import NO_ACK, Anonymous, Refuse, Server
from trio_rt.codec.socketio import encode_connect
from trio_rt.testing import Client, Host, hosting

pytestmark = pytest.mark.usefixtures("errors")

WINDOW = 120.0
"""Seconds for which a result is repeated, by default."""


class Counting:
    """A server whose event `pay` notes each run, and takes a while if it is told to.

    Args:
        how: `on`'s further arguments.
        changes: fields of `Config`.
    """

    def __init__(self, how: dict[str, Any] | None = None, **changes: Any) -> None:
        self.server = Server(auth=ByName(), **changes)
        self.runs: list[Any] = []
        self.seconds = 0.0
        self.result: Any = None
        how = {"idempotent": lambda id, *_: id} if how is None else how

        @self.server.on("pay", **how)
        async def pay(socket, id, amount=0):
            self.runs.append((socket.user.id, id, amount))
            run = len(self.runs)
            await trio.sleep(self.seconds)
            if isinstance(self.result, Exception):
                raise self.result
            return f"run {run}" if self.result is None else self.result


async def with_keys(host: Host, auth: dict[str, Any] = ALICE, **more: Any) -> Client:
    """A client that sends a key with each event, as ours does."""
    return await host.connect(auth={**auth, **more, "rt": 1})


async def test_resend(autojump_clock) -> None:
    """A resend is not handled again, and gets the first acknowledgement."""
    counting = Counting()
    async with hosting(counting.server) as host:
        client = await host.connect(auth=ALICE)
        assert await client.call("pay", "a", 5) == "run 1"
        assert await client.call("pay", "a", 5) == "run 1"
        assert await client.call("pay", "b", 5) == "run 2"
        await client.emit("pay", "a", 5)  # nobody asks: nobody is answered
        await client.expect_nothing()
    assert counting.runs == [("alice", "a", 5), ("alice", "b", 5)]


async def test_on_another_connection(autojump_clock) -> None:
    """The same user gets the first acknowledgement on any connection, recovered or not."""
    counting = Counting()
    async with hosting(counting.server) as host:
        client = await host.connect(auth=ALICE)
        assert await client.call("pay", "a") == "run 1"
        await vanish(client)
        again = await come_back(host, client)
        assert await again.call("pay", "a") == "run 1"
        third = await host.connect(auth=ALICE)
        assert await third.call("pay", "a") == "run 1"
    assert len(counting.runs) == 1


async def test_two_users(autojump_clock) -> None:
    """A key is its user's own: another one's event with the same key is another event."""
    counting = Counting()
    async with hosting(counting.server) as host:
        alice, mallory = await host.connect(auth=ALICE), await host.connect(auth=MALLORY)
        assert await alice.call("pay", "a") == "run 1"
        assert await mallory.call("pay", "a") == "run 2"
        assert await alice.call("pay", "a") == "run 1"


async def test_names_do_not_run_together(autojump_clock) -> None:
    """However users, events and keys are put together, two that differ are two."""
    counting = Counting()
    server = counting.server
    for name in ("pay2", '", "'):

        @server.on(name, idempotent=lambda key: key)
        async def other(socket, key, name=name):
            return name

    async with hosting(server) as host:
        one = await host.connect(auth={"user": "a"})
        two = await host.connect(auth={"user": 'a", "pay'})
        assert await one.call("pay", "k") == "run 1"
        assert await one.call("pay2", "k") == "pay2"
        assert await one.call('", "', "k") == '", "'
        assert await two.call("pay", "k") == "run 2"
        assert await one.call("pay", ["k"]) == "run 3"
        assert await one.call("pay", 1) == "run 4"
        assert await one.call("pay", "1") == "run 5"
        assert await one.call("pay", 1) == "run 4"


async def test_namespaces_do_not_run_together(autojump_clock) -> None:
    """The same event of another namespace is another event."""
    counting = Counting()

    @counting.server.namespace("/other").on("pay", idempotent=lambda key: key)
    async def pay(socket, key):
        return "other"

    async with hosting(counting.server) as host:
        client = await host.connect(auth=ALICE)
        await client.connect("/other", ALICE)
        assert await client.call("pay", "a") == "run 1"
        assert await client.call("pay", "a", namespace="/other") == "other"


async def test_while_the_first_runs(autojump_clock) -> None:
    """A resend on another connection waits for the first run, and gets its acknowledgement."""
    counting = Counting()
    counting.seconds = 3.0
    async with hosting(counting.server) as host:
        first, second = await host.connect(auth=ALICE), await host.connect(auth=ALICE)
        id = await first.ask("pay", "a")
        await wait_all_tasks_blocked()
        start = trio.current_time()
        assert await second.call("pay", "a") == "run 1"
        assert trio.current_time() - start == pytest.approx(3)
        assert await first.expect_acknowledgement(id) == "run 1"
    assert len(counting.runs) == 1


async def test_the_first_is_cancelled(autojump_clock) -> None:
    """When the first run is cancelled with its client, the resend that waits runs."""
    counting = Counting(disconnect_timeout=0.5)
    counting.seconds = 3.0
    async with hosting(counting.server) as host:
        first, second = await host.connect(auth=ALICE), await host.connect(auth=ALICE)
        await first.emit("pay", "a")
        await wait_all_tasks_blocked()
        await second.ask("pay", "a")
        await wait_all_tasks_blocked()
        await vanish(first)
        await trio.sleep(4)
        packet = await second.receive()
        assert packet.data == ["run 2"]
        assert len(counting.runs) == 2
        assert await second.call("pay", "a") == "run 2"


async def test_who_waits_is_cancelled(autojump_clock) -> None:
    """When a resend that waits is cancelled with its client, the first run goes on."""
    counting = Counting(disconnect_timeout=0.5)
    counting.seconds = 3.0
    async with hosting(counting.server) as host:
        first, second = await host.connect(auth=ALICE), await host.connect(auth=ALICE)
        id = await first.ask("pay", "a")
        await wait_all_tasks_blocked()
        await second.ask("pay", "a")
        await wait_all_tasks_blocked()
        await vanish(second)
        await trio.sleep(2)
        assert await first.expect_acknowledgement(id) == "run 1"
        assert await first.call("pay", "a") == "run 1"
    assert counting.server.backplane._running == {}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("result", "told"),
    [
        pytest.param(Refuse("poor", "no money"), "poor", id="refused"),
        pytest.param(ValueError("a bug"), "internal", id="failed"),
        pytest.param(object(), "internal", id="result that cannot be sent"),
    ],
)
async def test_errors_are_results(
    autojump_clock, errors: list[logging.LogRecord], result: Any, told: str
) -> None:
    """What the client was told of a failure is repeated as well, word by word."""
    counting = Counting()
    counting.result = result
    async with hosting(counting.server) as host:
        client = await host.connect(auth=ALICE)
        answer = await client.call("pay", "a")
        assert answer["error"]["code"] == told
        assert await client.call("pay", "a") == answer
    assert len(counting.runs) == 1
    assert len(errors) == (told == "internal")
    errors.clear()


@pytest.mark.parametrize(
    "result", [b"bytes", (1, b"two", None), (), [], {"a": [b"1", b"2"]}, 0, False, "text"]
)
async def test_any_result(autojump_clock, result: Any) -> None:
    """Every kind of result is repeated as it was, binary ones included."""
    counting = Counting()
    counting.result = result
    async with hosting(counting.server) as host:
        client = await host.connect(auth=ALICE)
        first = await client.call("pay", "a")
        assert await client.call("pay", "a") == first
        assert first == (None if result == () else result)
    assert len(counting.runs) == 1


async def test_no_ack(autojump_clock) -> None:
    """What was not acknowledged is not acknowledged for a resend either, and not run."""
    counting = Counting()
    counting.result = NO_ACK
    async with hosting(counting.server) as host:
        client = await host.connect(auth=ALICE)
        await client.ask("pay", "a")
        await client.ask("pay", "a")
        await client.expect_nothing()
    assert len(counting.runs) == 1


async def test_window(autojump_clock) -> None:
    """When the window is over, the same key runs again."""
    counting = Counting()
    async with hosting(counting.server) as host:
        client = await host.connect(auth=ALICE)
        assert await client.call("pay", "a") == "run 1"
        await trio.sleep(WINDOW - 1)
        assert await client.call("pay", "a") == "run 1"
        await trio.sleep(2)
        assert await client.call("pay", "a") == "run 2"


async def test_bounded(autojump_clock) -> None:
    """Only so many results are kept, and only so many bytes of them; after the window none."""
    counting = Counting(once_results=50, once_bytes=4_000)
    async with hosting(counting.server) as host:
        client = await host.connect(auth=ALICE)
        once = counting.server.backplane._once  # type: ignore[attr-defined]
        for number in range(100):
            await client.call("pay", f"key {number}")
            assert len(once) <= 50
        for number in range(10):
            await client.call("pay", f"{number}" * 1_000)
            assert once._bytes <= 4_000
        await trio.sleep(WINDOW + 6)
        assert len(once) == 0


async def test_no_key(autojump_clock) -> None:
    """An event whose key is None runs each time."""
    counting = Counting()
    async with hosting(counting.server) as host:
        client = await host.connect(auth=ALICE)
        assert await client.call("pay", None) == "run 1"
        assert await client.call("pay", None) == "run 2"


@pytest.mark.parametrize("kind", ["raises", "no JSON"])
async def test_key_that_cannot_be_made(
    autojump_clock, errors: list[logging.LogRecord], kind: str
) -> None:
    """A program's mistake in making a key is logged and answered as one in a handler."""

    def make(key: Any) -> Any:
        return {}["missing"] if kind == "raises" else object()

    counting = Counting({"idempotent": make})
    async with hosting(counting.server) as host:
        client = await host.connect(auth=ALICE)
        answer = await client.call("pay", "a")
        assert answer["error"]["code"] == "internal"
        await client.emit("pay", "a")
        assert (await client.expect("error"))["error"]["code"] == "internal"
    assert counting.runs == []
    assert len(errors) == 2
    errors.clear()


async def test_error_where_nobody_asked(autojump_clock) -> None:
    """A failure of an event without an acknowledgement is told by an `error` event, once."""
    counting = Counting()
    counting.result = Refuse("poor")
    async with hosting(counting.server) as host:
        client = await host.connect(auth=ALICE)
        await client.emit("pay", "a")
        await client.emit("pay", "a")
        assert (await client.expect("error"))["error"]["code"] == "poor"
        await client.expect_nothing()
    assert len(counting.runs) == 1


async def test_invalid(autojump_clock) -> None:
    """An event with a wrong payload is refused before a key is made of it."""
    counting = Counting()
    async with hosting(counting.server) as host:
        client = await host.connect(auth=ALICE)
        assert (await client.call("pay"))["error"]["code"] == "invalid"
        assert (await client.call("pay", 1, 2, 3))["error"]["code"] == "invalid"
    assert counting.runs == []


async def test_several_at_once(autojump_clock) -> None:
    """With concurrency, resends on one connection wait for the first run, others run at once."""
    counting = Counting({"idempotent": lambda id, *_: id, "concurrency": 3})
    counting.seconds = 3.0
    async with hosting(counting.server) as host:
        client = await host.connect(auth=ALICE)
        start = trio.current_time()
        ids = [await client.ask("pay", key) for key in "aab"]
        answers = {(await client.receive()).id for _ in ids}
        assert trio.current_time() - start == pytest.approx(3)
        assert answers == {*ids}
    assert [run[1] for run in counting.runs] == ["a", "b"]


async def test_handler_whose_client_is_gone(autojump_clock) -> None:
    """A run that could not answer any more has its result kept for the resend."""
    counting = Counting()
    counting.seconds = 2.0
    async with hosting(counting.server) as host:
        client = await host.connect(auth=ALICE)
        await client.ask("pay", "a")
        await wait_all_tasks_blocked()
        await vanish(client)
        await trio.sleep(3)  # within its grace
        again = await come_back(host, client)
        assert await again.call("pay", "a") == "run 1"


# Keys that clients send by themselves


async def test_key_of_the_client(autojump_clock) -> None:
    """A client that said so sends a key behind each event, which the handler does not see."""
    counting = Counting({})
    async with hosting(counting.server) as host:
        client = await with_keys(host)
        assert await client.call("pay", "a", 5, "key.1") == "run 1"
        assert await client.call("pay", "a", 5, "key.1") == "run 1"
        assert await client.call("pay", "a", 5, "key.2") == "run 2"
        assert await client.call("unknown", "key.3") != "run 2"
        other = await host.connect(auth=ALICE)
        assert await other.call("pay", "a", "key.1") == "run 3"  # it never said so
    assert counting.runs == [("alice", "a", 5), ("alice", "a", 5), ("alice", "a", "key.1")]


async def test_key_of_the_client_and_of_the_handler(autojump_clock) -> None:
    """The client's key counts where there is one; without, the handler's."""
    counting = Counting()
    async with hosting(counting.server) as host:
        client = await with_keys(host)
        assert await client.call("pay", "a", 1, "key.1") == "run 1"
        assert await client.call("pay", "a", 1, "key.2") == "run 2"
        assert await client.call("pay", "b", 1) == "run 3"
        assert await client.call("pay", "b", 1) == "run 3"


async def test_is_told_that_keys_are_taken(autojump_clock) -> None:
    """The reply to CONNECT tells a client that its keys are understood, and none that it was not
    asked."""
    counting = Counting()
    seen: list[Any] = []

    @counting.server.on_connect
    async def enter(socket):
        seen.append((dict(socket.handshake.auth), socket.sends_keys))

    async with hosting(counting.server) as host:
        for rt, reply in [(1, 1), (0, None), ("1", None), (2, None), (None, None)]:
            client = await host.open()
            await client.send_packet(encode_connect("/", {**ALICE, "rt": rt}))
            assert (await client.receive()).data.get("rt") == reply
    assert seen == [(ALICE, rt == 1) for rt in (1, 0, "1", 2, None)]


async def test_after_a_return(autojump_clock) -> None:
    """A client that is back sends keys as before, and what it resends runs once, in order."""
    counting = Counting({})
    async with hosting(counting.server) as host:
        client = await with_keys(host)
        for number in range(3):
            await client.ask("pay", number, f"key.{number}")
        await wait_all_tasks_blocked()
        await vanish(client)
        again = await host.connect(auth={**ALICE, **client.claim(), "rt": 1})
        assert the_socket(counting.server).sends_keys
        answers = [await again.call("pay", number, f"key.{number}") for number in range(1, 5)]
    assert answers == ["run 2", "run 3", "run 4", "run 5"]
    assert [run[1] for run in counting.runs] == [0, 1, 2, 3, 4]


# Guests


def guests(**changes: Any) -> tuple[Server, list[Any]]:
    """A server that knows nobody, and what ran there."""
    server = Server(auth=Anonymous(), **changes)
    runs: list[Any] = []

    @server.on("pay", idempotent=lambda id: id)
    async def pay(socket, id):
        runs.append((socket.user.id, id))
        return f"run {len(runs)}"

    return server, runs


async def test_guest_that_missed_too_much(autojump_clock) -> None:
    """A guest whose session is known, but cannot be given whole any more, is the guest of before:
    what it sends again does not run again."""
    server, runs = guests(history_events=3)
    async with hosting(server) as host:
        client = await host.connect()
        assert await client.call("pay", "a") == "run 1"
        await vanish(client)
        for number in range(5):
            await server.all.emit("n", number)
        again = await come_back(host, client, auth={})
        assert not again.recovered
        assert await again.call("pay", "a") == "run 1"
    assert len(runs) == 1


@pytest.mark.parametrize("window", [0.0, 120.0], ids=["no recovery", "no session"])
async def test_key_of_a_guest_s_client(autojump_clock, window: float) -> None:
    """A guest may come back as another one, but its client's keys are known again."""
    server, runs = guests(recovery_window=window)
    async with hosting(server) as host:
        for _ in range(2):
            client = await with_keys(host, {})
            assert await client.call("pay", "a", "0k2.1") == "run 1"
            await vanish(client)
        other = await with_keys(host, {})
        assert await other.call("pay", "a", "7hj.1") == "run 2"
    assert len({user for user, _ in runs}) == 2


async def test_guests_with_the_same_key(autojump_clock) -> None:
    """A key that the program makes is each guest's own: nobody gets another one's answer."""
    server, _ = guests()
    async with hosting(server) as host:
        assert await (await host.connect()).call("pay", "a") == "run 1"
        assert await (await host.connect()).call("pay", "a") == "run 2"
