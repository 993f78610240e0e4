"""Who still owes an acknowledgement, and what the others said.

    state  input                     next
    -----  ------------------------  -----------------------------------------
    OPEN   receive from a debtor     OPEN, or DONE when it was the last debtor
    OPEN   gone, of a debtor         the same; the debtor is missing
    OPEN   anything from a stranger  OPEN
    DONE   anything                  DONE

A request to one socket and one to a thousand are the same thing: a set of debtors.
Source: Socket.IO protocol v5, "Acknowledgement"; an id may be shared by several sockets.
"""

from collections.abc import Iterable
from typing import Any


class Owed:
    """The acknowledgements owed for one request.

    Args:
        debtors: the ids of the sockets that were asked.
    """

    __slots__ = ("answers", "gone", "waiting")

    def __init__(self, debtors: Iterable[str]) -> None:
        self.waiting = set(debtors)
        """Who still owes one."""
        self.gone: set[str] = set()
        """Who cannot answer any more."""
        self.answers: dict[str, list[Any]] = {}
        """What the others answered: the list of arguments of each."""

    @property
    def is_done(self) -> bool:
        """Whether nobody owes anything any more."""
        return not self.waiting

    def receive(self, sid: str, arguments: list[Any]) -> bool:
        """A socket answered. True if that was the last answer owed."""
        if sid not in self.waiting:
            return False
        self.waiting.discard(sid)
        self.answers[sid] = arguments
        return self.is_done

    def leave(self, sid: str) -> bool:
        """A socket ended. True if it was the last that owed an answer."""
        if sid not in self.waiting:
            return False
        self.waiting.discard(sid)
        self.gone.add(sid)
        return self.is_done
