"""What a room has to do, in order: bounded, and kept from one life to the next."""

from collections import deque

import trio

from trio_rt.codec.room_requests import Denied, Done, Elsewhere, Lost, RoomRequest
from trio_rt.errors import Refuse
from trio_rt.schedule.bell import Bell

BUSY = Refuse("busy", "the room has too much to do already")
UNANSWERED = Refuse("timeout", "the room did not answer in time; it may do it still")


class Reply:
    """The place of an answer, and the wait for it."""

    __slots__ = ("_answered", "answer")

    def __init__(self) -> None:
        self.answer: Done | Denied | Elsewhere | None = None
        self._answered = trio.Event()

    def set(self, answer: Done | Denied | Elsewhere) -> None:
        """Answers, if that was not done before."""
        if self.answer is None:
            self.answer = answer
            self._answered.set()

    async def wait(self, seconds: float) -> Done | Denied | Elsewhere:
        """Waits for the answer; raises `Refuse` if there is none in time."""
        with trio.move_on_after(seconds):
            await self._answered.wait()
        if self.answer is None:
            raise UNANSWERED
        return self.answer


class RoomInbox:
    """Requests that wait for a room.

    Args:
        limit: how many may wait.
    """

    __slots__ = ("_limit", "_waiting", "bell")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: deque[tuple[RoomRequest, Reply]] = deque()
        self.bell = Bell()
        """Rings when there is something to do."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, request: RoomRequest, *, is_urgent: bool = False) -> Reply:
        """Adds a request behind the others.

        Args:
            request: what is asked.
            is_urgent: it is told, not asked, and must not be lost: it waits whatever the limit.

        Raises:
            Refuse: if too many wait already.
        """
        if len(self._waiting) >= self._limit and not is_urgent:
            raise BUSY
        reply = Reply()
        self._waiting.append((request, reply))
        self.bell.ring()
        return reply

    def take(self) -> tuple[RoomRequest, Reply] | None:
        """Removes the first request."""
        return self._waiting.popleft() if self._waiting else None

    def refuse_all(self, code: str, message: str) -> None:
        """The room is over, or elsewhere: whoever waits is told."""
        while self._waiting:
            _, reply = self._waiting.popleft()
            reply.set(Denied(code, message))

    def refuse_asked(self, code: str, message: str) -> None:
        """Whoever waits for an answer is told; what the room was told stays."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for request, reply in waiting:
            if isinstance(request, Lost):
                self._waiting.append((request, reply))
            else:
                reply.set(Denied(code, message))

    def drain(self) -> list[tuple[RoomRequest, Reply]]:
        """Removes all."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting
