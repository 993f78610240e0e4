"""`trio-rt run MODULE:ATTR`: serve a program's server until it is told to stop."""

import errno
import logging
import socket
import sys
from typing import Any

import click
import trio

from trio_rt.backplane.chosen import Redis
from trio_rt.backplane.memory import MemoryBackplane
from trio_rt.cli.find import find_server
from trio_rt.cli.workers import WorkersFailed, run_workers, serve_as_worker
from trio_rt.errors import BackplaneRefused, MisuseError
from trio_rt.server import Server

_LEVELS = ("critical", "error", "warning", "info", "debug")
_PORT = click.IntRange(0, 65535)
_COUNT = click.IntRange(min=1)
_SECONDS = click.FloatRange(min=0, min_open=True)
_OF_THE_PARENT = {"host", "port", "web_port", "workers", "fds", "web_fds"}
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
@click.option(
    "--redis",
    metavar="URL",
    help="URL of the Redis or Valkey that joins this node with others: redis://host, "
    "redis+sentinel://host1:port,host2:port/service or redis+cluster://host1:port,host2:port.",
)
@click.option(
    "--workers",
    type=_COUNT,
    default=1,
    show_default=True,
    envvar="WEB_CONCURRENCY",
    help="Processes that serve the port together; --redis joins them.",
)
@click.option("--fds", hidden=True)
@click.option("--web-fds", hidden=True)
@click.pass_context
def run_command(  # noqa: PLR0917  click gives them by name
    context: click.Context,
    /,
    target: str,
    host: str,
    port: int,
    log_level: str,
    app_dir: str,
    redis: str | None,
    workers: int,
    fds: str | None,
    web_fds: str | None,
    **config: Any,
) -> None:
    """Serve ATTR of MODULE, a trio_rt.Server, until SIGTERM or Ctrl+C.

    ATTR is `server` if left out. Options that are left out are as the program set them.
    """
    server = find_server(target, app_dir)
    _log_to_stderr(log_level)
    changes = {name: value for name, value in config.items() if value not in (None, ())}
    try:
        server.configure(**changes)
        if redis is not None:
            server.backplane = Redis.from_url(redis)
        if fds is not None:
            trio.run(serve_as_worker, server, fds, web_fds)
        elif workers > 1:
            _check_joined(server)
            trio.run(run_workers, server, workers, _for_workers(context), host, port)
        else:
            trio.run(server.serve, host, port)
    except (MisuseError, WorkersFailed) as error:
        raise click.ClickException(str(error)) from error
    except BaseExceptionGroup as group:
        refused = group.subgroup(BackplaneRefused)
        if refused is None:
            raise
        raise click.ClickException(str(_first(refused))) from group
    except OSError as error:
        if error.errno not in _CANNOT_LISTEN and not isinstance(error, socket.gaierror):
            raise
        raise click.ClickException(error.strerror or str(error)) from error


def _first(group: BaseExceptionGroup[BackplaneRefused]) -> BackplaneRefused:
    """What a group is about."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _check_joined(server: Server) -> None:
    if isinstance(server.backplane, MemoryBackplane):
        raise MisuseError(
            "workers do not see each other's clients without a store. Add --redis URL, or make "
            "the server with a backplane"
        )


def _for_workers(context: click.Context) -> list[str]:
    """The arguments of a worker: ours, without those that are the parent's."""
    arguments = [str(context.params["target"])]
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if not isinstance(parameter, click.Option) or value in (None, ()):
            continue
        if parameter.name in _OF_THE_PARENT:
            continue
        option = parameter.opts[0]
        if isinstance(value, bool):
            arguments.append(option if value else parameter.secondary_opts[0])
        else:
            for part in value if parameter.multiple else [value]:
                arguments += [option, str(part)]
    return [*arguments, "--workers", "1"]


def _log_to_stderr(level: str) -> None:
    """Sets up logging, unless the program has done so by itself."""
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(levelname)-8s %(name)s: %(message)s",
    )
