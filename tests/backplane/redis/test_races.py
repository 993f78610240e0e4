"""What goes wrong once in a thousand times: things that happen in each other's way."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.backplane.redis.cluster import QUICK, backplane_of, nodes
from tests.backplane.redis.test_backplane import visit
from tests.backplane.redis.waiting import until
from tests.parts.valkey import Valkey
from trio_rt import User
from trio_rt.backplane.base import Gap, SavedSession, Settled
from trio_rt.backplane.redis import RedisBackplane, RedisSettings, keeper, rooms
from trio_rt.backplane.redis.frames import encode_envelope
from trio_rt.backplane.redis.keys import LogName
from trio_rt.backplane.redis.names import NodeKeys
from trio_rt.backplane.redis.record import pack_session, unpack_session
from trio_rt.backplane.redis.scripts import load
from trio_rt.codec.envelope import Envelope
from trio_rt.codec.position import Position, parse_position
from trio_rt.codec.socketio import Encoded
from trio_rt.config import Config
from trio_rt.errors import BackplaneDown
from trio_rt.machine.membership import Membership

KEYS = NodeKeys()
ROOM = b"rt:{0}:r:/:room"


@asynccontextmanager
async def running(
    server: Valkey, settings: RedisSettings = QUICK, **changes: Any
) -> AsyncGenerator[RedisBackplane]:
    """A node without an app."""
    plane = RedisBackplane.from_url(server.url, settings=settings)
    plane.open(Config(**changes))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(plane.run)
        await until(lambda: plane.is_ready)
        yield plane
        nursery.cancel_scope.cancel()


def new_session(sid: str = "x" * 20, **data: Any) -> SavedSession:
    return SavedSession(sid + "secret", "/", User("me"), Membership(sid), data or None)


def owner(server: Valkey, sid: str = "x" * 20) -> bytes | None:
    found: Any = server.client.hget(KEYS.session(sid), "node")
    return found if found is None or isinstance(found, bytes) else found.encode()


def event(*to: str, namespace: str = "/") -> Envelope:
    return Envelope(namespace, to, (), Encoded(b'2["a"]'))


async def test_cancelled_while_joining_again(
    server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deserted room that somebody joined and did not is listened to no longer than others."""
    monkeypatch.setattr(rooms, "LINGER", 0.1)
    async with running(server) as plane:
        await plane.subscribe("/", "room")
        assert server.client.pubsub_channels() != []
        plane.unsubscribe("/", "room")
        with trio.CancelScope() as scope:
            scope.cancel()
            await plane.subscribe("/", "room")
        await until(lambda: ROOM not in server.client.pubsub_channels(), within=2.0)


async def test_names_written_late(own_server: Valkey) -> None:
    """A node that was taken for dead and cannot tell Redis its new name yet hears what is for its
    sockets, and tells it as soon as it can."""
    async with nodes(own_server.url) as (one, other):
        client, speaker = await visit(one), await visit(other)
        sid = client.claim()["pid"][:20]
        plane = backplane_of(one)
        name = plane.node
        own_server.client.execute_command("ACL", "SETUSER", "default", "-hget")
        own_server.client.zadd(KEYS.of("nodes"), {name: 1})
        await until(lambda: plane.node != name)
        await trio.sleep(0.3)
        await speaker.call("say", "1", sid)
        assert await client.expect("said") == "1"
        own_server.client.execute_command("ACL", "SETUSER", "default", "+hget")
        await until(lambda: owner(own_server, sid) == plane.node.encode(), within=8.0)
        await speaker.call("say", "2", sid)
        assert await client.expect("said") == "2"
        await client.call("join", "kept")
        claim = client.claim()
        client.close()
        back = await other.open()
        await back.connect(auth=claim)
        assert back.claim()["pid"] == claim["pid"]


async def test_session_written_late(server: Valkey) -> None:
    """A session that another node has by now is not taken from it by one that writes late."""
    async with running(server) as one, running(server) as other:
        await one.open_session(new_session())
        await other.open_session(late := new_session())
        assert owner(server) == one.node.encode()
        other.change_session(late)
        await trio.sleep(0.1)
        assert owner(server) == one.node.encode()


