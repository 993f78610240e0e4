"""A room's clock and its state: even ticks, versioned patches, slow readers who delay nobody."""

from itertools import pairwise
from typing import ClassVar

import pytest
import trio

from tests.rooms.tables import table
from trio_rt.machine.delta import apply
from trio_rt.rooms import Room, Tick
from trio_rt.rooms.endings import CLOSED

pytestmark = pytest.mark.usefixtures("errors")


class Clock(Room):
    """Ticks ten times a second, and takes as long as it is told."""

    inputs = {"work": float, "grow": int, "stop": bool}
    ticks_seen: ClassVar[list[tuple[float, Tick]]] = []

    async def run(self) -> None:
        self.state = {"tick": 0, "pad": ""}
        async for tick in self.ticks(hz=10):
            self.ticks_seen.append((trio.current_time(), tick))
            for input in tick.inputs:
                if input.event == "work":
                    await trio.sleep(input.value)
                elif input.event == "stop":
                    await trio.sleep_forever()
                else:
                    self.state["pad"] = "x" * input.value
            self.state["tick"] = tick.number
            if self.state["pad"]:
                self.state["pad"] = f"{tick.number:05}" + self.state["pad"][5:]
            await self.sync()


class Slow(Room):
    """Its game ticks once a minute."""

    over: ClassVar[list[float]] = []

    async def run(self) -> None:
        await self.ready_check()
        async for _ in self.ticks(hz=1 / 60):
            pass
        self.over.append(trio.current_time())


@pytest.fixture(autouse=True)
def seen() -> list[tuple[float, Tick]]:
    """All ticks, and when they came."""
    Clock.ticks_seen.clear()
    return Clock.ticks_seen


async def test_no_drift(autojump_clock, seen) -> None:
    """Ticks come at their times, however long each takes, as long as it is less than a period."""
    async with table(Clock) as here:
        alice = await here.guest("alice")
        await alice.call("room:create")
        for _ in range(5):
            await alice.call("work", 0.06)
            await trio.sleep(0.3)
        begin = seen[0][0]
        for number, (time, tick) in enumerate(seen):
            assert tick.number == number
            assert time == pytest.approx(begin + number * 0.1)
            assert tick.seconds == pytest.approx(0.1)


async def test_rooms_share_instants(autojump_clock, seen) -> None:
    """Rooms with the same pace tick at common instants, each from less than a millisecond on."""
    async with table(Clock) as here:
        begun = []
        for name in ("alice", "bob", "carol"):
            begun.append(trio.current_time())
            await (await here.guest(name)).call("room:create")
            await trio.sleep(0.0003)
        await trio.sleep(5)
        alice, bob, carol = (
            [tick for _, tick in seen if tick.number == number][:3] for number in (0, 1, 40)
        )
        for first, begin in zip(alice, begun, strict=True):
            assert -1e-6 < first.time - begin < 0.001
        for ticks in (bob, carol):
            assert len({tick.time for tick in ticks}) == 2
        assert all(0 <= time - tick.time < 1e-6 for time, tick in seen)


async def test_skipped(autojump_clock, seen) -> None:
    """Ticks for which the room is too late are left out, and counted; the pace goes on."""
    async with table(Clock) as here:
        alice = await here.guest("alice")
        id = (await alice.call("room:create"))["room"]
        await alice.call("work", 0.55)
        await trio.sleep(2)
        begin = seen[0][0]
        assert sum(tick.seconds for _, tick in seen) == pytest.approx(
            seen[-1][1].number * 0.1 + 0.1
        )
        assert all(
            time - (begin + tick.number * 0.1) == pytest.approx(0, abs=0.06) for time, tick in seen
        )
        pace = here.room(id).pace
        assert pace.skipped == 4
        assert pace.count == len(seen)
        assert pace.worst == pytest.approx(0.05)
        assert 0 < pace.mean < pace.worst


