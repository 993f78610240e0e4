"""Questions to other nodes, until all of them have answered or are gone."""

import secrets
from collections.abc import Iterable
from typing import Any

import attrs
import trio
from redis.exceptions import RedisError

from trio_rt.backplane.base import Answers
from trio_rt.backplane.redis.frames import Answered, Asked, encode
from trio_rt.backplane.redis.names import NodeKeys
from trio_rt.backplane.redis.steady import CommandLink
from trio_rt.errors import BackplaneDown
from trio_rt.log import log

MAX_DIRECT = 4
"""Nodes that are asked each in its own channel; more are asked in the one that all of them read."""

LOOK_AGAIN = 0.5
"""Seconds until those who have not answered are looked for."""


@attrs.define(eq=False)
class _Open:
    missing: set[str]
    bodies: dict[str, bytes] = attrs.field(factory=dict[str, bytes])
    done: trio.Event = attrs.field(factory=trio.Event)

    def settle(self, node: str) -> None:
        self.missing.discard(node)
        if not self.missing:
            self.done.set()


class Asking:
    """The questions of this node.

    Args:
        link: carries them.
        keys: how channels are named.
    """

    def __init__(self, link: CommandLink, keys: NodeKeys) -> None:
        self._link = link
        self._keys = keys
        self._open: dict[str, _Open] = {}

    async def ask(
        self,
        body: bytes,
        *,
        node: str,
        alive: frozenset[str],
        nodes: Iterable[str] | None,
        timeout: float,
    ) -> Answers:
        """See `Nodes.ask`.

        Args:
            body: the question.
            node: who asks.
            alive: the nodes that are there.
            nodes: whom to ask; None for all others.
            timeout: seconds.
        """
        asked = (alive if nodes is None else frozenset(nodes)) - {node}
        gone = asked - alive
        if asked == gone:
            await trio.lowlevel.checkpoint()
            return Answers({}, gone)
        id = secrets.token_urlsafe(9)
        question = self._open[id] = _Open(set(asked - gone))
        left: set[str] = set()
        try:
            with trio.move_on_after(timeout):
                message = encode(Asked(id, node, () if nodes is None else tuple(asked), body))
                for one in await self._publish(b"q" + message, asked - gone, to_all=nodes is None):
                    question.settle(one)
                await self._wait(question)
        except (BackplaneDown, RedisError) as error:
            log.warning("other nodes cannot be asked: %s", error)
        finally:
            del self._open[id]
            left = set(asked) - set(question.bodies)
        return Answers(question.bodies, frozenset(left))

    def take(self, answer: Answered) -> None:
        """A node has answered."""
        question = self._open.get(answer.id)
        if question is not None and answer.node in question.missing:
            question.bodies[answer.node] = answer.body
            question.settle(answer.node)

    def lose(self, node: str) -> None:
        """A node is gone, and answers nothing any more."""
        for question in self._open.values():
            question.settle(node)

    async def _wait(self, question: _Open) -> None:
        """Waits for the answers of all who are there: those who fall meanwhile answer nothing."""
        while not question.done.is_set():
            with trio.move_on_after(LOOK_AGAIN):
                await question.done.wait()
                return
            channels = {self._keys.node(node): node for node in question.missing}
            (numbers,) = await self._link.call_all(
                [(*self._keys.count, *channels)], may_repeat=True
            )
            for channel, number in _read_numbers(numbers).items():
                if not number:
                    question.settle(channels[channel])

    async def _publish(self, message: bytes, nodes: frozenset[str], *, to_all: bool) -> list[str]:
        """Publishes a question. Gives the nodes that do not listen: they are dead, or cut off."""
        asked = sorted(nodes)
        channels = [self._keys.node(node) for node in asked]
        if to_all or len(nodes) > MAX_DIRECT:
            published, numbers = await self._link.call_all(
                [
                    (self._keys.publish, self._keys.everyone(), message),
                    (*self._keys.count, *channels),
                ]
            )
            if isinstance(published, Exception):
                raise published
            listeners = _read_numbers(numbers)
        else:
            replies = await self._link.call_all(
                [(self._keys.publish, channel, message) for channel in channels]
            )
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
            listeners = dict(zip(channels, replies, strict=True))
        return [node for node in asked if not listeners.get(self._keys.node(node), 1)]


def _read_numbers(reply: list[Any] | RedisError) -> dict[str, int]:
    """How many listen to each channel; nothing where we have no right to know."""
    if isinstance(reply, RedisError):
        return {}
    return {
        bytes(name).decode(): int(reply[at + 1]) for at, name in enumerate(reply) if at % 2 == 0
    }
