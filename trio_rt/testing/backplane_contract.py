"""What every backplane has to keep: checks that any implementation runs.

Each check is an async function that gets a maker of backplanes, and asserts. Run all of them:

    @asynccontextmanager
    async def open_memory(config):
        backplane = MemoryBackplane()
        backplane.open(config)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backplane.run)
            yield backplane
            nursery.cancel_scope.cancel()

    @pytest.mark.parametrize("check", BACKPLANE_CHECKS, ids=lambda check: check.__name__)
    async def test_contract(check):
        await check(open_memory)

They need no particular clock, and nobody else's rooms and sessions are in their way: all names are
made anew for each check.

It is one long file because the contract is a list of short checks over the same few steps.
"""

import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import trio
from trio.testing import wait_all_tasks_blocked

from trio_rt.auth import User
from trio_rt.backplane.base import (
    SID_CHARS,
    Backplane,
    Envelope,
    Position,
    SavedSession,
    Settled,
)
from trio_rt.codec.socketio import Encoded
from trio_rt.config import Config
from trio_rt.machine.membership import Membership

DEADLINE = 5.0
"""Seconds that anything may take which has to come."""

OpenBackplane = Callable[[Config], AbstractAsyncContextManager[Backplane]]
"""Opens a backplane that runs for the length of a block."""

_RESULT = Settled(b'["done",{"_placeholder":true,"num":0}]', (b"\0bytes",))


class _Node:
    """A node's namespace: it publishes, and keeps what arrives for it."""

    def __init__(self, backplane: Backplane) -> None:
        self.backplane = backplane
        self.name = f"/{secrets.token_hex(8)}"
        self.arrived: list[Envelope] = []

    async def publish(
        self, text: str, *rooms: str, excepted: tuple[str, ...] = (), attachments: int = 0
    ) -> Position:
        """Publishes an event, and takes what has arrived right after."""
        with trio.fail_after(DEADLINE):
            position = await self.backplane.publish(
                self.event(text, *rooms, excepted=excepted, attachments=attachments)
            )
        self.take()
        return position

    def event(
        self, text: str, *rooms: str, excepted: tuple[str, ...] = (), attachments: int = 0
    ) -> Envelope:
        """An event that has no place yet."""
        packet = Encoded(text.encode(), (b"\0\xff",) * attachments)
        return Envelope(self.name, rooms, excepted, packet)

    def take(self) -> None:
        """Takes what has arrived for this namespace."""
        self.arrived += [
            arrival
            for arrival in self.backplane.receive_nowait()
            if isinstance(arrival, Envelope) and arrival.namespace == self.name
        ]

    async def expect(self, *texts: str) -> list[Envelope]:
        """Exactly these have to arrive."""
        with trio.move_on_after(DEADLINE):
            while len(self.arrived) < len(texts):
                await self.backplane.wait()
                self.take()
        arrived, self.arrived = self.arrived, []
        assert _texts(arrived) == [*texts]
        return arrived

    async def subscribe(self, *rooms: str) -> None:
        """Listens to rooms."""
        with trio.fail_after(DEADLINE):
            for room in rooms:
                await self.backplane.subscribe(self.name, room)

    async def join(self, session: SavedSession, room: str) -> None:
        """A session's socket joins a room."""
        with trio.fail_after(DEADLINE):
            position = await self.backplane.subscribe(self.name, room)
        session.membership.join(room, position)
        self.backplane.change_session(session)

    def leave(self, session: SavedSession, room: str) -> None:
        """A session's socket leaves a room, of which it was the last member."""
        session.membership.leave(room, self.backplane.position(self.name))
        self.backplane.unsubscribe(self.name, room)
        self.backplane.change_session(session)

    async def open_session(self, *rooms: str) -> SavedSession:
        """A session that is connected, and in rooms."""
        sid = secrets.token_urlsafe(15)
        assert len(sid) == SID_CHARS
        pid = sid + secrets.token_urlsafe(15)
        session = SavedSession(pid, self.name, User("somebody"), Membership(sid))
        with trio.fail_after(DEADLINE):
            await self.backplane.open_session(session)
        for room in rooms:
            await self.join(session, room)
        return session

    def lose(self, session: SavedSession) -> None:
        """Its connection has ended, and its rooms have no member any more."""
        self.backplane.lose_session(session)
        for room in session.membership.rooms:
            self.backplane.unsubscribe(self.name, room)

    async def find(self, session: SavedSession) -> SavedSession:
        """Finds a session by its private id."""
        with trio.fail_after(DEADLINE):
            found = await self.backplane.find_session(self.name, session.pid)
        assert found is not None
        return found

    async def come_back(self, session: SavedSession, since: Position) -> list[str] | None:
        """Finds a lost session, takes it, recovers it, and has it connected again.

        Returns:
            The texts of what it had missed; None, and the session is lost as before, if that
            cannot be told any more.
        """
        found = await self.find(session)
        with trio.fail_after(DEADLINE):
            assert await self.backplane.take_session(found)
            await self.subscribe(*found.membership.rooms)
            missed = await self.backplane.recover(found, since)
            if missed is None:
                self.lose(found)
                return None
            assert all(event.position is not None for event in missed)
            places = [event.position for event in missed if event.position is not None]
            assert places == sorted(set(places))
            assert not places or places[-1] <= self.backplane.position(self.name)
            self.backplane.keep_session(found)
        session.is_lost = found.is_lost
        return _texts(missed)


