"""One connection to a server that any number of tasks share.

Commands that are given in the same step of the scheduler leave in one write. Three tasks serve a
link: one writes, one reads, one sees to it that a dead link is noticed.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import trio

from trio_rt.backplane.redis.dial import Dial, exchange
from trio_rt.backplane.redis.pipeline import Pipeline, Reply
from trio_rt.backplane.redis.resp import ProtocolError, PushNotification, Word, pack
from trio_rt.backplane.redis.settings import RedisSettings
from trio_rt.errors import BackplaneDown, MisuseError
from trio_rt.schedule.bell import Bell

_PING = pack(("PING",))

# fmt: off
_BLOCKING = frozenset((
    "BLPOP", "BRPOP", "BLMOVE", "BLMPOP", "BRPOPLPUSH", "BZPOPMIN", "BZPOPMAX", "BZMPOP",
    "WAIT", "WAITAOF",
))
"""Wait in the server, and would hold up all commands behind them."""

_CHANGING = frozenset((
    "ASKING", "AUTH", "DISCARD", "EXEC", "HELLO", "MONITOR", "MULTI", "PSUBSCRIBE", "PSYNC",
    "PUNSUBSCRIBE", "QUIT", "READONLY", "READWRITE", "RESET", "SELECT", "SSUBSCRIBE",
    "SUBSCRIBE", "SUNSUBSCRIBE", "SYNC", "UNSUBSCRIBE", "UNWATCH", "WATCH",
))
"""Change what the connection means for all who share it."""
# fmt: on

_HARMLESS = frozenset(("EVALSHA", "PUBLISH", "SPUBLISH", "GET", "HGET", "HMGET", "XADD", "ECHO"))
"""The commands of the hot path, which need no look at their words."""


class Inlet(Protocol):
    """Where the messages of subscribed channels go."""

    def put(self, pushes: list[PushNotification]) -> None:
        """Takes a batch of what the server sent without being asked. Never waits."""


class Link:
    """One connection that is shared.

    Args:
        stream: connected, and ready for commands in RESP3; owned from here on.
        settings: its limits.
        inlet: takes messages of subscribed channels; without one they are ignored.
    """

    def __init__(
        self, stream: trio.abc.Stream, settings: RedisSettings, inlet: Inlet | None = None
    ) -> None:
        self._stream = stream
        self._settings = settings
        self._inlet = inlet
        self._pipeline = Pipeline(settings.max_pending, settings.max_pending_bytes)
        self._leaving = Bell()
        self._room = trio.lowlevel.ParkingLot()
        self._scope = trio.CancelScope()
        self._heard_at = trio.current_time()
        self.ended: str | None = None
        """Why it has ended, as a sentence; None while it has not."""

    async def run(self) -> None:
        """Serves the link until it breaks, or is closed or cancelled. Called once."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._until_broken, self._write)
                    nursery.start_soon(self._until_broken, self._read)
                    nursery.start_soon(self._keep)
        finally:
            self.close("the link was closed")
            await trio.aclose_forcefully(self._stream)

    def close(self, why: str = "the link was closed") -> None:
        """Ends the link: commands without a reply fail. Idempotent."""
        if self.ended is None:
            self.ended = why
            self._pipeline.fail(why)
            self._room.unpark_all()
            self._scope.cancel()

    async def call(self, *words: Word) -> Any:
        """Gives a command to the server, and waits for its reply.

        Waits before that while there are too many commands under way. Cancelled, it drops the
        reply; the command is carried out all the same, unless it has not left yet.

        Raises:
            redis.RedisError: if the server answers with an error.
            BackplaneDown: if the link is broken, or breaks before the reply.
            MisuseError: if the command would hold up, or change the link for, all who share it.
        """
        check_shared(words)
        data = pack(words)
        if self._room or not self._pipeline.has_room(len(data)):
            await self._wait_room(len(data))
        return await self._add(data).wait()

    async def call_all(self, commands: Sequence[tuple[Word, ...]]) -> list[Any]:
        """Gives several commands to the server that stay together, and waits for all replies.

        Returns:
            A reply for each command. Errors of the server are values.

        Raises:
            BackplaneDown: if the link is broken, or breaks before the last reply. Some commands
                may have been carried out.
            MisuseError: see `call`.
        """
        if not commands:
            await trio.lowlevel.checkpoint()
            return []
        for words in commands:
            check_shared(words)
        packed = [pack(words) for words in commands]
        size = sum(map(len, packed))
        if self._room or not self._pipeline.has_room(size):
            await self._wait_room(size)
        return await _wait_all([self._add(data) for data in packed])

    async def ask(self, *words: Word) -> Any:
        """As `call`, for a command that another server of the cluster sends here (ASK).

        Raises:
            redis.RedisError, BackplaneDown, MisuseError: see `call`.
        """
        check_shared(words)
        packed = [pack(("ASKING",)), pack(words)]  # it counts for the very next command
        size = sum(map(len, packed))
        if self._room or not self._pipeline.has_room(size):
            await self._wait_room(size)
        _, answer = await _wait_all([self._add(data) for data in packed])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def subscribe(self, verb: str, channels: Sequence[bytes]) -> None:
        """Subscribes, or unsubscribes, and waits until the server has confirmed each channel.

        Args:
            verb: SUBSCRIBE, UNSUBSCRIBE, SSUBSCRIBE or SUNSUBSCRIBE.
            channels: at least one.

        Raises:
            redis.RedisError: if the server refuses, for whichever channel.
            BackplaneDown: see `call`.
        """
        data = pack((verb, *channels))
        if self._room or not self._pipeline.has_room(len(data)):
            await self._wait_room(len(data))
        await self._add(data, verb.lower().encode("ascii"), len(channels)).wait()

    def _add(self, data: bytes, kind: bytes = b"", confirmations: int = 0) -> Reply:
        if self.ended is not None:
            raise BackplaneDown(self.ended, outcome_unknown=False)
        reply = self._pipeline.add(data, trio.current_time(), kind, confirmations)
        self._leaving.ring()
        return reply

    async def _wait_room(self, size_bytes: int) -> None:
        await self._room.park()
        while self.ended is None and not self._pipeline.has_room(size_bytes):
            await self._room.park()

    async def _write(self) -> None:
        while True:
            await self._leaving.wait()
            data = self._pipeline.take()
            if self._room:
                self._let_in()
            if data:
                await self._stream.send_all(data)

    async def _read(self) -> None:
        while data := await self._stream.receive_some():
            self._heard_at = now = trio.current_time()
            pushes = self._pipeline.feed(bytes(data), now)
            if pushes and self._inlet is not None:
                self._inlet.put(pushes)
            if self._room:
                self._let_in()
        self.close("the server closed the link")

    def _let_in(self) -> None:
        """Wakes as many of those who wait for room as there are places; each looks again."""
        self._room.unpark(count=max(0, self._settings.max_pending - len(self._pipeline)))

    async def _until_broken(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (trio.BrokenResourceError, ProtocolError) as error:
            why = error.__cause__ or error
            self.close(f"the link broke: {str(why) or repr(why)}")

    async def _keep(self) -> None:
        """Ends the link if a reply is late, and asks for one when all is quiet."""
        while True:
            now = trio.current_time()
            due = self._due()
            if due is None:
                due = self._heard_at + self._settings.ping_interval
                if due <= now:
                    self._add(_PING)
                    continue
            elif due <= now:
                # If this process stood still, the reply may be here: let the reader look first.
                await trio.lowlevel.checkpoint()
                if self._due() == due:
                    self.close(f"no reply within {self._settings.reply_timeout:g} s")
                    return
            # Not longer: as soon as the replies are there, silence counts from then on.
            await trio.sleep_until(min(due, now + self._settings.ping_interval))

    def _due(self) -> float | None:
        """When the server has to have said something more; None if no reply is to come."""
        timeout = self._settings.reply_timeout
        due = self._pipeline.due(timeout)
        return None if due is None else max(due, self._heard_at + timeout)


async def _wait_all(replies: Sequence[Reply]) -> list[Any]:
    """The answers of several commands that were given in this order."""
    try:
        await replies[-1].settle()  # answered in order: after the last, all others are there
    except trio.Cancelled:
        for reply in replies:
            reply.is_dropped = True
        raise
    answers = [reply.take() for reply in replies]
    for answer in answers:  # those that may have been carried out come before the others
        if isinstance(answer, BackplaneDown):
            raise answer
    return answers


def check_shared(words: Sequence[Word]) -> None:
    """Refuses what one task may not do to a link that others use as well.

    Raises:
        MisuseError: if the command would hold up, or change the link for, all who share it.
    """
    name = words[0]
    if name in _HARMLESS:  # spares the usual command the rest
        return
    name, *options = [_as_text(word) for word in words]
    if "STREAMS" in options:
        options = options[: options.index("STREAMS")]
    turns_replies_off = " ".join([name, *options]).startswith("CLIENT REPLY")
    waits = name in ("XREAD", "XREADGROUP") and "BLOCK" in options
    if turns_replies_off or waits or name in _BLOCKING | _CHANGING:
        raise MisuseError(
            f"{name} would hold up or change the link that others share. Give it a link of its "
            "own: async with open_blocking(dial, name) as link: await link.call(...)"
        )


def _as_text(word: Word) -> str:
    if isinstance(word, bytes | memoryview):
        return bytes(word).decode("latin-1").upper()
    return str(word).upper()


class BlockingLink:
    """One connection for commands that wait in the server, such as XREAD BLOCK.

    It serves one task, one command at a time, and needs no task of its own. Cancelling a command
    closes it, because only that ends the command in the server; so does anything unexpected.

    Args:
        stream: connected, and ready for commands in RESP3; owned from here on.
        settings: its limits.
    """

    def __init__(self, stream: trio.abc.Stream, settings: RedisSettings) -> None:
        self._stream = stream
        self._settings = settings
        self._is_busy = False
        self.is_open = True
        """Whether another command can be given."""

    async def call(self, *words: Word, blocks: float = 0.0) -> Any:
        """Gives a command to the server, and waits for its reply.

        Args:
            words: the command.
            blocks: seconds that the server itself may wait, beyond which a reply is late.

        Raises:
            redis.RedisError: if the server answers with an error.
            BackplaneDown: if the link is broken, or breaks.
            MisuseError: if another task waits for a reply already.
        """
        if self._is_busy:
            raise MisuseError("a blocking link serves one task: open another with open_blocking")
        if not self.is_open:
            await trio.lowlevel.checkpoint()
            raise BackplaneDown("the blocking link was closed", outcome_unknown=False)
        self._is_busy = True
        self.is_open = False
        try:
            with trio.fail_after(blocks + self._settings.reply_timeout):
                (reply,) = await exchange(self._stream, words)
            self.is_open = True
        except (trio.BrokenResourceError, trio.TooSlowError) as error:
            why = str(error) or "no reply in time"
            raise BackplaneDown(f"the blocking link: {why}", outcome_unknown=True) from error
        finally:
            self._is_busy = False
            if not self.is_open:
                await trio.aclose_forcefully(self._stream)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def aclose(self) -> None:
        """Closes it at once."""
        self.is_open = False
        await trio.aclose_forcefully(self._stream)


@asynccontextmanager
async def open_link(dial: Dial, name: str, inlet: Inlet | None = None) -> AsyncGenerator[Link]:
    """Connects, and serves a link for one block.

    Args:
        dial: where the connection comes from.
        name: what CLIENT LIST shows.
        inlet: see `Link`.

    Raises:
        BackplaneDown, BackplaneRefused: if there is no connection.
    """
    link = Link(await dial.connect(name), dial.settings, inlet)
    error: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        try:
            yield link
        except Exception as raised:  # raised below: not as a group of the nursery's
            error = raised
        link.close()
    if error is not None:
        raise error


@asynccontextmanager
async def open_blocking(dial: Dial, name: str) -> AsyncGenerator[BlockingLink]:
    """Connects, and gives a link for commands that block for one block.

    Args:
        dial: where the connection comes from.
        name: what CLIENT LIST shows.

    Raises:
        BackplaneDown, BackplaneRefused: if there is no connection.
    """
    link = BlockingLink(await dial.connect(name), dial.settings)
    try:
        yield link
    finally:
        await link.aclose()
