"""What a server still knows of clients: nothing may be left of those that are gone."""

from typing import Any

from trio.testing import wait_all_tasks_blocked

from trio_rt.app import App
from trio_rt.backplane.base import Backplane
from trio_rt.backplane.memory import MemoryBackplane


def leftovers(app: App) -> dict[str, Any]:
    """Everything that is not empty, by name."""
    namespaces = app._namespaces.values()
    found: dict[str, Any] = {
        "sessions": list(app.sessions),
        "sockets": [socket for space in namespaces for socket in space.sockets.values()],
        "rooms": [room for space in namespaces for room in space.rooms],
        "dynamic namespaces": list(app._dynamic),
        "bells on the wheel": len(app.wheel),
    }
    return {name: value for name, value in found.items() if value}


def memories(app: App) -> dict[str, Any]:
    """What is kept for clients that may come back, by name; only what is not empty."""
    found = {"lost sessions": len(app.absentees), "rooms and sessions": _kept_by(app.backplane)}
    return {name: value for name, value in found.items() if value}


def _kept_by(backplane: Backplane) -> set[str]:
    assert isinstance(backplane, MemoryBackplane)
    rooms = {room for _, room in backplane._history._logs}
    return {*backplane._sessions, *backplane._held, *backplane._own_logs, *rooms}


async def assert_nothing_left(app: App) -> None:
    """As soon as all is quiet nobody is connected any more, and nothing reminds of anybody."""
    await wait_all_tasks_blocked()
    assert leftovers(app) == {}
