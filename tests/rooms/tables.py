"""Users for tests of rooms: whoever says a name is that user."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs

from trio_rt import Authenticator, Handshake, Server, User
from trio_rt.backplane.base import Backplane
from trio_rt.rooms import Room
from trio_rt.testing import Client, Host, hosting

GAMES = "/games"


class ByName(Authenticator):
    """Believes what clients say of themselves."""

    async def authenticate(self, handshake: Handshake) -> User:
        return User(handshake.auth["name"], handshake.auth["name"].title())


@attrs.define
class Guest:
    """A client in the namespace of the rooms."""

    client: Client
    name: str

    async def call(self, event: str, *arguments: Any) -> Any:
        """The acknowledgement's value."""
        return await self.client.call(event, *arguments, namespace=GAMES)

    async def refused(self, event: str, *arguments: Any) -> str:
        """The code with which it is refused."""
        answer = await self.call(event, *arguments)
        return answer["error"]["code"]

    async def hear(self, event: str) -> Any:
        """The next event of this name; others before it are thrown away."""
        while True:
            packet = await self.client.receive()
            if packet.type == 2 and packet.data[0] == event:
                rest = packet.data[1:]
                return rest[0] if len(rest) == 1 else rest

    def heard(self) -> list[list[Any]]:
        """All events that have arrived and were not asked for."""
        return [packet.data for packet in self.client.rest() if packet.type == 2]

    def names(self) -> list[str]:
        """Their names."""
        return [event[0] for event in self.heard()]


@attrs.define
class Table:
    """A server with rooms, and its guests."""

    server: Server
    host: Host

    async def guest(self, name: str, **options: Any) -> Guest:
        """A client called `name`."""
        client = await self.host.connect(GAMES, {"name": name}, **options)
        return Guest(client, name)

    async def guests(self, *names: str) -> list[Guest]:
        """Several."""
        return [await self.guest(name) for name in names]

    async def back(self, guest: Guest) -> Guest:
        """The same client on another connection, with its session."""
        claim = guest.client.claim(GAMES)
        client = await self.host.connect(GAMES, {"name": guest.name, **claim})
        assert GAMES in client.recovered
        return Guest(client, guest.name)

    @property
    def rooms(self) -> Any:
        """The rooms of the namespace."""
        return self.server.namespace(GAMES).live_rooms

    def room(self, id: str) -> Any:
        """What is known of a room."""
        return self.rooms.cells[id]


@asynccontextmanager
async def table(
    *kinds: type[Room], backplane: Backplane | None = None, **changes: Any
) -> AsyncGenerator[Table]:
    """A server with these rooms, in memory."""
    server = Server(auth=ByName(), backplane=backplane, **changes)
    server.namespace(GAMES, rooms=kinds)
    async with hosting(server) as host:
        yield Table(server, host)


def players(view: dict[str, Any]) -> Sequence[str]:
    """Who has a seat."""
    return [player["id"] for player in view["players"]]
