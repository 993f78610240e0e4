"""A link for commands that comes back by itself when it breaks."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import trio
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    ReadOnlyError,
)

from trio_rt.backplane.redis.dial import Dial
from trio_rt.backplane.redis.link import Link
from trio_rt.backplane.redis.redial import Redial
from trio_rt.backplane.redis.resp import Word
from trio_rt.backplane.redis.waiting import Waiting
from trio_rt.errors import BackplaneDown
from trio_rt.log import log

T = TypeVar("T")

ELSEWHERE = (BusyLoadingError, ClusterDownError, MasterDownError, MovedError, ReadOnlyError)
"""The server has done nothing, because it is not the right one, or not yet: ask for another."""


class Caller(Protocol):
    """What carries commands to a server: a `Link`, or a `SteadyLink`."""

    async def call(self, *words: Word) -> Any:
        """Gives a command to the server, and waits for its reply."""

    async def call_all(self, commands: Sequence[tuple[Word, ...]]) -> list[Any]:
        """Gives several commands to the server, and waits for their replies."""
        ...


class CommandLink(Caller, Protocol):
    """What carries commands whatever happens to single connections."""

    @property
    def is_up(self) -> bool:
        """Whether a command would leave at once."""
        ...

    def reset(self, why: str) -> None:
        """Makes the connection anew: the server is not the right one any more."""

    async def call(self, *words: Word, may_repeat: bool = False) -> Any:
        """See `SteadyLink.call`."""

    async def call_all(
        self, commands: Sequence[tuple[Word, ...]], *, may_repeat: bool = False
    ) -> list[Any]:
        """See `SteadyLink.call_all`."""
        ...

    async def everywhere(self, *words: Word) -> list[Any]:
        """Gives a command that does no harm to each server that has keys."""
        ...


class SteadyLink:
    """A link that is shared by any number of tasks, and made anew whenever it breaks.

    A command that certainly was not carried out is given again, for `wait_timeout` seconds. One
    that may have been carried out is given again only if the caller says that this does no harm.

    Args:
        dial: where connections come from.
        name: what CLIENT LIST shows.
    """

    def __init__(self, dial: Dial, name: str) -> None:
        self._settings = dial.settings
        self._redial = Redial(dial, name)
        self._name = name
        self._link: Link | None = None
        self._changed = trio.Event()
        self._is_closed = False
        self._waiting = Waiting(dial.settings, name)

    @property
    def is_up(self) -> bool:
        """Whether there is a link now that is not known to be broken."""
        return self._link is not None and self._link.ended is None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps a link up until it is cancelled. Started as soon as there is one. Called once.

        Raises:
            BackplaneRefused: if the first connection is refused for good.
        """
        try:
            while True:
                link = Link(await self._redial.connect(), self._settings)
                self._link = link
                self._tell()
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await link.run()
                self._redial.last_error = link.ended or ""
                log.warning("%s: %s", self._name, link.ended)
        finally:
            self._is_closed = True
            self._tell()

    def reset(self, why: str) -> None:
        """Breaks the link, so that another is made: the server is not the right one any more."""
        if self._link is not None:
            self._redial.give_up()
            self._link.close(why)

    async def call(self, *words: Word, may_repeat: bool = False) -> Any:
        """Gives a command to the server, and waits for its reply.

        Args:
            words: the command.
            may_repeat: whether it does no harm if the command is carried out twice.

        Raises:
            redis.RedisError: if the server answers with an error.
            BackplaneDown: if there is no link in time, or it breaks before the reply.
            MisuseError: if the command would hold up, or change the link for, all who share it.
        """
        link = self._link
        if link is not None and link.ended is None:
            try:
                return await link.call(*words)
            except ELSEWHERE as error:
                self._leave(link, error)
                is_unknown = False
            except BackplaneDown as down:
                is_unknown = down.outcome_unknown
                if is_unknown and not may_repeat:
                    raise
            return await self._retry(lambda link: link.call(*words), words, may_repeat, is_unknown)
        return await self._retry(lambda link: link.call(*words), words, may_repeat, False)

    async def call_all(
        self, commands: Sequence[tuple[Word, ...]], *, may_repeat: bool = False
    ) -> list[Any]:
        """Gives several commands to the server that stay together, and waits for all replies.

        Args:
            commands: the commands.
            may_repeat: whether it does no harm if any of them is carried out twice.

        Returns:
            A reply for each command. Errors of the server are values.

        Raises:
            BackplaneDown: if there is no link in time, or it breaks before the last reply.
            MisuseError: see `call`.
        """
        words = tuple(word for command in commands for word in command)
        return await self._retry(
            lambda link: self._call_all(link, commands), words, may_repeat, False
        )

    async def everywhere(self, *words: Word) -> list[Any]:
        """See `CommandLink`. There is one server."""
        return [await self.call(*words, may_repeat=True)]

    async def _call_all(self, link: Link, commands: Sequence[tuple[Word, ...]]) -> list[Any]:
        replies = await link.call_all(commands)
        elsewhere = [reply for reply in replies if isinstance(reply, ELSEWHERE)]
        if elsewhere:
            self._leave(link, elsewhere[0])
            if len(elsewhere) == len(replies):  # nothing was done
                raise elsewhere[0]
        return replies

    async def _retry(
        self,
        attempt: Callable[[Link], Awaitable[T]],
        words: tuple[Word, ...],
        may_repeat: bool,
        is_unknown: bool,
    ) -> T:
        """Gives a command as soon as there is a link, and again where that does no harm."""
        deadline = trio.current_time() + self._settings.wait_timeout
        while True:
            link = self._link
            if link is None or link.ended is not None:
                why = self._redial.last_error
                with self._waiting.counted(words, why, is_unknown=is_unknown):
                    link = await self._wait_link(deadline, is_unknown)
            try:
                return await attempt(link)
            except ELSEWHERE as error:
                self._leave(link, error)
                why = str(error)
            except BackplaneDown as down:
                is_unknown = is_unknown or down.outcome_unknown
                if down.outcome_unknown and not may_repeat:
                    raise
                why = str(down)
            if trio.current_time() >= deadline:
                raise BackplaneDown(f"{self._name}: {why}", outcome_unknown=is_unknown)

    async def _wait_link(self, deadline: float, is_unknown: bool) -> Link:
        with trio.move_on_at(deadline):
            while not self._is_closed:
                if self._link is not None and self._link.ended is None:
                    return self._link
                await self._changed.wait()
        why = "closed" if self._is_closed else self._redial.last_error
        raise BackplaneDown(f"{self._name}: {why}", outcome_unknown=is_unknown)

    def _leave(self, link: Link, error: Exception) -> None:
        """Another server has to be found: this one does not do what is asked."""
        link.close(f"the server is not the right one now: {error}")

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
