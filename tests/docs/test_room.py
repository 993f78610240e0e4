"""The first program with a room is run, and the page about rooms leaves no event out."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.rooms.tables import GAMES, Guest
from trio_rt import Server
from trio_rt.testing import hosting

ROOT = Path(__file__).parents[2]
HOWTO = (ROOT / "docs/howto/room.md").read_text()
PAGE = (ROOT / "docs/topics/rooms.md").read_text()
[PROGRAM] = re.findall(r"```python\n(.*?)```", HOWTO, re.DOTALL)

pytestmark = pytest.mark.usefixtures("errors")


def make_server() -> Server:
    """The one of the program."""
    names: dict[str, Any] = {"__name__": "first"}
    exec(compile(PROGRAM, "room.md", "exec"), names)
    server: Server = names["server"]
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
