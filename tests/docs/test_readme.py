"""The README's first program is run, and what the README points to is there."""

import re

import pytest
import trio

from tests.docs.pages import ROOT, blocks, in_node, run
from tests.examples.tab import open_tab

TEXT = (ROOT / "README.md").read_text()
[PROGRAM] = blocks("README.md")
[SCRIPT] = blocks("README.md", "js")
LINKS = re.findall(r"\]\(([^)#:]+)\)", TEXT)


async def test_first_program(nursery: trio.Nursery) -> None:
    """It serves a room: what one says, all get, and the answer comes back."""
    server = run(PROGRAM)["server"]
    await nursery.start(server.serve, "127.0.0.1", 0)
    async with open_tab(server) as one, open_tab(server) as other:
        assert await one.call("say", "Hello") == "ok"
        said = {"who": one.connected["sid"], "text": "Hello"}
        assert await one.next("said") == said
        assert await other.next("said") == said
        refused = await one.call("say", 7)
        assert refused["error"]["code"] == "invalid"


async def test_first_script(nursery: trio.Nursery) -> None:
    """The official client gets from it what the README says."""
    server = run(PROGRAM)["server"]
    await nursery.start(server.serve, "127.0.0.1", 0)
    async with in_node(SCRIPT.replace("http://127.0.0.1:8000", server.url)) as node:
        assert (await node.writes("Hello")).startswith("=")
        assert await node.writes("ok") == "ok"
        await node.writes("code: 'invalid'")
    nursery.cancel_scope.cancel()


def test_first_program_is_short() -> None:
    """A first program is read at one glance."""
    assert len(PROGRAM.splitlines()) < 30


@pytest.mark.parametrize("link", LINKS)
def test_links(link: str) -> None:
    """Every file that the README points to exists."""
    assert (ROOT / link).exists()
