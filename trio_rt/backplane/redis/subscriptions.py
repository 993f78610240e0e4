"""The channels that this node listens to, over a link that comes back by itself.

What is wanted and what the server has confirmed are two sets; one task makes the second like the
first, whatever happens to the link. So a subscription is never forgotten, a crowd of them leaves
in few commands, and the order in which they were asked for does not matter.
"""

from collections.abc import Iterable, Sequence
from typing import cast

import trio
from redis.exceptions import NoPermissionError, RedisError

from trio_rt.backplane.redis.arrivals import Arrival, Arrivals, Gap, Message
from trio_rt.backplane.redis.dial import Dial
from trio_rt.backplane.redis.link import Link
from trio_rt.backplane.redis.redial import Redial
from trio_rt.backplane.redis.resp import PushNotification
from trio_rt.errors import BackplaneDown, BackplaneRefused
from trio_rt.log import log
from trio_rt.schedule.bell import Bell


class _Confirmation:
    """What those wait for who want a channel."""

    __slots__ = ("_event", "_refusal")

    def __init__(self) -> None:
        self._event = trio.Event()
        self._refusal: str | None = None

    def give(self, refusal: str | None = None) -> None:
        self._refusal = refusal
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        if self._refusal is not None:
            raise BackplaneRefused(self._refusal)


