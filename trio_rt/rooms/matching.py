"""The room in which players wait for others of about their rating, one for each kind of rooms.

It is a room like others: one in the cluster, supervised, with seats that are held for a while. But
nobody is told who else waits, and clients use it only by `room:match` and `room:unmatch`.
"""

from __future__ import annotations

import secrets
from typing import Any, ClassVar

import trio

from trio_rt.errors import LocalError, Refuse
from trio_rt.log import log
from trio_rt.machine.matchmaking import Expired, Matched, Matchmaker, MatchRules, Ticket
from trio_rt.reasons import Reason
from trio_rt.rooms.player import Player
from trio_rt.rooms.room import Room, on

PREFIX = "match:"
"""Before the name of a kind: the id of the room in which players wait for its rooms."""


class Queue(Room):
    """Where players wait; `queue_for` makes the class for one kind."""

    seats = 10_000
    hold_seconds = 10.0
    handler_timeout = 10.0
    snapshot_interval = 5.0
    is_hidden: ClassVar[bool] = True
    wanted: ClassVar[str] = ""
    """The kind of rooms that matches are played in."""
    match: ClassVar[MatchRules | None] = None

    def __init__(self) -> None:
        super().__init__()
        assert self.match is not None
        self._matchmaker = Matchmaker(self.match)
        self._tickets: dict[str, Ticket] = {}
        self._news = trio.Event()

    async def run(self) -> None:
        """Matches those who wait, at the matchmaker's pace."""
        while True:
            with trio.move_on_at(self._matchmaker.deadline):
                await self._news.wait()
            self._news = trio.Event()
            for effect in self._matchmaker.tick(trio.current_time()):
                if isinstance(effect, Matched):
                    await self._bring_together(effect)
                else:
                    await self._give_up(effect)

    @on("room:match")
    async def wait(self, player: Player, rating: float, size: int) -> dict[str, Any]:
        """Somebody waits from now on."""
        ticket = Ticket(player.id, rating, size)
        refused = self._matchmaker.add(ticket, trio.current_time())
        if refused is not None:
            if player.id not in self._tickets:
                self.cell.decide(self.cell.lobby.leave(player.id, trio.current_time()))
            raise Refuse(refused.code, refused.message)
        self._tickets[player.id] = ticket
        self._news.set()
        assert self.match is not None
        return {"kind": self.wanted, "seconds": self.match.give_up}

    async def on_drop(self, player: Player) -> None:
        """Whoever is away is matched with nobody: they would not hear of it."""
        self._matchmaker.cancel(player.id)

    async def on_return(self, player: Player) -> None:
        """Whoever is back waits anew."""
        self._wait_anew(player.id)

    async def on_leave(self, player: Player, reason: Reason) -> None:
        """Whoever is gone does not wait."""
        self._matchmaker.cancel(player.id)
        self._tickets.pop(player.id, None)

    def snapshot(self) -> Any:
        """Who waits; on another node they wait anew."""
        return [[ticket.id, ticket.rating, ticket.size] for ticket in self._tickets.values()]

    def restore(self, snapshot: Any) -> None:
        """See `snapshot`."""
        for id, rating, size in snapshot:
            self._tickets[id] = Ticket(id, rating, size)
            if id not in self.cell.lobby.held:
                self._wait_anew(id)

    def _wait_anew(self, id: str) -> None:
        if id in self._tickets:
            self._matchmaker.add(self._tickets[id], trio.current_time())
            self._news.set()

    async def _bring_together(self, matched: Matched) -> None:
        """A room for a match: a seat for each, and a code for those who come with them."""
        rooms, ids = self.cell.rooms, [ticket.id for ticket in matched.tickets]
        try:
            room = await rooms.create(self.wanted, private=True, reserved=ids)
            code = secrets.token_urlsafe(9)
            made = rooms.cells[room]
            made.decide(made.lobby.invite(None, code, trio.current_time()))
        except (Refuse, LocalError, KeyError) as error:
            log.error("a match found no room: %s", error)
            for id in ids:
                await self._dismiss(id, "room:unmatched", {"kind": self.wanted, "code": "failed"})
            return
        for id in ids:
            told = {"kind": self.wanted, "room": room, "code": code}
            await self._dismiss(id, "room:matched", told)

    async def _give_up(self, expired: Expired) -> None:
        told = {"kind": self.wanted, "code": "timeout"}
        await self._dismiss(expired.ticket.id, "room:unmatched", told)

    async def _dismiss(self, id: str, event: str, told: dict[str, Any]) -> None:
        """Somebody does not wait any more, and is told why."""
        self._tickets.pop(id, None)
        player = self.cell.members.get(id)
        if player is None:
            return
        await self.to(player).emit(event, told)
        self.cell.decide(self.cell.lobby.leave(id, trio.current_time()))


def queue_for(name: str, rules: MatchRules) -> type[Queue]:
    """The class of the room in which players wait for rooms of a kind."""
    return type("Queue", (Queue,), {"kind": PREFIX + name, "wanted": name, "match": rules})
