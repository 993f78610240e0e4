"""Streams that wait for a request: a server that stops lets them go at once."""

from collections.abc import Generator
from contextlib import contextmanager

import trio


class IdleStreams:
    """The streams of one server on which no request is under way."""

    __slots__ = ("_is_over", "_scopes")

    def __init__(self) -> None:
        self._scopes: set[trio.CancelScope] = set()
        self._is_over = False

    @contextmanager
    def waiting(self, seconds: float) -> Generator[trio.CancelScope]:
        """While a stream waits for a request, at most `seconds`; cancelled by `end` as well."""
        with trio.move_on_after(seconds) as scope:
            if self._is_over:
                scope.cancel()
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)

    def end(self) -> None:
        """Lets all streams go that wait now, or will."""
        self._is_over = True
        for scope in self._scopes:
            scope.cancel()
