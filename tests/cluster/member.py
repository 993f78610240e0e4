"""A client that is in rooms, uses them, and notes what it hears of them."""

import contextlib
import random
from typing import Any

import msgspec
import trio

from tests.cluster.visitor import PATIENCE, RETRY, Ports, Visitor

UNREACHABLE = frozenset({"unavailable", "timeout", "which_room"})


class Member(Visitor):
    """One client that comes back until it is told to stop.

    Args:
        name: the user.
        ports: where the nodes are.
        chance: picks a node.
    """

    def __init__(self, name: str, ports: Ports, chance: random.Random) -> None:
        super().__init__(name, ports, chance)
        self.rooms: list[str] = []
        self.heard: list[tuple[str, int, int]] = []
        """Room, token and number of each act that it was told of, in order."""
        self.answers: list[tuple[str, Any]] = []
        """Room and acknowledgement of each act that it asked for."""
        self._is_in: set[str] = set()
        self._asked = 0
        self._sending = trio.Lock()
        self._replies: dict[int, list[Any]] = {}
        self._answered = trio.Event()

    async def call(self, event: str, *arguments: Any, within: float = PATIENCE) -> Any:
        """Sends an event, and returns what it is acknowledged with.

        Raises:
            trio.TooSlowError: if that is too late; the connection is given up.
            trio.ClosedResourceError: if there is none.
        """
        self._asked += 1
        id = self._asked
        await self._emit(f"42{id}", id, event, *arguments)
        try:
            with trio.fail_after(within):
                while id not in self._replies:
                    await self._answered.wait()
        except trio.TooSlowError:
            self.cut()
            raise
        answer = self._replies.pop(id)
        return answer[0] if answer else None

    async def insist(self, event: str, *arguments: Any) -> Any:
        """As `call`, again and again until there is an answer of the room's own."""
        while True:
            await self.connected.wait()
            try:
                answer = await self.call(event, *arguments)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                await trio.sleep(RETRY)
                continue
            if not (isinstance(answer, dict) and _code_of(answer) in UNREACHABLE):
                return answer
            await trio.sleep(RETRY)

    async def use_rooms(self, pause: float, chance: random.Random) -> None:
        """Makes its rooms act, one after the other, until it is cancelled."""
        while True:
            await trio.sleep(pause * (0.5 + chance.random()))
            await self.connected.wait()
            room = chance.choice(self.rooms)
            try:
                answer = await self.call("room:send", room, "act")
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                continue
            self.answers.append((room, answer))

    async def throw(self, room: str) -> None:
        """Makes a room act, without asking what becomes of it."""
        self._asked += 1
        await self._emit("42", self._asked, "room:send", room, "act")

    async def send(self, text: str) -> None:
        """Sends an Engine.IO message, for several tasks."""
        async with self._sending:
            await super().send(text)

    async def _emit(self, prefix: str, id: int, *event: Any) -> None:
        """Sends an event, with its idempotency key at the end."""
        words = msgspec.json.encode([*event, f"{self.name}.{id}"])
        await self.send(prefix + words.decode())

    def begin_anew(self) -> None:
        """It is in no room any more."""
        self._is_in.clear()

    async def settle(self) -> None:
        """Joins its rooms, where it is not in them any more."""
        for room in self.rooms:
            if room not in self._is_in:
                with contextlib.suppress(trio.TooSlowError):
                    await self.join(room)

    async def join(self, room: str) -> None:
        """Takes a seat, or the one that is held."""
        for _ in range(3):  # 400 join at once: on a slow machine Redis may be late, and that fails
            view = await self.insist("room:join", {"room": room})
            if _code_of(view) != "internal":
                break
        assert view.get("room") == room or view["error"]["code"] == "already_here", view
        self._is_in.add(room)

    async def _take(self, message: str) -> None:
        if message[:2] != "42":
            await super()._take(message)
            return
        event, *arguments = msgspec.json.decode(message[2:])
        if arguments and isinstance(arguments[-1], str):
            self.offset = arguments.pop()
        if event == "acted":
            room, token, number = arguments[0]
            self.heard.append((room, token, number))

    def take_ack(self, id: int, answer: list[Any]) -> None:
        """Whoever waits for it goes on."""
        self._replies[id] = answer
        self._answered.set()
        self._answered = trio.Event()


def _code_of(answer: Any) -> str:
    """With which something was refused; empty if it was not."""
    return str(answer.get("error", {}).get("code", ""))
