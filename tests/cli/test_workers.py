"""`trio-rt run --workers N`: processes that share a port, and end together."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from urllib.request import urlopen

import pytest
from click.testing import CliRunner

from tests.parts import valkey
from trio_rt.cli import main
from trio_rt.client import open_client

ROOT = str(Path(__file__).parents[2])

DEADLINE = 20.0
"""Seconds that anything may take which a test waits for."""

PROGRAM = """
    import os
    from trio_rt import Anonymous, Response, Server

    server = Server(auth=Anonymous(), share_port=True, drain_timeout=2)

    @server.web.get("/pid")
    async def pid(request):
        return Response.json(os.getpid())

    @server.on("pid")
    async def tell_pid(socket):
        return os.getpid()

    @server.on("say")
    async def say(socket, text: str):
        await server.all.emit("said", text)
"""

BROKEN = """
    import sys
    from trio_rt import Anonymous, Server

    server = Server(auth=Anonymous(), share_port=True)
    if "--fds" in sys.argv:
        raise RuntimeError("a worker cannot live")
"""


@pytest.fixture
def store() -> Iterator[valkey.Valkey]:
    with valkey.running() as server:
        yield server


class Parent:
    """A running `trio-rt run --workers 2`."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def pid_of_one(self) -> int:
        """The process that answers a request: one of the workers."""
        with urlopen(f"http://127.0.0.1:{self.port}/pid", timeout=5) as answer:
            return int(json.load(answer))

    def pids(self, count: int) -> set[int]:
        """The workers that answer, as soon as they are so many."""
        seen: set[int] = set()

        def all_seen() -> bool:
            seen.add(self.pid_of_one())
            alive = {pid for pid in seen if is_alive(pid)}
            return len(alive) >= count

        wait_until(all_seen)
        return {pid for pid in seen if is_alive(pid)}


def is_alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def wait_until(is_true: Callable[[], bool]) -> None:
    """Other processes have to get there: there is nothing else to wait for."""
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            if is_true():
                return
        except OSError:
            pass  # nobody listens yet, or the one who did is gone
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


@contextmanager
def start(folder: Path, url: str, source: str = PROGRAM) -> Iterator[Parent]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder.joinpath("app.py").write_text(dedent(source))
    command = [sys.executable, "-m", "trio_rt", "run", "app", "--port", str(port)]
    environment = {"PYTHONPATH": ROOT, "PATH": os.environ["PATH"]}
    with subprocess.Popen(
        [*command, "--workers", "2", "--redis", url],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Parent(process, port)
        finally:
            process.kill()


async def test_clients_of_two_workers_hear_each_other(tmp_path: Path, store) -> None:
    """What a client of one worker says reaches those of the other."""
    with start(tmp_path, store.url) as parent:
        parent.pids(2)
        heard: list[str] = []
        url = f"http://127.0.0.1:{parent.port}"
        async with open_client(url) as first:

            @first.on("said")
            async def said(text: str) -> None:
                heard.append(text)

            mine = await first.call("pid")
            for number in range(50):
                async with open_client(url) as other:
                    if await other.call("pid") != mine:
                        await other.call("say", f"hello {number}")
                        break
            else:
                raise AssertionError("all clients are on one worker")
            await first.call("pid")
            await first.call("say", "over")
        assert heard[0].startswith("hello")
        assert heard[-1] == "over"


def test_a_dead_worker_is_replaced(tmp_path: Path, store) -> None:
    """A worker that was killed is started again, on the same port."""
    with start(tmp_path, store.url) as parent:
        before = parent.pids(2)
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: not is_alive(min(before)))
        after = parent.pids(2)
        assert len(after & before) == 1
        parent.process.send_signal(signal.SIGTERM)
        _, stderr = parent.process.communicate(timeout=DEADLINE)
        assert "has ended by itself, with status -9" in stderr


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop(tmp_path: Path, store, sign: signal.Signals) -> None:
    """All workers drain and end with the parent, which exits with 0."""
    with start(tmp_path, store.url) as parent:
        workers = parent.pids(2)
        parent.process.send_signal(sign)
        _, stderr = parent.process.communicate(timeout=DEADLINE)
        assert parent.process.returncode == 0, stderr
        assert "Traceback" not in stderr
        assert not any(map(is_alive, workers))


def test_parent_is_killed(tmp_path: Path, store) -> None:
    """Workers do not outlive a parent that had no time to tell them."""
    with start(tmp_path, store.url) as parent:
        workers = parent.pids(2)
        parent.process.kill()
        wait_until(lambda: not any(map(is_alive, workers)))


def test_a_worker_that_cannot_live(tmp_path: Path, store) -> None:
    """A worker that ends again and again is given up, with an exit code that says so."""
    with start(tmp_path, store.url, BROKEN) as parent:
        _, stderr = parent.process.communicate(timeout=DEADLINE)
        assert parent.process.returncode == 1
        assert "a worker cannot live" in stderr
        assert "ends again and again" in stderr


def test_workers_without_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that would not hear each other are refused, with what to add."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    tmp_path.joinpath("alone.py").write_text(dedent(PROGRAM))
    result = CliRunner().invoke(main, ["run", "alone", "--workers", "2"])
    assert result.exit_code == 1
    assert "--redis" in result.stderr
    sys.modules.pop("alone")
