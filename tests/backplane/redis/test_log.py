"""Logs keep one total order, and never claim to know what they do not."""

import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from itertools import pairwise
from typing import Any

import attrs
import pytest
import trio

from tests.backplane.redis.conftest import QUICK
from tests.backplane.redis.waiting import until
from tests.parts.valkey import Valkey
from trio_rt.backplane.redis.address import read_url
from trio_rt.backplane.redis.arrivals import Message
from trio_rt.backplane.redis.dial import DirectDial
from trio_rt.backplane.redis.keys import Keys, LogName
from trio_rt.backplane.redis.log import (
    CHUNK,
    Entry,
    EventLog,
    LogLimits,
    Loss,
    Lost,
    Recovered,
    read_message,
)
from trio_rt.backplane.redis.steady import SteadyLink
from trio_rt.backplane.redis.subscriptions import Subscriptions
from trio_rt.codec.position import START, Position
from trio_rt.errors import BackplaneError
from trio_rt.testing import open_proxy


@pytest.fixture
def server(either_server: Valkey) -> Valkey:
    """All of this is checked on both: it is what the scripts do."""
    return either_server


@pytest.fixture
def dial(server: Valkey) -> DirectDial:
    return DirectDial(read_url(server.url), QUICK)


LIMITS = LogLimits(entries=100, recovered_entries=50, recovered_bytes=10_000)
KEYS = Keys()
ROOM, OTHER = LogName("/", "room"), LogName("/", "other")


@pytest.fixture
async def link(dial: DirectDial) -> AsyncGenerator[SteadyLink]:
    link = SteadyLink(dial, "test")
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        yield link
        nursery.cancel_scope.cancel()


@pytest.fixture
def log(link: SteadyLink) -> EventLog:
    return EventLog(link, KEYS, LIMITS)


async def recovered(log: EventLog, since: dict[LogName, Position]) -> Recovered:
    found = await log.recover(since)
    assert isinstance(found, Recovered)
    return found


async def why_lost(log: EventLog, since: Position, name: LogName = ROOM) -> Loss:
    found = await log.recover({name: since})
    assert isinstance(found, Lost)
    assert found.log == name
    return found.why


async def test_recover_what_was_missed(log: EventLog) -> None:
    """All entries since a position come back, in order over all logs, with any bytes."""
    since = await log.begin([ROOM, OTHER])
    frames = [b"\x00 \xff\r\n", b"", b"3", b"4"]
    for index, frame in enumerate(frames):
        await log.append([ROOM, OTHER][index % 2], frame)
    found = await recovered(log, {ROOM: since, OTHER: since})
    assert [entry.frame for entry in found.entries] == frames
    assert [entry.log for entry in found.entries] == [ROOM, OTHER] * 2
    later = await recovered(log, {ROOM: found.entries[0].position, OTHER: found.position})
    assert [entry.frame for entry in later.entries] == [b"3"]
    assert (await recovered(log, {ROOM: found.position})).entries == ()


async def test_no_logs(log: EventLog) -> None:
    """Nothing was missed of no logs."""
    assert (await recovered(log, {})).entries == ()


async def test_total_order(log: EventLog) -> None:
    """Of whatever is appended at the same time, each has a place of its own."""
    before = await log.begin([ROOM])
    positions: list[Position] = []

    async def append(name: LogName) -> None:
        for _ in range(20):
            positions.append((await log.append(name, b"x")).position)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(append, LogName("/", f"r{number % 5}"))
    assert len(set(positions)) == 400
    assert before < min(positions)
    assert max(positions) <= await log.begin([ROOM])


