"""Several nodes in one process on a virtual clock, joined by a backplane that can be cut."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import trio

from tests.rooms.tables import GAMES, ByName, Table
from trio_rt import Server
from trio_rt.backplane.base import (
    Answers,
    Arrival,
    Backplane,
    Envelope,
    Fenced,
    Held,
    Lease,
    NodeDown,
    Position,
    Question,
)
from trio_rt.backplane.memory import MemoryBackplane
from trio_rt.config import Config
from trio_rt.errors import BackplaneDown
from trio_rt.rooms import Room
from trio_rt.testing import hosting

NOTICED_AFTER = 6.0
"""Seconds until the others take a node for dead that cannot be reached."""


@attrs.define
class Town:
    """What all nodes share."""

    nodes: dict[str, "Neighbour"] = attrs.field(factory=dict)
    leases: dict[str, tuple[str, int, float]] = attrs.field(factory=dict)
    states: dict[str, tuple[int, bytes]] = attrs.field(factory=dict)
    token: int = 0
    position: Position = attrs.field(factory=lambda: Position(1, 0))
    questions: dict[str, tuple[str, trio.Event]] = attrs.field(factory=dict)
    answers: dict[str, bytes] = attrs.field(factory=dict)
    asked: int = 0

    def holder(self, name: str) -> str | None:
        """Who has a lease now."""
        node, _, expires = self.leases.get(name, ("", 0, 0.0))
        return node if expires > trio.current_time() else None


class Neighbour(MemoryBackplane):
    """One node's end."""

    def __init__(self, town: Town) -> None:
        self._town = town
        self._is_cut = False
        super().__init__()
        self._position = town.position

    def open(self, config: Config) -> None:
        for name in [name for name, node in self._town.nodes.items() if node is self]:
            del self._town.nodes[name]
        super().open(config)
        self._position = self._town.position
        self._came = trio.Event()
        self._town.nodes[self.node] = self

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            self.vanish()

    def vanish(self) -> None:
        """The others learn that this node is gone."""
        if self._town.nodes.pop(self.node, None) is not None:
            for other in self._town.nodes.values():
                other.arrive(NodeDown(self.node))
            for node, answered in self._town.questions.values():
                if node == self.node:
                    answered.set()

    async def cut(self) -> None:
        """Nothing goes in or out any more; the others notice after a while."""
        self._is_cut = True
        await trio.sleep(NOTICED_AFTER)
        self.vanish()

    def fence(self) -> None:
        """The node is told that it counts as dead."""
        self.arrive(Fenced())

    def arrive(self, arrival: Arrival) -> None:
        """Something came."""
        if not self._is_cut:
            self._arrived.append(arrival)
            self._came.set()

    async def wait(self) -> None:
        while not self._arrived:
            await self._came.wait()
            self._came = trio.Event()
        await trio.lowlevel.checkpoint()

    async def _reach(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_cut:
            await trio.sleep(0.5)
            raise BackplaneDown("cut off", outcome_unknown=False)

    # Events

    async def publish(self, envelope: Envelope) -> Position:
        await self._reach()
        before = self._town.position
        placed = envelope.placed(Position(before.time_ms, before.sequence + 1))
        assert placed.position is not None
        self._town.position = placed.position
        for node in self._town.nodes.values():
            node._position = placed.position
            if len(placed.rooms) == 1:
                node._begin_own_log(placed.namespace, placed.rooms[0])
            node._history.append(placed, trio.current_time())
            node.arrive(placed)
        return placed.position

    def publish_nowait(self, envelope: Envelope) -> None:
        for node in self._town.nodes.values():
            if not self._is_cut or node is self:
                node.arrive(envelope)

    # Nodes

    @property
    def nodes(self) -> frozenset[str]:
        return frozenset(self._town.nodes)

    async def ask(
        self, body: bytes, *, nodes: Iterable[str] | None = None, timeout: float
    ) -> Answers:
        await self._reach()
        wanted = frozenset(self.nodes - {self.node} if nodes is None else nodes)
        ids: dict[str, str] = {}
        for name in wanted & self.nodes:
            self._town.asked += 1
            ids[name] = id = f"question {self._town.asked}"
            self._town.questions[id] = (name, trio.Event())
            self._town.nodes[name].arrive(Question(id, self.node, body))
        with trio.move_on_after(timeout):
            for id in ids.values():
                await self._town.questions[id][1].wait()
        bodies = {
            name: self._town.answers.pop(id) for name, id in ids.items() if id in self._town.answers
        }
        return Answers(bodies, wanted - bodies.keys())

    def answer(self, question: Question, body: bytes) -> None:
        if not self._is_cut:
            self._town.answers[question.id] = body
            self._town.questions[question.id][1].set()

    # Leases

    async def acquire(self, name: str, seconds: float) -> Lease | Held:
        await self._reach()
        now = trio.current_time()
        holder = self._town.holder(name)
        if holder is not None and holder != self.node:
            return Held(holder, self._town.leases[name][2] - now)
        if holder is None:
            self._town.token += 1
            self._town.leases[name] = (self.node, self._town.token, now + seconds)
        return Lease(name, self._town.leases[name][1], now + seconds)

    async def renew(self, lease: Lease, seconds: float) -> Lease | None:
        await self._reach()
        now = trio.current_time()
        if self._town.holder(lease.name) != self.node:
            return None
        self._town.leases[lease.name] = (self.node, lease.token, now + seconds)
        return Lease(lease.name, lease.token, now + seconds)

    async def give_back(self, lease: Lease) -> None:
        await self._reach()
        if self._town.leases.get(lease.name, ("", 0, 0))[1] == lease.token:
            del self._town.leases[lease.name]

    async def save(self, lease: Lease, state: bytes | None) -> bool:
        await self._reach()
        newest = max(
            self._town.leases.get(lease.name, ("", 0, 0))[1],
            self._town.states.get(lease.name, (0, b""))[0],
        )
        if newest > lease.token:
            return False
        if state is None:
            self._town.states.pop(lease.name, None)
        else:
            self._town.states[lease.name] = (lease.token, state)
        return True

    async def load(self, name: str) -> bytes | None:
        await self._reach()
        return self._town.states.get(name, (0, None))[1]


@attrs.define
class Node(Table):
    """One node and its guests."""

    backplane: Any
    _scope: trio.CancelScope

    def stop(self) -> None:
        """Stops in order."""
        self._scope.cancel()


@asynccontextmanager
async def town(count: int, *kinds: type[Room], **changes: Any) -> AsyncGenerator[list[Node]]:
    """So many nodes with these rooms."""
    shared = Town()
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        nodes: list[Node] = []
        for _ in range(count):
            nodes.append(await nursery.start(serve, Neighbour(shared), kinds, changes))
        yield nodes
        for node in nodes:
            node.stop()


async def serve(
    backplane: Backplane,
    kinds: Sequence[type[Room]],
    changes: dict[str, Any],
    task_status: trio.TaskStatus[Node],
) -> None:
    """Serves one node until it is stopped."""
    server = Server(auth=ByName(), backplane=backplane, **changes)
    server.namespace(GAMES, rooms=kinds)
    with trio.CancelScope() as scope:
        async with hosting(server) as host:
            task_status.started(Node(server, host, backplane, scope))
            await trio.sleep_forever()
