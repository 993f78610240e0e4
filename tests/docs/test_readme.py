"""The README's first program is run, and what the README points to is there."""

import re
from pathlib import Path

import pytest
import trio

from tests.examples.tab import open_tab

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
[PROGRAM] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
LINKS = re.findall(r"\]\(([^)#:]+)\)", TEXT)


async def test_first_program(nursery: trio.Nursery) -> None:
    """It serves a room: what one says, all get, and the answer comes back."""
    names: dict[str, object] = {"__name__": "first"}
    exec(compile(PROGRAM, "README.md", "exec"), names)
    server = names["server"]
    await nursery.start(server.serve, "127.0.0.1", 0)
    async with open_tab(server) as one, open_tab(server) as other:
        assert await one.call("say", "Hello") == "ok"
        said = {"who": one.connected["sid"], "text": "Hello"}
        assert await one.next("said") == said
        assert await other.next("said") == said
        refused = await one.call("say", 7)
        assert refused["error"]["code"] == "invalid"


def test_first_program_is_short() -> None:
    """A first program is read at one glance."""
    assert len(PROGRAM.splitlines()) < 30


@pytest.mark.parametrize("link", LINKS)
def test_links(link: str) -> None:
    """Every file that the README points to exists."""
    assert (ROOT / link).exists()
