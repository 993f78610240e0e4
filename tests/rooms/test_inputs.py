"""What players send for ticks and turns."""

from typing import ClassVar

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.rooms.tables import table
from trio_rt import Refuse
from trio_rt.codec.room_requests import Event, Order
from trio_rt.rooms import Input, Player, Room, on
from trio_rt.rooms.inputs import MAX_INPUTS, Inputs

pytestmark = pytest.mark.usefixtures("errors")

ANN, BOB = Player("ann"), Player("bob")


@pytest.fixture
def inputs() -> Inputs:
    """One of Ann's between two of Bob's."""
    inputs = Inputs()
    for player, event, value in ((BOB, "go", 1), (ANN, "go", 2), (BOB, "stop", 3)):
        inputs.put(Input(player, event, value))
    return inputs


def test_take(inputs: Inputs) -> None:
    """All, in order, once."""
    assert [input.value for input in inputs.take()] == [1, 2, 3]
    assert inputs.take() == ()


def test_take_one(inputs: Inputs) -> None:
    """The first of a player's, or of those that are named; the others stay."""
    assert inputs.take_one(BOB, {"stop"}) == Input(BOB, "stop", 3)
    assert inputs.take_one(BOB, {"stop"}) is None
    assert inputs.take_one(BOB, None) == Input(BOB, "go", 1)
    assert [input.value for input in inputs.take()] == [2]


def test_forget(inputs: Inputs) -> None:
    """One player's, or everybody's."""
    inputs.forget(BOB)
    assert [input.value for input in inputs.take()] == [2]
    inputs.put(Input(BOB, "go", 4))
    inputs.forget_all()
    assert inputs.take() == ()


def test_limit() -> None:
    """Each player has so many; who sends more harms nobody else."""
    inputs = Inputs()
    for value in range(MAX_INPUTS):
        inputs.put(Input(ANN, "go", value))
    with pytest.raises(Refuse) as refusal:
        inputs.put(Input(ANN, "go", 0))
    assert refusal.value.code == "busy"
    inputs.put(Input(BOB, "go", 1))
    inputs.forget(ANN)
    inputs.put(Input(ANN, "go", 2))
    assert [input.value for input in inputs.take()] == [1, 2]


async def test_wait(autojump_clock, inputs: Inputs) -> None:
    """Whoever waits is told of the next, and whenever it has to look again."""
    woken = 0

    async def wait() -> None:
        nonlocal woken
        while True:
            await inputs.wait()
            woken += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(1)
        inputs.put(Input(ANN, "go", 4))
        await trio.sleep(1)
        assert woken == 1
        inputs.wake()
        await trio.sleep(1)
        assert woken == 2
        nursery.cancel_scope.cancel()


class Pen(Room):
    """Takes its time to answer, and notes what it gets."""

    seats = 4
    inputs = {"go": int}
    got: ClassVar[list[tuple[str, int]]] = []

    async def run(self) -> None:
        async for tick in self.ticks(hz=1):
            self.got.extend((input.player.id, input.value) for input in tick.inputs)

    @on("slow")
    async def slowly(self, player: Player) -> None:
        await trio.sleep(3)


async def test_nothing_is_overtaken(autojump_clock) -> None:
    """An input that comes behind other requests is taken after them."""
    Pen.got.clear()
    async with table(Pen) as here, trio.open_nursery() as nursery:
        ann, bob = await here.guests("ann", "bob")
        id = (await ann.call("room:create"))["room"]
        await bob.call("room:join", {"room": id})
        await trio.sleep(1.5)
        assert await bob.call("go", 1) is None
        nursery.start_soon(ann.call, "slow")
        await trio.sleep(0.1)
        began = trio.current_time()
        assert await bob.call("go", 2) is None
        assert trio.current_time() - began > 2
        await trio.sleep(2)
        nursery.start_soon(ann.call, "slow")
        await trio.sleep(0.1)
        nursery.start_soon(here.rooms.finder.ask, id, Order("ann", "kick", "bob"))
        await trio.sleep(0.1)
        began = trio.current_time()
        assert await bob.refused("go", 3) == "not_here"
        assert trio.current_time() - began > 2
        await trio.sleep(2)
        assert Pen.got == [("bob", 1), ("bob", 2)]


async def test_of_one_who_left(autojump_clock) -> None:
    """What somebody sent who has left since is in no tick: the program may have forgotten them."""
    Pen.got.clear()
    async with table(Pen) as here:
        ann, bob = await here.guests("ann", "bob")
        id = (await ann.call("room:create"))["room"]
        await bob.call("room:join", {"room": id})
        await trio.sleep(1.5)
        await bob.call("go", 1)
        await ann.call("go", 2)
        await bob.call("room:leave")
        await trio.sleep(2)
        assert Pen.got == [("ann", 2)]


async def test_what_has_just_come_is_not_overtaken(autojump_clock) -> None:
    """A request that the room's task has not seen yet goes before an input."""
    async with table(Pen) as here:
        ann = await here.guest("ann")
        id = (await ann.call("room:create"))["room"]
        await trio.sleep(1)
        cell, asked = here.room(id), Event("ann", "go", [1])
        assert cell.takes_at_once(asked)
        assert not cell.takes_at_once(Event("ann", "slow", []))
        reply = cell.inbox.put(Order("ann", "state"))
        assert cell.is_idle
        assert not cell.takes_at_once(asked)
        await reply.wait(1)
        await wait_all_tasks_blocked()
        assert cell.takes_at_once(asked)
