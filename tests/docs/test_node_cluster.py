"""The programs of the page about clusters with Socket.IO's own servers do what it says."""

from tests.backplane.redis.waiting import until
from tests.docs.pages import blocks, run, run_async
from tests.parts import valkey
from trio_rt import Server
from trio_rt.testing import hosting

PROGRAMS = blocks("docs/howto/node_cluster.md")


def run_page(url: str) -> Server:
    """The server that the page makes."""
    handler, _, _ = PROGRAMS[1].partition("\nreplies =")
    names = run(PROGRAMS[0].replace("redis://localhost:6379", url))
    server: Server = run(handler, **names)["server"]
    return server


async def test_page() -> None:
    """Two servers made by the page are one cluster, and answer each other as it shows."""
    with valkey.running() as redis:
        one, other = run_page(redis.url), run_page(redis.url)
        async with hosting(one), hosting(other) as host:
            await host.connect()
            await until(lambda: one.backplane.is_ready and other.backplane.is_ready)  # type: ignore[attr-defined]
            _, asking, question = PROGRAMS[1].partition("\nreplies =")
            replies = (await run_async(asking + question, server=one))["replies"]
            assert list(replies.answers.values()) == [{"clients": 1}]
