"""Clients that do anything in any order, in rooms that are slow, refuse, fail and end.

Each client keeps the view that events give it, as a page would. When all is quiet for a while these
are what the rooms say, and when all have gone nobody is remembered. Hooks come in pairs.
"""

import random
from functools import partial
from typing import Any, ClassVar

import attrs
import pytest
import trio

from tests.leftovers import assert_nothing_left
from tests.rooms.tables import GAMES, Table, table
from trio_rt import Refuse
from trio_rt.reasons import Reason
from trio_rt.rooms import Player, Room, on
from trio_rt.rooms.cell import CHANNEL
from trio_rt.testing import Client

NAMES = ["ann", "bob", "cid", "dan", "ann"]  # two tabs of one
SECONDS = 40.0
ORDERS = ["ready", "ready", "ready", "unready", "start", "end", "rematch", "invite", "leave"]


class Trouble(Room):
    """Is slow, refuses, fails and closes as chance has it, and notes what its hooks are told."""

    seats, linger, countdown, hold_seconds = 3, 8.0, 1.0, 4.0
    host_grace, reservation_seconds, rematch_seconds = 2.0, 3.0, 6.0
    hibernate_after, crashes_per_player = 3.0, 20
    inputs: ClassVar[dict[str, Any]] = {"push": int}
    chance: ClassVar[random.Random]
    may_fail: ClassVar[bool]
    here: ClassVar[dict[tuple[str, Player], str]]
    """Who is in which room, by what its last hook was."""

    async def happen(self) -> None:
        if self.chance.random() < 0.5:
            await trio.sleep(self.chance.choice([0.0, 0.1, 0.5]))
        if self.may_fail and self.chance.random() < 0.03:
            raise ValueError("trouble")

    async def told(self, player: Player, what: str, *before: str | None) -> None:
        was = self.here.get((self.id, player))
        assert was in before, f"{what} of {player.id} after {was}"
        self.here[self.id, player] = what
        await self.happen()

    async def on_join(self, player: Player) -> None:
        before = self.here.get((self.id, player))
        await self.told(player, "join", None, *([] if player.watches else ["join"]))
        if self.chance.random() < 0.1:
            if before is None:
                del self.here[self.id, player]
            raise Refuse("no", "not now")

    async def on_drop(self, player: Player) -> None:
        await self.told(player, "drop", "join", "return")

    async def on_return(self, player: Player) -> None:
        await self.told(player, "return", "drop")

    async def on_leave(self, player: Player, reason: Reason) -> None:
        await self.told(player, "leave", "join", "drop", "return")

    async def on_close(self, reason: Reason) -> None:
        for at in [at for at in self.here if at[0] == self.id]:
            del self.here[at]
        await self.happen()

    @on("act", spectators=True)
    async def act(self, player: Player, what: int) -> None:
        await self.happen()
        if what == 0 and self.chance.random() < 0.2:
            self.close()
        elif what == 1 and player in self.players:
            self.kick(player)
        elif what == 2:
            self.after(0.5, self.happen)
        elif what == 3:
            self.reserve(self.chance.choice(NAMES))


class Games(Trouble):
    """Has games as well."""

    async def run(self) -> Any:
        await self.ready_check(at_least=2, within=60)
        if self.players and self.chance.random() < 0.5:
            await self.turn(self.players[0], within=3)
        async for tick in self.ticks(hz=4):
            await self.happen()
            if tick.number > 8:
                return tick.number
        return None


