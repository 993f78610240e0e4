"""A cluster of processes, and a crowd of clients that flap between them."""

import random
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import pairwise

import trio

from tests.cluster.visitor import Publisher, Subscriber

ROOMS = ("one", "two")
SUBSCRIBERS = 40
FLAPPING = 28
PUBLISHERS = 20
RATE = 500.0
"""Events a second, of all publishers together."""

STARTS_WITHIN = 45.0


class Node:
    """One process."""

    def __init__(self, process: trio.Process, port: int) -> None:
        self.process = process
        self.port = port
        self.is_open = True

    def kill(self) -> None:
        """Ends it, as power loss does."""
        self.is_open = False
        self.process.kill()

    def pause(self) -> None:
        """Stops it without its knowing: connections stay, and nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on after `pause`."""
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Tells it to drain."""
        self.is_open = False
        self.process.send_signal(signal.SIGTERM)


@asynccontextmanager
async def open_nodes(
    urls: list[str], program: str = "tests.cluster.node"
) -> AsyncGenerator[list[Node]]:
    """A node for each URL of Redis, which runs a program that prints its port."""
    async with trio.open_nursery() as nursery:
        nodes: list[Node] = []

        async def start(url: str) -> None:
            process = await nursery.start(_run, program, url)
            with trio.fail_after(STARTS_WITHIN):
                line = b""
                while not line.endswith(b"\n"):
                    got = await process.stdout.receive_some(64)
                    assert got, "the node ended"
                    line += got
            nodes.append(Node(process, int(line)))

        async with trio.open_nursery() as starting:
            for url in urls:
                starting.start_soon(start, url)
        yield nodes
        nursery.cancel_scope.cancel()


async def _run(program: str, url: str, task_status: trio.TaskStatus[trio.Process]) -> None:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", program, url], stdout=subprocess.PIPE
    )
    try:
        task_status.started(process)
        await process.wait()
        await trio.sleep_forever()
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


class Crowd:
    """The clients of a cluster."""

    def __init__(self, nodes: list[Node], seed: int = 7) -> None:
        self.nodes = nodes
        chance = random.Random(seed)
        self._chance = chance
        self.subscribers = [
            Subscriber(f"s{number}", self.ports, chance, ROOMS[number % 2])
            for number in range(SUBSCRIBERS)
        ]
        self.publishers = [
            Publisher(f"p{number}", self.ports, chance, ROOMS, PUBLISHERS / RATE)
            for number in range(PUBLISHERS)
        ]
        self._flaps = True

    def ports(self) -> list[int]:
        """Where clients may try their luck."""
        return [node.port for node in self.nodes if node.is_open]

    async def run(self, scope: trio.CancelScope) -> None:
        """Keeps all clients coming back until the scope is cancelled."""
        with scope:
            async with trio.open_nursery() as nursery:
                for visitor in (*self.subscribers, *self.publishers):
                    nursery.start_soon(visitor.run)
                for subscriber in self.subscribers[:FLAPPING]:
                    nursery.start_soon(self._flap, subscriber)

    async def _flap(self, subscriber: Subscriber) -> None:
        await subscriber.joined.wait()
        while True:
            await trio.sleep(0.3 + 1.2 * self._chance.random())
            if self._flaps:
                subscriber.cut()

    async def publish(self, seconds: float) -> None:
        """All publish for so long, and get their last acknowledgement."""
        for subscriber in self.subscribers:
            await subscriber.joined.wait()
        end = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            for publisher in self.publishers:
                nursery.start_soon(publisher.publish, lambda: trio.current_time() > end)

    async def calm_down(self, within: float = 20.0) -> None:
        """Nobody is cut any more, and everybody hears the last events."""
        self._flaps = False
        with trio.move_on_after(within):
            while not all(one.is_in and not self.missing(one) for one in self.subscribers):  # noqa: ASYNC110
                await trio.sleep(0.05)

    # What happened

    def acknowledged(self, room: str) -> set[str]:
        """Texts for a room that were acknowledged."""
        return {
            text
            for publisher in self.publishers
            for text in publisher.published[room]
            if text in publisher.acknowledged
        }

    def count_acknowledged(self) -> int:
        """Events of all publishers that were acknowledged."""
        return sum(len(one.acknowledged) for one in self.publishers)

    def missing(self, subscriber: Subscriber) -> set[str]:
        """What was acknowledged and not heard, since it was told that something is missing."""
        heard = {text for text, _ in subscriber.heard}
        missing = self.acknowledged(subscriber.room) - heard
        if not subscriber.holes:
            return missing
        places = {text: place for place, text in self._everything(subscriber.room).items()}
        stretch = [_place(offset) for _, offset in subscriber.heard[subscriber.holes[-1] :]]
        if not stretch:
            return set()  # it is back, and everything was before that
        first = min(stretch)
        return {text for text in missing if places.get(text, first) > first}

    def check(self, *, may_begin_anew: bool = False) -> None:
        """Nothing that was acknowledged is lost, doubled or out of order, and all came back.

        Args:
            may_begin_anew: whether clients may be told that something is missing. Between two
                such times, and behind the last one, nothing is.
        """
        for one in self.subscribers:
            edges = [0, *one.holes, len(one.heard)]
            for start, end in pairwise(edges):
                self._check_stretch(one, one.heard[start:end])
            assert one.is_in, f"{one.name} did not come back"
            assert not self.missing(one), f"{one.name} missed {sorted(self.missing(one))[:5]}"
            assert may_begin_anew or one.began_anew == 0, f"{one.name} was not recovered"

    def _check_stretch(self, one: Subscriber, heard: list[tuple[str, str]]) -> None:
        texts = [text for text, _ in heard]
        assert len(texts) == len(set(texts)), f"{one.name} heard something twice"
        places = [_place(offset) for _, offset in heard]
        assert places == sorted(places), f"{one.name} heard something too late"
        for publisher in self.publishers:
            mine = [text for text in texts if text.startswith(f"{publisher.name}-")]
            numbers = [int(text.partition("-")[2]) for text in mine]
            assert numbers == sorted(numbers), f"{one.name}: {publisher.name} out of order"
        if places:
            first, last = min(places), max(places)
            everything = self._everything(one.room)
            missing = {place for place in everything if first < place < last} - set(places)
            assert not missing, (
                f"{one.name} has a silent hole: {len(missing)} from {min(missing)} to "
                f"{max(missing)}; it was told at {one.holes}"
            )

    def _everything(self, room: str) -> dict[tuple[int, ...], str]:
        """All that anybody heard of a room, by its place."""
        return {
            _place(offset): text
            for one in self.subscribers
            if one.room == room
            for text, offset in one.heard
        }

    def report(self) -> str:
        """Numbers for people."""
        heard = sum(len(one.heard) for one in self.subscribers)
        back = sum(one.came_back for one in self.subscribers)
        anew = sum(one.began_anew for one in self.subscribers)
        acknowledged = self.count_acknowledged()
        refused = sum(len(one.refused) for one in self.publishers)
        return (
            f"{acknowledged} acknowledged, {refused} refused, {heard} heard, "
            f"{back} came back, {anew} began anew"
        )


def _place(offset: str) -> tuple[int, ...]:
    return tuple(map(int, offset.split("-")))


@asynccontextmanager
async def open_crowd(urls: list[str]) -> AsyncGenerator[Crowd]:
    """Three nodes and their clients."""
    async with open_nodes(urls) as nodes, trio.open_nursery() as nursery:
        crowd, scope = Crowd(nodes), trio.CancelScope()
        nursery.start_soon(crowd.run, scope)
        yield crowd
        scope.cancel()
