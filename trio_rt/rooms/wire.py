"""The events by which any Socket.IO client creates, finds and uses rooms.

Each takes one object, and is acknowledged with one. `docs/topics/rooms.md` has them all, with their
errors. Events of a room's own are handed to the room that the socket is in; a socket that is in
several names it: `room:send`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from trio_rt.codec.room_requests import Event, Order
from trio_rt.errors import LimitError, MisuseError, Refuse
from trio_rt.rooms.cell import CHANNEL, rooms_of
from trio_rt.rooms.matching import PREFIX
from trio_rt.socket import Socket

if TYPE_CHECKING:
    from trio_rt.rooms.rooms import Rooms

MAX_TEXT = 200
"""Characters of a name or code."""


class Create(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payload of `room:create`."""

    kind: str | None = None
    """May be left out where there is one kind."""
    options: Any = None
    seats: int | None = None
    private: bool = False
    join: bool = True
    """Whether the creator takes a seat."""


class Which(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payload of events about a room; without one, the room that the socket is in."""

    room: str | None = None


class Enter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payload of `room:join` and `room:watch`."""

    room: str
    code: str | None = None


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payload of events about a player."""

    player: str
    room: str | None = None


class Show(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payload of `room:list`."""

    kind: str | None = None
    live: bool = False


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payload of `room:match`."""

    kind: str | None = None
    rating: float = 0.0
    size: int = 1
    """Players who come together."""


class Unmatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payload of `room:unmatch`."""

    kind: str | None = None


HERE = Which()
ANYBODY = Match()
NOBODY = Unmatch()
EVERYTHING = Show()
FIRST = Create()


class Wire:
    """The handlers of these events.

    Args:
        rooms: what they use.
    """

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def register(self) -> None:
        """Registers them for the namespace, and one for each event that a kind of rooms has.

        Raises:
            MisuseError: if the program handles one of these events already.
        """
        handlers = self._rooms.namespace.handlers
        handlers.add_event("room:create", self.create)
        handlers.add_event("room:list", self.list)
        handlers.add_event("room:unlist", self.unlist)
        handlers.add_event("room:join", self.join)
        handlers.add_event("room:watch", self.watch)
        handlers.add_event("room:leave", self.leave)
        handlers.add_event("room:kick", self.kick)
        handlers.add_event("room:reserve", self.reserve)
        handlers.add_event("room:send", self.send)
        handlers.add_event("room:match", self.match)
        handlers.add_event("room:unmatch", self.unmatch)
        for what in ("state", "ready", "unready", "start", "end", "rematch", "invite"):
            handlers.add_event(f"room:{what}", self._order(what))
        for event in self._own_events():
            if event in handlers.events:
                raise MisuseError(f"event {event!r} has a handler, and rooms that handle it, too")
            handlers.add_event(event, self._forward(event))

    def _own_events(self) -> list[str]:
        kinds = self._rooms.kinds.values()
        return sorted({event for kind in kinds for event in (*kind.handlers, *kind.inputs)})

    # Coming and going

    async def create(self, socket: Socket, asked: Create = FIRST) -> Any:
        """`room:create`: answered by the view of the new room."""
        rooms = self._rooms
        if asked.seats is not None and asked.seats < 1:
            raise Refuse("invalid", "seats has to be 1 or more")
        kind = self._kind(asked.kind)
        try:
            id = await rooms.create(
                kind,
                asked.options,
                seats=asked.seats,
                private=asked.private,
                reserved=[socket.user.id] if asked.join else (),
                creator=socket.user.id,
            )
        except LimitError as error:
            raise Refuse("limit", str(error)) from error
        if not asked.join:
            return {"room": id}
        return await rooms.doors.enter(socket, id, watches=False, code=None)

    async def join(self, socket: Socket, asked: Enter) -> Any:
        """`room:join`: answered by the view of the room."""
        id = _check(asked.room)
        return await self._rooms.doors.enter(socket, id, watches=False, code=asked.code)

    async def watch(self, socket: Socket, asked: Enter) -> Any:
        """`room:watch`: answered by the view of the room."""
        id = _check(asked.room)
        return await self._rooms.doors.enter(socket, id, watches=True, code=asked.code)

    async def leave(self, socket: Socket, asked: Which = HERE) -> None:
        """`room:leave`."""
        await self._rooms.doors.leave(socket, self._which(socket, asked.room))

    # The list

    async def list(self, socket: Socket, asked: Show = EVERYTHING) -> Any:
        """`room:list`: answered by the entries of all rooms; `live` asks for changes, too."""
        if asked.live:
            await socket.join(CHANNEL)
        return {"rooms": await self._rooms.listing.all(asked.kind)}

    async def unlist(self, socket: Socket) -> None:
        """`room:unlist`: no more changes of the list."""
        await socket.leave(CHANNEL)

    # In a room

    async def kick(self, socket: Socket, asked: About) -> Any:
        """`room:kick`."""
        return await self._ask(socket, asked.room, "kick", asked.player)

    async def reserve(self, socket: Socket, asked: About) -> Any:
        """`room:reserve`."""
        return await self._ask(socket, asked.room, "reserve", asked.player)

    async def send(self, socket: Socket, room: str, event: str, *payload: Any) -> Any:
        """`room:send`: an event for a room that is named, with its payload behind."""
        return await self._rooms.finder.ask(
            _check(room), Event(socket.user.id, event, list(payload))
        )

    # Finding others to play with

    async def match(self, socket: Socket, asked: Match = ANYBODY) -> Any:
        """`room:match`: `room:matched` is told when there is a match."""
        return await self._rooms.doors.match(
            socket, self._kind(asked.kind), asked.rating, asked.size
        )

    async def unmatch(self, socket: Socket, asked: Unmatch = NOBODY) -> None:
        """`room:unmatch`."""
        await self._rooms.doors.unmatch(socket, self._kind(asked.kind))

    def _kind(self, name: str | None) -> str:
        """The kind that is meant."""
        kinds = list(self._rooms.kinds)
        if name is None and len(kinds) > 1:
            raise Refuse("unknown_kind", f"say which kind: {', '.join(kinds)}")
        return kinds[0] if name is None else name

    def _order(self, what: str) -> Any:
        async def order(socket: Socket, asked: Which = HERE) -> Any:
            return await self._ask(socket, asked.room, what)

        return order

    def _forward(self, event: str) -> Any:
        async def forward(socket: Socket, *payload: Any) -> Any:
            room = self._which(socket, None)
            return await self._rooms.finder.ask(room, Event(socket.user.id, event, list(payload)))

        return forward

    async def _ask(self, socket: Socket, room: str | None, what: str, whom: str = "") -> Any:
        id = self._which(socket, room)
        return await self._rooms.finder.ask(id, Order(socket.user.id, what, whom[:MAX_TEXT]))

    def _which(self, socket: Socket, room: str | None) -> str:
        """The room that is meant."""
        if room is not None:
            return _check(room)
        rooms = [id for id in rooms_of(socket) if not id.startswith(PREFIX)]
        if len(rooms) == 1:
            return rooms[0]
        if not rooms:
            raise Refuse("not_here", "you are in no room")
        raise Refuse("which_room", "you are in several rooms: name one")


def _check(room: str) -> str:
    """The id of a room, if clients may name it."""
    if room.startswith(PREFIX):
        raise Refuse("not_found", "there is no such room")
    return room