async def test_end_of_what_is_elsewhere(server: Valkey) -> None:
    """A session that another node has taken does not end where it was."""
    async with running(server) as plane:
        await plane.open_session(session := new_session())
        server.client.hset(KEYS.session("x" * 20), "node", "other")
        plane.change_session(session)
        await trio.sleep(0.1)
        assert not await plane.end_session(session)
        assert owner(server) == b"other"


async def test_ended_while_it_was_written(server: Valkey) -> None:
    """A session that ends before Redis has it is not there afterwards."""
    async with running(server) as plane, trio.open_nursery() as nursery:
        server.client.client_pause(300)
        nursery.start_soon(plane.open_session, session := new_session())
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await plane.end_session(session)
        await trio.sleep(0.5)
        assert owner(server) is None


@pytest.mark.parametrize("key", [1, (1, 2), b"bytes"])
async def test_keys_that_cannot_be_read(key: Any) -> None:
    """Data with keys that could not be read again is left out, and the session comes back."""
    data: dict[Any, Any] = {"plain": 1, "nested": {(1, (2, 3)): [], ((),): {}}, key: 2}
    session = new_session()
    session.data = data
    again = unpack_session(pack_session(session), "x" * 20, Position(1, 0))
    assert again.data is not None
    assert again.data["plain"] == 1
    assert key not in again.data


async def test_deserted_namespaces(server: Valkey) -> None:
    """Nothing is kept of a namespace that has ended, even while others speak there."""
    async with running(server) as plane, running(server) as other:
        kept = len(plane._home.feed.logs)
        for number in range(20):
            plane.begin_namespace(f"/{number}")
            await plane.open_session(session := new_session(f"{number:020}"))
            session.namespace = f"/{number}"
            await other.publish(event(namespace=f"/{number}"))
            plane.end_namespace(f"/{number}")
            await other.publish(event(namespace=f"/{number}"))
        await plane.subscribe("/", "room")  # all has arrived by then
        assert len(plane._home.feed.logs) <= kept + 2


async def test_full_server(own_server: Valkey) -> None:
    """What a full Redis refuses is as if it was away: clients that come back are sent away."""
    async with running(own_server) as plane:
        await plane.open_session(session := new_session())
        plane.lose_session(session)
        own_server.client.config_set("maxmemory", "1")
        for attempt in (
            lambda: plane.subscribe("/", "room"),
            lambda: plane.take_session(session),
            lambda: plane.recover(session, Position(1, 0)),
            lambda: plane.acquire("lease", 1.0),
        ):
            with pytest.raises(BackplaneDown, match="refuses"):
                await attempt()
        own_server.client.config_set("maxmemory", "0")
        await plane.subscribe("/", "room")
        assert await plane.take_session(session)


async def test_noise(server: Valkey) -> None:
    """Whatever is published to a node's channels, it goes on, and loses nothing."""
    async with running(server) as plane, running(server) as other:
        await plane.subscribe("/", "room")
        for kind in (b"", b"m", b"v", b"n", b"q", b"a", b"h", b"d", b"1", b"1-1 ", b"1-1 1-1 "):
            for rest in (
                b"",
                b" ",
                b"\x01",
                b"\x01\x97\xa1\xff",
                b"x \x01\x95\xa1/\x90\x90\xc4\x00",
            ):
                for channel in (ROOM.decode(), KEYS.wide(), KEYS.everyone(), KEYS.node(plane.node)):
                    server.client.publish(channel, kind + rest)
        plane.receive_nowait()
        for _ in range(3):
            await other.publish(event("room"))
        found: list[Any] = []
        with trio.fail_after(5):
            while len(found) < 3:
                await plane.wait()
                found += [
                    e for e in plane.receive_nowait() if isinstance(e, Envelope) and e.position
                ]
        assert [e.rooms for e in found[-3:]] == [("room",)] * 3


