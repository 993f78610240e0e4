"""Presence: browser tabs that see who is in a room, here or away, and talk to each other.

    python examples/presence/server.py

Open the address that it prints in two tabs, with two names. PORT chooses another port, and
TRIO_RT_JWT_SECRET a secret for tokens that outlives the process. The same on all cores:

    trio-rt run server --app-dir examples/presence --workers 4 --redis redis://localhost
"""

import errno
import logging
import os
import secrets
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import attrs
import trio
from msgspec import Meta, convert

from trio_rt import JWTAuth, PresenceDiff, Refuse, Request, Response, RoomRef, Server, Socket

HOST = "127.0.0.1"  # this computer only: the login below lets anybody be anybody
ROOMS = ("lobby", "garden", "library")  # always there; others can be made
MAX_ROOMS = 100
REMEMBERED = 50  # messages of a room that somebody who comes later still gets
EVERYWHERE = "@everywhere"  # everybody is in it too, and shows where; no room of theirs is named so
PATIENCE = 0.5  # seconds that another worker, which may have died just now, is waited for

# For development: a secret for as long as this runs. Workers have it from the process that starts
# them. A real one is set from outside.
is_secret_new = not os.environ.get("TRIO_RT_JWT_SECRET")
if is_secret_new:
    os.environ["TRIO_RT_JWT_SECRET"] = secrets.token_urlsafe(32)
auth = JWTAuth(os.environ["TRIO_RT_JWT_SECRET"])
server = Server(auth=auth, share_port=True, max_connections=1_000)
server.web.static("/", Path(__file__).parent / "static")


# What comes in. Payloads that do not fit are refused before a handler sees them.

RoomName = Annotated[str, Meta(max_length=24, pattern=r"\A\w+(-\w+)*\Z")]


@attrs.frozen
class Login:
    """Who somebody wants to be."""

    name: Annotated[str, Meta(max_length=32, pattern=r"\A\S(.*\S)?\Z")]


@attrs.frozen
class Place:
    """Where a tab wants to be, and whether nobody looks at it."""

    room: RoomName
    away: bool = False


@attrs.frozen
class Say:
    """What somebody says. The page makes the id, and sends again what gets no answer."""

    id: Annotated[str, Meta(min_length=8, max_length=36)]
    room: RoomName
    text: Annotated[str, Meta(min_length=1, max_length=2000)]


# What goes out, and what is remembered.


@attrs.frozen
class Message:
    """What was said."""

    id: str
    room: str
    who: str
    name: str
    text: str
    at: float  # Unix time in seconds


memory: dict[str, dict[tuple[str, str], Message]] = {}  # by room, who and id, the oldest first
people: dict[str, int] = dict.fromkeys(ROOMS, 0)  # how many are in each room, on all workers


def check_room(room: str) -> None:
    """There is an end to making rooms."""
    known = people.keys() | memory.keys()
    if room not in known and len(known) >= MAX_ROOMS:
        raise Refuse("full", "There are too many rooms already.")


def remember(message: Message) -> Message:
    """Keeps what was said; of what is said again, what was kept the first time."""
    check_room(message.room)
    said = memory.setdefault(message.room, {})
    kept = said.setdefault((message.who, message.id), message)
    if len(said) > REMEMBERED:
        del said[next(iter(said))]
    return kept


# Each worker has a memory of its own: they tell each other what is said, and ask each other what
# was, as one that has just started knows nothing. A worker alone has nobody to ask.


@server.on_server_event("remember")
async def remember_too(message: Message) -> None:
    remember(message)


@server.on_server_event("recall")
async def recall(room: str) -> list[Message]:
    return list(memory.get(room, {}).values())


async def recall_all(room: str) -> list[Message]:
    others = await server.server_call("recall", room, timeout=PATIENCE)
    heard = convert(list(others.answers.values()), list[list[Message]])
    said = {(m.who, m.id): m for known in [*heard, await recall(room)] for m in known}
    return sorted(said.values(), key=lambda m: m.at)[-REMEMBERED:]


# For development only: a real login checks who is asking before it issues a token.


@server.web.post("/dev/token")
async def dev_token(request: Request) -> Response:
    name = request.json(Login).name
    return Response.json({"token": auth.issue(name, name, lifetime=12 * 3600)})


# One socket, which is one tab. Who comes back in time has its rooms and what was said meanwhile.


@server.on_connect
async def hello(socket: Socket) -> None:
    await socket.emit("rooms", people)


@server.on("enter")
async def enter(socket: Socket, place: Place) -> list[Message]:
    check_room(place.room)
    await socket.leave(*rooms_of(socket) - {place.room})
    await show(socket, place.room, away=place.away)
    await socket.join(EVERYWHERE, presence={"room": place.room})
    return await recall_all(place.room)


def rooms_of(socket: Socket) -> frozenset[str]:
    return socket.rooms - {EVERYWHERE}


@server.on("away")
async def away(socket: Socket, is_away: bool) -> None:
    for room in rooms_of(socket):
        await show(socket, room, away=is_away)


async def show(socket: Socket, room: str, *, away: bool) -> None:
    # Tabs of one user are one in presence. What is shown is gone with the socket, whatever ends it.
    await socket.join(room, presence={"name": socket.user.name, "away": away})


@server.on("typing")
async def typing(socket: Socket) -> None:
    who = {"who": socket.user.id, "name": socket.user.name}
    for room in rooms_of(socket):
        # Volatile: whoever cannot take it at once misses it, and nothing waits.
        await socket.to(room).volatile.emit("typing", room, who)


# Rooms are open: what waited for a connection may be said in the one that was left meanwhile.


@server.on("say", idempotent=lambda words: words.id)
async def say(socket: Socket, words: Say) -> Message:
    who = socket.user
    message = Message(words.id, words.room, who.id, who.name, words.text, time.time())
    message = remember(message)
    await server.server_call("remember", message, timeout=PATIENCE)
    await server.to(words.room).emit("said", message)
    return message


@server.on_presence(EVERYWHERE)
async def count(everywhere: RoomRef, diff: PresenceDiff) -> None:
    # Run on each worker that has somebody.
    users = (await everywhere.target.presence()).users
    where = [{meta["room"] for meta in metas} for metas in users.values()]
    found = Counter(room for rooms in where for room in rooms)
    people.clear()
    people.update({room: found.pop(room, 0) for room in ROOMS} | dict(sorted(found.items())))
    for room in memory.keys() - people.keys():
        del memory[room]
    await server.all.local.emit("rooms", people)  # not kept: `hello` tells it anew


async def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    if is_secret_new:
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
