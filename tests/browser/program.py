"""An example as its own process, as the README starts it."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import attrs

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
DEADLINE = 15.0
"""Seconds that starting and stopping may take."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@attrs.define
class Program:
    """An example's server on a port of its own, which it keeps when it is started again."""

    script: Path
    log: Path
    """Where its output goes."""
    port: int = attrs.field(factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of its page."""
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start it, and return when its port is open."""
        secret = "the same secret after each start"
        environment = {**os.environ, "PORT": str(self.port), "TRIO_RT_JWT_SECRET": secret}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, self.script],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + DEADLINE
        while not self._is_open():
            assert self._process.poll() is None, f"it ended:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"it does not listen:\n{self.log.read_text()}"
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it as a service manager does; it has to end in good order."""
        assert self._process
        self._process.terminate()
        try:
            status = self._process.wait(DEADLINE)
        finally:
            self._process.kill()
            self._process.wait()
        assert status == 0, f"it ended with status {status}:\n{self.log.read_text()}"
        assert "Traceback" not in self.log.read_text(), self.log.read_text()

    def _is_open(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
