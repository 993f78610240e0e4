"""Rooms with a life of their own: supervised, with seats, ticks and state, one in the cluster each.

    class Lobby(Room):
        async def run(self) -> None: ...

    games = server.namespace("/games", rooms=[Lobby])

| file | what it knows |
| --- | --- |
| `room.py` | `Room`: what a program writes, and what it may call |
| `kind.py` | a `Room` class as it was read when it was registered |
| `cell.py` | one room on the node that owns it: who is in it, what waits, what is told |
| `life.py` | one life of a room's object, from its start or restart to its end or crash |
| `tasks.py`, `ticks.py` | what runs within a life |
| `inbox.py`, `inputs.py` | what waits for a room: requests, and what players send for its ticks |
| `saved.py` | what outlives a life, and a node |
| `rooms.py` | all rooms of a namespace on this node: created, kept, ended |
| `finder.py` | asking a room, wherever it is; making it go on here |
| `doors.py` | sockets that come in, are lost, come back, go |
| `keeping.py` | a room's lease, renewed in time or given up in time |
| `listing.py` | the live list of rooms |
| `matching.py` | the room in which players wait for others |
| `wire.py` | the events by which clients use all of this |
"""

from trio_rt.rooms.inputs import Input
from trio_rt.rooms.player import Player
from trio_rt.rooms.room import Room, on
from trio_rt.rooms.rooms import Rooms
from trio_rt.rooms.ticks import Tick

__all__ = ["Input", "Player", "Room", "Rooms", "Tick", "on"]
