"""The page of settings has all that there are, with the defaults that they have."""

import re
from typing import Any

import attrs

from tests.docs.pages import ROOT
from trio_rt import Config, Restart, Room

SERVER, ROOM = (ROOT / "docs/topics/settings.md").read_text().split("## A room")


def told(section: str) -> dict[str, str]:
    """Names and defaults of a table, as the page writes them."""
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \| .+\|$", section, re.MULTILINE))


def shown(value: Any) -> str:
    """A default as the page writes it."""
    if isinstance(value, Restart):
        return f"`{value}`"
    if value == dict[str, Any]:
        return "`dict[str, Any]`"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"`{value!r}`"
    return f"{value:,g}" if isinstance(value, float) else f"{value:,}"


def test_server() -> None:
    """Every field of `Config` has a row."""
    assert told(SERVER) == {field.name: shown(field.default) for field in attrs.fields(Config)}


def test_room() -> None:
    """Every attribute that a class of rooms may set has a row."""
    names = [name for name, kind in Room.__annotations__.items() if kind.startswith("ClassVar")]
    assert told(ROOM) == {name: shown(getattr(Room, name)) for name in names if name != "is_hidden"}
