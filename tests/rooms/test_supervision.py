"""Crashes of rooms: restarted by their rule, with members and the last snapshot, or closed."""

from typing import Any, ClassVar

import pytest
import trio

from tests.rooms.tables import Table, players, table
from trio_rt import Refuse
from trio_rt.machine.restarts import Restart
from trio_rt.reasons import Reason
from trio_rt.rooms import Player, Room, on


class Broken(Exception):
    """Raised on purpose."""


class Counter(Room):
    """Counts what it is told, and fails when it is told so, by whomever."""

    crashes_per_player = 0

    lives: ClassVar[list["Counter"]] = []
    fails_in: ClassVar[set[str]] = set()

    def __init__(self) -> None:
        super().__init__()
        self.state = {"count": 0}
        self.lives.append(self)

    def check(self, place: str) -> None:
        if place in self.fails_in:
            self.fails_in.discard(place)
            raise Broken(place)

    async def on_start(self) -> None:
        self.check("on_start")

    async def on_join(self, player: Player) -> None:
        self.check("on_join")

    async def on_drop(self, player: Player) -> None:
        self.check("on_drop")

    async def on_return(self, player: Player) -> None:
        self.check("on_return")

    async def on_leave(self, player: Player, reason: Reason) -> None:
        self.check("on_leave")

    async def on_close(self, reason: Reason) -> None:
        self.check("on_close")

    @on("add")
    async def add(self, player: Player, number: int) -> int:
        self.state["count"] += number
        self.save()
        return int(self.state["count"])

    @on("fail")
    async def fail(self, player: Player) -> None:
        raise Broken("fail")

    @on("fail apart")
    async def fail_apart(self, player: Player, place: str) -> None:
        async def break_down() -> None:
            raise Broken(place)

        if place == "task":
            self.nursery.start_soon(break_down)
        else:
            self.after(1, break_down)


@pytest.fixture(autouse=True)
def lives() -> list[Counter]:
    """All objects of rooms that were made."""
    Counter.lives.clear()
    Counter.fails_in.clear()
    return Counter.lives


def took(errors: list[Any], count: int) -> bool:
    """Whether so many failures were logged; takes them out."""
    found = len(errors)
    errors.clear()
    assert found == count
    return True


async def crash(guest: Any, times: int) -> None:
    for _ in range(times):
        assert await guest.refused("fail") == "internal"
        await trio.sleep(0.01)


async def begun(here: Table) -> tuple[Any, Any, str]:
    alice, bob = await here.guests("alice", "bob")
    id = (await alice.call("room:create"))["room"]
    await bob.call("room:join", {"room": id})
    return alice, bob, id


# A crash


async def test_members_and_snapshot_survive(autojump_clock, errors, lives) -> None:
    """After a crash a new object goes on with the members and the last snapshot of the old one."""
    async with table(Counter) as here:
        alice, bob, id = await begun(here)
        assert await alice.call("add", 2) == 2
        await trio.sleep(1)
        await crash(bob, 1)
        view = await bob.call("room:state")
        assert players(view) == ["alice", "bob"]
        assert await bob.call("add", 3) == 5
        assert len(lives) == 2
        assert here.room(id).members["bob"].connected
    assert took(errors, 1)


async def test_lost_since_the_snapshot(autojump_clock, errors) -> None:
    """What happened after the last snapshot is gone with the crash."""
    async with table(Counter) as here:
        alice, _, _ = await begun(here)
        await trio.sleep(11)
        assert await alice.call("add", 2) == 2
        assert await alice.refused("fail") == "internal"
        assert await alice.call("add", 0) in (0, 2)
    assert took(errors, 1)


async def test_told_once(autojump_clock, errors) -> None:
    """The client of the event that failed is told an id that the one log line has."""
    async with table(Counter) as here:
        alice, _, _ = await begun(here)
        answer = await alice.call("fail")
        error_id = answer["error"]["details"]["id"]
        assert "Broken" not in str(answer)
        assert await alice.call("add", 1) == 1
    [record] = errors
    assert error_id in record.exc_text or any(
        error_id in note for note in record.exc_info[1].__notes__
    )
    errors.clear()


@pytest.mark.parametrize("place", ["on_join", "on_drop", "on_return", "on_leave"])
async def test_crash_in_a_hook(place: str, autojump_clock, errors, lives) -> None:
    """A hook that fails makes the room crash, and it goes on with who is there."""
    async with table(Counter) as here:
        alice, bob, id = await begun(here)
        Counter.fails_in.add(place)
        carol = await here.guest("carol")
        answer = await carol.call("room:join", {"room": id})
        assert ("error" in answer) is (place == "on_join")
        carol.client.close()
        await trio.sleep(1)
        carol = await here.back(carol)
        await trio.sleep(1)
        await carol.call("room:leave", {"room": id})
        await trio.sleep(1)
        assert await alice.call("add", 1) == 1
        assert players(await bob.call("room:state")) == ["alice", "bob"]
        assert len(lives) == 2
    assert took(errors, 1)


