"""Servers of ours on one Redis by the classic adapter's format, and what goes wrong there."""

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio

from tests.backplane.redis.waiting import until
from tests.backplane.socketio_redis.cluster import QUICK, new_node
from tests.parts.valkey import Valkey
from trio_rt import BackplaneRefused, MisuseError, SocketIORedis
from trio_rt.backplane.base import Backplane
from trio_rt.backplane.socketio_redis import SocketIORedisBackplane
from trio_rt.backplane.socketio_redis.names import Names
from trio_rt.config import Config
from trio_rt.testing import Client, Host, hosting
from trio_rt.testing.backplane_contract import BACKPLANE_CHECKS, BackplaneCheck


@asynccontextmanager
async def nodes(url: str, key: str, count: int = 2, **changes: Any) -> AsyncGenerator[list[Host]]:
    """Servers of ours that hear each other."""
    async with AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(hosting(new_node(url, key, **changes)))
            for _ in range(count)
        ]
        await until(lambda: all(backplane_of(host).is_ready for host in hosts))
        yield hosts


def backplane_of(host: Host) -> SocketIORedisBackplane:
    backplane = host.app.backplane
    assert isinstance(backplane, SocketIORedisBackplane)
    return backplane


async def come(host: Host, *rooms: str, name: str = "") -> Client:
    client = await host.connect(auth={"rooms": rooms, "name": name})
    await client.call("ready")
    return client


def count_of(server: Valkey, key: str) -> int:
    ((_, count),) = server.client.pubsub_numsub(f"{key}-request#/#")
    return int(count)


@pytest.fixture
async def both(server: Valkey, key: str):
    async with nodes(server.url, key) as hosts:
        yield hosts


@pytest.mark.parametrize("check", BACKPLANE_CHECKS, ids=lambda check: check.__name__)
async def test_contract(server: Valkey, key: str, autojump_clock, check: BackplaneCheck) -> None:
    """What one node promises is kept, as there is nothing else: Redis need not be there for it."""

    @asynccontextmanager
    async def open_backplane(config: Config) -> AsyncGenerator[Backplane]:
        backplane = SocketIORedis.from_url(server.url, key=key)
        backplane.open(config)
        yield backplane

    await check(open_backplane)


# --- Two of ours


async def test_events(both: list[Host]) -> None:
    """Events of one server reach the members on the other, without those who are left out."""
    one, other = await come(both[0], "a"), await come(both[1], "a", "b")
    await both[0].app.to("a").emit("n", 1, b"\x00")
    assert await one.expect("n") == await other.expect("n") == (1, b"\x00")
    await both[1].app.to("a").except_("b").emit("n", 2)
    await both[1].app.all.emit("n", 3)
    assert [await one.expect("n") for _ in range(2)] == [2, 3]
    assert await other.expect("n") == 3


async def test_own_socket_is_nobody_elses(both: list[Host], server: Valkey, key: str) -> None:
    """What is for a single client of this server does not go to the others."""
    client = await come(both[0])
    (socket,) = both[0].app.get_namespace("/").sockets.values()
    with server.client.pubsub(ignore_subscribe_messages=True) as spy:
        spy.psubscribe(f"{key}#*")
        spy.get_message(timeout=1)  # the confirmation
        await socket.emit("n", 1)
        await both[0].app.to(socket.id).emit("n", 2)
        await both[0].app.to("nobody").emit("n", 3)
        assert [await client.expect("n") for _ in range(2)] == [1, 2]
        heard: list[Any] = []

        def look() -> bool:
            message = spy.get_message()
            if message is not None:
                heard.append(message["channel"])
            return bool(heard)

        await until(look)
        assert heard == [f"{key}#/#nobody#".encode()]


async def test_questions(both: list[Host]) -> None:
    """Everything that can be asked and done to sockets works among ours as well."""
    server = both[0].app
    one, other = await come(both[0], "a"), await come(both[1], "a", name="Bob")
    found = await server.to("a").sockets()
    assert sorted(socket.data["name"] for socket in found.sockets) == ["", "Bob"]
    assert {socket.rooms for socket in found.sockets} == {frozenset({"a"})}
    assert (await server.to("a").join("x")).count == 2
    await server.to("x").emit("n", 1)
    assert await other.expect("n") == 1
    assert (await server.to("a").leave("x")).count == 2
    assert (await server.to("x").count()).count == 0
    async with trio.open_nursery() as nursery:

        async def answer(client: Client, value: Any) -> None:
            while (packet := await client.receive()).data[0] != "q":
                pass
            await client.acknowledge(packet, value)

        nursery.start_soon(answer, one, [1])
        nursery.start_soon(answer, other, b"\x02")
        replies = await server.to("a").call("q", timeout=3)
    assert [value for value in replies.answers.values() if value == b"\x02"]
    assert len(replies.answers) == 2
    assert replies.missing == frozenset()
    assert (await server.all.disconnect()).count == 2
    await one.expect_put_out()
    await other.expect_put_out()


