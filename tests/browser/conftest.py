"""A real Chromium, and people who look at an example's page with it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.program import EXAMPLES, Program
from tests.browser.visitor import Visitor
from tests.parts import chromium

ARTIFACTS = Path(os.environ.get("ARTIFACTS", "artifacts")).resolve()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this folder."""
    with chromium.running() as browser:
        yield browser


@pytest.fixture
def presence(tmp_path: Path) -> Iterator[Program]:
    """The presence example, running."""
    program = Program(EXAMPLES / "presence" / "server.py", tmp_path / "presence.log")
    program.start()
    yield program
    program.stop()


@pytest.fixture
def visit(browser: Browser, presence: Program) -> Iterator[Callable[..., Visitor]]:
    """Open the page: `visit("Ada")` logs in too. No two visitors share anything."""
    visitors: list[Visitor] = []

    def visit(name: str | None = None, **context: object) -> Visitor:
        visitor = Visitor(browser.new_context(**context), presence.url, ARTIFACTS)
        visitors.append(visitor)
        if name is not None:
            visitor.log_in(name)
        return visitor

    yield visit
    for visitor in visitors:
        visitor.close()
