"""What this node hears of the other servers, over a link that comes back by itself.

Whole namespaces are listened to: by a pattern for their events, by channels for requests and
responses. Each request channel is subscribed exactly once, as subscribers are what is counted.
"""

import enum
from typing import cast

import attrs
import trio
from redis.exceptions import RedisError

from trio_rt.backplane.redis.arrivals import Arrivals, Gap, Message
from trio_rt.backplane.redis.dial import Dial
from trio_rt.backplane.redis.link import Link
from trio_rt.backplane.redis.redial import Redial
from trio_rt.backplane.redis.resp import PushNotification
from trio_rt.backplane.socketio_redis.names import Names
from trio_rt.errors import BackplaneDown, BackplaneRefused
from trio_rt.log import log
from trio_rt.schedule.bell import Bell


class Kind(enum.Enum):
    """What a message is."""

    BROADCAST = "broadcast"
    REQUEST = "request"
    RESPONSE = "response"


@attrs.frozen
class Heard:
    """One message of another server."""

    kind: Kind
    namespace: str
    data: bytes


class Listening:
    """The namespaces that this node listens to.

    Args:
        dial: where connections come from.
        names: how channels are called.
        uid: this server's.
    """

    def __init__(self, dial: Dial, names: Names, uid: str) -> None:
        self._settings = dial.settings
        self._name = f"trio_rt-{uid}-socketio"
        self._redial = Redial(dial, self._name)
        self._names = names
        self._uid = uid
        self._arrivals = Arrivals(self._settings.buffer_messages, self._settings.buffer_bytes)
        self._wanted: dict[str, None] = {}
        self._active: set[str] = set()
        self._meaning: dict[bytes, tuple[Kind, str]] = {}
        self._bell = Bell()
        self._link: Link | None = None
        self._was_whole = False
        self._refusal: str | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all that is wanted is heard."""
        is_up = self._link is not None and self._link.ended is None
        return is_up and self._active == self._wanted.keys()

    def hears(self, namespace: str) -> bool:
        """Whether a namespace is listened to now: then this node is counted there."""
        return namespace in self._active

    def begin(self, namespace: str) -> None:
        """Listens to a namespace as soon as it can."""
        self._wanted[namespace] = None
        self._meaning[self._names.broadcasts(namespace)] = (Kind.BROADCAST, namespace)
        requests, *responses = self._channels(namespace)
        self._meaning[requests] = (Kind.REQUEST, namespace)
        for channel in responses:
            self._meaning[channel] = (Kind.RESPONSE, namespace)
        self._bell.ring()

    def end(self, namespace: str) -> None:
        """Listens to a namespace no more."""
        self._wanted.pop(namespace, None)
        for name in (self._names.broadcasts(namespace), *self._channels(namespace)):
            self._meaning.pop(name, None)
        self._bell.ring()

    async def run(self) -> None:
        """Listens until it is cancelled.

        Raises:
            BackplaneRefused: if the first connection, or what it listens to, is refused for good.
        """
        while True:
            link = Link(await self._redial.connect(), self._settings, self)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve, link)
                await link.run()
                nursery.cancel_scope.cancel()
            if self._refusal is not None and not self._was_whole:
                raise BackplaneRefused(self._refusal)
            self._lose(link.ended or "")

    def receive_nowait(self) -> list[Heard]:
        """Takes all that was heard, in order. What is lost is logged: nobody keeps it."""
        heard: list[Heard] = []
        for arrival in self._arrivals.take():
            if isinstance(arrival, Gap):
                log.error("messages of other servers are lost: %s", arrival.why)
            elif arrival.channel in self._meaning:
                kind, namespace = self._meaning[arrival.channel]
                heard.append(Heard(kind, namespace, arrival.data))
        return heard

    async def wait(self) -> None:
        """Waits until something was heard since this returned the last time. For one task."""
        await self._arrivals.wait()

    def put(self, pushes: list[PushNotification]) -> None:
        """Takes what the link got unasked. Called by the link."""
        found: list[Message] = []
        for push in cast("list[list[bytes]]", pushes):
            if push[0] == b"pmessage":  # with the pattern, which says for whom it is
                found.append(Message(push[1], push[3]))
            elif push[0] == b"message":
                found.append(Message(push[1], push[2]))
        self._arrivals.put(found)

    async def _serve(self, link: Link) -> None:
        """Makes what is subscribed on this link like what is wanted, until it breaks."""
        try:
            self._link = link
            while True:
                await self._change(link)
                await self._bell.wait()
        except BackplaneDown as down:
            link.close(str(down))  # idempotent: it has ended, and says so itself
        except RedisError as error:
            self._refusal = f"no right to listen to other servers: {error}"
            link.close(self._refusal)

    async def _change(self, link: Link) -> None:
        while unwanted := self._active - self._wanted.keys():
            namespace = unwanted.pop()
            self._active.discard(namespace)
            await link.subscribe("PUNSUBSCRIBE", [self._names.broadcasts(namespace)])
            await link.subscribe("UNSUBSCRIBE", self._channels(namespace))
        while wanted := [name for name in self._wanted if name not in self._active]:
            namespace = wanted[0]
            # Events first: whoever counts us may rely on it that we hear them.
            await link.subscribe("PSUBSCRIBE", [self._names.broadcasts(namespace)])
            await link.subscribe("SUBSCRIBE", self._channels(namespace))
            self._active.add(namespace)
        self._was_whole = True

    def _channels(self, namespace: str) -> list[bytes]:
        names = self._names
        return [
            names.requests(namespace).encode(),
            names.responses(namespace).encode(),
            names.own_responses(namespace, self._uid).encode(),
        ]

    def _lose(self, why: str) -> None:
        log.warning("%s: %s. Until it is back, events of other servers are missed", self._name, why)
        self._redial.last_error = why
        self._link = None
        self._active.clear()
