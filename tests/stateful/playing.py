"""One client, its network, and what it read, asked for and was told."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import msgspec
import trio

from tests.stateful.journal import Journal, Order, Run, Said, Visit
from tests.stateful.serving import TAIL, Life
from trio_rt import (
    BacklogLimits,
    CallTimeout,
    ConnectionState,
    Disconnected,
    LimitError,
    ReconnectLimits,
    open_client,
)
from trio_rt.client import Client
from trio_rt.machine.reconnect import MOVES
from trio_rt.testing import CutWire, Link, MemoryDialer
from trio_rt.transport.messages import MessageStream
from trio_rt.transport.wire import Wire

DIALLING = ReconnectLimits(backoff_base=0.5, backoff_max=2.0, connect_timeout=8.0)
MAX_AGE = 100.0
"""Seconds after which a client gives an event up: a server knows a key again for longer than that
and the time in which a dead connection is noticed."""

_EVENT = re.compile(r"4[25](?:(\d+)-)?(\d*)(\[.*)", re.DOTALL)


@attrs.define(eq=False)
class Weather:
    """What a client's network is like, from its next dial on."""

    up: float = 0.0
    """Seconds that bytes take to the server."""
    down: float = 0.0
    capacity: int = 65_536
    pieces: tuple[int, ...] | None = None
    """Sizes of what is received at once."""


class Tap(MessageStream):
    """Looks at everything that a client shows and reads on one transport.

    Args:
        messages: the transport.
        player: whose it is.
    """

    def __init__(self, messages: MessageStream, player: "Player") -> None:
        self._messages = messages
        self._player = player
        self._journal = player.journal
        self._began = player.journal.moment()
        self._event: tuple[str, list[Any]] | None = None
        self._missing = 0
        self.shown: Visit | None = None
        """The session that was asked for."""
        self.shown_offset: str | None = None
        self._visit: Visit | None = None  # since the reply

    async def send(self, message: str | bytes) -> None:
        """See `MessageStream`."""
        if isinstance(message, str) and message.startswith("40{"):
            payload = msgspec.json.decode(message[2:])
            if "pid" in payload:
                self.shown = self._player.visits_by_pid[payload["pid"]]
                self.shown_offset = payload.get("offset")
        await self._messages.send(message)

    async def receive(self) -> str | bytes:
        """See `MessageStream`."""
        message = await self._messages.receive()
        if isinstance(message, bytes):
            self._attach(message)
        elif message.startswith("40"):
            self._connected(msgspec.json.decode(message[2:]))
        elif (event := _EVENT.fullmatch(message)) is not None:
            attachments, id, text = event.groups()
            self._event = (id, msgspec.json.decode(text))
            self._missing = int(attachments or 0)
            self._attach()
        return message

    def _connected(self, reply: dict[str, Any]) -> None:
        self._visit = visit = self._journal.visits[reply["sid"]]
        self._player.visits_by_pid[reply["pid"]] = visit
        if self.shown is visit:
            holes = self._journal.holes(visit, self._began)
            self._journal.expect(not holes, f"recovered, but {holes} is missing for {visit}")

    def _attach(self, *buffers: bytes) -> None:
        """An event is whole when its last attachment has come."""
        assert self._event is not None, "an attachment of nothing"
        id, (name, *arguments) = self._event
        if buffers:
            self._missing -= 1
            place = next(i for i, value in enumerate(arguments) if isinstance(value, dict))
            arguments[place] = buffers[0]
            self._event = (id, [name, *arguments])
        if self._missing:
            return
        self._event = None
        if name == "n":
            self._read(id, *arguments)

    def _read(self, id: str, number: int, *arguments: Any) -> None:
        visit = self._visit or self.shown
        said = self._journal.said[number]
        if visit is None:
            self._journal.expect(False, f"{said} came before the first reply")
            return
        offset = None
        if len(arguments) > len(said.arguments):
            *arguments, offset = arguments  # type: ignore[assignment]
        is_call = bool(id)
        self._journal.expect(not (is_call and offset), f"a call with an offset: {said}")
        if self._journal.read(visit, said, list(arguments), offset):
            self._player.read.append(said)