async def test_server_events(both: list[Host]) -> None:
    """Handlers of the other server run, and answer with bytes too."""
    for number, host in enumerate(both):

        @host.app.on_server_event("who")
        async def who(number: int = number) -> Any:
            return {"number": number, "bytes": b"\x00"}

    replies = await both[0].app.server_call("who")
    assert list(replies.answers.values()) == [{"number": 1, "bytes": b"\x00"}]


async def test_what_is_of_one_node(both: list[Host]) -> None:
    """Presence is that of one node: another server of whatever kind could not say it."""
    (await come(both[1], "a")).close()
    present = await both[0].app.to("a").presence(timeout=1)
    assert (dict(present.users), present.missing_nodes) == ({}, frozenset())
    assert backplane_of(both[0]).nodes == {backplane_of(both[0]).node}


async def test_counted_once(both: list[Host], server: Valkey, key: str) -> None:
    """Each server is counted once, after a lost link too, and not any more when it has ended."""
    assert count_of(server, key) == 2
    async with nodes(server.url, key, 1):
        assert count_of(server, key) == 3
    await until(lambda: count_of(server, key) == 2)

    def listeners() -> set[str]:
        clients = server.client.client_list()
        return {client["id"] for client in clients if client["name"].endswith("-socketio")}

    before = listeners()
    for id in before:
        server.client.client_kill_filter(_id=id)
    await until(lambda: len(listeners() - before) == len(both))
    await until(lambda: all(backplane_of(host).is_ready for host in both))
    assert count_of(server, key) == 2


# --- What nobody should send


async def test_nonsense(both: list[Host], server: Valkey, key: str, caplog) -> None:
    """Messages that are none are logged once, and what comes after them is heard."""
    caplog.set_level(logging.DEBUG)
    client = await come(both[0], "a")
    noise = [b"", b"\xc1", b"{", b"\x93", b"\x91" * 5000, b'{"type":99}', b"\xff\x1b[31m", b"null"]
    for data in noise:
        server.client.publish(f"{key}#/#", data)
        server.client.publish(f"{key}#/#a#", data)
        server.client.publish(f"{key}-request#/#", data)
        server.client.publish(f"{key}-response#/#", data)
    wrong = [
        {"type": 7, "requestId": "r", "packet": {"data": ["connect"]}, "opts": {}},
        {"type": 2, "opts": {"rooms": []}, "rooms": [""]},
        {"type": 3, "requestId": "r"},
        {"type": 6, "data": []},
        {"type": 6, "data": [{}]},
        {"type": 5, "requestId": "r", "opts": 1},
    ]
    for request in wrong:
        server.client.publish(f"{key}-request#/#", json.dumps(request))
    await both[1].app.to("a").emit("n", 1)
    assert await client.expect("n") == 1
    errors = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(errors) == 2, "one for each server"
    assert all("is ignored, and so are others like it" in error.getMessage() for error in errors)
    assert backplane_of(both[0]).ignored == 4 * len(noise) + len(wrong)


async def test_requests_of_strangers(both: list[Host], server: Valkey, key: str) -> None:
    """Requests without options or a timeout, and responses that nobody asked for, do no harm."""
    client = await come(both[0], "a")
    (id,) = both[0].app.get_namespace("/").sockets
    for request in (
        {"type": 5, "requestId": "r"},
        {"type": 2, "requestId": "old", "sid": id, "room": "b"},
        {"type": 3, "requestId": "old", "sid": id, "room": "a"},
        {"type": 6, "requestId": "s", "data": ["unknown"]},
    ):
        server.client.publish(f"{key}-request#/#", json.dumps(request))
    for response in ({"requestId": "r"}, {"requestId": "nobody", "type": 9, "packet": 1}):
        server.client.publish(f"{key}-response#/#", msgspec.msgpack.encode(response))
    await both[1].app.to("b").emit("n", 1)
    assert await client.expect("n") == 1
    await both[1].app.to("a").emit("n", 2)
    await client.expect_nothing()


async def test_responses_of_old_servers(both: list[Host], server: Valkey, key: str) -> None:
    """Orders in the old form are answered, as whoever sends them waits for that."""
    await come(both[0])
    (id,) = both[0].app.get_namespace("/").sockets
    with server.client.pubsub(ignore_subscribe_messages=True) as peer:
        peer.subscribe(f"{key}-response#/#")
        peer.get_message(timeout=1)
        order = {"type": 4, "requestId": "r", "sid": id, "close": False}
        server.client.publish(f"{key}-request#/#", json.dumps(order))
        found: list[Any] = []

        def look() -> bool:
            message = peer.get_message()
            if message is not None:
                found.append(json.loads(message["data"]))
            return len(found) == 2

        await until(look)
    assert found == [{"requestId": "r"}] * 2
    assert not both[0].app.get_namespace("/").sockets


# --- Failure