async def arrivals(plane: RedisBackplane, count: int) -> list[Position | None]:
    """The places of the next events."""
    found: list[Position | None] = []
    with trio.fail_after(5):
        while len(found) < count:
            await plane.wait()
            found += [e.position for e in plane.receive_nowait() if isinstance(e, Envelope)]
    return found


def place(text: bytes) -> Position | None:
    return parse_position(text.decode())


async def test_lost_message(server: Valkey) -> None:
    """An event whose message does not arrive is delivered all the same, before the next one."""
    async with running(server) as plane, running(server) as other:
        await plane.subscribe("/", "room")
        for name, target in ((LogName("/", "room"), "room"), (LogName("/", ""), "")):
            plane.begin_namespace("/")
            to = (target,) if target else ()
            first = await other.publish(event(*to))
            lost, _, _ = await load("clock", "append").call(
                other._link,
                [KEYS.clock(), KEYS.stream(name), KEYS.meta(name)],
                encode_envelope(event(*to)),
                *(100, 60_000, 60_000, "PUBLISH", "nowhere"),
            )
            last = await other.publish(event(*to))
            assert await arrivals(plane, 3) == [first, place(lost), last]


async def test_message_that_comes_twice(server: Valkey) -> None:
    """An event that arrives again, or from before this node knew of it, is not delivered."""
    async with running(server) as plane, running(server) as other:
        await plane.subscribe("/", "room")
        first = await other.publish(event("room"))
        again = f"{first} {first} ".encode() + encode_envelope(event("room"))
        old = b"1-1 1-1 " + encode_envelope(event("y" * 20))
        server.client.publish(ROOM.decode(), again)
        server.client.publish(KEYS.node(plane.node), old)
        last = await other.publish(event("room"))
        assert await arrivals(plane, 2) == [first, last]
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert plane.receive_nowait() == []


async def test_missed_by_a_socket(server: Valkey) -> None:
    """What was sent to one socket while its node did not hear is delivered when it does, and what
    it had heard before is not delivered again."""
    async with running(server) as plane, running(server) as other:
        await plane.open_session(new_session())
        heard = await other.publish(event("x" * 20))
        assert await arrivals(plane, 1) == [heard]
        server.client.client_kill_filter(_type="pubsub")
        missed = [await other.publish(event("x" * 20)) for _ in range(3)]
        assert await arrivals(plane, 3) == missed


async def test_recover_while_others_speak(server: Valkey) -> None:
    """What is recovered, and what arrives from then on, is everything, once and in order."""
    sent: list[Position] = []
    heard: list[Position | None] = []
    found: list[tuple[list[Position | None], int]] = []
    async with running(server) as plane, running(server) as other:
        await plane.open_session(session := new_session())
        session.membership.join("room", await plane.subscribe("/", "room"))
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                while len(heard) < 400:
                    await plane.wait()
                    heard.extend(e.position for e in plane.receive_nowait())  # type: ignore[union-attr]

            async def come_back() -> None:
                while len(heard) < 350:
                    missed = await plane.recover(session, session.membership.since)
                    assert missed is not None
                    found.append(([envelope.position for envelope in missed], len(heard)))

            nursery.start_soon(listen)
            nursery.start_soon(come_back)
            for _ in range(400):
                sent.append(await other.publish(event("room")))
    assert len(found) > 10
    for missed, already in found:
        assert missed + heard[already:] == sent