class Subscriptions:
    """The subscribed channels of one node, and what arrives from them.

    Whenever the link is lost a `Gap` is put behind what has arrived, and another one, which says
    that it is over, as soon as all channels are subscribed again.

    Args:
        dial: where connections come from.
        name: what CLIENT LIST shows.
        ignored: a channel whose messages are only counted: the one of the probe.
        is_sharded: whether the channels are those of one slot of a cluster, which may move.
    """

    def __init__(
        self, dial: Dial, name: str, ignored: bytes = b"", *, is_sharded: bool = False
    ) -> None:
        settings = dial.settings
        self._settings = settings
        self._redial = Redial(dial, name)
        self._name = name
        self._verb = "SSUBSCRIBE" if is_sharded else "SUBSCRIBE"
        self._unverb = "SUNSUBSCRIBE" if is_sharded else "UNSUBSCRIBE"
        self._message = b"smessage" if is_sharded else b"message"
        self._ignored = ignored
        self._arrivals = Arrivals(settings.buffer_messages, settings.buffer_bytes)
        self._wanted: set[bytes] = set()
        self._active: set[bytes] = set()
        self._changed: set[bytes] = set()
        self._confirmations: dict[bytes, _Confirmation] = {}
        self._bell = Bell()
        self._link: Link | None = None
        self._coming: Link | None = None  # the same, also before all is subscribed on it
        self.heard_at = 0.0
        """When the last message arrived, on Trio's clock."""

    @property
    def is_up(self) -> bool:
        """Whether there is a link now, and all that was wanted when it came is subscribed."""
        return self._link is not None and self._link.ended is None

    @property
    def channels(self) -> frozenset[bytes]:
        """What is wanted."""
        return frozenset(self._wanted)

    @property
    def overflows(self) -> int:
        """How often all that waited was dropped because nobody took it."""
        return self._arrivals.overflows

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps the subscriptions up until it is cancelled. Started as soon as there is a link.

        Raises:
            BackplaneRefused: if the first connection is refused for good.
        """
        is_first = True
        while True:
            link = Link(await self._redial.connect(), self._settings, self)
            self._coming = link
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve, link, is_first)
                await link.run()
                nursery.cancel_scope.cancel()
            is_first = False
            self._lose(link.ended or "")

    def reset(self, why: str) -> None:
        """Breaks the link, so that another is made and all is subscribed anew."""
        if self._coming is not None:
            self._redial.give_up()
            self._coming.close(why)

    async def subscribe(self, *channels: bytes) -> None:
        """Subscribes, and waits until the server has confirmed it.

        While there is no link that is as long as there is none. Cancelled, the channels stay
        wanted: `unsubscribe` withdraws them.

        Raises:
            BackplaneRefused: if the server refuses a channel, as it does for want of rights.
        """
        awaited: list[_Confirmation] = []
        for channel in channels:
            self._wanted.add(channel)
            if channel not in self._active:
                self._changed.add(channel)
                awaited.append(self._confirmations.setdefault(channel, _Confirmation()))
        if not awaited:
            await trio.lowlevel.checkpoint()
            return
        self._bell.ring()
        for confirmation in awaited:
            await confirmation.wait()

    def subscribe_soon(self, *channels: bytes) -> None:
        """As `subscribe`, but does not wait."""
        for channel in channels:
            self._wanted.add(channel)
            self._changed.add(channel)
        self._bell.ring()

    def unsubscribe(self, *channels: bytes) -> None:
        """Messages of these channels need not arrive any more. Does not wait, and cannot fail."""
        for channel in channels:
            self._wanted.discard(channel)
            self._changed.add(channel)
        self._bell.ring()

    def receive_nowait(self) -> list[Arrival]:
        """Takes all that has arrived, in order: messages, and gaps where some may be missing."""
        return self._arrivals.take()

    async def wait(self) -> None:
        """Waits until something has arrived since this returned the last time. For one task."""
        await self._arrivals.wait()

    def put(self, pushes: list[PushNotification]) -> None:
        """Takes what the link got unasked. Called by the link."""
        self.heard_at = trio.current_time()
        ignored, message = self._ignored, self._message
        arrived = cast("list[list[bytes]]", pushes)
        self._arrivals.put(
            [
                Message(push[1], push[2])
                for push in arrived
                if push[0] == message and push[1] != ignored
            ]
        )
        if message == b"smessage" and any(push[0] == b"sunsubscribe" for push in arrived):
            self.reset("the slot has moved")

    async def _serve(self, link: Link, is_first: bool) -> None:
        """Makes what is subscribed on this link like what is wanted, until it breaks."""
        try:
            await self._subscribe(link, list(self._wanted))
            self._link = link
            if not is_first:
                self._arrivals.put_gap(Gap("the link is back", is_over=True))
            while True:
                await self._change(link)
                await self._bell.wait()
        except BackplaneDown as down:
            link.close(str(down))  # idempotent: it has ended, and says so itself

    async def _change(self, link: Link) -> None:
        while self._changed:
            changed = [self._changed.pop() for _ in range(min(len(self._changed), self._chunk))]
            wanted = [channel for channel in changed if channel in self._wanted]
            unwanted = [channel for channel in changed if channel not in self._wanted]
            await self._unsubscribe(link, unwanted)
            await self._subscribe(link, wanted)

    @property
    def _chunk(self) -> int:
        return self._settings.subscribe_chunk

    async def _subscribe(self, link: Link, channels: Sequence[bytes]) -> None:
        missing = [channel for channel in channels if channel not in self._active]
        for start in range(0, len(missing), self._chunk):
            await self._subscribe_chunk(link, missing[start : start + self._chunk])

    async def _subscribe_chunk(self, link: Link, channels: Sequence[bytes]) -> None:
        try:
            await self._order(link, self._verb, channels)
        except NoPermissionError as error:
            if len(channels) == 1:
                self._refuse(channels[0], error)
                return
            for channel in channels:  # the server does not say which one it refuses
                await self._subscribe_chunk(link, [channel])
        else:
            self._active.update(channels)
            self._confirm(channels)

    async def _unsubscribe(self, link: Link, channels: Sequence[bytes]) -> None:
        self._confirm(channels)
        active = [channel for channel in channels if channel in self._active]
        if active:
            # Not subscribed from here on: whoever wants one of them now has to wait.
            self._active.difference_update(active)
            try:
                await self._order(link, self._unverb, active)
            except NoPermissionError as error:  # their messages are for nobody
                log.error("%s: cannot unsubscribe: %s", self._name, error)

    @staticmethod
    async def _order(link: Link, verb: str, channels: Sequence[bytes]) -> None:
        """Subscribes or unsubscribes. A server that cannot do it now is left.

        Raises:
            redis.NoPermissionError: if it never will.
            BackplaneDown: if it is left, or the link breaks.
        """
        try:
            await link.subscribe(verb, channels)
        except NoPermissionError:
            raise
        except RedisError as error:  # it is another slot's or still loads, or a script runs there
            why = f"the server is not the right one now: {error}"
            link.close(why)
            raise BackplaneDown(why, outcome_unknown=False) from error

    def _confirm(self, channels: Iterable[bytes]) -> None:
        for channel in channels:
            confirmation = self._confirmations.pop(channel, None)
            if confirmation is not None:
                confirmation.give()

    def _refuse(self, channel: bytes, error: NoPermissionError) -> None:
        refusal = f"no right to subscribe to {channel.decode(errors='replace')}: {error}"
        log.error("%s: %s", self._name, refusal)
        self._wanted.discard(channel)
        confirmation = self._confirmations.pop(channel, None)
        if confirmation is not None:
            confirmation.give(refusal)

    def _lose(self, why: str) -> None:
        log.warning("%s: %s", self._name, why)
        self._redial.last_error = why
        self._link = None
        self._active.clear()
        self._arrivals.put_gap(Gap(why, is_over=False))
