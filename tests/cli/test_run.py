"""`trio-rt run` finds a server, changes what it is told to, and ends with the right exit code."""

import errno
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import attrs
import pytest
from click.testing import CliRunner, Result

from trio_rt.cli import main
from trio_rt.cli.run import run_command
from trio_rt.config import Config

Run = Callable[..., Result]

# A server that does not listen, but tells what it was asked.
QUIET = """
    from trio_rt.auth import Anonymous
    from trio_rt.server import Server

    class Quiet(Server):
        def configure(self, **changes):
            print("changes", sorted(changes.items()))
        async def serve(self, host, port, **_):
            print("serves", host, port)

    server = Quiet(auth=Anonymous())
    other = Quiet(auth=Anonymous())
    number = 5
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """`trio-rt run ARGUMENTS` in a directory that has `app.py` with this source."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    known = set(sys.modules)

    def run(*arguments: str, source: str = QUIET) -> Result:
        tmp_path.joinpath("app.py").write_text(dedent(source))
        return CliRunner().invoke(main, ["run", *arguments])

    yield run
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", "").startswith(str(tmp_path)):
            del sys.modules[name]


def assert_one_line(result: Result, *told: str) -> None:
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1, result.stderr
    for words in told:
        assert words in result.stderr


def test_the_server_is_served_as_it_is(run: Run) -> None:
    """Without options, nothing of its config is changed."""
    result = run("app")
    assert (result.exit_code, result.stdout) == (0, "changes []\nserves 127.0.0.1 8000\n")


def test_host_and_port(run: Run) -> None:
    """Where to listen is handed on."""
    assert "serves ::1 0\n" in run("app:server", "--host", "::1", "--port", "0").stdout


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        ("--ping-interval 2 --ping-timeout 1.5", {"ping_interval": 2.0, "ping_timeout": 1.5}),
        ("--ws-ping-interval 2 --ws-ping-timeout 1", {"ping_interval": 2.0, "ping_timeout": 1.0}),
        ("--max-payload 10", {"max_payload_bytes": 10}),
        ("--ws-max-size 10", {"max_payload_bytes": 10}),
        ("--max-connections 10", {"max_connections": 10}),
        ("--limit-concurrency 10", {"max_connections": 10}),
        ("--origin https://a --origin https://b", {"origins": ("https://a", "https://b")}),
        ("--web-port 0", {"web_port": 0}),
        ("--share-port", {"share_port": True}),
        ("--no-share-port", {"share_port": False}),
        ("--drain-timeout 3", {"drain_timeout": 3.0}),
        ("--timeout-graceful-shutdown 3", {"drain_timeout": 3.0}),
    ],
)
def test_only_what_is_given_is_changed(
    run: Run, arguments: str, changes: dict[str, object]
) -> None:
    """Each option is one field of the config, under uvicorn's name too where it has one."""
    assert f"changes {sorted(changes.items())}\n" in run("app", *arguments.split()).stdout


def test_every_option_is_a_field() -> None:
    """What is handed to `configure` are names of `Config` fields."""
    names = {param.name for param in run_command.params}
    fields = set(attrs.fields_dict(Config))
    assert names - fields == {
        *("target", "host", "port", "log_level", "app_dir"),
        *("redis", "workers", "fds", "web_fds"),
    }


@pytest.mark.parametrize(
    "arguments",
    [
        "--port 65536",
        "--port x",
        "--ping-interval 0",
        "--max-payload 0",
        "--log-level loud",
        "--app-dir nowhere",
        "--workers 0",
    ],
)
def test_wrong_usage(run: Run, arguments: str) -> None:
    """A value that cannot be is refused before anything is imported."""
    result = run("app", *arguments.split(), source="raise SystemExit('imported')")
    assert result.exit_code == 2
    assert arguments.partition(" ")[0] in result.stderr


# --- finding the server -----------------------------------------------------------------------


def test_app_dir(run: Run, tmp_path: Path) -> None:
    """The module may be elsewhere, and in a package, and the server in an object."""
    package = tmp_path / "elsewhere" / "shop"
    package.mkdir(parents=True)
    package.joinpath("__init__.py").touch()
    package.joinpath("live.py").write_text(dedent(QUIET) + "class a:\n    b = server\n")
    assert "serves" in run("shop.live:a.b", "--app-dir", "elsewhere").stdout


@pytest.mark.parametrize("target", ["nothere", "nothere:server", "nothere.at.all", "app.py"])
def test_no_such_module(run: Run, target: str) -> None:
    """A missing module is told in one line, with where it was looked for."""
    assert_one_line(run(target), "no module", "in /")


@pytest.mark.parametrize("target", ["", ":server", "./app.py", "app..x", "my-app"])
def test_no_name_of_a_module(run: Run, target: str) -> None:
    """A path or nonsense is told apart from a module."""
    assert_one_line(run(target), "is no module", "app:server")


