"""The one logger of the framework, and how a peer's text gets into it."""

import logging
import secrets

log = logging.getLogger("trio_rt")


def printable(text: str, limit: int = 200) -> str:
    """A peer's text for a log line: no control characters, no line breaks, bounded."""
    shown = text[:limit].encode("unicode_escape").decode("ascii")
    return shown if len(text) <= limit else f"{shown}..."


def new_error_id() -> str:
    """Ties what a client was told to the log line that has the traceback."""
    return secrets.token_hex(6)
