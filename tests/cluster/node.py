"""One node of a cluster, as a program: `python -m tests.cluster.node REDIS_URL`.

It prints its port when it serves.
"""

import logging
import sys

import trio

from trio_rt import Authenticator, Handshake, Redis, Server, Socket, User


class ByName(Authenticator):
    """Believes everybody who shows a name."""

    async def authenticate(self, handshake: Handshake) -> User:
        """Whoever it says it is."""
        return User(handshake.auth["user"])


def new_server(url: str) -> Server:
    """A server with rooms to listen to and to publish into."""
    server = Server(
        auth=ByName(),
        backplane=Redis.from_url(url),
        history_events=10_000,
        recovery_bytes=16_777_216,
        drain_slice=5,
        presence_grace=0.3,
    )

    @server.on("join")
    async def join(socket: Socket, room: str) -> None:
        await socket.join(room)

    @server.on("pub")
    async def pub(socket: Socket, room: str, text: str) -> None:
        await server.to(room).emit("m", text)

    @server.on("show")
    async def show(socket: Socket, room: str) -> None:
        await socket.join(room, presence={"name": socket.user.name})

    @server.on("leave")
    async def leave(socket: Socket, room: str) -> None:
        await socket.leave(room)

    @server.on("count")
    async def count(socket: Socket, room: str) -> list[int]:
        total = await server.to(room).count()
        return [total.count, len(total.missing_nodes)]

    return server


async def main(server: Server) -> None:
    """Serves until SIGTERM."""
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, "127.0.0.1", 0)
        print(server.port, flush=True)
        with trio.open_signal_receiver(15) as signals:
            async for _ in signals:
                break
        server.stop()


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    trio.run(main, new_server(sys.argv[1]))