async def test_connected_for_long(server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis forgets neither the sessions of who is connected, nor the logs of their rooms."""
    monkeypatch.setattr(keeper, "TOUCH_INTERVAL", 0.1)
    room, everybody = KEYS.meta(LogName("/", "room")), KEYS.meta(LogName("/", ""))
    async with running(server) as plane:
        await plane.open_session(new_session())
        await plane.subscribe("/", "room")
        for key in (KEYS.session("x" * 20), room, everybody):
            assert server.client.pexpire(key, 9_000)
            await until(lambda key=key: server.client.pttl(key) > 100_000)  # type: ignore[misc]


async def test_written_between_find_and_take(server: Valkey) -> None:
    """A session of a dead node can be taken, as it is by then and not as it was found."""
    async with running(server) as plane, running(server) as other:
        await other.open_session(session := new_session())
        server.client.hset(KEYS.session("x" * 20), "node", "ghost")
        found = await plane.find_session("/", session.pid)
        assert found is not None
        assert found.is_lost
        session.membership.join("room", Position(1, 0))
        session.data = {"a": 1}
        server.client.hset(KEYS.session("x" * 20), "data", pack_session(session))
        assert await plane.take_session(found)
        assert found.membership.rooms == {"room"}
        assert found.data == {"a": 1}
        assert owner(server) == plane.node.encode()


async def test_results_of_a_node_that_goes(server: Valkey) -> None:
    """A node that goes tells the others of all results, however many."""
    async with running(server) as plane:
        for number in range(300):
            assert await plane.claim(str(number)) is None
        for number in range(300):
            plane.settle(str(number), Settled(b"[]"))
    async with running(server) as other:
        for number in range(300):
            with trio.fail_after(2):
                assert await other.claim(str(number)) == Settled(b"[]")


async def test_untold_results(own_server: Valkey) -> None:
    """While Redis is away no more results wait to be told than are remembered."""
    async with running(own_server, once_results=100) as plane:
        own_server.kill()
        await until(lambda: not plane.is_ready)
        for number in range(1000):
            assert await plane.claim(str(number)) is None
            plane.settle(str(number), Settled(b"[]"))
        assert len(plane._claims._settling) <= 100


async def test_typed_commands(server: Valkey) -> None:
    """A program's own commands go over the node's link, in each of its lives."""
    async with running(server) as plane:
        await plane.redis.set("mine", "1")
        assert await plane.redis.get("mine") == b"1"
        before = plane.redis
    plane.open(Config())
    assert plane.redis is not before


async def test_server_whose_clock_has_gone_back(server: Valkey) -> None:
    """Who knows more than a server has ever handed out is told that something is missing."""
    async with nodes(server.url) as (one, _):
        client = await visit(one)
        server.client.hset(KEYS.clock(), "m", 9_000_000_000_000)
        await client.call("say", "in the future")
        assert await client.expect("said") == "in the future"
        server.client.hset(KEYS.clock(), "m", 1)
        plane: Any = backplane_of(one)
        plane._home.subscriptions.reset("the test says so")
        await until(lambda: client.has_ended)


async def test_server_that_is_another_one(server: Valkey) -> None:
    """Where commands go to another server than before, what is known from before does not count."""
    async with nodes(server.url) as (one, other):
        client, claim = await visit(one), (await visit(other)).claim()
        server.client.hset(KEYS.clock(), "server", "another")
        plane: Any = backplane_of(one)
        plane._link.reset("the test says so")
        await until(lambda: client.has_ended)
        back = await one.open()
        await back.connect(auth=claim)
        assert back.claim()["pid"] != claim["pid"]


async def test_event_that_comes_both_ways(server: Valkey) -> None:
    """An event for what may be a socket is taken once, by whichever channels it comes: a cluster's
    server does not count who listens to a room elsewhere, and tells all nodes as well."""
    room = "r" * 20
    channel = KEYS.channel(LogName("/", room))
    async with running(server) as plane:
        plane.begin_namespace("/")
        await plane.subscribe("/", room)
        with server.client.pubsub(ignore_subscribe_messages=True) as listener:
            listener.subscribe(channel)
            await until(lambda: listener.get_message() or listener.subscribed)
            await plane.publish(Envelope("/", (room,), (), Encoded(b'2["e"]')))
            heard: list[Any] = []
            await until(lambda: heard.append(listener.get_message()) or heard[-1])  # type: ignore[func-returns-value]
        assert len(plane.receive_nowait()) == 1
        server.client.publish(KEYS.wide(), heard[-1]["data"])
        await plane.publish(Envelope("/", (room,), (), Encoded(b'2["last"]')))
        assert [event.packet.text for event in plane.receive_nowait()] == [b'2["last"]']  # type: ignore[union-attr]


async def test_another_room_ends(server: Valkey) -> None:
    """Who has published to its own room waits for its event, whichever other room ends meanwhile;
    where its own one ends, it waits no longer."""
    async with running(server) as plane:
        for room in ("mine", "other"):
            await plane.subscribe("/", room)
        home: Any = plane._home
        take = home.subscriptions.receive_nowait
        for ends, is_heard in (("other", True), ("mine", False)):
            home.subscriptions.receive_nowait = list  # for a moment nothing arrives
            heard: list[Any] = []
            async with trio.open_nursery() as nursery:

                async def speak(heard: list[Any] = heard) -> None:
                    await plane.publish(event("mine"))
                    heard.append(plane.receive_nowait())

                nursery.start_soon(speak)
                await until(lambda: home.feed._echoes)
                home.rooms._forget(LogName("/", ends))
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert heard == ([] if is_heard else [[]])
                home.subscriptions.receive_nowait = take
                home.subscriptions._arrivals._bell.ring()
            assert bool(heard[0]) == is_heard


async def test_patient_publisher(server: Valkey) -> None:
    """However long a node tries again, an event is known for longer by its key: never two of it."""
    settings = attrs.evolve(QUICK, wait_timeout=60.0)
    async with running(server, settings) as plane:
        for room in ("room", "x" * 20):
            await plane.publish(event(room))
            (key,) = server.client.scan_iter("rt:*:id:*")
            assert server.client.pttl(key) > 60_000
            server.client.delete(key)


async def test_full_server_is_not_besieged(own_server: Valkey) -> None:
    """A session that a full Redis does not take is offered to it again, and not all the time."""
    async with running(own_server) as plane:
        await plane.open_session(session := new_session())
        session.data = {"a": 1}
        own_server.client.config_set("maxmemory", "1")
        own_server.client.config_resetstat()
        plane.change_session(session)
        await trio.sleep(1.0)
        assert calls(own_server) < 12
        own_server.client.config_set("maxmemory", "0")
        await until(lambda: b"a" in data_of(own_server))


def calls(server: Valkey) -> int:
    """How many scripts a server was given."""
    stats: Any = server.client.info("commandstats")
    found = [stats.get(f"cmdstat_{name}", {}) for name in ("evalsha", "eval")]
    return sum(one.get("calls", 0) + one.get("rejected_calls", 0) for one in found)


def data_of(server: Valkey, sid: str = "x" * 20) -> bytes:
    found: Any = server.client.hget(KEYS.session(sid), "data")
    return found or b""


async def test_recover_without_redis(own_server: Valkey) -> None:
    """Who comes back while Redis is away is told so in time, and may try again."""
    async with running(own_server) as plane:
        await plane.open_session(session := new_session())
        plane.lose_session(session)
        own_server.pause()
        await until(lambda: not plane._home.feed.is_whole)
        with trio.fail_after(5), pytest.raises(BackplaneDown, match="not recovered in 2 s"):
            await plane.recover(session, session.membership.since)
        own_server.resume()
        await until(lambda: plane.is_ready)
        plane.receive_nowait()
        assert await plane.recover(session, session.membership.since) == []


async def test_log_that_was_begun_anew(server: Valkey) -> None:
    """Where a log was lost with what a node has not heard, and was begun anew by another one with
    nothing in it, the members are told."""
    name = LogName("/", "room")
    async with running(server) as plane, running(server) as other:
        await plane.subscribe("/", "room")
        await load("clock", "append").call(
            other._link,
            [KEYS.clock(), KEYS.stream(name), KEYS.meta(name)],
            encode_envelope(event("room")),
            *(100, 60_000, 60_000, "PUBLISH", "nowhere"),
        )
        server.client.delete(KEYS.meta(name), KEYS.stream(name))
        await other.subscribe("/", "room")
        plane._home.subscriptions.reset("the test says so")
        await until(lambda: Gap("/", "room") in plane.receive_nowait())
