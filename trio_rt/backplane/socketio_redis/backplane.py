"""The backplane of a cluster with Socket.IO's own servers in it: its classic Redis adapter.

    run
    ├── links       commands, subscriptions, what is published        (shielded, end last)
    ├── hearing     what other servers say, to whom it is for
    └── sweeping    what is too old in this node's history

That format has no order of all events and keeps none of them. So a node delivers its own events
at once, and what it hears as it comes; a session comes back on its own node only, with what that
node has had; what is published while Redis is away stays here. Presence and rooms with a life
of their own are this node's alone.
"""

import ssl
from collections.abc import Iterable

import trio

from trio_rt.backplane.base import Answers, Envelope, Position, Question
from trio_rt.backplane.memory import MemoryBackplane
from trio_rt.backplane.redis.dial import Dial
from trio_rt.backplane.redis.dials import make_dial
from trio_rt.backplane.redis.settings import RedisSettings
from trio_rt.backplane.redis.steady import SteadyLink
from trio_rt.backplane.socketio_redis.answering import Answering, Asked
from trio_rt.backplane.socketio_redis.asking import Asking
from trio_rt.backplane.socketio_redis.listening import Heard, Kind, Listening
from trio_rt.backplane.socketio_redis.names import Names
from trio_rt.backplane.socketio_redis.sending import Sending
from trio_rt.codec import node_cluster
from trio_rt.config import Config
from trio_rt.errors import MisuseError, RemoteProtocolError
from trio_rt.log import log, printable
from trio_rt.schedule.bell import Bell

AT_ONCE = 64
"""Messages that are taken in without letting others run."""

MOVE_TIMEOUT = 1.0
"""Seconds that sockets may take to join or leave rooms before what comes behind is delivered."""

LEAVE_TIMEOUT = 1.0
"""Seconds to publish what waits, at the end."""