async def test_crash_while_many_join(autojump_clock, errors) -> None:
    """Those who join while the room crashes are in it, or are told that they are not."""
    async with table(Counter) as here:
        alice, _, id = await begun(here)
        guests = await here.guests(*(f"guest {number}" for number in range(10)))
        answers: list[Any] = []

        async def join(guest: Any) -> None:
            answers.append((guest, await guest.call("room:join", {"room": id})))

        async with trio.open_nursery() as nursery:
            for guest in guests[:5]:
                nursery.start_soon(join, guest)
            nursery.start_soon(alice.call, "fail")
            for guest in guests[5:]:
                nursery.start_soon(join, guest)
        there = set(players(await alice.call("room:state")))
        for guest, answer in answers:
            assert (guest.name in there) is ("error" not in answer)
        assert len(answers) == 10
    assert took(errors, 1)


@pytest.mark.parametrize("place", ["task", "timer"])
async def test_crash_of_a_task(place: str, autojump_clock, errors, lives) -> None:
    """A task or a timer of the room that fails makes the room crash."""
    async with table(Counter) as here:
        alice, _, _ = await begun(here)
        assert await alice.call("fail apart", place) is None
        await trio.sleep(2)
        assert await alice.call("add", 1) == 1
        assert len(lives) == 2
    assert took(errors, 1)


async def test_neighbours(autojump_clock, errors) -> None:
    """The other rooms of the namespace do not notice."""
    async with table(Counter) as here:
        alice, _, id = await begun(here)
        carol = await here.guest("carol")
        await carol.call("room:create")
        await carol.call("add", 7)
        await crash(alice, 4)
        assert id not in here.rooms.cells
        assert await carol.call("add", 1) == 8
    assert took(errors, 4)


async def test_refuse_is_no_crash(autojump_clock, errors, lives) -> None:
    """A refusal is an answer, whatever hook or handler says it."""

    class Choosy(Counter):
        async def on_join(self, player: Player) -> None:
            if player.id == "bob":
                raise Refuse("go away")

    async with table(Choosy) as here:
        alice, bob = await here.guests("alice", "bob")
        id = (await alice.call("room:create"))["room"]
        assert await bob.refused("room:join", {"room": id}) == "go away"
        assert players(await alice.call("room:state")) == ["alice"]
        assert await bob.refused("add", 1) == "not_here"
        await trio.sleep(0.1)
        assert alice.names() == ["room:joined", "room:left"]
        assert len(lives) == 1
    assert errors == []


async def test_hanging_handler(autojump_clock, errors) -> None:
    """A handler that takes too long is a crash, and the room goes on."""

    class Slow(Counter):
        handler_timeout = 2.0

        @on("hang")
        async def hang(self, player: Player) -> None:
            await trio.sleep_forever()

    async with table(Slow) as here:
        alice, bob, _ = await begun(here)
        assert await alice.refused("hang") == "internal"
        assert await bob.call("add", 1) == 1
    assert took(errors, 1)


# The rules


@pytest.mark.parametrize(
    ("rule", "crashes", "lives_on"),
    [
        (Restart.PERMANENT, 3, True),
        (Restart.PERMANENT, 4, False),
        (Restart.TRANSIENT, 3, True),
        (Restart.TRANSIENT, 4, False),
        (Restart.TEMPORARY, 1, False),
    ],
)
async def test_rules(rule: Restart, crashes: int, lives_on: bool, autojump_clock, errors) -> None:
    """A room runs again as its rule says, within its budget; else its members are told."""

    class Ruled(Counter):
        restart = rule
        intensity = 3
        period = 10.0

    async with table(Ruled) as here:
        alice, bob, id = await begun(here)
        await crash(alice, crashes)
        assert (id in here.rooms.cells) is lives_on
        if not lives_on:
            closed = await bob.hear("room:closed")
            assert (closed["room"], closed["code"]) == (id, "crashed")
            assert await bob.refused("add", 1) == "not_here"
            assert await bob.refused("room:join", {"room": id}) == "not_found"
    assert took(errors, crashes)