def _texts(events: list[Envelope]) -> list[str]:
    return [event.packet.text.decode() for event in events]


# Events


async def check_order(open_backplane: OpenBackplane) -> None:
    """Events arrive once and in the order of their places, whatever their rooms."""
    async with open_backplane(Config()) as backplane:
        node = _Node(backplane)
        await node.subscribe("a", "b")
        before = backplane.position(node.name)
        places = [await node.publish(f"{at}", "ab"[at % 2]) for at in range(20)]
        arrived = await node.expect(*map(str, range(20)))
        assert [event.position for event in arrived] == places
        assert [before, *places] == sorted({before, *places})
        assert backplane.position(node.name) >= places[-1]


async def check_publishers(open_backplane: OpenBackplane) -> None:
    """Several who publish at once get places in one order, each in the order of its own events."""
    async with open_backplane(Config()) as backplane:
        node = _Node(backplane)
        await node.subscribe("a")

        async def publish(name: str) -> None:
            for at in range(10):
                await node.publish(f"{name}{at}", "a")
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for name in "xyz":
                nursery.start_soon(publish, name)
        with trio.move_on_after(DEADLINE):
            while len(node.arrived) < 30:
                await backplane.wait()
                node.take()
        texts = _texts(node.arrived)
        for name in "xyz":
            assert [text for text in texts if text[0] == name] == [f"{name}{n}" for n in range(10)]
        places = [event.position for event in node.arrived if event.position is not None]
        assert places == sorted(set(places))
        assert len(places) == 30


async def check_envelope(open_backplane: OpenBackplane) -> None:
    """An event arrives as it was, with its rooms, those left out, its text and its bytes."""
    async with open_backplane(Config()) as backplane:
        node = _Node(backplane)
        await node.subscribe("a", 'b"#*é', "c")
        await node.publish('2["e","é\\u0000"]', "a", 'b"#*é', excepted=("c",), attachments=2)
        (event,) = await node.expect('2["e","é\\u0000"]')
        assert set(event.rooms) == {"a", 'b"#*é'}
        assert event.excepted == ("c",)
        assert event.packet.attachments == (b"\0\xff",) * 2
        assert not event.is_volatile


async def check_everybody(open_backplane: OpenBackplane) -> None:
    """What is for everybody, or for one socket, arrives where there is a session."""
    async with open_backplane(Config()) as backplane:
        node = _Node(backplane)
        session = await node.open_session()
        await node.subscribe("a")
        await node.publish("all")
        await node.publish("room", "a")
        await node.publish("one", session.membership.sid)
        events = await node.expect("all", "room", "one")
        assert [event.rooms for event in events] == [(), ("a",), (session.membership.sid,)]


async def check_volatile(open_backplane: OpenBackplane) -> None:
    """A volatile event has no place, stays in order with others, and is not recovered."""
    async with open_backplane(Config()) as backplane:
        node = _Node(backplane)
        session = await node.open_session("a")
        start = backplane.position(node.name)
        event = node.event("volatile", "a")
        backplane.publish_nowait(Envelope(*_fields(event), is_volatile=True))
        await node.publish("kept", "a")
        first, second = await node.expect("volatile", "kept")
        assert first.position is None
        assert second.position is not None
        node.lose(session)
        assert await node.come_back(session, start) == ["kept"]


