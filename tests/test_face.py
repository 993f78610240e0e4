"""The public face: what is promised is there, and everything there says what it is."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from importlib.metadata import version
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

import trio_rt
from trio_rt.cli import main

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(trio_rt.__path__, "trio_rt.")
    if not module.name.endswith("__main__")
)


def public_members(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The public classes and functions of a module, and the methods of these classes."""
    for name, member in vars(module).items():
        if name.startswith("_") or getattr(member, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(member):
            yield name, member
            yield from public_methods(member)
        elif inspect.isfunction(member):
            yield name, member


def public_methods(owner: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class itself defines."""
    for name, member in vars(owner).items():
        if not name.startswith("_") and isinstance(
            member, property | classmethod | staticmethod | type(public_methods)
        ):
            yield f"{owner.__name__}.{name}", member


def has_words(member: Any) -> bool:
    """Whether its docstring says something, inherited or not."""
    return bool((inspect.getdoc(member) or "").strip())


def has_words_below(name: str, module: ModuleType) -> bool:
    """Whether the line below a value's assignment says what it is."""
    body = ast.parse(inspect.getsource(module)).body
    return any(
        isinstance(line, ast.Assign | ast.AnnAssign)
        and name in ast.unparse(line).split("=")[0]
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        for line, below in pairwise(body)
    )


def test_all_is_sorted() -> None:
    """The list of public names is in order, constants first, and has none twice."""
    assert (
        sorted({*trio_rt.__all__}, key=lambda name: (not name.isupper(), name)) == trio_rt.__all__
    )


@pytest.mark.parametrize("name", trio_rt.__all__)
def test_all_is_there(name: str) -> None:
    """Every public name can be imported, and says what it is."""
    member = getattr(trio_rt, name)
    if callable(member):
        assert has_words(member)
    else:
        assert has_words_below(name, importlib.import_module(type(member).__module__))


def test_all_is_complete() -> None:
    """What the face imports is what it promises."""
    imported = {
        name
        for name, member in vars(trio_rt).items()
        if not name.startswith("_") and not inspect.ismodule(member)
    }
    assert imported == set(trio_rt.__all__)


def test_version() -> None:
    """The version is that of the installed package, and no other name is made up."""
    assert trio_rt.__version__ == version("trio-rt")
    told = CliRunner().invoke(main, ["--version"]).output
    assert told == f"trio-rt, version {trio_rt.__version__}\n"
    with pytest.raises(AttributeError, match="has no attribute '__versions__'"):
        trio_rt.__versions__  # type: ignore[attr-defined]  # noqa: B018


def test_star_import() -> None:
    """`from trio_rt import *` gives all public names and no others."""
    names: dict[str, Any] = {}
    exec("from trio_rt import *", names)
    assert names.keys() - {"__builtins__"} == set(trio_rt.__all__)


@pytest.mark.parametrize("name", ["trio_rt", *MODULES])
def test_docstrings(name: str) -> None:
    """Every module, and every public class, function and method in it, says what it is."""
    module = importlib.import_module(name)
    assert has_words(module)
    silent = [
        path
        for path, member in public_members(module)
        # An override may leave its words to what it overrides.
        if not has_words(member) and not is_override(module, path)
    ]
    assert silent == []


def is_override(module: ModuleType, path: str) -> bool:
    """Whether a class above has the method, with its words."""
    owner, _, name = path.partition(".")
    above = getattr(module, owner).__mro__[1:] if name else ()
    return any(has_words(vars(base)[name]) for base in above if name in vars(base))


def test_modules_are_found() -> None:
    """The walk goes into every folder: an empty list would let every test above pass."""
    assert {"trio_rt.server", "trio_rt.codec.frames", "trio_rt.machine.acks"} <= {*MODULES}