async def test_budget_renews(autojump_clock, errors) -> None:
    """Crashes that lie further apart than the period never use up the budget."""
    async with table(Counter) as here:
        alice, _, _ = await begun(here)
        for _ in range(10):
            await crash(alice, 1)
            await trio.sleep(4)
        assert await alice.call("add", 1) == 1
    assert took(errors, 10)


@pytest.mark.parametrize("rule", list(Restart))
async def test_returning(rule: Restart, autojump_clock, errors, lives) -> None:
    """A room whose `run` returns has ended; a permanent one runs again."""

    class Short(Counter):
        restart = rule

        async def run(self) -> None:
            await trio.sleep(20)

    async with table(Short) as here:
        alice, _, id = await begun(here)
        await trio.sleep(25)
        if rule is Restart.PERMANENT:
            assert len(lives) == 2
            assert await alice.call("add", 1) == 1
        else:
            closed = await alice.hear("room:closed")
            assert closed["code"] == "ended"
            assert id not in here.rooms.cells
    assert errors == []


async def test_failing_start(autojump_clock, errors) -> None:
    """A room that fails before it has begun is none, and its creator is told."""
    async with table(Counter) as here:
        alice = await here.guest("alice")
        Counter.fails_in.add("on_start")
        assert await alice.refused("room:create") == "internal"
        assert not here.rooms.cells
        assert await alice.call("room:list") == {"rooms": []}
    assert took(errors, 1)


async def test_failing_end(autojump_clock, errors) -> None:
    """A room that fails while it is being closed is closed all the same, for its reason."""
    async with table(Counter) as here:
        alice, _, id = await begun(here)
        Counter.fails_in.add("on_close")
        await here.rooms.close(id, "enough")
        closed = await alice.hear("room:closed")
        assert (closed["code"], closed["text"]) == ("closed", "enough")
        assert not here.rooms.cells
    assert took(errors, 1)


async def test_bad_snapshot(autojump_clock, errors) -> None:
    """A snapshot that is no JSON value is a failure of the room, told in the log."""

    class Odd(Counter):
        def snapshot(self) -> Any:
            return object()

    async with table(Odd) as here:
        alice = await here.guest("alice")
        answer = await alice.call("room:create")
        await trio.sleep(5)
        assert not here.rooms.cells
        assert answer["players"]
        assert (await alice.hear("room:closed"))["code"] == "crashed"
    assert "snapshot() of a Odd cannot be saved" in str(errors[0].exc_info[1])
    assert took(errors, 4)


async def test_children_in_reverse_order(autojump_clock, errors) -> None:
    """The tasks of a room end with it, the last started first."""
    ended: list[str] = []

    class Parent(Counter):
        async def on_start(self) -> None:
            for name in ("first", "second", "third"):
                self.nursery.start_soon(self.child, name)

        async def child(self, name: str) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(1, shield=True):
                    await trio.sleep(0.1)
                ended.append(name)

    async with table(Parent) as here:
        alice, _, id = await begun(here)
        await here.rooms.close(id)
        await alice.hear("room:closed")
        assert ended == ["third", "second", "first"]
    assert errors == []


# The inbox


async def test_order(autojump_clock, errors) -> None:
    """Handlers of one room never overlap, and run in the order in which events arrived."""
    seen: list[tuple[str, int]] = []

    class Orderly(Counter):
        @on("note")
        async def note(self, player: Player, number: int) -> None:
            seen.append(("begin", number))
            await trio.sleep(0.5)
            seen.append(("end", number))

    async with table(Orderly) as here:
        alice, bob, _ = await begun(here)
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon([alice, bob][number % 2].call, "note", number)
                await trio.sleep(0.01)
        assert seen == [(what, n) for n in range(4) for what in ("begin", "end")]
    assert errors == []


async def test_full_inbox(autojump_clock, errors) -> None:
    """More requests than may wait are refused at once, and the room is none the worse."""

    class Narrow(Counter):
        max_waiting = 3

        @on("wait")
        async def wait(self, player: Player) -> None:
            await trio.sleep(3)

    async with table(Narrow) as here:
        alice = await here.guest("alice")
        id = (await alice.call("room:create"))["room"]
        guests = await here.guests(*"abcdef")
        for guest in guests:
            await guest.call("room:join", {"room": id})
        answers: list[Any] = []

        async def ask(guest: Any) -> None:
            answers.append(await guest.call("add", 1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.call, "wait")
            await trio.sleep(0.1)
            for guest in guests:
                nursery.start_soon(ask, guest)
        codes = [a["error"]["code"] for a in answers if isinstance(a, dict)]
        assert codes == ["busy"] * 3
        assert sorted(a for a in answers if isinstance(a, int)) == [1, 2, 3]
    assert errors == []
