"""The one logger of the framework, and how a peer's text gets into it."""

import logging
import secrets

import attrs

log = logging.getLogger("trio_rt")

_AT_ONCE = 5
"""Lines of one kind that are written however close together they come."""

_SECONDS_A_LINE = 10.0
"""After that, one for each of so many seconds: a flood of 10,000 a second is 6 lines a minute."""


def printable(text: str, limit: int = 200) -> str:
    """A peer's text for a log line: no control characters, no line breaks, bounded."""
    shown = text[:limit].encode("unicode_escape").decode("ascii")
    return shown if len(text) <= limit else f"{shown}..."


def new_error_id() -> str:
    """Ties what a client was told to the log line that has the traceback."""
    return secrets.token_hex(6)


@attrs.define
class _Kind:
    """What was written about one kind of thing."""

    lines: float
    """That may be written now."""
    time: float
    """When that was so."""
    left_out: int = 0


class Sparing:
    """Warnings about strangers, who may be many: a few of each kind, and how many were left out."""

    __slots__ = ("_kinds",)

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def warning(self, kind: str, now: float, text: str, *arguments: object) -> None:
        """Writes a warning, unless there were many of its kind just now.

        Args:
            kind: one of a few names, chosen by us and not by the stranger.
            now: the time in seconds.
            text: as for `log.warning`, with its arguments.
        """
        found = self._kinds.setdefault(kind, _Kind(_AT_ONCE, now))
        found.lines = min(_AT_ONCE, found.lines + (now - found.time) / _SECONDS_A_LINE)
        found.time = now
        if found.lines < 1:
            found.left_out += 1
            return
        found.lines -= 1
        if found.left_out:
            text += " (%d more like this were left out)"
            arguments = (*arguments, found.left_out)
            found.left_out = 0
        log.warning(text, *arguments)