async def test_published(server: Valkey, dial: DirectDial, log: EventLog) -> None:
    """Entries arrive at the log's channel, each with the place of the one before it."""
    subscriptions = Subscriptions(dial, "test")
    async with trio.open_nursery() as nursery:
        await nursery.start(subscriptions.run)
        await subscriptions.subscribe(log.channel(ROOM))
        since = await log.begin([ROOM])
        given = [await log.append(ROOM, b"frame %d" % number) for number in range(3)]
        await log.append(OTHER, b"not ours")
        heard: list[Message] = []
        while len(heard) < 3:
            await subscriptions.wait()
            heard += [item for item in subscriptions.receive_nowait() if isinstance(item, Message)]
        entries = [read_message(message.data) for message in heard]
        assert [entry.position for entry in entries] == [one.position for one in given]
        assert [entry.previous for entry in entries] == [since, *[one.position for one in given]][
            :3
        ]
        assert [entry.frame for entry in entries] == [b"frame 0", b"frame 1", b"frame 2"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("data", [b"", b"1-1", b"1-1 1-1", b"x y z", b"1-1 y z"])
def test_foreign_message(data: bytes) -> None:
    """What somebody else publishes is no entry."""
    with pytest.raises(BackplaneError, match=r"ours|by us"):
        read_message(data)


async def test_idempotency(log: EventLog, server: Valkey) -> None:
    """The same key is appended once, and gives the same position; another one is another."""
    since = await log.begin([ROOM])
    first = await log.append(ROOM, b"x", key="k1")
    again = await log.append(ROOM, b"x", key="k1")
    other = await log.append(ROOM, b"y", key="k2")
    assert first.is_new
    assert (again.position, again.is_new) == (first.position, False)
    assert other.is_new
    frames = [entry.frame for entry in (await recovered(log, {ROOM: since})).entries]
    assert frames == [b"x", b"y"]
    assert 0 < server.client.pttl(KEYS.appended("k1")) <= 120_000


async def test_append_over_a_broken_network(server: Valkey) -> None:
    """Appends with keys over a network that breaks all the time are in the log once each."""
    async with open_proxy("127.0.0.1", server.port) as proxy:
        settings = attrs.evolve(QUICK, max_backoff=0.02)
        link = SteadyLink(DirectDial(read_url(f"redis://127.0.0.1:{proxy.port}"), settings), "test")
        log = EventLog(link, KEYS, attrs.evolve(LIMITS, entries=1000, recovered_entries=1000))
        async with trio.open_nursery() as nursery:
            await nursery.start(link.run)
            proxy.delay = 0.002
            since = await log.begin([ROOM])
            done: list[bytes] = []

            async def append(number: int) -> None:
                for step in range(20):
                    frame = b"%d.%d" % (number, step)
                    assert (await log.append(ROOM, frame, key=frame.decode())) is not None
                    done.append(frame)

            async def break_network() -> None:
                for count in range(0, 150, 10):  # each time it gets on, however slowly
                    await until(lambda count=count: len(done) > count)  # type: ignore[misc]
                    proxy.reset()

            async with trio.open_nursery() as working:
                working.start_soon(break_network)
                for number in range(10):
                    working.start_soon(append, number)
            frames = [entry.frame for entry in (await recovered(log, {ROOM: since})).entries]
            assert sorted(frames) == sorted(done)
            for number in range(10):
                own = [frame for frame in frames if frame.startswith(b"%d." % number)]
                assert own == [b"%d.%d" % (number, step) for step in range(20)]
            assert proxy.connections > 2
            nursery.cancel_scope.cancel()


async def test_unknown_log(log: EventLog) -> None:
    """A log that nobody began is not recovered."""
    assert await why_lost(log, await log.begin([OTHER])) is Loss.FORGOTTEN


async def test_position_of_another_time(log: EventLog) -> None:
    """A position before the log's beginning, or that was never handed out, is not recovered."""
    await log.begin([ROOM])
    assert await why_lost(log, START) is Loss.FORGOTTEN
    assert await why_lost(log, Position(9_999_999_999_999, 0)) is Loss.FORGOTTEN


async def test_expired(log: EventLog, server: Valkey) -> None:
    """A log whose entries are gone says so to whoever missed some, and not to the others."""
    since = await log.begin([ROOM])
    last = (await log.append(ROOM, b"x")).position
    assert 100_000 < server.client.pttl(KEYS.stream(ROOM)) <= 180_000
    assert server.client.pttl(KEYS.meta(ROOM)) > 80_000_000
    server.client.delete(KEYS.stream(ROOM))
    assert await why_lost(log, since) is Loss.EXPIRED
    assert (await recovered(log, {ROOM: last})).entries == ()


@pytest.mark.parametrize("gone", ["first", "middle", "last"])
async def test_trimmed(log: EventLog, server: Valkey, gone: str) -> None:
    """A log of which an entry is gone, wherever, says so to whoever missed it."""
    since = await log.begin([ROOM])
    positions = [(await log.append(ROOM, b"x")).position for _ in range(3)]
    server.client.xdel(KEYS.stream(ROOM), str(positions[["first", "middle", "last"].index(gone)]))
    assert await why_lost(log, since) is Loss.TRIMMED
    assert (await recovered(log, {ROOM: positions[2]})).entries == ()


async def test_bounded(log: EventLog, server: Valkey) -> None:
    """A log keeps about as many entries as it may."""
    for _ in range(500):
        await log.append(ROOM, b"x")
    assert 100 <= server.client.xlen(KEYS.stream(ROOM)) <= 200


@pytest.mark.parametrize("frames", [[b"x"] * 51, [b"x" * 4000] * 3])
async def test_too_much(log: EventLog, frames: list[bytes]) -> None:
    """More than one recovery may have, in entries or bytes, is refused, over all logs together."""
    since = await log.begin([ROOM, OTHER])
    for index, frame in enumerate(frames):
        await log.append([ROOM, OTHER][index % 2], frame)
    found = await log.recover({ROOM: since, OTHER: since})
    assert isinstance(found, Lost)
    assert found.why is Loss.TOO_MUCH
    assert (await recovered(log, {OTHER: since})).entries


async def test_many_logs(log: EventLog) -> None:
    """Hundreds of logs are recovered together, in one order."""
    names = [LogName("/", f"r{number}") for number in range(CHUNK * 2 + 10)]
    since = await log.begin(names)
    chosen = [names[-1], names[0], names[CHUNK], names[0]]
    for name in chosen:
        await log.append(name, name.room.encode())
    found = await recovered(log, dict.fromkeys(names, since))
    assert [entry.log for entry in found.entries] == chosen


class Meanwhile(SteadyLink):
    """Lets something happen after its next command."""

    act: Callable[[], Awaitable[object]] | None = None

    async def call(self, *words: Any, may_repeat: bool = False) -> Any:
        reply = await super().call(*words, may_repeat=may_repeat)
        act, self.act = self.act, None
        if act is not None:
            await act()
        return reply


async def test_append_between_chunks(dial: DirectDial, log: EventLog) -> None:
    """What is appended while hundreds of logs are recovered is all after the position, or none."""
    names = [LogName("/", f"r{number}") for number in range(CHUNK + 1)]
    since = await log.begin(names)
    link = Meanwhile(dial, "slow")

    async def append() -> None:
        for name in (names[0], names[-1]):
            await log.append(name, name.room.encode())

    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        slow = EventLog(link, KEYS, LIMITS)
        await slow.recover({names[0]: since})  # loads the script
        link.act = append
        found = await recovered(slow, dict.fromkeys(names, since))
        assert found.entries == ()
        later = await recovered(slow, dict.fromkeys(names, found.position))
        assert [entry.log for entry in later.entries] == [names[0], names[-1]]
        nursery.cancel_scope.cancel()


async def test_last(log: EventLog) -> None:
    """The last position of a log is known without its entries."""
    await log.begin([ROOM])
    position = (await log.append(OTHER, b"x")).position
    assert await log.last([ROOM, OTHER]) == [None, position]
    assert await log.last([]) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LogName("/a", "b:c"), LogName("/a:b", "c")),
        (LogName("/a%3A", "b"), LogName("/a:", "b")),
        (LogName("/", ""), LogName("/", ":")),
        (LogName("/}{", "x"), LogName("/", "}{x")),
    ],
)
async def test_names_are_not_mixed_up(log: EventLog, one: LogName, other: LogName) -> None:
    """Logs whose names look alike are different ones."""
    since = await log.begin([one, other])
    await log.append(one, b"x")
    assert (await recovered(log, {other: since})).entries == ()
    assert len((await recovered(log, {one: since})).entries) == 1