@attrs.define(eq=False)
class Monkey:
    """One client, and who is in which room as events tell it."""

    table: Table
    name: str
    chance: random.Random
    client: Client | None = None
    views: dict[str, set[str]] = attrs.field(factory=dict)

    def note(self, packet: Any) -> None:
        """Something arrived."""
        told: Any = packet.data[-1] if packet.data else None
        if isinstance(told, dict) and "players" in told:  # an answer, or `room:state`
            members = [*told["players"], *told["spectators"]]
            self.views[told["room"]] = {member["id"] for member in members}
        elif packet.type == 2 and told.get("room") in self.views:
            self.take_event(packet.data[0], told)

    def take_event(self, event: str, told: Any) -> None:
        members = self.views[told["room"]]
        if event in ("room:joined", "room:watching"):
            members.add(told["player"]["id"])
        elif event == "room:left":
            members.discard(told["player"])
        if event == "room:closed" or (event == "room:left" and told["player"] == self.name):
            del self.views[told["room"]]

    async def connect(self, claim: dict[str, str]) -> None:
        self.client = client = await self.table.host.open()
        receive = client._note

        def note(packet: Any) -> None:
            receive(packet)
            if packet.type in (2, 3):
                self.note(packet)

        client._note = note  # type: ignore[method-assign]
        await client.connect(GAMES, {"name": self.name, **claim})
        if GAMES not in client.recovered:
            self.views.clear()

    async def live(self, rooms: list[str]) -> None:
        await self.connect({})
        until = trio.current_time() + SECONDS
        while trio.current_time() < until:
            await trio.sleep(self.chance.choice([0.0, 0.0, 0.1, 0.5, 1.0, 4.0]))
            with trio.move_on_after(4):
                await self.do_something(rooms)

    async def do_something(self, rooms: list[str]) -> None:
        chance, client = self.chance, self.client
        assert client is not None
        room = {"room": chance.choice(rooms)}
        call = partial(client.call, namespace=GAMES)
        match chance.randrange(12):
            case 0 | 1 | 2:
                await call("room:join", room)
            case 3:
                await call("room:watch", room)
            case 4:
                event = chance.choice(["room:kick", "room:reserve"])
                await call(event, {**room, "player": chance.choice(NAMES)})
            case 5:
                await call("room:send", room["room"], "push", 1)
            case 6 | 7:
                await call("room:send", room["room"], "act", chance.randrange(8))
            case 8:
                claim = client.claim(GAMES)
                if chance.random() < 0.8:  # else its old connection seems to be there still
                    client.close()
                await trio.sleep(chance.choice([0.0, 0.0, 0.1, 1.0, 3.5]))
                with trio.CancelScope(shield=True):
                    await self.connect(claim if chance.random() < 0.8 else {})
                client.close()
            case _:
                await call(f"room:{chance.choice(ORDERS)}", room)


def assert_consistent(here: Table, monkeys: list[Monkey]) -> None:
    """Rooms, sockets and clients are of one mind."""
    namespace = here.server.namespace(GAMES)
    for id, cell in here.rooms.cells.items():
        told = {sid for player in cell.members.values() for sid in player.sockets}
        assert told == {socket.id for socket in namespace.rooms.get(CHANNEL + id, ())}  # type: ignore[attr-defined]
        assert set(cell.members) == {*cell.lobby.players, *cell.lobby.spectators}
    for monkey in monkeys:
        real = {id: set(cell.members) for id, cell in here.rooms.cells.items()}
        assert monkey.views == {id: of for id, of in real.items() if id in monkey.views}
        assert all(monkey.name in view for view in monkey.views.values())


@pytest.mark.parametrize("seed", range(12))
async def test_monkeys(autojump_clock, errors, seed: int) -> None:
    """Whatever they do, everybody knows who is where, and nothing is left when they have gone."""
    Trouble.chance, Trouble.here, Trouble.may_fail = random.Random(seed), {}, True
    chance = random.Random(seed)
    async with table(Trouble, Games, recovery_window=5.0) as here:
        monkeys = [Monkey(here, name, random.Random(chance.random())) for name in NAMES]
        rooms = [await here.rooms.create(kind) for kind in (Trouble, Games, Games)]
        tasks = len(here.rooms._nursery.child_tasks) - len(rooms)
        async with trio.open_nursery() as nursery:
            for monkey in monkeys:
                nursery.start_soon(monkey.live, rooms)
            for at in range(8):
                await trio.sleep(SECONDS / 9)
                which = at % len(rooms)
                if rooms[which] not in here.rooms.cells:
                    rooms[which] = await here.rooms.create((Trouble, Games)[at % 2])
        Trouble.may_fail = False
        await trio.sleep(5)
        assert_consistent(here, monkeys)
        for monkey in monkeys:
            assert monkey.client is not None
            monkey.client.close()
        await trio.sleep(60)
        assert here.rooms.cells == {}
        assert here.rooms.listing._told == {}
        assert len(here.rooms._supervisor) == 0
        assert len(here.rooms._nursery.child_tasks) == tasks
        assert not here.server.backplane._states  # type: ignore[attr-defined]
        await assert_nothing_left(here.server)
        left_out = {player.id for (_, player), last in Trouble.here.items() if last != "leave"}
        assert not left_out, "no on_leave"
    texts = {record.getMessage() for record in errors if "trouble" not in str(record.exc_info)}
    assert texts == set()
    errors.clear()
