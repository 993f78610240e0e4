"""Where a server and its clients meet for the length of a test."""

from collections import deque
from typing import Any

import attrs
import trio

from tests.interop.official import Page
from trio_rt import Anonymous, Server

DEADLINE = 5.0
"""Seconds that anything may take which a test waits for."""


def new_server(**changes: Any) -> Server:
    """A server that lets everybody in."""
    return Server(auth=Anonymous(), **changes)


class Notes:
    """What handlers noted, in order, to be waited for by the test."""

    def __init__(self) -> None:
        self._notes: deque[Any] = deque()
        self._bell = trio.Event()

    def add(self, note: Any) -> None:
        """Note something."""
        self._notes.append(note)
        self._bell.set()
        self._bell = trio.Event()

    async def next(self) -> Any:
        """The oldest note that was not read, as soon as there is one."""
        with trio.fail_after(DEADLINE):
            while not self._notes:
                await self._bell.wait()
        return self._notes.popleft()

    def rest(self) -> list[Any]:
        """All notes that were not read."""
        rest = list(self._notes)
        self._notes.clear()
        return rest


@attrs.define
class Stage:
    """Serves servers, and opens pages of the official client on them."""

    driver: int
    nursery: trio.Nursery
    _ended: dict[Server, trio.Event] = attrs.field(factory=dict)
    _pages: list[Page] = attrs.field(factory=list)

    async def __call__(self, server: Server, port: int = 0) -> Page:
        """Serve the server and open a page on it."""
        await self.serve(server, port)
        return self.page(server)

    async def serve(self, server: Server, port: int = 0) -> None:
        """Serve the server until the test ends, or `stop`."""
        server.configure(web_port=0)  # the port above a given one may be somebody else's
        self._ended[server] = trio.Event()
        with trio.fail_after(DEADLINE):
            await self.nursery.start(self._serve, server, port)

    def page(self, server: Server) -> Page:
        """Open one more page on a server."""
        page = Page(self.driver, server.url)
        self._pages.append(page)
        return page

    async def stop(self, server: Server) -> None:
        """Stop a server, which has to end in good order."""
        server.stop()
        with trio.fail_after(DEADLINE):
            await self._ended[server].wait()

    async def close(self) -> None:
        """Close all pages, then stop all servers."""
        for page in self._pages:
            await page.close()
        for server in self._ended:
            await self.stop(server)

    async def _serve(self, server: Server, port: int, **task_status: Any) -> None:
        await server.serve("127.0.0.1", port, **task_status)
        self._ended[server].set()