def _fields(event: Envelope) -> tuple[str, tuple[str, ...], tuple[str, ...], Encoded]:
    return event.namespace, event.rooms, event.excepted, event.packet


async def check_cancelled_publisher(open_backplane: OpenBackplane) -> None:
    """A publisher that is cancelled at once raises it, and what others publish is in order."""
    async with open_backplane(Config()) as backplane:
        node = _Node(backplane)
        await node.subscribe("a")
        with trio.CancelScope() as scope:
            scope.cancel()
            await node.publish("cancelled", "a")
        assert scope.cancelled_caught
        await node.publish("after", "a")
        await wait_all_tasks_blocked()
        node.take()
        texts = [text for text in _texts(node.arrived) if text != "cancelled"]
        assert texts == ["after"]


# Sessions


async def check_find(open_backplane: OpenBackplane) -> None:
    """A session is found by its whole private id, while it is open, and by nothing else."""
    async with open_backplane(Config()) as backplane:
        node = _Node(backplane)
        session = await node.open_session("a")
        session.data = {"score": 7}
        session.presence = {"a": {"name": "x"}}
        node.lose(session)
        found = await node.find(session)
        assert found.pid == session.pid
        assert found.namespace == node.name
        assert found.user == session.user
        assert found.membership.sid == session.membership.sid
        assert found.membership.rooms == {"a"}
        assert found.data == {"score": 7}
        assert found.presence == {"a": {"name": "x"}}
        assert found.is_open
        assert found.is_lost
        other = await node.open_session()
        pids = [session.pid[:-1], session.pid + "x", session.pid[:SID_CHARS], "", "é" * 40, "x\0*"]
        pids.append(session.pid[:SID_CHARS] + other.pid[SID_CHARS:])
        for pid in pids:
            assert await backplane.find_session(node.name, pid) is None
        assert await backplane.find_session("/another", session.pid) is None
        assert not (await node.find(other)).is_lost


async def check_take(open_backplane: OpenBackplane) -> None:
    """A lost session is taken by one alone; one that is connected or has ended by nobody."""
    async with open_backplane(Config()) as backplane:
        node = _Node(backplane)
        session = await node.open_session()
        assert not await backplane.take_session(await node.find(session))
        node.lose(session)
        found = [await node.find(session) for _ in range(3)]
        taken: list[bool] = []

        async def take(one: SavedSession) -> None:
            taken.append(await backplane.take_session(one))

        async with trio.open_nursery() as nursery:
            for one in found:
                nursery.start_soon(take, one)
        assert sorted(taken) == [False, False, True]


async def check_given_back(open_backplane: OpenBackplane) -> None:
    """A session that was taken and is lost again can be taken again, and has missed the same."""
    async with open_backplane(Config()) as backplane:
        node = _Node(backplane)
        session = await node.open_session("a")
        start = backplane.position(node.name)
        node.lose(session)
        await node.publish("1", "a")
        found = await node.find(session)
        assert await backplane.take_session(found)
        backplane.lose_session(found)
        await node.publish("2", "a")
        assert await node.come_back(found, start) == ["1", "2"]


async def check_end(open_backplane: OpenBackplane) -> None:
    """A session ends once, connected or lost, and is not found any more."""
    async with open_backplane(Config()) as backplane:
        node = _Node(backplane)
        for is_lost in (False, True):
            session = await node.open_session("a")
            if is_lost:
                node.lose(session)
            else:
                node.leave(session, "a")
            assert await backplane.end_session(session)
            assert not session.is_open
            assert not await backplane.end_session(session)
            assert await backplane.find_session(node.name, session.pid) is None
            assert not await backplane.take_session(session)


async def check_never_opened(open_backplane: OpenBackplane) -> None:
    """A session that was never opened is not found, and has nothing to end."""
    async with open_backplane(Config()) as backplane:
        sid = secrets.token_urlsafe(15)
        session = SavedSession(sid + "secret", "/", User("somebody"), Membership(sid))
        assert await backplane.find_session("/", session.pid) is None
        assert not await backplane.end_session(session)


# What was missed


