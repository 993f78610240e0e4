"""Turf: a game for two to four, with a lobby in which players find each other.

    python examples/lobby/server.py

Open the address that it prints in two tabs, with two names. PORT chooses another port,
ROUND_SECONDS how long a round takes, and TRIO_RT_JWT_SECRET a secret for tokens that outlives the
process. The rules of the game are in turf.py; here they meet the players.
"""

import errno
import logging
import os
import random
import secrets
from pathlib import Path
from typing import Annotated, Any, Literal

import attrs
import msgspec
import trio
from msgspec import Meta
from turf import COLOURS, HZ, Arena, Heading

from trio_rt import (
    JWTAuth,
    Phase,
    Player,
    Reason,
    Request,
    Response,
    Room,
    Server,
    on,
)

HOST = "127.0.0.1"  # this computer only: the login below lets anybody be anybody
ROUND_SECONDS = float(os.environ.get("ROUND_SECONDS", "60"))

secret = os.environ.get("TRIO_RT_JWT_SECRET") or secrets.token_urlsafe(32)
auth = JWTAuth(secret)
server = Server(auth=auth, share_port=True, max_connections=1_000)
server.web.static("/", Path(__file__).parent / "static")


# What comes in. Payloads that do not fit are refused before a room sees them.


@attrs.frozen
class Login:
    """Who somebody wants to be."""

    name: Annotated[str, Meta(max_length=24, pattern=r"\A\S(.*\S)?\Z")]


@attrs.frozen
class Settings:
    """What a room is created with."""

    title: Annotated[str, Meta(min_length=1, max_length=40)] = "A room"


Cheer = Literal["Nice!", "Wow!", "Ouch!", "Close!", "GG!"]


class Turf(Room):
    """A room in which rounds of Turf are played. Its lobby, seats and clock are trio_rt's."""

    seats = 4
    max_spectators = 50
    options_type = Settings
    inputs = {"steer": Heading}  # gathered for the next tick
    snapshot_interval = 2.0  # so a crash costs a round no more than that

    def __init__(self) -> None:
        super().__init__()
        self.arena: Arena | None = None
        self.chance = random.Random()
        self.state: dict[str, Any] = {"colours": {}}  # what all members see, whenever they come

    async def run(self) -> None:
        """One round, and again for each rematch."""
        await self.ready_check(at_least=2, within=600)
        arena = self.arena or self.begin()
        async for tick in self.ticks(HZ):
            for input in tick.inputs:
                arena.steer(input.player.id, input.value)
            arena.tick(self.chance)
            self.state["arena"] = arena.shown()
            await self.sync()
            if arena.left == 0:
                return

    def begin(self) -> Arena:
        """A new round, with everybody in a corner."""
        self.arena = Arena.begin(self.state["colours"], ROUND_SECONDS)
        self.state |= {"arena": self.arena.shown(), "standings": None}
        return self.arena

    async def on_phase(self, phase: Phase) -> None:
        """In the state, not the game's result: who comes after the end has to see it, too."""
        if phase in (Phase.COUNTDOWN, Phase.PLAYING):  # where everybody starts is seen before
            self.begin()
        elif phase is Phase.ENDED and self.arena is not None:
            names = {player.id: player.name for player in self.players}
            standings = self.arena.standings()
            self.state["standings"] = [
                {**one, "name": names.get(one["id"], "")} for one in standings
            ]
        await self.sync()

    # Who comes and goes.

    async def deal(self) -> None:
        """Each player has a colour, and keeps it; those of who is gone are free."""
        ids = [player.id for player in self.players]
        kept = {id: colour for id, colour in self.state["colours"].items() if id in ids}
        free = (colour for colour in COLOURS if colour not in kept.values())
        self.state["colours"] = kept | {id: next(free) for id in ids if id not in kept}
        await self.sync()

    async def on_start(self) -> None:
        """Also after a crash: the last snapshot may not know who came since."""
        await self.deal()

    async def on_join(self, player: Player) -> None:
        """Somebody new; who watches has no colour."""
        await self.deal()

    async def on_drop(self, player: Player) -> None:
        """Lost, not left: it keeps seat, tiles and colour for `hold_seconds`, and stands still."""
        if self.arena is not None:
            self.arena.steer(player.id, "stop")

    async def on_leave(self, player: Player, reason: Reason) -> None:
        """Gone for good: colour and tiles are free."""
        if self.arena is not None and not self.state.get("standings"):
            self.arena.remove(player.id)
        await self.deal()

    @on("cheer", spectators=True)
    async def cheer(self, player: Player, cheer: Cheer) -> None:
        """A word for everybody. Volatile: who cannot take it at once misses it."""
        self.emit_nowait("cheer", {"player": player.id, "cheer": cheer})

    def info(self) -> dict[str, Any]:
        """What the list of rooms shows of it."""
        host = self.host
        return {"title": self.options.title, "host": None if host is None else host.name}

    def snapshot(self) -> Any:
        """What a new object goes on with after a crash."""
        return {"state": self.state, "arena": self.arena}

    def restore(self, snapshot: Any) -> None:
        """Goes on with it."""
        self.state = snapshot["state"]
        self.arena = msgspec.convert(snapshot["arena"], Arena | None)


games = server.namespace("/games", rooms=[Turf])


# For development only: a real login checks who is asking before it issues a token.


@server.web.post("/dev/token")
async def dev_token(request: Request) -> Response:
    name = request.json(Login).name
    return Response.json({"token": auth.issue(name, name, lifetime=12 * 3600)})


async def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    if not os.environ.get("TRIO_RT_JWT_SECRET"):
        logging.info("TRIO_RT_JWT_SECRET is not set: tokens are good until this process ends")
    port = int(os.environ.get("PORT", "8000"))
    print(f"Turf starts on http://{HOST}:{port}/ (Ctrl+C stops it)", flush=True)
    try:
        await server.serve(HOST, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise SystemExit(f"Port {port} is taken. Choose another: PORT={port + 1}") from None


if __name__ == "__main__":
    trio.run(main)