class SocketIORedisBackplane(MemoryBackplane):
    """Joins the servers of a cluster that use `@socket.io/redis-adapter`, the classic one.

    Make one with `from_url`.

    Args:
        dial: where connections come from.
        key: what all channels begin with.
    """

    def __init__(self, dial: Dial, *, key: str = "socket.io") -> None:
        if not key:
            raise MisuseError('the key of a cluster is its adapters\' `key`, such as "socket.io"')
        self._dial = dial
        self._names = Names(key)
        super().__init__()

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        key: str = "socket.io",
        settings: RedisSettings | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> "SocketIORedisBackplane":
        """A backplane on the Redis or Valkey at a URL.

        Args:
            url: `redis://[user:password@]host[:port]`, `rediss://...`, `unix:///path` or
                `redis+sentinel://host1:port,host2:port/service`. Channels are the same in all
                databases.
            key: the `key` option of the cluster's adapters.
            settings: limits and intervals of the links.
            tls: used by rediss:// instead of the system's authorities.

        Raises:
            MisuseError: if it is no such URL.
        """
        return cls(make_dial(url, settings, tls=tls), key=key)

    def open(self, config: Config) -> None:
        """See `Backplane`."""
        super().open(config)
        uid = self.node
        self._link = SteadyLink(self._dial, f"trio_rt-{uid}-commands")
        self._listening = Listening(self._dial, self._names, uid)
        self._sending = Sending(self._link)
        self._asking = Asking(self._link, self._sending, self._listening, self._names, uid)
        self._answering = Answering(self._sending, self._names, uid)
        self._bell = Bell()
        self.ignored = 0
        """Messages that were not understood."""

    @property
    def is_ready(self) -> bool:
        """Whether this node hears the others, and reaches them."""
        return self._link.is_up and self._listening.is_whole

    @property
    def dropped(self) -> int:
        """Messages that did not leave this node, or may not have."""
        return self._sending.dropped

    async def run(self) -> None:
        """See `Backplane`.

        Raises:
            BackplaneRefused: if Redis does not let us in.
        """
        async with trio.open_nursery() as nursery:
            links = await nursery.start(self._run_links)
            try:
                async with trio.open_nursery() as work:
                    work.start_soon(super().run)
                    work.start_soon(self._hear)
            finally:
                with trio.move_on_after(LEAVE_TIMEOUT, shield=True):
                    await self._sending.finish()
                links.cancel()

    async def _run_links(self, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Shielded: the last events of this node have to leave."""
        with trio.CancelScope(shield=True) as scope:
            task_status.started(scope)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._link.run)
                nursery.start_soon(self._listening.run)
                nursery.start_soon(self._sending.run)

    # Namespaces

    def begin_namespace(self, namespace: str) -> None:
        """See `Backplane`."""
        self._listening.begin(namespace)

    def end_namespace(self, namespace: str) -> None:
        """See `Backplane`."""
        self._listening.end(namespace)

    # Events

    async def publish(self, envelope: Envelope) -> Position:
        """See `Backplane`. It is this node's at once; the others get it if Redis is there."""
        await self._sending.wait_room()
        position = await super().publish(envelope)
        self._publish(envelope)
        return position

    def publish_nowait(self, envelope: Envelope) -> None:
        """See `Backplane`."""
        super().publish_nowait(envelope)
        self._publish(envelope)

    def _publish(self, envelope: Envelope) -> None:
        rooms = envelope.rooms
        session = self._sessions.get(rooms[0]) if len(rooms) == 1 else None
        if session is None or session.namespace != envelope.namespace:  # else it is for ours alone
            channel = self._names.broadcast(envelope.namespace, rooms)
            # While Redis is away it is dropped, whatever it would be.
            is_up = self._link.is_up
            data = node_cluster.encode_broadcast(self.node, envelope) if is_up else b""
            self._sending.publish(channel, data)

    async def wait(self) -> None:
        """See `Backplane`."""
        await self._bell.wait()

    async def _hear(self) -> None:
        """Takes in what other servers say, until it is cancelled."""
        while True:
            await self._listening.wait()
            heard = self._listening.receive_nowait()
            for start in range(0, len(heard), AT_ONCE):
                for message in heard[start : start + AT_ONCE]:
                    await self._take(message)
                self._bell.ring()
                await trio.lowlevel.checkpoint()

    async def _take(self, heard: Heard) -> None:
        try:
            if heard.kind is Kind.BROADCAST:
                await self._take_broadcast(heard)
            elif heard.kind is Kind.RESPONSE:
                self._asking.take(heard.data)
            else:
                asked = self._answering.take(heard.namespace, heard.data)
                if asked is not None:
                    await self._take_question(asked)
        except RemoteProtocolError as error:
            self.ignored += 1
            if self.ignored == 1:
                log.error(
                    "a message of another server is ignored, and so are others like it: %s",
                    printable(str(error)),
                )
            else:
                log.debug("a message of another server is ignored: %s", printable(str(error)))

    async def _take_question(self, asked: Asked) -> None:
        """Lets a question be answered. Who was made to join hears what comes behind that."""
        self._arrived.append(asked)
        if asked.is_move:
            self._bell.ring()
            with trio.move_on_after(MOVE_TIMEOUT):
                await asked.done.wait()

    async def _take_broadcast(self, heard: Heard) -> None:
        uid, envelope = node_cluster.decode_broadcast(heard.data)
        # What this node says it has had; another namespace's is heard by its own pattern.
        if uid == self.node or envelope.namespace != heard.namespace:
            return
        if envelope.is_volatile:
            super().publish_nowait(envelope)
        else:
            await super().publish(envelope)

    # Other servers

    async def ask(
        self, body: bytes, *, nodes: Iterable[str] | None = None, timeout: float
    ) -> Answers:
        """See `Nodes`. Nobody else is known by name."""
        if nodes is not None:
            return await super().ask(body, nodes=nodes, timeout=timeout)
        return await self._asking.ask(body, timeout)

    def answer(self, question: Question, body: bytes) -> None:
        """See `Nodes`."""
        if isinstance(question, Asked):
            question.done.set()
            self._answering.answer(question, body)
