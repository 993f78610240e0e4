"""Find the server that `MODULE:ATTR` names, and say plainly what is wrong where there is none."""

import importlib
import sys
import traceback
from operator import attrgetter
from types import ModuleType, TracebackType

import click

from trio_rt.errors import MisuseError
from trio_rt.server import Server


def find_server(target: str, app_dir: str) -> Server:
    """Imports a module and takes a server out of it.

    Args:
        target: `"module:attr"`, or `"module"` for its `server`. Dots go deeper on both sides.
        app_dir: absolute path of a directory that is put first on `sys.path`.

    Raises:
        click.ClickException: if there is no such server. An exception of the module itself is
            printed to stderr first, with the user's part of the traceback.
    """
    sys.path.insert(0, app_dir)
    module_name, _, attr = target.partition(":")
    module = _import(module_name, app_dir)
    return _server_in(module, attr or "server")


def _server_in(module: ModuleType, attr: str) -> Server:
    try:
        server = attrgetter(attr)(module)
    except AttributeError as error:
        raise click.ClickException(
            f"{module.__name__!r} has no {attr!r}; {_servers_of(module)}"
        ) from error
    if not isinstance(server, Server):
        kind = type(server).__name__
        raise click.ClickException(
            f"{module.__name__}:{attr} is no trio_rt.Server but a {kind}; {_servers_of(module)}"
        )
    return server


def _servers_of(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Server)]
    found = ", ".join(f"{module.__name__}:{name}" for name in names)
    return f"it has {found}" if found else "it has no server at all"


def _import(name: str, app_dir: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise click.ClickException(f"{name!r} is no module: say it as in `import`, like app:server")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise click.ClickException(_no_module(error.name, app_dir)) from error
        raise _failed(name, error) from error
    except Exception as error:
        raise _failed(name, error) from error


def _no_module(name: str, app_dir: str) -> str:
    hint = ": leave out the .py" if name.endswith(".py") else "; --app-dir says where to look"
    return f"there is no module {name!r} in {app_dir} or among the installed packages{hint}"


def _failed(name: str, error: Exception) -> click.ClickException:
    place = _users_part(error.__traceback__)
    if isinstance(error, MisuseError) and place is not None:
        return click.ClickException(
            f"{place.tb_frame.f_code.co_filename}, line {place.tb_lineno}: {error}"
        )
    text = "".join(traceback.format_exception(type(error), error, place))
    click.echo(text.rstrip(), err=True)
    return click.ClickException(f"module {name!r} could not be imported: see above")


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without its beginning, which is ours and the import system's."""
    while trace is not None and _is_import_system(trace):
        trace = trace.tb_next
    return trace


def _is_import_system(trace: TracebackType) -> bool:
    module: str = trace.tb_frame.f_globals.get("__name__", "")
    return module == __name__ or module.partition(".")[0] == "importlib"