async def test_server_forgets_scripts(log: EventLog, server: Valkey) -> None:
    """A server that does not know the scripts any more gets them again."""
    await log.append(ROOM, b"x")
    server.client.script_flush()
    assert (await log.append(ROOM, b"y")).is_new


async def test_clock_runs_ahead(log: EventLog, server: Valkey) -> None:
    """Where the server's time has gone back, places go on from where they were."""
    server.client.hset(KEYS.clock(), mapping={"m": 9_000_000_000_000, "n": 5})
    assert (await log.append(ROOM, b"x")).position == Position(9_000_000_000_000, 6)
    assert await log.begin([ROOM]) == Position(9_000_000_000_000, 6)
    assert (await log.append(ROOM, b"x")).position == Position(9_000_000_000_000, 7)


async def test_clock_is_lost_and_behind(log: EventLog, server: Valkey) -> None:
    """Where a clock that ran ahead was lost, its logs begin anew instead of failing."""
    server.client.hset(KEYS.clock(), mapping={"m": 9_000_000_000_000, "n": 5})
    ahead = (await log.append(ROOM, b"x")).position
    server.client.delete(KEYS.clock())
    assert (await log.append(ROOM, b"y")).position < ahead
    assert await why_lost(log, ahead) is Loss.FORGOTTEN


# The random test: whatever happens to the data, nothing false is claimed.

STEPS = 200_000 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 20_000
ROOMS = [LogName("/", "a"), LogName("/", "b"), LogName("/", "")]


