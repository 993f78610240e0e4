"""Orders that no node may miss: a stream that each one reads on, from where it was.

Unlike what is published, an order waits for a node that is away for a while. It is read over a link
of its own, because reading blocks in the server.
"""

from typing import Any

import attrs
import trio
from redis.exceptions import RedisError

from trio_rt.backplane.redis.dial import Dial
from trio_rt.backplane.redis.keys import Keys
from trio_rt.backplane.redis.link import BlockingLink
from trio_rt.backplane.redis.redial import Redial
from trio_rt.backplane.redis.scripts import load
from trio_rt.backplane.redis.steady import CommandLink
from trio_rt.errors import BackplaneDown
from trio_rt.log import log

ORDERS_KEPT = 10_000
"""At least. A node that is away for longer than that many is told that it missed some."""

BATCH = 100
"""Orders that are read at once."""

BLOCK = 1.0
"""Seconds that one reading waits in the server: below the time in which it has to answer."""


@attrs.frozen
class Order:
    """One order."""

    number: int
    body: bytes


@attrs.frozen
class Missed:
    """Orders are not kept any more that this node has not read: it has to look for itself."""


class OrderStream:
    """The orders of a cluster.

    Args:
        link: carries commands, new orders among them.
        dial: where the link for reading comes from.
        name: what CLIENT LIST shows.
        keys: how things are named.
    """

    def __init__(self, link: CommandLink, dial: Dial, name: str, keys: Keys | None = None) -> None:
        keys = keys or Keys()
        self._link = link
        self._dial = dial
        self._redial = Redial(dial, name)
        self._name = name
        self._key = keys.of("ctl")
        self._counter = keys.of("ctln")
        self._clock = keys.clock()
        self._id = b""
        self._number = 0
        self._send, self._receive = trio.open_memory_channel[list[Order | Missed]](1)

    async def give(self, body: bytes) -> int:
        """Gives an order to all nodes, this one included.

        Returns:
            Its number.

        Raises:
            BackplaneDown: if it cannot be given in time, or may have been given.
        """
        number: int = await load("clock", "order").call(
            self._link, [self._key, self._counter, self._clock], body, ORDERS_KEPT
        )
        return number

    async def receive(self) -> list[Order | Missed]:
        """Waits for orders. Those that are not taken wait in Redis."""
        return await self._receive.receive()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Reads until it is cancelled. Started once it knows from where: all later ones arrive.

        Raises:
            BackplaneRefused: if the first connection is refused for good.
        """
        while True:
            link = BlockingLink(await self._redial.connect(), self._dial.settings)
            try:
                await self._find_place(link)
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                while True:
                    await self._read(link)
            except (BackplaneDown, RedisError) as error:
                log.warning("%s: %s", self._name, error)
                self._redial.last_error = str(error)
            finally:
                await link.aclose()

    async def _find_place(self, link: BlockingLink) -> None:
        """Where to read on; from the end the first time, or if the stream is another one."""
        newest: list[Any] = await link.call("XREVRANGE", self._key, "+", "-", "COUNT", 1)
        place, number = (newest[0][0], int(newest[0][1][1])) if newest else (b"0-0", 0)
        if not self._id:
            self._id, self._number = place, number
        elif _read_id(place) < _read_id(self._id):
            self._id, self._number = b"0-0", 0
            await self._send.send([Missed()])

    async def _read(self, link: BlockingLink) -> None:
        reply: dict[bytes, list[Any]] | None = await link.call(
            "XREAD", "COUNT", BATCH, "BLOCK", round(BLOCK * 1000), "STREAMS", self._key, self._id,
            blocks=BLOCK,
        )  # fmt: skip
        if not reply:
            return
        orders: list[Order | Missed] = []
        for place, (_n, number, _d, body) in reply[self._key.encode()]:
            if int(number) != self._number + 1:
                orders.append(Missed())
            self._id, self._number = place, int(number)
            orders.append(Order(self._number, body))
        await self._send.send(orders)


def _read_id(text: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = text.partition(b"-")
    return int(milliseconds), int(sequence)
