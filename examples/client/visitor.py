"""A visitor of the presence example who has no browser: the Trio client, in a terminal.

    python examples/presence/server.py          # in one terminal
    python examples/client/visitor.py Ada       # in another

Each line that you type is said. Stop the server and start it again: the visitor comes back by
itself, shows a new token, and what was typed meanwhile is said then.
"""

import json
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any
from urllib.request import Request, urlopen

import attrs
import trio

from trio_rt import Client, Disconnected, Refused, open_client

ROOM = "lobby"


@attrs.frozen
class Said:
    """What somebody said; the server sends more, which is not looked at."""

    name: str
    text: str


Users = dict[str, Any]
"""Who is there, each with one meta for each of its sockets."""


@attrs.frozen
class Change:
    """Whose sockets came and went."""

    joins: Users
    leaves: Users


def login(url: str, name: str) -> dict[str, str]:
    """What the server wants to see: a token, which is good for a while."""
    body = json.dumps({"name": name}).encode()
    request = Request(f"{url}/dev/token", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=5) as answer:  # an OSError: asked again at the next attempt
        shown: dict[str, str] = json.load(answer)
        return shown


async def visit(
    url: str, name: str, lines: AsyncIterator[str], show: Callable[[str], None]
) -> None:
    """Says each line, and shows what happens, until there are no more lines."""
    token = partial(trio.to_thread.run_sync, login, url, name, abandon_on_cancel=True)
    async with open_client(url, auth=token) as client, trio.open_nursery() as nursery:
        sockets: Counter[str] = Counter()  # of each user who is there

        @client.on_connect
        async def enter() -> None:
            if not client.recovered:  # else we are in the room, and get what we missed
                for said in await client.call("enter", {"room": ROOM}):
                    show(f"{said['name']}: {said['text']}")

        @client.on("presence_state")
        async def here(_room: str, users: Users) -> None:
            sockets.clear()
            sockets.update(count(users))
            show(f"* here are {', '.join(sorted(sockets))}")

        @client.on("presence_diff")
        async def change(_room: str, diff: Change) -> None:
            before = set(sockets)
            sockets.update(count(diff.joins))
            after = sockets - Counter(count(diff.leaves))
            sockets.clear()
            sockets.update(after)
            for who in sorted(after.keys() - before):
                show(f"* {who} has come")
            for who in sorted(before - after.keys()):
                show(f"* {who} has gone")

        @client.on("said")
        async def said(message: Said) -> None:
            show(f"{message.name}: {message.text}")

        nursery.start_soon(tell_changes, client, show)
        async for line in lines:
            try:
                words = {"id": str(uuid.uuid4()), "room": ROOM, "text": line}
                await client.call("say", words, timeout=60)
            except Refused as refused:
                show(f"* not said: {refused.message}")
            except Disconnected as gone:
                show(f"* {gone.reason.text}")
                break
        nursery.cancel_scope.cancel()


def count(users: Users) -> dict[str, int]:
    """How many sockets each user has."""
    return {name: len(user["metas"]) for name, user in users.items()}


async def tell_changes(client: Client, show: Callable[[str], None]) -> None:
    """Shows where the connection stands."""
    async for change in client.changes():
        show(f"* {change.state.value}{f': {change.reason.text}' if change.reason else ''}")


async def typed_lines() -> AsyncIterator[str]:
    """What is typed, line by line."""
    while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        if line.strip():
            yield line.strip()


async def main() -> None:
    if len(sys.argv) < 2:
        raise SystemExit("Say who you are: python examples/client/visitor.py NAME [URL]")
    url = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8000"
    await visit(url, sys.argv[1], typed_lines(), print)


if __name__ == "__main__":
    trio.run(main)
