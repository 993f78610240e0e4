"""Presence: browser tabs that see who is online and who is typing, and talk to each other.

    python examples/presence/server.py

Open the address that it prints in two tabs, with two names. PORT chooses another port, and
TRIO_RT_JWT_SECRET a secret for tokens that outlives the process.
"""

import errno
import logging
import os
import secrets
import time
from pathlib import Path
from typing import Annotated

import attrs
import trio
from msgspec import Meta

from trio_rt import JWTAuth, Reason, Request, Response, Server, Socket, User

HOST = "127.0.0.1"  # this computer only: the login below lets anybody be anybody
ROOM = "lobby"
REMEMBERED = 50  # messages that somebody who comes later still gets

secret = os.environ.get("TRIO_RT_JWT_SECRET") or secrets.token_urlsafe(32)
auth = JWTAuth(secret)
server = Server(auth=auth, share_port=True, max_connections=1_000)
server.web.static("/", Path(__file__).parent / "static")


# What comes in. Payloads that do not fit are refused before a handler sees them.


@attrs.frozen
class Login:
    """Who somebody wants to be."""

    name: Annotated[str, Meta(max_length=32, pattern=r"\A\S(.*\S)?\Z")]


@attrs.frozen
class Say:
    """What somebody says. A page that gets no answer sends it again, with the same id."""

    id: Annotated[str, Meta(min_length=8, max_length=36)]
    text: Annotated[str, Meta(min_length=1, max_length=2000)]


# What goes out, and what is known of it.


@attrs.frozen
class Visitor:
    """One tab of somebody. Pages show the tabs of one person as one."""

    tab: str
    id: str
    name: str


@attrs.frozen
class Message:
    """What was said."""

    id: str
    who: str
    name: str
    text: str
    at: float  # Unix time in seconds


online: dict[str, Visitor] = {}  # by tab; at most `max_connections`
messages: dict[tuple[str, str], Message] = {}  # by sender and id, oldest first


def remember(user: User, words: Say) -> Message:
    """The message as it was first said."""
    new = Message(words.id, user.id, user.name, words.text, time.time())
    message = messages.setdefault((user.id, words.id), new)
    if len(messages) > REMEMBERED:
        del messages[next(iter(messages))]
    return message


# For development only: a real login checks who is asking before it issues a token.


@server.web.post("/dev/token")
async def dev_token(request: Request) -> Response:
    name = request.json(Login).name
    return Response.json({"token": auth.issue(name, name, lifetime=12 * 3600)})


# The life of one socket, which is one tab.


@server.on_connect
async def arrive(socket: Socket) -> None:
    await socket.join(ROOM)  # from here on it is connected, so that `depart` will follow
    online[socket.id] = visitor = Visitor(socket.id, socket.user.id, socket.user.name)
    known = {"visitors": list(online.values()), "messages": list(messages.values())}
    await socket.emit("welcome", known)
    await socket.to(ROOM).emit("arrived", visitor)


@server.on("typing")
async def typing(socket: Socket) -> None:
    # Volatile: whoever cannot take it at once misses it, and nothing waits.
    await socket.to(ROOM).volatile.emit("typing", online[socket.id])


@server.on("say")
async def say(socket: Socket, words: Say) -> dict[str, float]:
    message = remember(socket.user, words)
    await server.to(ROOM).emit("said", message)  # twice, at worst: pages know a message by its id
    return {"at": message.at}


@server.on_disconnect
async def depart(socket: Socket, reason: Reason) -> None:
    if visitor := online.pop(socket.id, None):
        await server.to(ROOM).emit("departed", visitor)


async def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    if not os.environ.get("TRIO_RT_JWT_SECRET"):
        logging.info("TRIO_RT_JWT_SECRET is not set: tokens are good until this process ends")
    port = int(os.environ.get("PORT", "8000"))
    print(f"Presence starts on http://{HOST}:{port}/ (Ctrl+C stops it)", flush=True)
    try:
        await server.serve(HOST, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise SystemExit(f"Port {port} is taken. Choose another: PORT={port + 1}") from None


if __name__ == "__main__":
    trio.run(main)
