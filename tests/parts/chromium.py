"""A Chromium that runs on a machine without its libraries and fonts.

It comes from the npm package @sparticuz/chromium, whose archives are unpacked here rather than by
its own script: that one reuses whatever lies in a shared temporary folder, points fontconfig at
fonts that are not there, and leaves out libnss3 and libnspr4 where it does not see AWS. The
environment variable CHROME names another Chromium to use instead.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from playwright.sync_api import Browser, sync_playwright

from tests.parts import PartMissing, node

TOOLS = Path(__file__).parent.parent.parent / ".tools"

# Not the package's own: those turn web security off and put everything into one process.
ARGUMENTS = ["--no-sandbox", "--no-zygote", "--disable-gpu"]

INFLATE = """
const [from, to] = process.argv.slice(1);
require("stream").pipeline(
  require("fs").createReadStream(from),
  require("zlib").createBrotliDecompress(),
  require("fs").createWriteStream(to),
  (error) => { if (error) throw error; },
);
"""

FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{home}/fonts</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>{home}/font-cache</cachedir>
</fontconfig>
"""


@attrs.frozen
class Chromium:
    """How to start a Chromium."""

    executable: Path
    environment: dict[str, str] = attrs.field(factory=dict)
    """What its process needs beside the usual environment."""


def install() -> Chromium:
    """Unpack Chromium unless it is there, or take the one that $CHROME names.

    Raises:
        PartMissing: if there is none for this machine.
    """
    if chosen := os.environ.get("CHROME"):
        return Chromium(Path(chosen))
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise PartMissing("no packaged Chromium for this machine: set CHROME to an executable")
    package = node.install() / "@sparticuz" / "chromium"
    version = json.loads((package / "package.json").read_text())["version"]
    home = TOOLS / f"chromium-{version}"
    if not home.is_dir():
        _unpack(package / "bin", home)
    return Chromium(
        home / "chromium",
        {"LD_LIBRARY_PATH": str(home / "lib"), "FONTCONFIG_PATH": str(home)},
    )


@contextmanager
def running() -> Iterator[Browser]:
    """A running Chromium, for the length of the block."""
    chromium = install()
    # Playwright's own Node wants libatomic.so.1, which a bare Debian does not have.
    os.environ["PLAYWRIGHT_NODEJS_PATH"] = str(node.executable())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium.executable,
            args=ARGUMENTS,
            env={**os.environ, **chromium.environment},
        )
        yield browser
        browser.close()


def _unpack(archives: Path, home: Path) -> None:
    TOOLS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=TOOLS) as scratch:
        unpacked = Path(scratch, "chromium")
        unpacked.mkdir()
        for archive in ["al2023", "swiftshader", "fonts"]:
            _inflate(archives / f"{archive}.tar.br", Path(scratch, "tar"))
            subprocess.run(["tar", "-xf", Path(scratch, "tar"), "-C", unpacked], check=True)
        _inflate(archives / "chromium.br", unpacked / "chromium")
        (unpacked / "chromium").chmod(0o755)
        (unpacked / "fonts.conf").write_text(FONTS.format(home=home))
        unpacked.rename(home)


def _inflate(source: Path, target: Path) -> None:
    # The standard library has no Brotli; Node has.
    subprocess.run([node.executable(), "-e", INFLATE, source, target], check=True)
