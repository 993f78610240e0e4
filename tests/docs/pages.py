"""The code on the pages of the documentation, and how it is run."""

import ast
import inspect
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.parts import node

ROOT = Path(__file__).parents[2]
DEADLINE = 10.0
"""Seconds that anything may take which a program of the pages has to do."""


def blocks(page: str, language: str = "python") -> list[str]:
    """The code of one page.

    Args:
        page: its path in the project, such as `"docs/howto/client.md"`.
        language: as it stands behind the backquotes.
    """
    found: list[str] = re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE
    )
    return found


def run(code: str, **names: Any) -> dict[str, Any]:
    """Runs code that is a module, or the end of one.

    Args:
        code: as on the page; a block `if __name__ == "__main__"` does not run.
        names: what stands above it in the reader's program.

    Returns:
        Everything that it has defined, and `names`.
    """
    names.setdefault("__name__", "page")
    exec(compile(code, "page", "exec"), names)
    return names


async def run_async(code: str, **names: Any) -> dict[str, Any]:
    """As `run`, for code that stands in an async function on the reader's side."""
    names.setdefault("__name__", "page")
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    waiting = eval(compile(code, "page", "exec", flags=flags), names)
    if inspect.iscoroutine(waiting):
        await waiting
    return names


class Program:
    """A program in Node that runs, and what it writes."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._lines: list[str] = []
        self._rest = b""

    async def writes(self, text: str) -> str:
        """Waits for a line with this text, and returns it."""
        assert self._process.stdout is not None
        with trio.fail_after(DEADLINE):
            while True:
                for line in self._lines:
                    if text in line:
                        return line
                piece = await self._process.stdout.receive_some()
                assert piece, f"no {text!r} in {self._lines} before its end"
                *lines, self._rest = (self._rest + piece).split(b"\n")
                self._lines += [line.decode() for line in lines]

    async def ends(self) -> int:
        """Waits for its end; its exit code."""
        with trio.fail_after(DEADLINE):
            return await self._process.wait()


@asynccontextmanager
async def in_node(code: str, *arguments: str) -> AsyncIterator[Program]:
    """Runs JavaScript in Node with the official client, for one block."""
    modules = node.install()
    with tempfile.TemporaryDirectory(dir=modules, prefix=".page-") as folder:
        script = trio.Path(folder, "page.mjs")
        await script.write_text(code)
        command = [str(node.executable()), str(script), *arguments]
        async with trio.open_nursery() as nursery:
            start = partial(trio.run_process, command, stdout=subprocess.PIPE, check=False)
            process = await nursery.start(start)
            yield Program(process)
            nursery.cancel_scope.cancel()
