"""Nodes of one cluster in one process: apps in memory that share a real server."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from tests.backplane.redis.waiting import until
from trio_rt import Authenticator, Handshake, Server, Socket, User
from trio_rt.backplane.redis import RedisBackplane, RedisSettings
from trio_rt.testing import Host, hosting

QUICK = RedisSettings(
    connect_timeout=1.0, reply_timeout=0.5, ping_interval=0.2, wait_timeout=2.0, max_backoff=0.2
)
"""Finds a dead link in less than a second."""


class ByName(Authenticator):
    """Believes everybody who shows a name."""

    async def authenticate(self, handshake: Handshake) -> User:
        """Whoever it says it is."""
        return User(handshake.auth.get("user", "somebody"))


def new_node(url: str, settings: RedisSettings = QUICK, **changes: Any) -> Server:
    """A server whose clients are in the room `lobby`, and speak to whom they like."""
    backplane = RedisBackplane.from_url(url, settings=settings)
    server = Server(auth=ByName(), backplane=backplane, **changes)

    @server.on_connect
    async def hello(socket: Socket) -> None:
        await socket.join("lobby")

    @server.on("say")
    async def say(socket: Socket, text: str, *rooms: str) -> str:
        await server.to(*rooms or ("lobby",)).emit("said", text)
        return "ok"

    @server.on("shout")
    async def shout(socket: Socket, text: str) -> None:
        await server.all.emit("said", text)

    @server.on("whisper")
    async def whisper(socket: Socket, room: str, text: str) -> None:
        server.to(room).emit_nowait("said", text)

    @server.on("join")
    async def join(socket: Socket, room: str) -> None:
        await socket.join(room)

    @server.on("show")
    async def show(socket: Socket, room: str, meta: dict[str, Any]) -> None:
        await socket.join(room, presence=meta)

    @server.on("leave")
    async def leave(socket: Socket, room: str) -> None:
        await socket.leave(room)

    @server.on("keep")
    async def keep(socket: Socket, key: str, value: Any) -> None:
        socket.data[key] = value

    @server.on("kept")
    async def kept(socket: Socket, key: str) -> Any:
        return socket.data.get(key)

    return server


def backplane_of(host: Host) -> RedisBackplane:
    """The node's backplane."""
    backplane = host.app.backplane
    assert isinstance(backplane, RedisBackplane)
    return backplane


@asynccontextmanager
async def nodes(
    url: str, count: int = 2, settings: RedisSettings = QUICK, **changes: Any
) -> AsyncGenerator[list[Host]]:
    """Nodes that know each other."""
    async with AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(hosting(new_node(url, settings, **changes)))
            for _ in range(count)
        ]
        await until(lambda: all(backplane_of(host).is_ready for host in hosts))
        await until(lambda: all(len(backplane_of(host).nodes) == count for host in hosts))
        yield hosts