class Player:
    """One user's client, and everything that it went through."""

    def __init__(
        self, index: int, journal: Journal, hello: list[Any], most: int, weather: Weather
    ) -> None:
        self.index = index
        self.journal = journal
        self.hello = hello
        """What a server does for it in `on_connect`."""
        self.most = most
        """Events that it may have to tell."""
        self.weather = weather
        self.looks = 0.0
        """Seconds that a server takes to look at it, twice."""
        self.handler_naps = 0.0
        """Seconds that its handler takes."""
        self.no_network_until = 0.0
        self.life: Life | None = None
        """The server that it finds."""
        self.links: list[Link] = []
        self.is_stalled = False
        """Whether the newest was stalled."""
        self.taps: list[Tap] = []
        self.visits_by_pid: dict[str, Visit] = {}
        self.read: list[Said] = []
        self.handled: list[Said] = []
        self.orders: dict[int, Order] = {}
        self.state = ConnectionState.CONNECTING
        self.client: Client
        self._nursery: trio.Nursery
        self.is_playing = True
        """Whether it was not told to leave."""
        self._leave = trio.Event()
        self.has_left = trio.Event()

    def __repr__(self) -> str:
        return f"<Player {self.index}>"

    async def play(self, task_status: trio.TaskStatus[None]) -> None:
        """Until it is told to leave."""
        backlog = BacklogLimits(max_events=self.most, max_age=MAX_AGE)
        async with trio.open_nursery() as self._nursery:
            async with open_client(
                "http://x",
                auth=self._show,
                dial=self._dial,
                reconnect=DIALLING,
                backlog=backlog,
            ) as self.client:
                self.client.on("n")(self._handle)
                await self._nursery.start(self._watch)
                task_status.started()
                await self._leave.wait()
            self._nursery.cancel_scope.cancel()
        self.has_left.set()

    async def connect(self) -> None:
        """Dials at once, if it has to."""
        if self.is_playing:
            self.client.connect()

    async def disconnect(self) -> None:
        """Leaves the server; what was not told by now is given up."""
        await self.client.disconnect()
        self.doubt()

    async def leave(self) -> None:
        """Closes it: it says goodbye when all has arrived, or when that takes too long."""
        self.is_playing = False
        self._leave.set()
        await self.has_left.wait()

    # Its network

    def _show(self) -> dict[str, Any]:
        return {
            "player": self.index,
            "user": f"user {self.index}",
            "dial": len(self.taps) - 1,
            "hello": self.hello,
            "looks": self.looks,
        }

    @asynccontextmanager
    async def _dial(self, url: str) -> AsyncGenerator[MessageStream]:
        await trio.lowlevel.checkpoint()
        is_away = trio.current_time() < self.no_network_until
        if is_away or self.life is None or self.life.host is None:
            raise OSError("nobody is there")
        async with MemoryDialer(self.life.host, self._new_wires)(url) as messages:
            tap = Tap(messages, self)
            self.taps.append(tap)
            yield tap

    def _new_wires(self) -> tuple[Wire, Wire]:
        weather = self.weather
        link = Link(weather.up, weather.capacity)
        self.is_stalled = False
        link.down.delay = weather.down
        self.links.append(link)
        self._nursery.start_soon(link.run)
        if weather.pieces is None:
            return link.client, link.server
        return CutWire(link.client, weather.pieces), CutWire(link.server, weather.pieces)

    @property
    def link(self) -> Link | None:
        """The newest."""
        return self.links[-1] if self.links else None

    # What it is told

    async def _handle(self, number: int, *arguments: Any) -> int:
        said = self.journal.said[number]
        self.handled.append(said)
        is_same = list(arguments) == said.arguments
        self.journal.expect(is_same, f"{arguments} were handled: {said}")
        await trio.sleep(self.handler_naps)
        return number

    async def _watch(self, task_status: trio.TaskStatus[None]) -> None:
        changes = self.client.changes()
        task_status.started()
        async for change in changes:
            is_legal = change.before is self.state and change.state in MOVES[self.state].values()
            self.journal.expect(is_legal, f"{self} went from {self.state}: {change}")
            self.state = change.state
            if change.state is ConnectionState.DISCONNECTED:
                self.doubt()

    # What it tells

    async def tell(self, steps: list[Any], timeout: float | None, has_tail: bool) -> None:
        """Emits an event, or calls and waits for so long; in the background."""
        number = len(self.orders) + 1
        order = Order(number, timeout is not None, trio.current_time(), self.journal.moment())
        self.orders[number] = order
        self._nursery.start_soon(self._tell, order, steps, timeout, has_tail)
        await trio.lowlevel.checkpoint()

    async def _tell(
        self, order: Order, steps: list[Any], timeout: float | None, has_tail: bool
    ) -> None:
        event = "do with a text" if has_tail else "do"
        arguments = (order.number, steps, TAIL) if has_tail else (order.number, steps)
        if self.client.pending < self.most:
            order.kept = self.journal.moment()  # without a wait
        try:
            if timeout is not None:
                order.answer = await self.client.call(event, *arguments, timeout=timeout)
                order.fate = "answered"
                done = [[run.life, run.number] for run in order.done]
                self.journal.expect(order.answer in done, f"answered, but: {order}")
            else:
                await self.client.emit(event, *arguments)
                order.kept = min(order.kept, self.journal.moment())
        except LimitError:
            order.fate = "refused"
            self.journal.expect(not order.runs, f"refused, but: {order}")
        except (CallTimeout, Disconnected):
            order.fate = "given up"

    def doubt(self) -> None:
        """The client has forgotten what it had to tell."""
        for order in self.orders.values():
            if order.fate == "open" and not order.is_call:
                order.fate = "doubtful"

    def check_turn(self, number: int, run: Run) -> None:
        """An event begins to run: everything before it must have, and nothing behind it."""
        this = self.orders[number]
        now = trio.current_time()
        for order in self.orders.values():
            if order.kept < this.began and order.fate == "open":
                is_fine = bool(order.done) or (not order.is_call and now >= order.at + MAX_AGE)
                self.journal.expect(is_fine, f"{number} runs before {order} of {self}")
            if this.kept < order.began:
                was = any(other.life == run.life for other in order.runs)
                self.journal.expect(not was, f"{number} runs behind {order} of {self}")

    def check_done(self, number: int) -> None:
        """An event has run: that was once for this server."""
        order = self.orders[number]
        lives = [run.life for run in order.done]
        self.journal.expect(len(set(lives)) == len(lives), f"ran twice for {self}: {order}")

    # What holds

    def check(self) -> None:
        """After each step."""
        assert len(set(self.handled)) == len(self.handled), f"{self} handled something twice"
        places = [self.read.index(said) for said in self.handled]
        assert places == sorted(places), f"{self} handled something out of order"

    def check_told(self, now: float) -> None:
        """At the end: everything that was kept has run."""
        for order in self.orders.values():
            assert order.fate != "open" or not order.is_call, f"{order} waits for ever"
            if order.fate == "open" and now < order.at + MAX_AGE:
                assert order.done, f"lost: {order}"