async def check_missed(open_backplane: OpenBackplane) -> None:
    """A lost session gets what it was meant to get, in order: by its rooms, its id, and all."""
    async with open_backplane(Config()) as backplane:
        node = _Node(backplane)
        session = await node.open_session("a", "b")
        sid = session.membership.sid
        start = backplane.position(node.name)
        node.lose(session)
        await node.publish("1", "a")
        await node.publish("2", "b", "other")
        await node.publish("3")
        await node.publish("4", sid)
        await node.publish("5", "a", "b", attachments=1)
        await node.publish("no", "other")
        await node.publish("no", "a", excepted=(sid,))
        await node.publish("no", "a", excepted=("b",))
        await node.publish("no", excepted=("a", "other"))
        await node.publish("6", "a", excepted=("other",))
        assert await node.come_back(session, start) == ["1", "2", "3", "4", "5", "6"]


async def check_since(open_backplane: OpenBackplane) -> None:
    """What the client has got is not given again."""
    async with open_backplane(Config()) as backplane:
        node = _Node(backplane)
        session = await node.open_session("a")
        places = [backplane.position(node.name)]
        places += [await node.publish(f"{at}", "a") for at in range(3)]
        for at, place in enumerate(places):
            node.lose(session)
            session = await node.find(session)
            assert await node.come_back(session, place) == ["0", "1", "2"][at:]
            session = await node.find(session)


async def check_again_and_again(open_backplane: OpenBackplane) -> None:
    """The second return and the tenth are as good as the first, with and without events."""
    async with open_backplane(Config()) as backplane:
        node = _Node(backplane)
        session = await node.open_session("a")
        since = backplane.position(node.name)
        for at in range(10):
            node.lose(session)
            expected = []
            if at % 2:
                since_next = await node.publish(f"{at}", "a")
                expected = [f"{at}"]
            else:
                since_next = since
            assert await node.come_back(session, since) == expected
            since = since_next
            session = await node.find(session)
            assert not session.is_lost


async def check_times_in_rooms(open_backplane: OpenBackplane) -> None:
    """What went to a room counts while the session was in it, and not before or after."""
    async with open_backplane(Config()) as backplane:
        node = _Node(backplane)
        session = await node.open_session()
        start = backplane.position(node.name)
        await node.publish("before", "a")
        await node.join(session, "a")
        await node.publish("1", "a")
        node.leave(session, "a")
        await node.publish("between", "a")
        await node.join(session, "a")
        await node.publish("2", "a")
        node.lose(session)
        await node.publish("3", "a")
        assert await node.come_back(session, start) == ["1", "2", "3"]


async def check_live_after_missed(open_backplane: OpenBackplane) -> None:
    """What is published after the recovery arrives, and nothing of what was recovered does."""
    async with open_backplane(Config()) as backplane:
        node = _Node(backplane)
        session = await node.open_session("a")
        start = backplane.position(node.name)
        node.lose(session)
        await node.publish("missed", "a")
        await wait_all_tasks_blocked()
        node.take()
        node.arrived.clear()
        assert await node.come_back(session, start) == ["missed"]
        await node.publish("live", "a")
        await node.expect("live")


async def check_others_come_and_go(open_backplane: OpenBackplane) -> None:
    """Rooms of others that begin and end take nothing from a session that has missed nothing."""
    async with open_backplane(Config()) as backplane:
        node = _Node(backplane)
        session = await node.open_session("a")
        start = backplane.position(node.name)
        for at in range(5):
            other = await node.open_session(f"room {at}")
            await node.publish("x", f"room {at}")
            node.leave(other, f"room {at}")
            await backplane.end_session(other)
        node.lose(session)
        assert await node.come_back(session, start) == []


async def check_too_many(open_backplane: OpenBackplane) -> None:
    """Who has missed more than is kept is told so; who has missed less gets it."""
    async with open_backplane(Config(history_events=5)) as backplane:
        node = _Node(backplane)
        session = await node.open_session("a")
        places = [backplane.position(node.name)]
        node.lose(session)
        for at in range(6):
            places.append(await node.publish(f"{at}", "a"))
        assert await node.come_back(session, places[0]) is None
        assert await node.come_back(session, places[1]) == ["1", "2", "3", "4", "5"]


async def check_too_large(open_backplane: OpenBackplane) -> None:
    """Who has missed more bytes than one may recover is told so."""
    async with open_backplane(Config(recovery_bytes=10_000)) as backplane:
        node = _Node(backplane)
        session = await node.open_session("a")
        places = [backplane.position(node.name)]
        node.lose(session)
        for _ in range(3):
            places.append(await node.publish("x" * 4_000, "a"))
        assert await node.come_back(session, places[0]) is None
        assert await node.come_back(session, places[1]) == ["x" * 4_000] * 2


