from collections.abc import Callable

import pytest
import trio
import trio.testing

from trio_rt.web.exchange import serve_http
from trio_rt.web.link import HttpLimits
from trio_rt.web.pages import Pages

from .peer import MemoryStream, Peer


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def limits() -> HttpLimits:
    return HttpLimits(max_head_bytes=2_000, max_body_bytes=1_000)


@pytest.fixture
def connect(nursery: trio.Nursery, pages: Pages, limits: HttpLimits) -> Callable[[], Peer]:
    """Opens connections to the pages; each is served in the test's nursery."""

    def open_peer() -> Peer:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(lambda: serve_http(MemoryStream(ours), pages, limits=limits))
        return Peer(theirs)

    return open_peer


@pytest.fixture
def peer(connect: Callable[[], Peer]) -> Peer:
    return connect()
