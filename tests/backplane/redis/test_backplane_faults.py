"""What a node does while Redis is away, and what is true when it is back."""

import logging

import pytest
import trio

from tests.backplane.redis.cluster import backplane_of, new_node, nodes
from tests.backplane.redis.waiting import until
from tests.parts.valkey import Valkey
from trio_rt import BackplaneDown, BackplaneRefused
from trio_rt.backplane.base import Fenced
from trio_rt.testing import hosting


async def test_redis_is_away(own_server: Valkey) -> None:
    """Publishing fails in time, volatile and local events go on, and all is well afterwards."""
    async with nodes(own_server.url) as (here, there):
        one, other = await here.connect(), await there.connect()
        await one.call("join", "a")
        await other.call("join", "a")
        own_server.kill()
        await until(lambda: not backplane_of(here).is_ready)
        began = trio.current_time()
        with pytest.raises(BackplaneDown) as raised:
            await here.app.to("a").emit("said", "lost")
        assert not raised.value.outcome_unknown
        assert trio.current_time() - began < 4
        here.app.to("a").emit_nowait("said", "volatile")
        await here.app.to("a").local.emit("said", "local")
        assert [await one.expect("said") for _ in range(2)] == ["volatile", "local"]
        own_server.start()
        await until(lambda: all(backplane_of(host).is_ready for host in (here, there)))
        back, again = await here.connect(), await there.connect()
        await again.call("kept", "")
        await back.call("say", "all is well")
        assert await again.expect("said") == "all is well"


async def test_redis_is_away_at_the_start(own_server: Valkey) -> None:
    """A node that begins without Redis serves, and joins the others when it is there."""
    own_server.kill()
    async with hosting(new_node(own_server.url)) as host:
        client = await host.connect()
        assert not backplane_of(host).is_ready
        own_server.start()
        await until(lambda: backplane_of(host).is_ready)
        await client.aclose()
        other = await host.connect()
        await other.call("say", "hello")
        assert await other.expect("said") == "hello"


async def test_wrong_password(own_server: Valkey) -> None:
    """A Redis that does not let us in ends the server, and says why."""
    own_server.client.config_set("requirepass", "secret")
    node = new_node(f"redis://:wrong@127.0.0.1:{own_server.port}")
    with pytest.RaisesGroup(BackplaneRefused, flatten_subgroups=True, allow_unwrapped=True):
        await node.run_services()


async def test_other_schema(server: Valkey) -> None:
    """Keys that mean something else are not touched."""
    server.client.set("rt:ver", "0")
    node = new_node(server.url)
    with pytest.RaisesGroup(BackplaneRefused, flatten_subgroups=True, allow_unwrapped=True):
        await node.run_services()


async def test_taken_for_dead(server: Valkey) -> None:
    """A node that finds its lease ended goes on under another name, with its sessions."""
    async with nodes(server.url) as (here, there):
        client, other = await here.connect(), await there.connect()
        await client.call("kept", "")
        name = backplane_of(here).node
        heard = [type(arrival) for arrival in backplane_of(here).receive_nowait()]
        assert Fenced not in heard
        server.client.zrem("rt:{0}:nodes", name)
        await until(lambda: backplane_of(here).node != name)
        await until(lambda: name not in backplane_of(there).nodes)
        await until(lambda: len(backplane_of(there).nodes) == 2)
        await other.call("say", "still there", client.claim()["pid"][:20])
        assert await client.expect("said") == "still there"
        claim = client.claim()
        client.close()
        back = await there.open()
        await back.connect(auth=claim)
        assert back.claim()["pid"] == claim["pid"]


async def test_values_that_do_not_come_back(
    server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no plain value in `socket.data` is named in the log; the rest comes back."""
    async with nodes(server.url) as (here, there):
        client = await here.connect()
        await client.call("keep", "plain", {"a": [1, None]})
        (socket,) = here.app.get_namespace("/").sockets.values()
        socket.data["odd"] = object()
        with caplog.at_level(logging.ERROR):
            await client.call("join", "x")
            claim = client.claim()
            client.close()
            back = await there.open()
            await back.connect(auth=claim)
        assert "odd" in caplog.text
        assert await back.call("kept", "plain") == {"a": [1, None]}
        assert await back.call("kept", "odd") is None
