# /// script
# dependencies = ["nox"]
# ///
"""Everything that is run on this project, on a bare machine and in CI alike."""

from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests", "lint", "types"]
nox.options.reuse_existing_virtualenvs = True

FOLDERS = ["trio_rt", "examples", "tests"]
PROJECT = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, *groups: str) -> None:
    """Install the project, everything optional included, and some of its dependency groups."""
    session.install(
        "-e", ".[crypto,redis,speedups]", *nox.project.dependency_groups(PROJECT, *groups)
    )


@nox.session
def demo(session: nox.Session) -> None:
    """Run an example: presence, or the one named after `--`, with its own arguments."""
    session.install(".[speedups]")
    name, *arguments = session.posargs or ["presence"]
    session.run("python", f"examples/{name}/server.py", *arguments, interrupt_timeout=20.0)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, against the official client and a real browser too."""
    install(session, "test")
    session.run("python", "-m", "tests.parts")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(default=False)
def nightly(session: nox.Session) -> None:
    """Search the state machines for long: ten thousand examples of each property, or of those named
    after `--`. The longest, tests/stateful/test_nothing_lost.py, takes half an hour."""
    install(session, "test")
    session.run("python", "-m", "tests.parts")
    folders = session.posargs or ["tests/stateful", "tests/machine"]
    profile = {"HYPOTHESIS_PROFILE": "nightly"}
    session.run("python", "-m", "pytest", "--timeout=0", *folders, env=profile)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what it takes to get from one node to another. For a machine without other work."""
    install(session, "test")
    session.run("python", "-m", "tests.bench")


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style, the asynchronous code's traps and the direction of imports."""
    install(session, "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    # It takes no folders. Off are: a checkpoint on every path (9xx), which handlers need not have;
    # `timeout` parameters (109), which are part of the API; a list of startable functions (114);
    # async without await (124), as handlers may be.
    files = [str(path) for folder in FOLDERS for path in Path(folder).rglob("*.py")]
    session.run("flake8-async", "--disable=ASYNC9,ASYNC109,ASYNC114,ASYNC124", *files)
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types twice."""
    install(session, "types")
    session.run("mypy")
    session.run("pyright")


if __name__ == "__main__":
    nox.main()
