"""The first program with a room is run, and the page about rooms leaves no event out."""

import re

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.docs.pages import ROOT, blocks, in_node, run, run_async
from tests.rooms.tables import GAMES, Guest
from trio_rt import Room, Server
from trio_rt.testing import hosting

PAGE = (ROOT / "docs/topics/rooms.md").read_text()
[PROGRAM] = blocks("docs/howto/room.md")
[SCRIPT] = blocks("docs/howto/room.md", "js")
[CREATING] = blocks("docs/topics/rooms.md")

pytestmark = pytest.mark.usefixtures("errors")


def make_server() -> Server:
    """The one of the program."""
    server: Server = run(PROGRAM)["server"]
    return server


async def test_first_program(autojump_clock) -> None:
    """Two players race, and the one who pushes more wins."""
    async with hosting(make_server()) as host:
        one, two = [Guest(await host.connect(GAMES), name) for name in ("one", "two")]
        view = await one.call("room:create")
        await two.call("room:join", {"room": view["room"]})
        assert (await one.hear("news")).endswith("is here")
        await two.call("room:ready")
        await one.call("room:ready")
        while (await one.hear("room:phase"))["phase"] != "playing":
            pass
        await two.call("push", 3)
        await one.call("push", 10)
        assert await two.refused("push", "hard") == "invalid"
        assert await two.call("wave", "all") == "ok"
        ended = await two.hear("room:ended")
        assert ended["result"] == {"winner": view["players"][0]["id"]}


async def test_first_script(nursery: trio.Nursery) -> None:
    """Two official clients play it as the page shows, to its end."""
    server = make_server()
    await nursery.start(server.serve, "127.0.0.1", 0)
    script = SCRIPT.replace("http://127.0.0.1:8000", server.url)
    async with in_node(script) as one:
        room = (await one.writes("node player.mjs")).split()[-1]
        async with in_node(script, room) as two:
            for player in (one, two):
                await player.writes("won by ")
                assert await player.ends() == 0
    nursery.cancel_scope.cancel()


async def test_creating(autojump_clock) -> None:
    """A program creates a room as the page shows, with seats for two."""

    class Chess(Room): ...

    class Race(Room): ...

    server = Server()
    head, _, tail = CREATING.partition("\n")
    games = run(head, server=server, Chess=Chess, Race=Race)["games"]
    async with hosting(server):
        await wait_all_tasks_blocked()
        made = await run_async(tail, games=games, Chess=Chess)
        room = games.live_rooms.cells[made["id"]]
        assert room.kind.name == "Chess"


def test_first_program_is_short() -> None:
    """It is read at one glance."""
    assert len(PROGRAM.splitlines()) < 40


def test_page_has_all_events() -> None:
    """Every event that clients may send, and every one that rooms tell, is on the page."""
    sources = "".join(path.read_text() for path in (ROOT / "trio_rt/rooms").glob("*.py"))
    events = set(re.findall(r'"(room:[a-z_]+|rooms)"', sources))
    events |= set(make_server().namespace(GAMES).handlers.events)  # type: ignore[arg-type]
    documented = set(re.findall(r"`(room:[a-z_]+|rooms)`", PAGE))
    assert {event for event in events if event.startswith("room")} == documented


def test_page_has_all_codes() -> None:
    """Every code of a refusal that a room may answer is on the page."""
    folders = ("trio_rt/rooms/*.py", "trio_rt/machine/lobby_effects.py")
    sources = "".join(path.read_text() for folder in folders for path in ROOT.glob(folder))
    codes = set(re.findall(r'Refused?\(\s*"([a-z_]+)"', sources))
    documented = set(re.findall(r"`([a-z_]+)`", PAGE))
    assert codes - documented == set()