async def test_game_over(autojump_clock) -> None:
    """Who waits for a tick goes on at once when the game is over, and nothing waits any more."""
    Slow.over.clear()
    async with table(Slow) as here:
        alice = await here.guest("alice")
        id = (await alice.call("room:create"))["room"]
        await alice.call("room:start")
        await trio.sleep(100)
        assert here.room(id).pace.count == 2
        assert len(here.server.alarms) == 1
        await alice.call("room:end")
        await trio.sleep(0.1)
        assert Slow.over == [pytest.approx(trio.current_time(), abs=0.11)]
        assert len(here.server.alarms) == 0


async def test_closed(autojump_clock, seen) -> None:
    """A room that is closed while it waits for a tick leaves nothing behind."""
    async with table(Slow) as here:
        alice = await here.guest("alice")
        id = (await alice.call("room:create"))["room"]
        await alice.call("room:start")
        await trio.sleep(10)
        assert len(here.server.alarms) == 1
        here.room(id).close(CLOSED)
        await trio.sleep(0.1)
        assert len(here.server.alarms) == 0


async def test_inputs(autojump_clock, seen) -> None:
    """A tick has all that was sent since the last one, in order, validated; too much is refused."""
    async with table(Clock) as here:
        alice, bob = await here.guests("alice", "bob")
        id = (await alice.call("room:create"))["room"]
        await bob.call("room:join", {"room": id})
        await trio.sleep(0.15)
        assert await alice.refused("grow", "much") == "invalid"
        answers = [await alice.call("grow", 0) for _ in range(70)]
        await bob.call("grow", 0)
        assert answers[:64] == [None] * 64
        assert [answer["error"]["code"] for answer in answers[64:]] == ["busy"] * 6
        await trio.sleep(0.1)
        inputs = next(tick.inputs for _, tick in seen if tick.inputs)
        assert [input.player.id for input in inputs] == ["alice"] * 64 + ["bob"]


async def test_patches(autojump_clock) -> None:
    """Applied one after the other, patches make the state that the room has, version by version."""
    async with table(Clock) as here:
        alice = await here.guest("alice")
        id = (await alice.call("room:create"))["room"]
        await trio.sleep(0.5)
        bob = await here.guest("bob")
        view = await bob.call("room:join", {"room": id})
        state, version = view["state"], view["version"]
        await trio.sleep(2.05)  # between two ticks
        for name, payload in bob.heard():
            if name == "room:patch":
                assert payload["version"] == version + 1
                state, version = apply(state, payload["patch"]), payload["version"]
        assert version > view["version"] + 15
        assert state["tick"] == here.room(id).shown["tick"]


async def test_slow_reader(autojump_clock, seen) -> None:
    """Who does not read delays no tick and nobody else, keeps only the latest patch, sees by its
    version that others are missing, and asks for the whole."""
    async with table(Clock) as here:
        alice = await here.guest("alice")
        id = (await alice.call("room:create"))["room"]
        slow = await here.guest("slow")
        await slow.call("room:join", {"room": id})
        slow.client.pause()
        await alice.call("grow", 60_000)
        begin = len(seen)
        for _ in range(6):
            await trio.sleep(3)
            assert alice.names().count("room:patch") >= 29
        slow.client.resume()
        await trio.sleep(1)
        numbers = [tick.number for _, tick in seen[begin:]]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert here.room(id).pace.worst < 0.01
        versions = [p["version"] for name, p in slow.heard() if name == "room:patch"]
        gaps = [later - earlier for earlier, later in pairwise(versions)]
        assert max(gaps) > 10
        view = await slow.call("room:state")
        assert view["version"] >= versions[-1]
        assert view["state"]["tick"] > 100
        assert not slow.client.has_ended


async def test_slow_reader_sees_the_last(autojump_clock) -> None:
    """The last patch reaches even who did not read when it was sent."""
    async with table(Clock) as here:
        alice, slow = await here.guests("alice", "slow")
        id = (await alice.call("room:create"))["room"]
        await slow.call("room:join", {"room": id})
        slow.client.pause()
        await alice.call("grow", 60_000)
        await trio.sleep(10)
        await alice.call("stop", True)
        await trio.sleep(5)
        slow.client.resume()
        await trio.sleep(1)
        versions = [p["version"] for name, p in slow.heard() if name == "room:patch"]
        assert versions[-1] == here.room(id).version
