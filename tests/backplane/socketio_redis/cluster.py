"""Our node of a cluster, and what both sides of it say to each other."""

from typing import Any

import attrs

from tests.interop.official import Page
from tests.parts.valkey import Valkey
from trio_rt import Anonymous, Server, Socket
from trio_rt.backplane.redis import RedisSettings
from trio_rt.backplane.socketio_redis import SocketIORedisBackplane
from trio_rt.testing import Client, Host

QUICK = RedisSettings(
    connect_timeout=1.0, reply_timeout=0.5, ping_interval=0.2, wait_timeout=2.0, max_backoff=0.2
)
"""Finds a dead link in less than a second."""


def new_node(url: str, key: str, **changes: Any) -> Server:
    """A server whose clients join the rooms that they show."""
    backplane = SocketIORedisBackplane.from_url(url, key=key, settings=QUICK)
    server = Server(auth=Anonymous(), backplane=backplane, **changes)

    @server.on_connect
    async def enter(socket: Socket) -> None:
        await socket.join(*socket.handshake.auth.get("rooms", []))
        socket.data["name"] = socket.handshake.auth.get("name", "")

    @server.on("ready")
    async def ready(socket: Socket) -> None:
        """Answered when `enter` is done."""

    return server


@attrs.frozen
class Both:
    """A cluster of two: our `host`, and `my.io` in `js`."""

    host: Host
    js: Page
    key: str

    @property
    def server(self) -> Server:
        """Ours."""
        assert isinstance(self.host.app, Server)
        return self.host.app

    @property
    def backplane(self) -> SocketIORedisBackplane:
        """Our server's."""
        backplane = self.host.app.backplane
        assert isinstance(backplane, SocketIORedisBackplane)
        return backplane

    def count(self, server: Valkey, namespace: str = "/") -> int:
        """How many servers Redis counts."""
        channel = f"{self.key}-request#{namespace}#"
        ((_, count),) = server.client.pubsub_numsub(channel)
        return int(count)

    async def ours(self, *rooms: str, name: str = "") -> Client:
        """A new client of our server."""
        client = await self.host.connect(auth={"rooms": rooms, "name": name})
        await client.call("ready")
        return client

    async def theirs(self, name: str, *rooms: str) -> str:
        """A new client of Node's server, `my[name]` with its events in `seen`: its id."""
        id: str = await self.js(
            """
            const [arrives] = [next(my.io, "connection")];
            my[name] = await connected(my.io, "/");
            my[name].seen = diary(my[name]);
            const [socket] = await arrives;
            socket.join(rooms);
            socket.data.name = name;
            return socket.id;
            """,
            name=name,
            rooms=rooms,
        )
        return id

    async def seen(self, name: str, count: int) -> list[Any]:
        """The first events that a client of Node's server gets."""
        found: list[Any] = await self.js(
            """
            while (my[name].seen.length < count) await new Promise((done) => setTimeout(done, 5));
            return my[name].seen;
            """,
            name=name,
            count=count,
        )
        return found
