"""What is kept for clients that are lost stays within its bounds, and is gone in the end."""

from collections.abc import Iterator
from itertools import cycle

import pytest
import trio

from tests.leftovers import assert_nothing_left, memories
from tests.test_recovery import ByName, come_back
from trio_rt import Server
from trio_rt.testing import Client, Host, hosting

pytestmark = pytest.mark.usefixtures("errors")

HOUR = 3_600.0
SESSIONS = 1_000
WINDOW = 120.0
EVENT_BYTES = 1_000
HISTORY_BYTES = 200_000


def make_server() -> Server:
    """A server with something to keep for every client, and tight bounds."""
    server = Server(
        auth=ByName(),
        recovery_window=WINDOW,
        history_bytes=HISTORY_BYTES,
        history_events=50,
        once_results=100,
        ping_interval=1e6,
    )

    @server.on_connect
    async def enter(socket):
        socket.data["something"] = "kept"
        await socket.join("everybody", f"room of {socket.id}")
        await socket.emit("hello")

    @server.on("say", idempotent=lambda number: number)
    async def say(socket, number: int):
        await server.to("everybody").emit("said", number, "x" * EVENT_BYTES)
        await server.to(f"room of {socket.id}", "everybody").emit("said", number)
        await socket.join(f"short {number}")
        await server.to(f"short {number}").emit("said", number, "x" * EVENT_BYTES)
        await socket.leave(f"short {number}")
        return number

    @server.on_leave
    async def leave(socket, reason):
        pass

    return server


async def come_and_vanish(host: Host, number: int, ways: Iterator[str]) -> None:
    """One client: comes, speaks, is lost, some of them come back once, and is gone."""
    auth = {"user": f"user {number}"}
    client: Client = await host.connect(auth=auth)
    await client.call("say", number)
    client.close()
    way = next(ways)
    if way == "back":
        await trio.sleep(WINDOW / 2)
        again = await come_back(host, client, auth=auth)
        assert again.recovered == {"/"}
        again.close()
    elif way == "leaves":
        again = await come_back(host, client, auth=auth)
        await again.leave()
        again.close()
    elif way == "late":
        await trio.sleep(2 * WINDOW)
        again = await come_back(host, client, auth=auth)
        assert again.recovered == set()
        again.close()


async def test_an_hour_of_vanishing(autojump_clock) -> None:
    """A thousand sessions that vanish over an hour leave no more than the last few minutes' of
    them, within all bounds; and in the end nothing."""
    server = make_server()
    backplane = server.backplane
    most_lost = most_kept = 0
    async with hosting(server) as host:
        stays = await host.connect(auth={"user": "stays"})
        async with trio.open_nursery() as nursery:
            ways = cycle(["vanishes", "back", "leaves", "late"])
            for number in range(SESSIONS):
                nursery.start_soon(come_and_vanish, host, number, ways)
                await trio.sleep(HOUR / SESSIONS)
                stays.rest()
                kept = memories(server)
                most_lost = max(most_lost, kept.get("lost sessions", 0))
                most_kept = max(most_kept, len(kept.get("rooms and sessions", ())))
                history = backplane._history  # type: ignore[attr-defined]
                assert history.size_bytes <= HISTORY_BYTES
                assert len(backplane._once) <= 100  # type: ignore[attr-defined]
        in_a_window = SESSIONS * WINDOW / HOUR
        assert in_a_window / 2 < most_lost < 3 * in_a_window
        # A session, its own room and two more, for as long as the window and the history together.
        assert most_kept < 4 * in_a_window * (1 + 2 * 180 / WINDOW)
        stays.close()
        await trio.sleep(WINDOW + 200)
        assert memories(server) == {}
        assert (len(history), history.size_bytes) == (0, 0)
        assert len(backplane._once) == 0  # type: ignore[attr-defined]
        assert server.absentees._returning == {}
        assert server.absentees._late == {}
    await assert_nothing_left(server)
