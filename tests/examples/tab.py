"""A browser tab as a server sees it: just enough of Socket.IO on a raw WebSocket."""

import itertools
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import attrs
import trio
from websockets.sync.client import ClientConnection, connect

from trio_rt import Server

DEADLINE = 5.0
"""Seconds that anything may take which a test waits for."""

_PACKET = re.compile(r"4(?P<kind>\d+)(?P<data>.*)", re.DOTALL)


@attrs.define
class Tab:
    """One socket in the namespace `/`. Packets that nobody asked for yet are kept in order."""

    _websocket: ClientConnection
    connected: dict[str, Any] = attrs.field(factory=dict)
    """What the server answered: the `sid`, or the `message` of a refusal."""

    _kept: list[tuple[str, Any]] = attrs.field(factory=list)
    _ids: "itertools.count[int]" = attrs.field(factory=itertools.count)

    async def next(self, event: str) -> Any:
        """The payload of the next event of this name."""
        for index, (kind, data) in enumerate(self._kept):
            if kind == "2" and data[0] == event:
                del self._kept[index]
                return data[1]
        _, payload = await self._take(lambda kind, data: kind == "2" and data[0] == event)
        return payload

    async def emit(self, event: str, *payload: Any) -> None:
        """Send an event that nobody answers."""
        await self._send("42" + json.dumps([event, *payload]))

    async def call(self, event: str, *payload: Any) -> Any:
        """Send an event and give back the first argument of its acknowledgement."""
        number = next(self._ids)
        await self._send(f"42{number}" + json.dumps([event, *payload]))
        answer = await self._take(lambda kind, _: kind == f"3{number}")
        return answer[0] if answer else None

    async def heard_nothing(self, event: str) -> bool:
        """Whether no event of this name came before the answer to a question asked now."""
        await self.call("typing")
        return not any(kind == "2" and data[0] == event for kind, data in self._kept)

    async def _take(self, is_wanted: Callable[[str, Any], bool]) -> Any:
        """The data of the next packet that is wanted; those before it are kept."""
        while True:
            kind, data = await self._receive()
            if is_wanted(kind, data):
                return data
            self._kept.append((kind, data))

    async def _receive(self) -> tuple[str, Any]:
        """The next Socket.IO packet: its type with any ack id, and its data."""
        while True:
            text = await trio.to_thread.run_sync(partial(self._websocket.recv, timeout=DEADLINE))
            if text == "2":
                await self._send("3")
            elif packet := _PACKET.fullmatch(text):
                return packet["kind"], json.loads(packet["data"] or "null")

    async def _send(self, text: str) -> None:
        await trio.to_thread.run_sync(self._websocket.send, text)


@asynccontextmanager
async def open_tab(server: Server, auth: dict[str, Any] | None = None) -> AsyncIterator[Tab]:
    """A tab that has asked to connect, and will not recover, for the length of the block."""
    url = f"ws://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=websocket&recovery=0"
    stack = ExitStack()
    tab = Tab(await trio.to_thread.run_sync(_open, stack, url))
    try:
        await tab._send("40" + json.dumps(auth or {}))
        # Events may overtake the answer; clients keep them.
        tab.connected = await tab._take(lambda kind, _: kind in {"0", "4"})
        yield tab
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(DEADLINE):
            await trio.to_thread.run_sync(stack.close)


def _open(stack: ExitStack, url: str) -> ClientConnection:
    return stack.enter_context(connect(url, open_timeout=DEADLINE, close_timeout=DEADLINE))


async def fetch(server: Server, path: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a page; with `body`, of a POST of that JSON."""
    request = Request(f"http://127.0.0.1:{server.web_port}{path}")
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("content-type", "application/json")
    return await trio.to_thread.run_sync(_fetch, request)


def _fetch(request: Request) -> tuple[int, dict[str, str], bytes]:
    try:
        with urlopen(request, timeout=DEADLINE) as answer:
            return answer.status, dict(answer.headers.items()), answer.read()
    except HTTPError as error:
        with error:
            return error.code, dict(error.headers.items()), error.read()
