"""The page about reconnecting says what the code does."""

import re

import attrs
import pytest

from tests.docs.states import PAGE, draw, split
from trio_rt.machine.backlog import BacklogLimits, WhenFull
from trio_rt.machine.reconnect import MOVES, ConnectionState, ReconnectLimits

TEXT = PAGE.read_text()


def test_diagram() -> None:
    """The diagram is the table's; if not: `python -m tests.docs.states`."""
    assert split(TEXT)[1] == draw()


def test_diagram_is_whole() -> None:
    """Each move of the table is in the drawing, once, and nothing else is."""
    drawn = re.findall(r"^    (\w+) --> (\w+): (.+)$", draw(), re.MULTILINE)
    moves = [
        (before, after, cause) for before, after, causes in drawn for cause in causes.split("<br/>")
    ]
    expected = [
        (before.name, after.name, cause.value)
        for before, row in MOVES.items()
        for cause, after in row.items()
    ]
    assert sorted(moves) == sorted(expected)


@pytest.mark.parametrize("limits", [ReconnectLimits, BacklogLimits])
def test_limits(limits: type) -> None:
    """The page names each setting with the default it has."""
    for field in attrs.fields(limits):
        default = field.default
        if isinstance(default, WhenFull):
            default = f"`WhenFull.{default.name}`"
        elif isinstance(default, int) and default >= 1000:
            default = f"{default:,}"
        elif isinstance(default, float):
            default = f"{default:g}"
        assert f"| `{field.name}` | {default} |" in TEXT


@pytest.mark.parametrize("choice", [*ConnectionState, *WhenFull], ids=str)
def test_choices(choice: ConnectionState | WhenFull) -> None:
    """The page explains each state and each policy."""
    assert f"| `{choice.name}` |" in TEXT
