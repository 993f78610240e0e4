"""The programs of the page about clusters with Socket.IO's own servers do what it says."""

import re
from pathlib import Path

from tests.backplane.redis.waiting import until
from tests.parts import valkey
from trio_rt import Server
from trio_rt.testing import hosting

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "node_cluster.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def run_page(url: str) -> Server:
    """The server that the page makes."""
    names: dict[str, object] = {}
    exec(compile(PROGRAMS[0].replace("redis://localhost:6379", url), PAGE.name, "exec"), names)
    handler, _, _ = PROGRAMS[1].partition("\nreplies =")
    exec(compile(handler, PAGE.name, "exec"), names)
    server = names["server"]
    assert isinstance(server, Server)
    return server


async def test_page() -> None:
    """Two servers made by the page are one cluster, and answer each other as it shows."""
    with valkey.running() as redis:
        one, other = run_page(redis.url), run_page(redis.url)
        async with hosting(one), hosting(other) as host:
            await host.connect()
            await until(lambda: one.backplane.is_ready and other.backplane.is_ready)  # type: ignore[attr-defined]
            names = {"server": one}
            code = PROGRAMS[1].partition("\nreplies =")[2].replace("await ", "")
            replies = await eval(code.strip(), names)
            assert list(replies.answers.values()) == [{"clients": 1}]
