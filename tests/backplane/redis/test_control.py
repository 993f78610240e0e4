"""No node misses an order, or it is told that it did."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from tests.backplane.redis.conftest import QUICK
from tests.backplane.redis.waiting import until
from tests.parts.valkey import Valkey
from trio_rt.backplane.redis.address import read_url
from trio_rt.backplane.redis.control import Missed, Order, OrderStream
from trio_rt.backplane.redis.dial import DirectDial
from trio_rt.backplane.redis.keys import Keys
from trio_rt.backplane.redis.steady import SteadyLink
from trio_rt.testing import open_proxy

KEY = Keys().of("ctl")


class Reader:
    """A node that reads orders."""

    def __init__(self, stream: OrderStream) -> None:
        self.stream = stream
        self.got: list[Order | Missed] = []

    async def run(self) -> None:
        while True:
            self.got += await self.stream.receive()

    @property
    def bodies(self) -> list[bytes]:
        return [order.body for order in self.got if isinstance(order, Order)]


@asynccontextmanager
async def reading(port: int) -> AsyncGenerator[Reader]:
    dial = DirectDial(read_url(f"redis://127.0.0.1:{port}"), QUICK)
    link = SteadyLink(dial, "test")
    reader = Reader(OrderStream(link, dial, "control"))
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        await nursery.start(reader.stream.run)
        nursery.start_soon(reader.run)
        yield reader
        nursery.cancel_scope.cancel()


async def test_orders(server: Valkey) -> None:
    """All nodes get all orders that are given after they have come, in order."""
    async with reading(server.port) as early:
        await early.stream.give(b"first")
        async with reading(server.port) as late:
            numbers = [await late.stream.give(b"%d" % number) for number in range(250)]
            await until(lambda: len(late.got) >= 250)
            await until(lambda: len(early.got) >= 251)
        assert numbers == list(range(2, 252))
        assert late.bodies == [b"%d" % number for number in range(250)]
        assert early.bodies == [b"first", *late.bodies]
        assert Missed() not in early.got + late.got


async def test_link_is_killed(server: Valkey) -> None:
    """However often its link is killed, a node gets each order once."""
    async with reading(server.port) as reader:
        for number in range(200):
            await reader.stream.give(b"%d" % number)
            if number % 40 == 20:
                for client in server.client.client_list():
                    if client["name"] == "control":
                        server.client.client_kill_filter(_id=client["id"])
        await until(lambda: len(reader.got) >= 200)
        assert reader.bodies == [b"%d" % number for number in range(200)]
        assert len(reader.got) == 200


async def test_network_stalls(server: Valkey) -> None:
    """A link that is dead is left in time, and nothing is missed."""
    async with (
        open_proxy("127.0.0.1", server.port) as proxy,
        reading(proxy.port) as reader,
        reading(server.port) as other,
    ):
        proxy.stall()
        await other.stream.give(b"x")
        await until(lambda: proxy.connections > 3)
        proxy.resume()
        await until(lambda: reader.bodies == [b"x"])


async def test_missed(own_server: Valkey) -> None:
    """Who has missed an order that is not kept any more is told so, and reads on."""
    async with (
        open_proxy("127.0.0.1", own_server.port) as proxy,
        reading(proxy.port) as reader,
        reading(own_server.port) as other,
    ):
        await other.stream.give(b"1")
        await until(lambda: reader.bodies == [b"1"])
        proxy.refuse()
        proxy.cut()
        await other.stream.give(b"2")
        await other.stream.give(b"3")
        own_server.client.xtrim(KEY, 1, approximate=False)
        proxy.accept()
        await until(lambda: reader.bodies[-1:] == [b"3"])
        assert reader.got == [Order(1, b"1"), Missed(), Order(3, b"3")]


async def test_stream_is_another_one(own_server: Valkey) -> None:
    """After everything was flushed a node reads the new stream, and is told."""
    async with reading(own_server.port) as reader:
        for number in range(3):
            await reader.stream.give(b"%d" % number)
        await until(lambda: len(reader.got) == 3)
        own_server.client.flushall()
        await reader.stream.give(b"new")
        await until(lambda: reader.bodies[-1:] == [b"new"])
        assert Missed() in reader.got


async def test_cancelled_reading_frees_the_server(server: Valkey) -> None:
    """A node that goes leaves no blocked client behind."""
    async with reading(server.port):
        await until(lambda: server.client.info("clients")["blocked_clients"] == 1)
    await until(lambda: server.client.info("clients")["blocked_clients"] == 0)
