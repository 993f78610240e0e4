"""One node with rooms that count what they do: `python -m tests.cluster.counting REDIS_URL`.

Each act of a room is one entry of a list in Redis, `acts:<room>`, pushed at the very moment at
which the room's code runs: a blocking client leaves no time between the two. So the list is the
order in which the rooms of all nodes acted.
"""

import logging
import os
import sys
import time
from typing import Any

import msgspec
import redis
import trio

from tests.cluster.node import ByName, main
from trio_rt import Player, Redis, Room, Server, Socket, on

TICKS = 1.0
"""In a second, in each room."""

RINGS = 1.7
"""Seconds from one timer to the next."""

store: "redis.Redis" = None  # type: ignore[assignment]


class Act(msgspec.Struct, array_like=True, frozen=True):
    """Something that a room did."""

    token: int
    number: int
    """Of all that it did: in its state."""
    how: str
    node: int
    """The process."""
    time: float


class Counting(Room):
    """Counts what it does, in each way in which it can do something."""

    seats = 4
    linger = 600.0
    hold_seconds = 600.0

    def __init__(self) -> None:
        super().__init__()
        self.state = {"number": 0}

    def act(self, how: str) -> Act:
        """Does something."""
        self.state["number"] += 1
        self.save()
        act = Act(self.token, self.state["number"], how, os.getpid(), time.time())
        store.rpush(f"acts:{self.id}", msgspec.json.encode(act))
        return act

    async def on_start(self) -> None:
        self.after(RINGS, self.ring)

    async def ring(self) -> None:
        """Acts in a timer, and sets it again."""
        self.act("timer")
        self.after(RINGS, self.ring)

    async def run(self) -> None:
        async for _ in self.ticks(hz=TICKS):
            self.act("tick")
            await self.sync()

    async def on_drop(self, player: Player) -> None:
        self.act("drop")

    async def on_return(self, player: Player) -> None:
        self.act("return")

    @on("act")
    async def handle(self, player: Player) -> list[int]:
        act = self.act("handler")
        await self.emit("acted", [self.id, act.token, act.number])
        return [act.token, act.number]


def new_server(url: str) -> Server:
    """A server that makes rooms when a client wants many."""
    server = Server(auth=ByName(), backplane=Redis.from_url(url), recovery_bytes=16_777_216)
    rooms = server.namespace("/", rooms=[Counting]).live_rooms
    assert rooms is not None

    @server.on("make")
    async def make(socket: Socket, count: int) -> dict[str, Any]:
        return {"rooms": [await rooms.create(Counting) for _ in range(count)]}

    return server


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    store = redis.Redis.from_url(sys.argv[1])
    trio.run(main, new_server(sys.argv[1]))
