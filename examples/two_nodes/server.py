"""A chat that is one program, however many nodes serve it.

    python examples/two_nodes/server.py 8001 redis://localhost      # in one terminal
    python examples/two_nodes/server.py 8003 redis://localhost      # in another

Clients of both hear each other. Kill one node: its clients come back on the other, and get what
they missed.
"""

import sys

import trio

from trio_rt import Anonymous, Redis, Server, Socket


def new_server(url: str) -> Server:
    """A node of the cluster that uses this Redis."""
    server = Server(auth=Anonymous(), backplane=Redis.from_url(url))

    @server.on_connect
    async def hello(socket: Socket) -> None:
        await socket.join("lobby")

    @server.on("say")
    async def say(socket: Socket, text: str) -> str:
        # When this returns the event is in Redis: from here on it is not lost.
        await server.to("lobby").emit("said", {"who": socket.id, "text": text})
        return "ok"

    @server.on("who")
    async def who(socket: Socket) -> int:
        return (await server.to("lobby").count()).count

    return server


if __name__ == "__main__":
    port, url = int(sys.argv[1]), sys.argv[2]
    trio.run(new_server(url).serve, "127.0.0.1", port)
