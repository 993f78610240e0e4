"""A visitor of the presence example who has no browser: the Trio client, in a terminal.

    python examples/presence/server.py          # in one terminal
    python examples/client/visitor.py Ada       # in another

Each line that you type is said. Stop the server and start it again: the visitor comes back by
itself, shows a new token, and what was typed meanwhile is said then.
"""

import json
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from urllib.request import Request, urlopen

import attrs
import trio

from trio_rt import Client, Disconnected, Refused, open_client


@attrs.frozen
class Said:
    """What somebody said; the server sends more, which is not looked at."""

    name: str
    text: str


@attrs.frozen
class Visitor:
    """Somebody who is there."""

    name: str


@attrs.frozen
class Welcome:
    """What is known to the server when we come."""

    visitors: list[Visitor]
    messages: list[Said]


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

        @client.on("welcome")
        async def welcome(known: Welcome) -> None:
            show(f"* here are {', '.join(sorted({who.name for who in known.visitors}))}")
            if not client.recovered:
                for said in known.messages:
                    show(f"{said.name}: {said.text}")

        @client.on("said")
        async def said(message: Said) -> None:
            show(f"{message.name}: {message.text}")

        @client.on("arrived")
        async def arrived(who: Visitor) -> None:
            show(f"* {who.name} has come")

        @client.on("departed")
        async def departed(who: Visitor) -> None:
            show(f"* {who.name} has gone")

        nursery.start_soon(tell_changes, client, show)
        async for line in lines:
            try:
                await client.call("say", {"id": str(uuid.uuid4()), "text": line}, timeout=60)
            except Refused as refused:
                show(f"* not said: {refused.message}")
            except Disconnected as gone:
                show(f"* {gone.reason.text}")
                break
        nursery.cancel_scope.cancel()


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
