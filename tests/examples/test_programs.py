"""The examples that serve a page, as programs of their own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.parametrize("example", ["presence", "lobby"])


@contextmanager
def running(example: str, port: int) -> "Iterator[subprocess.Popen[str]]":
    """The program in a process of its own, which does not outlive the test."""
    environment = {**os.environ, "PORT": str(port), "PYTHONPATH": str(ROOT)}
    environment.pop("TRIO_RT_JWT_SECRET", None)  # another example may have set it here
    with subprocess.Popen(
        [sys.executable, ROOT / "examples" / example / "server.py"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as program:
        try:
            yield program
        finally:
            program.kill()


def test_program(example: str) -> None:
    """It says where it is and that its secret is new, and ends in order at Ctrl+C."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running(example, port) as program:
        assert program.stdout
        words = ""
        while "serving on" not in words:  # from here on Ctrl+C is the server's
            line = program.stdout.readline()
            assert line, words
            words += line
        assert f"http://127.0.0.1:{port}/" in words
        assert "TRIO_RT_JWT_SECRET is not set" in words
        program.send_signal(signal.SIGINT)
        rest = program.communicate(timeout=10)[0]
    assert "Traceback" not in rest


def test_port_taken(example: str) -> None:
    """If the port is taken, it says so and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(example, port) as program:
            words = program.communicate(timeout=10)[0]
    assert program.returncode == 1
    assert f"Port {port} is taken" in words
    assert "Traceback" not in words
