"""Tasks that end with their socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from trio_rt.errors import Disconnected
from trio_rt.log import log
from trio_rt.reasons import INTERNAL_ERROR

if TYPE_CHECKING:
    from trio_rt.socket import Socket


class SocketNursery:
    """Starts tasks that end with their socket.

    A task that crashes is logged, and the client's connection is closed so that it comes back and
    everything starts anew: nothing goes on half.
    """

    __slots__ = ("_scopes", "_socket")

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._scopes: set[trio.CancelScope] = set()

    def start_soon(
        self, function: Callable[..., Awaitable[object]], *arguments: Any, name: str | None = None
    ) -> None:
        """Runs `function(*arguments)` in a task of its own until the socket is disconnected.

        Raises:
            Disconnected: if the socket is gone.
        """
        if self._socket.has_ended:
            raise Disconnected(self._socket.reason or INTERNAL_ERROR)
        nursery = self._socket.connection.nursery
        nursery.start_soon(self._run, function, arguments, name=name or function)

    def cancel(self) -> None:
        """Cancels all its tasks."""
        for scope in self._scopes:
            scope.cancel()

    async def _run(
        self, function: Callable[..., Awaitable[object]], arguments: tuple[Any, ...]
    ) -> None:
        if self._socket.has_ended:
            return
        scope = trio.CancelScope()
        self._scopes.add(scope)
        try:
            with scope:
                await function(*arguments)
        except Exception as error:
            if isinstance(error, Disconnected) and self._socket.is_going:
                log.debug("a task of socket %s outlived it", self._socket.id)
                return
            log.exception("a task of socket %s failed", self._socket.id)
            self._socket.connection.stop(INTERNAL_ERROR)
        finally:
            self._scopes.discard(scope)