def test_no_such_attribute(run: Run) -> None:
    """The message names the servers that the module has."""
    assert_one_line(run("app:srv"), "no 'srv'", "it has app:server, app:other")


def test_no_server_at_all(run: Run) -> None:
    """A module without any server is told so."""
    assert_one_line(run("app", source="x = 1"), "no 'server'", "no server at all")


def test_not_a_server(run: Run) -> None:
    """Something else under that name is told with its kind."""
    assert_one_line(run("app:number"), "app:number", "a int", "it has app:server, app:other")


def test_a_module_that_fails(run: Run) -> None:
    """The user's part of the traceback is shown, and nothing of ours."""
    result = run("app", source="def f():\n    raise KeyError('oh')\nf()\n")
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback")
    assert 'app.py", line 3' in result.stderr
    assert "KeyError: 'oh'" in result.stderr
    assert "importlib" not in result.stderr
    assert "trio_rt" not in result.stderr
    assert "module 'app' could not be imported" in result.stderr


def test_a_module_that_does_not_parse(run: Run) -> None:
    """A syntax error is shown where it is."""
    result = run("app", source="x = (\n")
    assert result.exit_code == 1
    assert 'app.py", line 1' in result.stderr
    assert "SyntaxError" in result.stderr
    assert "importlib" not in result.stderr


def test_a_module_that_imports_what_is_missing(run: Run) -> None:
    """That is not taken for a missing target."""
    result = run("app", source="import nothere_either")
    assert result.exit_code == 1
    assert 'app.py", line 1' in result.stderr
    assert "ModuleNotFoundError" in result.stderr


def test_misuse_in_the_module(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake that we explain needs no traceback: file, line and what to do."""
    monkeypatch.delenv("TRIO_RT_JWT_SECRET", raising=False)
    source = "from trio_rt.auth import JWTAuth\nauth = JWTAuth.from_env()\n"
    assert_one_line(run("app", source=source), "app.py, line 2: ", "TRIO_RT_JWT_SECRET")


# --- ending -----------------------------------------------------------------------------------

FAILING = """
    import socket
    from trio_rt.auth import Anonymous
    from trio_rt.errors import MisuseError
    from trio_rt.server import Server

    class Failing(Server):
        async def serve(self, host, port, **_):
            raise {error}

    server = Failing(auth=Anonymous())
"""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("MisuseError('say auth=')", "Error: say auth="),
        (f"OSError({errno.EADDRINUSE}, 'it is in use')", "Error: it is in use"),
        (f"OSError({errno.EACCES}, 'it is denied')", "Error: it is denied"),
        ("socket.gaierror(-2, 'who?')", "Error: who?"),
    ],
)
def test_what_the_user_can_mend(run: Run, error: str, told: str) -> None:
    """One line, no traceback, exit code 1."""
    assert_one_line(run("app", source=FAILING.format(error=error)), told)


@pytest.mark.parametrize("error", ["ValueError('bug')", f"OSError({errno.EMFILE}, 'bug')"])
def test_what_the_user_cannot_mend(run: Run, error: str) -> None:
    """Any other error climbs with its traceback."""
    result = run("app", source=FAILING.format(error=error))
    assert isinstance(result.exception, (ValueError, OSError))


REAL = """
    from trio_rt.auth import Anonymous, JWTAuth
    from trio_rt.server import Server

    server = Server(auth=Anonymous())
    shy = Server()
"""


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def test_a_port_that_is_taken(run: Run, taken_port: int) -> None:
    """The real server too says so in one line."""
    result = run("app", "--port", str(taken_port), "--share-port", source=REAL)
    assert_one_line(result, "cannot listen", str(taken_port))


def test_no_auth_on_a_public_address(run: Run) -> None:
    """Without `auth` a server listens on loopback only."""
    result = run("app:shy", "--host", "0.0.0.0", "--port", "0", source=REAL)
    assert_one_line(result, "auth=")


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    directory.joinpath("app.py").write_text(dedent(REAL))
    command = [sys.executable, "-m", "trio_rt", "run", "app", *arguments]
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        command, cwd=directory, env={"PYTHONPATH": root}, stderr=subprocess.PIPE, text=True
    )


def wait_until_it_listens(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.02)  # another process: there is nothing else to wait for
        else:
            return
    process.kill()
    raise AssertionError(process.communicate()[1])


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_well(
    tmp_path: Path, free_port: int, sign: signal.Signals
) -> None:
    """A real process serves, and exits with 0 when it is told to stop."""
    with start(tmp_path, "--port", str(free_port), "--share-port") as process:
        wait_until_it_listens(process, free_port)
        process.send_signal(sign)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
