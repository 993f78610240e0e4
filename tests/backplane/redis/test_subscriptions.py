"""Subscriptions outlive every loss of their link, and no loss is silent."""

import socket
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import attrs
import pytest
import redis
import trio
import trio.testing

from tests.backplane.redis.conftest import QUICK
from tests.backplane.redis.waiting import until
from tests.parts.valkey import Valkey, wait_until
from trio_rt.backplane.redis.address import read_url
from trio_rt.backplane.redis.arrivals import Arrival, Gap, Message
from trio_rt.backplane.redis.dial import DirectDial
from trio_rt.backplane.redis.resp import pack
from trio_rt.backplane.redis.subscriptions import Subscriptions
from trio_rt.errors import BackplaneRefused
from trio_rt.testing import Proxy, open_proxy


class Listener:
    """Takes all that arrives, as a node does."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self.subscriptions = subscriptions
        self.heard: list[Arrival] = []

    async def run(self) -> None:
        while True:
            await self.subscriptions.wait()
            self.heard += self.subscriptions.receive_nowait()

    @property
    def texts(self) -> list[bytes]:
        return [item.data for item in self.heard if isinstance(item, Message)]

    @property
    def gaps(self) -> list[bool]:
        """Of each gap whether it was over."""
        return [item.is_over for item in self.heard if isinstance(item, Gap)]


@asynccontextmanager
async def listening(url: str, **changes: Any) -> AsyncGenerator[Listener]:
    """Subscriptions that are up, of which everything is taken."""
    subscriptions = Subscriptions(
        DirectDial(read_url(url), attrs.evolve(QUICK, **changes)), "test", b"ignored"
    )
    listener = Listener(subscriptions)
    async with trio.open_nursery() as nursery:
        await nursery.start(subscriptions.run)
        nursery.start_soon(listener.run)
        yield listener
        nursery.cancel_scope.cancel()


async def test_subscribed_means_subscribed(server: Valkey) -> None:
    """From the moment that subscribe returns every message arrives, in order, without a gap."""
    async with listening(server.url) as listener:
        await listener.subscriptions.subscribe(b"a", b"b")
        for number in range(100):
            assert server.client.publish("ab"[number % 2], number) == 1
        server.client.publish("c", "not ours")
        await until(lambda: len(listener.texts) >= 100)
        assert listener.heard[0] == Message(b"a", b"0")
        assert listener.texts == [b"%d" % number for number in range(100)]
        assert listener.gaps == []
        await listener.subscriptions.subscribe(b"a")  # once more: at once


async def test_unsubscribe(server: Valkey) -> None:
    """A channel that is not wanted any more is not subscribed soon after."""
    async with listening(server.url) as listener:
        await listener.subscriptions.subscribe(b"a", b"b")
        listener.subscriptions.unsubscribe(b"a", b"never")
        await until(lambda: server.client.publish("a", "x") == 0)
        assert server.client.publish("b", "x") == 1


async def test_wanted_again(server: Valkey) -> None:
    """However fast a channel is wanted and not wanted, the last word counts once it is given."""
    async with listening(server.url) as listener:
        for number in range(50):
            await listener.subscriptions.subscribe(b"a")
            assert server.client.publish("a", number) == 1
            listener.subscriptions.unsubscribe(b"a")
            if number % 2:
                await trio.lowlevel.checkpoint()
        await until(lambda: not server.client.pubsub_channels())
        await until(lambda: len(listener.texts) == 50)


async def test_crowd(server: Valkey) -> None:
    """Thousands of channels of as many tasks are subscribed in few commands."""
    async with listening(server.url) as listener:
        before = server.client.info("commandstats").get("cmdstat_subscribe", {}).get("calls", 0)
        async with trio.open_nursery() as nursery:
            for number in range(3000):
                nursery.start_soon(listener.subscriptions.subscribe, b"c%d" % number)
        after = server.client.info("commandstats")["cmdstat_subscribe"]["calls"]
        assert len(server.client.pubsub_channels()) == 3000
        assert after - before <= 10


@pytest.mark.parametrize("way", [Proxy.cut, Proxy.reset, Proxy.stall])
async def test_network_breaks(server: Valkey, way: Callable[[Proxy], None]) -> None:
    """After every loss there is a gap at once, and one that is over when all is subscribed."""
    async with (
        open_proxy("127.0.0.1", server.port) as proxy,
        listening(f"redis://127.0.0.1:{proxy.port}", subscribe_chunk=100) as listener,
    ):
        channels = [b"c%d" % number for number in range(1000)]
        await listener.subscriptions.subscribe(*channels)
        server.client.publish("c0", "before")
        await until(lambda: listener.texts)
        way(proxy)
        await until(lambda: listener.gaps)
        assert listener.gaps == [False]
        server.client.publish("c0", "lost")
        proxy.resume()
        await until(lambda: True in listener.gaps)
        assert {b"c%d" % number for number in range(1000)} == set(server.client.pubsub_channels())
        server.client.publish("c999", "after")
        await until(lambda: b"after" in listener.texts)
        lost, back = [item for item in listener.heard if isinstance(item, Gap)]
        order = [listener.heard.index(item) for item in (lost, back)]
        assert listener.heard.index(Message(b"c0", b"before")) < order[0]
        assert order[1] < listener.heard.index(Message(b"c999", b"after"))


async def test_server_restarts(own_server: Valkey) -> None:
    """A server that is killed and comes back is listened to again."""
    async with listening(own_server.url) as listener:
        await listener.subscriptions.subscribe(b"a")
        own_server.kill()
        await until(lambda: listener.gaps == [False])
        assert not listener.subscriptions.is_up
        await trio.to_thread.run_sync(own_server.start)
        await until(lambda: listener.gaps == [False, True])
        assert own_server.client.publish("a", "x") == 1
        await until(lambda: listener.texts == [b"x"])


async def test_paused_server(own_server: Valkey) -> None:
    """A server that stands still is noticed though messages are all that is expected of it."""
    async with listening(own_server.url) as listener:
        await listener.subscriptions.subscribe(b"a")
        own_server.pause()
        await until(lambda: listener.gaps)
        own_server.resume()
        await until(lambda: listener.gaps[-1])


async def test_client_kill(server: Valkey) -> None:
    """A connection that the server ends is made anew."""
    async with listening(server.url) as listener:
        await listener.subscriptions.subscribe(b"a")
        for count in range(1, 4):
            server.client.client_kill_filter(_type="pubsub")
            await until(lambda count=count: listener.gaps == [False, True] * count)  # type: ignore[misc]
            assert server.client.publish("a", "x") == 1


async def test_subscribe_while_down(own_server: Valkey) -> None:
    """What is wanted while there is no server waits, and is subscribed when there is one."""
    async with listening(own_server.url) as listener:
        own_server.kill()
        await until(lambda: not listener.subscriptions.is_up)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.subscriptions.subscribe, b"a")
            with trio.move_on_after(0.05):
                await listener.subscriptions.subscribe(b"b")  # cancelled: stays wanted
            listener.subscriptions.unsubscribe(b"c")
            await trio.to_thread.run_sync(own_server.start)
        assert own_server.client.publish("a", "x") == 1
        await until(lambda: own_server.client.publish("b", "x") == 1)


async def test_withdrawn_while_down(own_server: Valkey) -> None:
    """Who waits for a channel that is withdrawn meanwhile goes on."""
    async with listening(own_server.url) as listener:
        own_server.kill()
        await until(lambda: not listener.subscriptions.is_up)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.subscriptions.subscribe, b"a")
            await trio.testing.wait_all_tasks_blocked()
            listener.subscriptions.unsubscribe(b"a")
            await trio.to_thread.run_sync(own_server.start)
        assert own_server.client.pubsub_channels() == []


async def test_overflow(server: Valkey) -> None:
    """When nobody takes what arrives, all of it is dropped with a gap, and the newest stays."""
    dial = DirectDial(read_url(server.url), attrs.evolve(QUICK, buffer_messages=100))
    subscriptions = Subscriptions(dial, "test")
    async with trio.open_nursery() as nursery:
        await nursery.start(subscriptions.run)
        await subscriptions.subscribe(b"a")
        for number in range(1000):
            server.client.publish("a", number)
        await until(lambda: subscriptions.overflows > 5)
        heard: list[Arrival] = []
        while not (heard and heard[-1] == Message(b"a", b"999")):
            heard += subscriptions.receive_nowait()
            await trio.lowlevel.checkpoint()
        assert isinstance(heard[0], Gap)
        assert heard[0].is_over
        numbers = [int(item.data) for item in heard if isinstance(item, Message)]
        assert numbers == list(range(1000 - len(numbers), 1000))
        nursery.cancel_scope.cancel()


async def test_refused_channel(own_server: Valkey, errors: list[Any]) -> None:
    """A channel that we have no right to is refused alone, whoever else is in the same command."""
    own_server.client.acl_setuser(
        "ann", True, passwords="+pw", commands=["+@all"], channels=["ours:*"], keys=["*"]
    )
    url = f"redis://ann:pw@127.0.0.1:{own_server.port}"
    async with listening(url) as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.subscriptions.subscribe, b"ours:a", b"ours:b")
            with pytest.raises(BackplaneRefused, match="theirs"):
                await listener.subscriptions.subscribe(b"theirs")
        assert own_server.client.publish("ours:a", "x") == 1
        assert listener.subscriptions.channels == {b"ours:a", b"ours:b"}
    errors.clear()


async def test_refused_at_the_start(own_server: Valkey) -> None:
    """Subscriptions that are refused for good at their first connection say so and end."""
    own_server.client.config_set("requirepass", "secret")
    with pytest.raises(BackplaneRefused):
        await Subscriptions(DirectDial(read_url(own_server.url), QUICK), "test").run()


async def test_ignored_channel(server: Valkey) -> None:
    """Messages of the probe's channel are only noted."""
    async with listening(server.url) as listener:
        await listener.subscriptions.subscribe(b"ignored", b"a")
        assert listener.subscriptions.heard_at == 0.0
        server.client.publish("ignored", "x")
        await until(lambda: listener.subscriptions.heard_at > 0.0)
        server.client.publish("a", "y")
        await until(lambda: listener.texts)
        assert listener.texts == [b"y"]


