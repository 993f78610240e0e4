"""An example on two workers, as `trio-rt run` starts them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import attrs

from tests.browser.program import DEADLINE, free_port


@attrs.define
class Workers:
    """`trio-rt run --workers 2` with an example, on a port of its own."""

    folder: Path
    """Where its server.py is."""
    redis: str
    """The URL of the Redis that joins them."""
    log: Path
    """Where their output goes."""
    port: int = attrs.field(factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of its page."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def pids(self) -> list[int]:
        """The workers that run."""
        assert self._process
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/children")
        return sorted(int(pid) for file in threads for pid in file.read_text().split())

    def start(self) -> None:
        """Start them, and return when both serve. The environment names no secret for tokens."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TRIO_RT_")}
        command = [sys.executable, "-m", "trio_rt", "run", "server", "--app-dir", str(self.folder)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port), "--workers", "2", "--redis", self.redis],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.wait_both()

    def stop(self) -> None:
        """Stop them as a service manager does; they have to end in good order."""
        assert self._process
        self._process.terminate()
        try:
            status = self._process.wait(DEADLINE)
        finally:
            self._process.kill()  # its workers end when it does
            self._process.wait()
        assert status == 0, f"they ended with status {status}:\n{self.log.read_text()}"
        assert "Traceback" not in self.log.read_text(), self.log.read_text()

    def wait_both(self) -> list[int]:
        """Return the workers when there are two and each of them answers."""
        self._wait(lambda: len(self.pids) == 2)
        for pid in self.pids:
            with self.only(pid):
                self._wait(self._answers)
        return self.pids

    @contextmanager
    def only(self, pid: int) -> Iterator[None]:
        """Whoever comes within the block is served by this worker: the others stand still."""
        others = [other for other in self.pids if other != pid]
        for other in others:
            os.kill(other, signal.SIGSTOP)
        try:
            yield
        finally:
            for other in others:
                os.kill(other, signal.SIGCONT)

    def connections(self, pid: int) -> int:
        """How many clients are connected to a worker, as the kernel knows it."""
        inodes = set[str]()
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                inodes.add(file.readlink().name)
        lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
        sockets = [line.split() for line in lines]
        return sum(
            local == f"0100007F:{self.port:04X}" and state == "01" and f"socket:[{inode}]" in inodes
            for _, local, _, state, _, _, _, _, _, inode, *_ in sockets
        )

    def _answers(self) -> bool:
        with urlopen(f"{self.url}healthz", timeout=DEADLINE) as answer:
            return bool(answer.status == 200)

    def _wait(self, is_true: Callable[[], bool]) -> None:
        """Other processes have to get there: there is nothing else to wait for."""
        assert self._process
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                if is_true():
                    return
            except OSError:
                pass  # it does not serve yet
            assert self._process.poll() is None, f"it ended:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"it takes too long:\n{self.log.read_text()}"
            time.sleep(0.02)