async def test_redis_away(own_server: Valkey, key: str, caplog) -> None:
    """Without Redis a server goes on by itself, says so in one line, and is back by itself."""
    caplog.set_level(logging.WARNING)
    async with nodes(own_server.url, key) as hosts:
        one, other = await come(hosts[0], "a"), await come(hosts[1], "a")
        own_server.kill()
        await until(lambda: not backplane_of(hosts[0]).is_ready)
        app = hosts[0].app
        with trio.fail_after(QUICK.wait_timeout):
            for number in range(3):
                await app.to("a").emit("n", number)
                app.to("a").emit_nowait("n", number)
            assert (await app.to("a").count()).missing_nodes == {"the other servers"}
            assert (await app.to("a").join("b")).count == 1
            assert (await app.server_call("x")).missing_nodes == {"the other servers"}
            await app.server_emit("x")
        assert [await one.expect("n") for _ in range(6)] == [0, 0, 1, 1, 2, 2]
        assert backplane_of(hosts[0]).dropped == 6
        texts = [record.getMessage() for record in caplog.records]
        assert len([text for text in texts if "events stay on this node" in text]) == 1
        own_server.start()
        await until(lambda: all(backplane_of(host).is_ready for host in hosts))
        await app.to("a").emit("n", 9)
        assert await other.expect("n") == 9
        assert await one.expect("n") == 9
        assert "they have missed 6 messages" in caplog.text


async def test_redis_stands_still(own_server: Valkey, key: str) -> None:
    """While Redis does not answer local events are not late, and questions end in time."""
    async with nodes(own_server.url, key) as hosts:
        client = await come(hosts[0], "a")
        own_server.pause()
        try:
            with trio.fail_after(QUICK.wait_timeout):
                await hosts[0].app.to("a").emit("n", 1)
                assert await client.expect("n") == 1
                total = await hosts[0].app.to("a").count(timeout=0.2)
            assert (total.count, total.missing_nodes) == (1, {"the other servers"})
        finally:
            own_server.resume()


async def test_starts_without_redis(own_server: Valkey, key: str) -> None:
    """A server that starts while Redis is away serves at once, and joins when it is there."""
    own_server.kill()
    async with hosting(new_node(own_server.url, key)) as host:
        client = await come(host, "a")
        await host.app.to("a").emit("n", 1)
        assert await client.expect("n") == 1
        own_server.start()
        await until(lambda: backplane_of(host).is_ready)
        assert count_of(own_server, key) == 1


async def test_last_words(server: Valkey, key: str) -> None:
    """What was emitted just before the end leaves."""
    async with nodes(server.url, key, 1) as [listener]:
        client = await come(listener, "a")
        async with nodes(server.url, key, 1) as [speaker]:
            for number in range(500):
                await speaker.app.to("a").emit("n", number)
        assert [await client.expect("n") for _ in range(500)] == list(range(500))


async def test_crowd(both: list[Host]) -> None:
    """A loop of emissions is no faster than Redis takes them: none is dropped."""
    client = await come(both[1], "end")
    for number in range(15_000):
        await both[0].app.to("nobody").emit("n", number)
    await both[0].app.to("end").emit("end")
    await client.expect("end")
    assert backplane_of(both[0]).dropped == 0


async def test_too_much(both: list[Host], server: Valkey, caplog) -> None:
    """What does not wait is dropped when too much waits, and that is said once."""
    client = await come(both[1], "a")
    text = "x" * 1_000_000
    for _ in range(12):
        both[0].app.to("nobody").emit_nowait("n", text)
    assert 3 <= backplane_of(both[0]).dropped <= 5
    assert len([r for r in caplog.records if "events stay on this node" in r.message]) == 1
    while not client.rest():
        await both[0].app.to("a").emit("n", 1)
        await trio.sleep(0.01)


async def test_no_right_to_listen(own_server: Valkey, key: str) -> None:
    """A server that may not listen says so at the start, instead of being deaf."""
    own_server.client.acl_setuser(
        "deaf", enabled=True, passwords=["+secret"], commands=["+@all"], channels=["other"]
    )
    url = own_server.url.replace("redis://", "redis://deaf:secret@")
    backplane = SocketIORedis.from_url(url, key=key)
    backplane.open(Config())
    backplane.begin_namespace("/")
    refused = pytest.RaisesExc(BackplaneRefused, match="no right to listen")
    with trio.fail_after(5), pytest.RaisesGroup(refused, flatten_subgroups=True):
        await backplane.run()


# --- Names


def test_names() -> None:
    """Channels are called as the adapter calls them; a pattern means only what it says."""
    names = Names("socket.io")
    assert names.broadcasts("/") == b"socket.io#/#*"
    assert names.broadcast("/", ()) == names.broadcast("/", ("a", "b")) == "socket.io#/#"
    assert names.broadcast("/", ("a",)) == "socket.io#/#a#"
    assert names.requests("/x") == "socket.io-request#/x#"
    assert names.responses("/x") == "socket.io-response#/x#"
    assert names.own_responses("/x", "u") == "socket.io-response#/x#u#"
    assert names.broadcasts(r"/a*b[c]?\d") == rb"socket.io#/a\*b\[c\]\?\\d#*"


def test_misuse() -> None:
    """A key that is nothing, and a URL of something else, are told at once."""
    with pytest.raises(MisuseError, match="key"):
        SocketIORedis.from_url("redis://localhost", key="")
    with pytest.raises(MisuseError, match="redis://"):
        SocketIORedis.from_url("http://localhost", settings=QUICK)