@contextmanager
def busy(server: Valkey) -> Iterator[None]:
    """For the length of the block a server runs somebody's script, and does nothing else."""
    server.plain.config_set("busy-reply-threshold", 1)
    with socket.create_connection(("127.0.0.1", server.port)) as somebody:
        somebody.sendall(pack(("EVAL", "while true do end", 0)))
        wait_until(lambda: is_busy(server))
        yield
        server.plain.execute_command("SCRIPT KILL")
        assert somebody.recv(1)  # its end


def is_busy(server: Valkey) -> bool:
    try:
        server.plain.execute_command("DBSIZE")
    except redis.ResponseError as error:
        return "BUSY" in str(error)
    return False


async def test_link_to_a_busy_server(own_server: Valkey) -> None:
    """What a server cannot do now is not what it never will: all is subscribed when it can."""
    async with listening(own_server.url) as listener:
        await listener.subscriptions.subscribe(b"a", b"b")
        with busy(own_server):
            listener.subscriptions.reset("the test says so")
            await until(lambda: "BUSY" in (listener.subscriptions._redial.last_error))
            listener.subscriptions.unsubscribe(b"b")
        await until(lambda: listener.gaps[-1:] == [True])
        assert own_server.client.publish("a", "x") == 1
        await until(lambda: listener.texts == [b"x"])


async def test_busy_server(own_server: Valkey) -> None:
    """To leave a channel that a server cannot take away now ends nothing else."""
    async with listening(own_server.url) as listener:
        await listener.subscriptions.subscribe(b"a", b"b")
        with busy(own_server):
            listener.subscriptions.unsubscribe(b"b")
            await until(lambda: listener.gaps)
        await until(lambda: listener.gaps[-1:] == [True])
        assert own_server.client.publish("b", "x") == 0
        assert own_server.client.publish("a", "x") == 1


async def test_no_right_to_unsubscribe(own_server: Valkey, errors: list[Any]) -> None:
    """A channel that we have no right to leave is told of, and all else goes on."""
    own_server.client.execute_command("ACL", "SETUSER", "default", "-unsubscribe")
    async with listening(own_server.url) as listener:
        await listener.subscriptions.subscribe(b"a")
        listener.subscriptions.unsubscribe(b"a")
        await until(lambda: errors)
        assert "cannot unsubscribe" in errors[0].getMessage()
        await listener.subscriptions.subscribe(b"b")
        assert listener.gaps == []
    errors.clear()
