"""What the examples' pages are made of: vendored files unchanged, nothing from outside."""

import hashlib
import re
from pathlib import Path

import pytest

from tests.parts import node

EXAMPLES = Path(__file__).parents[2] / "examples"
STATIC = EXAMPLES / "presence" / "static"
CLIENT = STATIC / "vendor" / "socket.io.esm.min.js"

CLIENT_VERSION = "4.8.4"
CLIENT_SHA256 = "771c3872e7d9bf81020615fda67ef0fd2aa61fcaf1990100714a46fa2c39f8a1"

OWN = sorted(
    path
    for path in EXAMPLES.glob("*/static/**/*")
    if path.suffix in {".html", ".css", ".js", ".svg"} and "vendor" not in path.parts
)


def test_pinned() -> None:
    """The vendored client is the version that its banner and this test name."""
    content = CLIENT.read_bytes()
    assert hashlib.sha256(content).hexdigest() == CLIENT_SHA256
    assert content.startswith(b"/*!\n * Socket.IO v%b\n" % CLIENT_VERSION.encode())


def test_as_published() -> None:
    """It is byte for byte the file of the npm package that the other tests use."""
    published = node.install() / "socket.io-client" / "dist" / CLIENT.name
    assert CLIENT.read_bytes() == published.read_bytes()


def test_licences() -> None:
    """The notices of everything inside are delivered with it."""
    text = (CLIENT.parent / "LICENSES").read_text()
    parts = re.findall(r"^==== (\S+) (\S+) ====$", text, re.MULTILINE)
    assert ("socket.io-client", CLIENT_VERSION) in parts
    assert {name for name, _ in parts} >= {"engine.io-client", "engine.io-parser"}
    assert text.count("Permission is hereby granted") == len(parts)


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_nothing_from_outside(path: Path) -> None:
    """No page asks another host for anything."""
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|[\"'(]//", text)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/static/*.html")), ids=str)
def test_nothing_inline(path: Path) -> None:
    """Every page works under a policy without inline scripts, styles and handlers."""
    text = path.read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    assert all(" src=" in tag for tag in re.findall(r"<script[^>]*>", text))
