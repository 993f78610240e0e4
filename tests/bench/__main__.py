"""`python -m tests.bench`: what it costs and how long it takes to get from one node to another.

Nodes and Redis are real processes on this machine, and so are the clients, all in this one. Events
are sent at fixed times, whatever became of those before, and a latency counts from the time at
which the event was due: who is late is not forgiven. Run it on a machine that does nothing else.
"""

import os
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import mean

import trio

from tests.backplane.redis.waiting import until
from tests.cluster.crowd import Node, open_nodes
from tests.cluster.visitor import Publisher, Subscriber
from tests.parts import valkey

ROOM = "one"
SPEAKERS = 20
"""Connections that publish: events of one connection are handled one after the other."""

WARM_UP = 1.0
"""Seconds before anything counts."""

SETTLES_WITHIN = 30.0
TICKS = os.sysconf("SC_CLK_TCK")


class Speaker(Publisher):
    """Sends events at fixed times, and waits for nothing."""

    has_keys = False

    async def speak(self, first: float, pause: float, count: int) -> None:
        """Sends so many, the first one at a time of Trio's clock."""
        for number in range(count):
            due = first + number * pause
            await trio.sleep_until(due)
            await self.send(f'42["pub","{ROOM}","{due!r}"]')


class Listener(Subscriber):
    """Keeps how late the events are that it hears."""

    def __init__(self, name: str, node: Node) -> None:
        super().__init__(name, lambda: [node.port], random.Random(name), ROOM)
        self.late: list[tuple[float, float]] = []
        """When an event was due, and how much later it came, in seconds."""

    def take_event(self, text: str, offset: str) -> None:
        """See `Visitor`."""
        due = float(text)
        self.late.append((due, trio.current_time() - due))


@asynccontextmanager
async def open_room(
    nodes: list[Node], listeners: int
) -> AsyncGenerator[tuple[list[Speaker], list[Listener]]]:
    """Speakers on the first node, and so many listeners on each of the others."""
    speakers = [
        Speaker(f"p{n}", lambda: [nodes[0].port], random.Random(n), [ROOM], 0.0)
        for n in range(SPEAKERS)
    ]
    ears = [Listener(f"s{n}", node) for node in nodes[1:] for n in range(listeners)]
    async with trio.open_nursery() as nursery:
        for one in (*speakers, *ears):
            nursery.start_soon(one.run)
        with trio.fail_after(SETTLES_WITHIN):
            for ear in ears:
                await ear.joined.wait()
            for speaker in speakers:
                await speaker.connected.wait()
        yield speakers, ears
        nursery.cancel_scope.cancel()


async def speak(speakers: list[Speaker], rate: float, seconds: float) -> float:
    """All together send so many events a second. When the first of them was due."""
    begun = trio.current_time() + 0.1
    pause = len(speakers) / rate
    async with trio.open_nursery() as nursery:
        for number, speaker in enumerate(speakers):
            count = round(seconds / pause)
            nursery.start_soon(speaker.speak, begun + number / rate, pause, count)
    return begun


async def heard(ears: list[Listener], count: int) -> None:
    """Waits until everybody has heard so many events."""
    await until(lambda: all(len(ear.late) >= count for ear in ears), within=SETTLES_WITHIN)


async def measure_latency(rate: float = 500.0, listeners: int = 10, seconds: float = 10.0) -> None:
    """From a client of one node to those of another."""
    with valkey.running() as server:
        async with (
            open_nodes([server.url] * 2) as nodes,
            open_room(nodes, listeners) as (speakers, ears),
        ):
            begun = await speak(speakers, rate, WARM_UP + seconds)
            await heard(ears, round((WARM_UP + seconds) * rate))
    late = sorted(late for ear in ears for due, late in ear.late if due >= begun + WARM_UP)
    shown = ", ".join(
        f"p{part:g} {late[int(len(late) * part / 100)] * 1000:.1f} ms"
        for part in (50, 90, 99, 99.9)
    )
    print(f"cross-node, {rate * listeners:.0f} deliveries/s: {shown}, max {late[-1] * 1000:.1f} ms")


async def measure_cpu(count: int, rate: float = 300.0, seconds: float = 6.0) -> None:
    """Of each published event, where one client of each other node hears it."""
    with valkey.running() as server:
        async with (
            open_nodes([server.url] * count) as nodes,
            open_room(nodes, 1) as (speakers, ears),
        ):
            await speak(speakers, rate, WARM_UP)
            await heard(ears, round(WARM_UP * rate))
            pids = [server.pid, *(node.process.pid for node in nodes)]
            before = [cpu_seconds(pid) for pid in pids]
            await speak(speakers, rate, seconds)
            await heard(ears, round((WARM_UP + seconds) * rate))
            spent = [cpu_seconds(pid) - was for pid, was in zip(pids, before, strict=True)]
    events = round(rate * seconds)
    redis, publishing, *receiving = [one / events * 1_000_000 for one in spent]
    print(
        f"{count} nodes, {rate:.0f} events/s, us of CPU for each: publishing node "
        f"{publishing:.0f}, a receiving node {mean(receiving):.0f}, Redis {redis:.0f}"
    )


def cpu_seconds(pid: int) -> float:
    """What a process has used so far (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def main() -> None:
    """All of it, in about a minute."""
    await measure_latency()
    for count in (2, 4, 8):
        await measure_cpu(count)


if __name__ == "__main__":
    trio.run(main)