class Chaos:
    """Appends, joins and recovers at random, and compares with all that was ever appended."""

    def __init__(self, log: EventLog, server: Valkey, seed: int) -> None:
        self.log = log
        self.redis = server.client
        self.random = random.Random(seed)
        self.appended: list[Entry] = []
        self.keys: dict[str, Position] = {}
        self.clients: list[dict[LogName, Position]] = [{} for _ in range(6)]
        self.claimed = self.refused = self.entries = 0

    async def step(self) -> None:
        acts = [self.append, self.join, self.hear, self.recover, self.destroy]
        await self.random.choices(acts, weights=[50, 12, 8, 25, 5])[0]()

    async def append(self) -> None:
        room, frame = self.random.choice(ROOMS), b"%d" % len(self.appended)
        key = self.random.choice([None, f"k{self.random.randrange(50)}"])
        given = await self.log.append(room, frame, key=key)
        if not given.is_new:
            assert key is not None
            assert self.keys[key] == given.position
            return
        assert not self.appended or self.appended[-1].position < given.position
        self.appended.append(Entry(room, given.position, frame))
        if key is not None:
            assert key not in self.keys
            self.keys[key] = given.position

    async def join(self) -> None:
        client, room = self.random.choice(self.clients), self.random.choice(ROOMS)
        position = await self.log.begin([room])
        assert not self.appended or self.appended[-1].position <= position
        client[room] = position

    async def hear(self) -> None:
        """A client gets all there is, as one that is connected does."""
        client = self.random.choice(self.clients)
        if self.appended:
            client.update(
                {room: max(since, self.appended[-1].position) for room, since in client.items()}
            )

    async def recover(self) -> None:
        client = self.random.choice(self.clients)
        found = await self.log.recover(client)
        if isinstance(found, Lost):
            self.refused += 1
            client.clear()
            return
        self.claimed += 1
        oldest = min(client.values(), default=found.position)
        missed: list[Entry] = []
        for entry in reversed(self.appended):
            if entry.position <= oldest:
                break
            if entry.log in client and entry.position > client[entry.log]:
                missed.insert(0, entry)
        assert list(found.entries) == missed
        self.entries += len(missed)
        client.update(dict.fromkeys(client, found.position))

    async def destroy(self) -> None:
        room = self.random.choice(ROOMS)
        stream, meta = KEYS.stream(room), KEYS.meta(room)
        acts = [
            lambda: self.redis.delete(stream),
            lambda: self.redis.delete(meta),
            lambda: self.redis.delete(stream, meta),
            lambda: self.redis.pexpire(stream, 1),
            lambda: self.redis.pexpire(meta, 1),
            lambda: self.redis.xtrim(stream, self.random.randrange(4), approximate=False),
            lambda: self.redis.delete(KEYS.clock()),
            self.flush,
        ]
        self.random.choice(acts)()

    def flush(self) -> None:
        self.redis.flushall()
        self.keys.clear()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
async def test_chaos(log: EventLog, server: Valkey, seed: int) -> None:
    """Whatever is lost, no recovery leaves out or repeats an entry, and the order is kept."""
    chaos = Chaos(log, server, seed)
    for _ in range(STEPS // 2):
        await chaos.step()
    assert chaos.claimed > STEPS / 50
    assert chaos.refused > STEPS / 100
    assert chaos.entries > STEPS / 50
    assert all(one.position < two.position for one, two in pairwise(chaos.appended))


async def test_chaos_within_a_millisecond(server: Valkey) -> None:
    """Losing everything in the very millisecond of an append makes no recovery wrong."""
    clock, append, begin, flush = [], [], [], server.client.flushall
    link = SteadyLink(DirectDial(read_url(server.url), QUICK), "test")
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        log = EventLog(link, KEYS, LIMITS)
        await log.append(ROOM, b"loads the script")
        await log.recover({})
        for _ in range(300):
            flush()
            since = await log.begin([ROOM])
            replies = await link.call_all(
                [
                    ("XADD", "marker", "*", "a", "b"),
                    ("FLUSHALL",),
                    ("XADD", "marker", "*", "a", "b"),
                ]
            )
            clock.append(replies[0].split(b"-")[0] == replies[2].split(b"-")[0])
            append.append((await log.append(ROOM, b"after")).position)
            begin.append(since)
            found = await log.recover({ROOM: since})
            assert isinstance(found, Lost)
        assert any(clock)  # in the same millisecond now and then, or it would prove nothing
        assert all(one < two for one, two in zip(begin, append, strict=True))
        nursery.cancel_scope.cancel()


async def test_meta_expires(link: SteadyLink, server: Valkey) -> None:
    """A log of which nothing was heard for long is forgotten, and not claimed to be empty."""
    log = EventLog(link, KEYS, attrs.evolve(LIMITS, meta_timeout=0.02, history_timeout=0.01))
    since = await log.begin([ROOM])
    await log.append(ROOM, b"x")
    await until(lambda: not server.client.exists(KEYS.meta(ROOM)))
    assert await why_lost(log, since) is Loss.FORGOTTEN
