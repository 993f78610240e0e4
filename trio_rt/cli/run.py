"""`trio-rt run MODULE:ATTR`: serve a program's server until it is told to stop."""

import errno
import logging
import socket
import sys
from typing import Any

import click
import trio

from trio_rt.cli.find import find_server
from trio_rt.errors import MisuseError

_LEVELS = ("critical", "error", "warning", "info", "debug")
_PORT = click.IntRange(0, 65535)
_COUNT = click.IntRange(min=1)
_SECONDS = click.FloatRange(min=0, min_open=True)
_CANNOT_LISTEN = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES}


# Options that change the server's `Config` are stored by the name of its field. The second names
# are those of uvicorn, for fingers that know them.
@click.command("run")
@click.argument("target", metavar="MODULE[:ATTR]")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=_PORT, default=8000, show_default=True, help="Port; 0 for any.")
@click.option(
    "--log-level",
    type=click.Choice(_LEVELS),
    default="info",
    show_default=True,
    help="Least level that is logged, to stderr.",
)
@click.option(
    "--app-dir",
    type=click.Path(exists=True, file_okay=False, resolve_path=True),
    default=".",
    help="Where MODULE is, if not in the current directory.",
)
@click.option("--ping-interval", "--ws-ping-interval", type=_SECONDS, help="Seconds between pings.")
@click.option(
    "--ping-timeout", "--ws-ping-timeout", type=_SECONDS, help="Seconds that a pong may take."
)
@click.option(
    "--max-payload",
    "--ws-max-size",
    "max_payload_bytes",
    type=_COUNT,
    help="Bytes of the largest message that a client may send.",
)
@click.option(
    "--max-connections", "--limit-concurrency", type=_COUNT, help="Connections open at once."
)
@click.option(
    "--origin",
    "origins",
    multiple=True,
    help="Where browsers may come from, or * for anywhere. May be repeated.",
)
@click.option("--web-port", type=_PORT, help="Port of pages and health checks.")
@click.option(
    "--share-port/--no-share-port",
    default=None,
    help="Serve pages and health checks on the main port.",
)
@click.option(
    "--drain-timeout",
    "--timeout-graceful-shutdown",
    type=_SECONDS,
    help="Seconds until a stopping server cuts what is still open.",
)
def run_command(
    target: str, host: str, port: int, log_level: str, app_dir: str, **config: Any
) -> None:
    """Serve ATTR of MODULE, a trio_rt.Server, until SIGTERM or Ctrl+C.

    ATTR is `server` if left out. Options that are left out are as the program set them.
    """
    server = find_server(target, app_dir)
    _log_to_stderr(log_level)
    changes = {name: value for name, value in config.items() if value not in (None, ())}
    try:
        server.configure(**changes)
        trio.run(server.serve, host, port)
    except MisuseError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        if error.errno not in _CANNOT_LISTEN and not isinstance(error, socket.gaierror):
            raise
        raise click.ClickException(f"cannot listen on {host}, port {port}: {error}") from error


def _log_to_stderr(level: str) -> None:
    """Sets up logging, unless the program has done so by itself."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)-8s %(name)s: %(message)s",
    )