async def check_future(open_backplane: OpenBackplane) -> None:
    """Who says that it has got what was not published yet is not given a hole for recovered."""
    async with open_backplane(Config()) as backplane:
        node = _Node(backplane)
        session = await node.open_session("a")
        node.lose(session)
        await node.publish("missed", "a")
        place = backplane.position(node.name)
        ahead = Position(place.time_ms + 10**6, 0)
        assert await node.come_back(session, ahead) in (None, ["missed"])


# Events that run once


async def check_once(open_backplane: OpenBackplane) -> None:
    """The first of a key has to run, later ones get its result; another key is another event."""
    async with open_backplane(Config()) as backplane:
        key = f'["key é",{secrets.token_hex(8)}]'
        with trio.fail_after(DEADLINE):
            assert await backplane.claim(key) is None
            assert await backplane.claim(key + "x") is None
            backplane.settle(key, _RESULT)
            assert await backplane.claim(key) == _RESULT
            assert await backplane.claim(key) == _RESULT
            backplane.settle(key + "x", Settled(b""))
            assert await backplane.claim(key + "x") == Settled(b"")


async def check_released(open_backplane: OpenBackplane) -> None:
    """When the first was given up, the next one runs."""
    async with open_backplane(Config()) as backplane:
        key = secrets.token_hex(8)
        with trio.fail_after(DEADLINE):
            assert await backplane.claim(key) is None
            backplane.release(key)
            assert await backplane.claim(key) is None
            backplane.settle(key, _RESULT)
            assert await backplane.claim(key) == _RESULT


async def check_waits_for_the_first(open_backplane: OpenBackplane) -> None:
    """While the first runs, all others wait; one of them that is cancelled disturbs nobody."""
    async with open_backplane(Config()) as backplane:
        key = secrets.token_hex(8)
        got: list[Settled | None] = []

        async def claim() -> None:
            got.append(await backplane.claim(key))

        with trio.fail_after(DEADLINE):
            await claim()
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(claim)
                with trio.move_on_after(0.05) as impatient:
                    await claim()
                assert impatient.cancelled_caught
                assert got == [None]
                backplane.settle(key, _RESULT)
        assert got == [None, _RESULT, _RESULT, _RESULT]


async def check_waits_for_one_that_is_released(open_backplane: OpenBackplane) -> None:
    """When the first is given up while others wait, one of them runs, and the rest wait on."""
    async with open_backplane(Config()) as backplane:
        key = secrets.token_hex(8)
        got: list[Settled | None] = []

        async def claim() -> None:
            got.append(await backplane.claim(key))
            if got[-1] is None:
                await trio.sleep(0.01)
                backplane.settle(key, _RESULT)

        with trio.fail_after(DEADLINE):
            assert await backplane.claim(key) is None
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(claim)
                await trio.sleep(0.05)
                backplane.release(key)
        assert got == [None, _RESULT, _RESULT]


async def check_once_window(open_backplane: OpenBackplane) -> None:
    """When the window is over the same key runs again."""
    async with open_backplane(Config(once_window=0.2)) as backplane:
        key = secrets.token_hex(8)
        with trio.fail_after(DEADLINE):
            assert await backplane.claim(key) is None
            backplane.settle(key, _RESULT)
            assert await backplane.claim(key) == _RESULT
            while await backplane.claim(key) is not None:  # noqa: ASYNC110
                await trio.sleep(0.1)
            backplane.release(key)


BackplaneCheck = Callable[[OpenBackplane], Awaitable[None]]

BACKPLANE_CHECKS: tuple[BackplaneCheck, ...] = (
    check_order,
    check_publishers,
    check_envelope,
    check_everybody,
    check_volatile,
    check_cancelled_publisher,
    check_find,
    check_take,
    check_given_back,
    check_end,
    check_never_opened,
    check_missed,
    check_since,
    check_again_and_again,
    check_times_in_rooms,
    check_live_after_missed,
    check_others_come_and_go,
    check_too_many,
    check_too_large,
    check_future,
    check_once,
    check_released,
    check_waits_for_the_first,
    check_waits_for_one_that_is_released,
    check_once_window,
)
"""Everything a backplane of one node has to keep."""
