"""The chat of the documentation does what its page says, and its tests on another page pass."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.program import Program
from tests.docs.pages import blocks
from tests.parts import chromium, node

PAGE = "docs/howto/chat.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The reader's folder, when everything on the page has been done."""
    [program], [page], [script] = blocks(PAGE), blocks(PAGE, "html"), blocks(PAGE, "js")
    (tmp_path / "static").mkdir()
    (tmp_path / "chat.py").write_text(program)
    (tmp_path / "static/index.html").write_text(page)
    (tmp_path / "static/app.js").write_text(script)
    client = node.install() / "socket.io-client/dist/socket.io.esm.min.js"
    shutil.copy(client, tmp_path / "static")
    return tmp_path


@pytest.fixture
def chat(folder: Path) -> Iterator[Program]:
    """The chat, running."""
    program = Program(folder / "chat.py", folder / "log")
    text = program.script.read_text().replace("8000)", f"{program.port})")
    program.script.write_text(text)
    program.start()
    yield program
    program.stop()


def test_in_a_browser(chat: Program) -> None:
    """Two people see each other type and talk; who comes later, or sends nothing, is told."""
    with chromium.running() as browser:
        ada, ben = browser.new_page(), browser.new_page()
        ada.goto(f"{chat.url}?name=Ada")
        ada.locator("#text").fill("Hello")
        ada.locator("#text").press("Enter")
        expect(ada.locator("li")).to_have_text("Ada: Hello")
        ben.goto(f"{chat.url}?name=Ben")
        expect(ben.locator("li")).to_have_text("Ada: Hello")  # from the history
        ben.locator("#text").press_sequentially("Hi")
        expect(ada.locator("#typing")).to_have_text("Ben is typing")
        ben.locator("#text").press("Enter")
        expect(ada.locator("li").last).to_have_text("Ben: Hi")
        ada.locator("#text").fill("x" * 501)
        ada.locator("#text").press("Enter")
        expect(ada.locator("li").last).to_contain_text("length <= 500")


def test_tests(folder: Path) -> None:
    """The tests of the page about testing pass, by plain pytest and with warnings as errors."""
    (folder / "test_chat.py").write_text(blocks("docs/howto/testing.md")[0])
    options = ["-q", "-Werror", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    command = [sys.executable, "-m", "pytest", *options, str(folder)]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
