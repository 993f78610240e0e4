"""Which reply answers which command, on one connection. No I/O; the clock is handed in.

    add ──> waiting to leave ──take──> sent ──feed──> answered, in the order in which they left

A server answers strictly in order, so a reply belongs to the oldest command that was sent. A
command whose caller has gone is not sent if it has not left yet; if it has, its reply still takes
its turn and is dropped. No reply is ever given to another command.

SUBSCRIBE and its kin are answered by pushes, one for each channel; an error answers them at once.
"""

from collections import deque
from typing import Any, Final

import trio

from trio_rt.backplane.redis.resp import NOT_ENOUGH, ProtocolError, PushNotification, make_reader
from trio_rt.errors import BackplaneDown

_NOTHING: Final = object()


class Reply:
    """What one command will be answered. Awaited by one task at most, with `wait`."""

    __slots__ = ("_task", "_value", "confirmations", "data", "is_dropped", "kind")

    def __init__(self, data: bytes, kind: bytes, confirmations: int) -> None:
        self.data = data
        """The command, until it has left."""
        self.kind = kind
        """Of the pushes that answer it, such as b"subscribe"; empty if a reply does."""
        self.confirmations = confirmations
        """Pushes that are still due before it is answered."""
        self.is_dropped = False
        """Whether nobody wants it any more."""
        self._value: Any = _NOTHING
        self._task: trio.lowlevel.Task | None = None

    async def wait(self) -> Any:
        """Waits for the answer. Not a checkpoint if it is there.

        Cancelled, it drops the answer; the command is carried out unless it has not left yet.

        Raises:
            redis.RedisError: if the server answers with an error.
            BackplaneDown: if the link broke before.
        """
        if self._value is _NOTHING:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        value = self._value
        if isinstance(value, Exception):
            raise value
        return value

    async def settle(self) -> Any:
        """As `wait`, but an error is returned as a value."""
        if self._value is _NOTHING:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        return self._value

    def take(self) -> Any:
        """The answer as a value, an error too. It has to be there."""
        assert self._value is not _NOTHING, "not answered yet"
        return self._value

    def answer(self, value: Any) -> None:
        """Gives the answer to whoever waits."""
        self._value = value
        task = self._task
        if task is not None:
            self._task = None
            trio.lowlevel.reschedule(task)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        self.is_dropped = True
        return trio.lowlevel.Abort.SUCCEEDED


class Pipeline:
    """The commands and replies of one connection.

    Args:
        max_commands: commands without a reply, before there is no room.
        max_bytes: bytes that have not left, before there is no room.
    """

    def __init__(self, max_commands: int, max_bytes: int) -> None:
        self._max_commands = max_commands
        self._max_bytes = max_bytes
        self._unsent: list[Reply] = []
        self._unsent_bytes = 0
        self._sent: deque[Reply] = deque()
        self._reader = make_reader()
        self._quiet_since = 0.0

    def __len__(self) -> int:
        """Commands without a reply."""
        return len(self._unsent) + len(self._sent)

    def has_room(self, size_bytes: int) -> bool:
        """Whether a command of this size may be added."""
        if not self._unsent:
            return len(self._sent) < self._max_commands
        return len(self) < self._max_commands and self._unsent_bytes + size_bytes <= self._max_bytes

    def add(self, data: bytes, now: float, kind: bytes = b"", confirmations: int = 0) -> Reply:
        """Puts a command behind the others.

        Args:
            data: the packed command.
            now: the time.
            kind: of the pushes that answer it, if it is not answered by a reply.
            confirmations: how many of them.
        """
        if not self._sent and not self._unsent:
            self._quiet_since = now
        reply = Reply(data, kind, confirmations)
        self._unsent.append(reply)
        self._unsent_bytes += len(data)
        return reply

    def take(self) -> bytes:
        """All that has to leave, in one piece. From here on its outcome is unknown."""
        leaving = [reply for reply in self._unsent if not reply.is_dropped]
        self._unsent.clear()
        self._unsent_bytes = 0
        self._sent.extend(leaving)
        data = leaving[0].data if len(leaving) == 1 else b"".join([one.data for one in leaving])
        for reply in leaving:
            reply.data = b""
        return data

    def feed(self, data: bytes, now: float) -> list[PushNotification]:
        """Answers commands with what has arrived, and returns what answers none.

        Raises:
            ProtocolError: if it is not RESP, or nothing was asked.
        """
        pushes: list[PushNotification] = []
        sent = self._sent
        due = len(sent)
        reader = self._reader
        reader.feed(data)
        while (value := reader.gets()) is not NOT_ENOUGH:
            if type(value) is PushNotification:
                if not self._confirm(value):
                    pushes.append(value)
            elif sent:
                sent.popleft().answer(value)
            else:
                raise ProtocolError(f"a reply to nothing: {value!r:.80}")
        if len(sent) != due:
            self._quiet_since = now
        return pushes

    def due(self, reply_timeout: float) -> float | None:
        """When the next reply has to be there; None if there is none to come."""
        return self._quiet_since + reply_timeout if len(self) else None

    def fail(self, message: str) -> None:
        """Answers all commands with the end of the connection."""
        for reply in self._sent:
            reply.answer(BackplaneDown(message, outcome_unknown=True))
        for reply in self._unsent:
            reply.answer(BackplaneDown(message, outcome_unknown=False))
        self._sent.clear()
        self._unsent.clear()
        self._unsent_bytes = 0

    def _confirm(self, push: PushNotification) -> bool:
        """Counts a push that answers the oldest command. False if it answers none."""
        sent = self._sent
        if not sent or sent[0].kind != push[0]:
            return False
        sent[0].confirmations -= 1
        if not sent[0].confirmations:
            sent.popleft().answer(None)
        return True
