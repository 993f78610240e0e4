"""The client example, with the presence example as its server."""

import importlib.util
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest
import trio

FOLDER = Path(__file__).parents[2] / "examples"
DEADLINE = 10.0


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name.replace("/", "_"), FOLDER / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    return load("presence/server", monkeypatch), load("client/visitor", monkeypatch)


class Terminal:
    """Who types, and what is shown."""

    def __init__(self) -> None:
        self.type, self._typed = trio.open_memory_channel[str](10)
        self._shown, self._seen = trio.open_memory_channel[str](100)

    async def lines(self) -> AsyncIterator[str]:
        async for line in self._typed:
            yield line

    def show(self, line: str) -> None:
        self._shown.send_nowait(line)

    async def shows(self, text: str) -> None:
        """Waits until a line has this text."""
        with trio.fail_after(DEADLINE):
            async for line in self._seen:
                if text in line:
                    return


async def test_visitors(examples: tuple[ModuleType, ModuleType], nursery: trio.Nursery) -> None:
    """Visitors see each other come, talk and go; a refusal is shown."""
    presence, visitor = examples
    server = presence.server
    await nursery.start(server.serve, "127.0.0.1", 0)
    ada, bob = Terminal(), Terminal()
    nursery.start_soon(visitor.visit, server.url, "Ada", ada.lines(), ada.show)
    await ada.shows("* here are Ada")
    nursery.start_soon(visitor.visit, server.url, "Bob", bob.lines(), bob.show)
    await bob.shows("* here are Ada, Bob")
    await ada.shows("* Bob has come")
    bob.type.send_nowait("Hello")
    await ada.shows("Bob: Hello")
    bob.type.send_nowait("x" * 3_000)
    await bob.shows("* not said: argument 'words'")
    bob.type.close()
    await ada.shows("* Bob has gone")
    nursery.cancel_scope.cancel()


async def test_server_that_comes_back(
    examples: tuple[ModuleType, ModuleType], nursery: trio.Nursery
) -> None:
    """When the server stops and starts again the visitor comes back and says what was typed."""
    presence, visitor = examples
    server = presence.server
    stopped = trio.Event()

    async def serve_for_a_while(**task_status: object) -> None:
        await server.serve("127.0.0.1", 0, **task_status)
        stopped.set()

    await nursery.start(serve_for_a_while)
    port = server.port
    ada = Terminal()
    nursery.start_soon(visitor.visit, server.url, "Ada", ada.lines(), ada.show)
    await ada.shows("* here are Ada")
    server.stop()
    await stopped.wait()
    await ada.shows("* backing off")
    ada.type.send_nowait("still here")
    await nursery.start(server.serve, "127.0.0.1", port)
    await ada.shows("* connected")
    await ada.shows("Ada: still here")
    nursery.cancel_scope.cancel()
