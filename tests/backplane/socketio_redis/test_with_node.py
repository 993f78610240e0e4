"""Our server and Socket.IO's own are one server to their clients."""

import json
import re
from typing import Any

import pytest
import trio

from tests.backplane.redis.waiting import until
from tests.backplane.socketio_redis.cluster import Both
from tests.parts.valkey import Valkey
from trio_rt import MisuseError, Refuse
from trio_rt.codec.questions import SocketInfo
from trio_rt.testing import Client

VALUES: list[Any] = [
    None,
    True,
    1.5,
    -(2**40),
    "é\U0001f600",
    [1, [2]],
    {"a": {"b": []}},
    b"\x00\xff",
    {"deep": [b"\x01", "x"]},
]


# --- Events


async def test_room_of_ours(both: Both) -> None:
    """What Node emits to a room reaches its members here, and nobody else."""
    inside, outside = await both.ours("a"), await both.ours("b")
    await both.js("my.io.to('a').emit('said', ...values)", values=VALUES)
    assert list(await inside.expect("said")) == VALUES
    await outside.expect_nothing()


async def test_room_of_theirs(both: Both) -> None:
    """What we emit to a room reaches its members there, and nobody else."""
    await both.theirs("inside", "a")
    await both.theirs("outside", "b")
    await both.server.to("a").emit("said", *VALUES)
    await both.server.to("b").emit("end")
    assert await both.seen("inside", 1) == [["said", *VALUES]]
    assert await both.seen("outside", 1) == [["end"]]


async def test_everybody_and_several_rooms(both: Both) -> None:
    """Events for everybody, and for several rooms, reach each member of either server once."""
    here = await both.ours("a", "b")
    await both.theirs("there", "a", "b")
    await both.js("my.io.emit('n', 1); my.io.to(['a', 'b']).emit('n', 2);")
    assert [await here.expect("n") for _ in range(2)] == [1, 2]
    await both.server.all.emit("n", 3)
    await both.server.to("a", "b").emit("n", 4)
    assert [await here.expect("n") for _ in range(2)] == [3, 4]
    assert await both.seen("there", 4) == [["n", 1], ["n", 2], ["n", 3], ["n", 4]]
    await here.expect_nothing()


async def test_without_some(both: Both) -> None:
    """Members of excepted rooms, and excepted sockets, are left out on both servers."""
    here, not_here = await both.ours("a"), await both.ours("a", "b")
    await both.theirs("there", "a")
    not_there = await both.theirs("not_there", "a", "c")
    await both.js("my.io.to('a').except('b').except(id).emit('n', 1)", id=not_there)
    assert await here.expect("n") == 1
    await both.server.to("a").except_("b", not_there).emit("n", 2)
    assert await here.expect("n") == 2
    await not_here.expect_nothing()
    await both.js("my.io.to('c').emit('end')")
    assert await both.seen("not_there", 1) == [["end"]]
    assert await both.seen("there", 2) == [["n", 1], ["n", 2]]


async def test_single_socket(both: Both) -> None:
    """A socket's id reaches it wherever it is."""
    here = await both.ours()
    there = await both.theirs("there")
    (id,) = both.host.app.get_namespace("/").sockets
    await both.js("my.io.to(id).emit('n', 1)", id=id)
    assert await here.expect("n") == 1
    await both.server.to(there).emit("n", 2)
    assert await both.seen("there", 1) == [["n", 2]]


async def test_room_that_is_a_number(both: Both) -> None:
    """JavaScript's rooms may be numbers: here they are texts."""
    here = await both.ours("42")
    await both.js("my.io.to(42).emit('n', 1)")
    assert await here.expect("n") == 1
    await both.js("my.io.in(42).socketsJoin(43)")
    await until(lambda: "43" in both.host.app.get_namespace("/").rooms)


async def test_volatile_and_local(both: Both) -> None:
    """Volatile events cross, local ones stay."""
    here = await both.ours("a")
    await both.theirs("there", "a")
    await both.js("my.io.local.emit('n', 0)")
    await both.seen("there", 1)
    await both.js("my.io.volatile.emit('n', 1)")
    assert await here.expect("n") == 1
    await both.server.to("a").local.emit("n", 2)
    both.server.to("a").emit_nowait("n", 3)
    assert [await here.expect("n") for _ in range(2)] == [2, 3]
    assert await both.seen("there", 3) == [["n", 0], ["n", 1], ["n", 3]]


async def test_dates_and_what_json_has_not(both: Both) -> None:
    """Dates are what JSON has for them; undefined and NaN are nothing."""
    here = await both.ours()
    await both.js(
        "my.io.emit('said', new Date(0), undefined, NaN, {at: new Date(1500), no: undefined})"
    )
    assert await here.expect("said") == (
        "1970-01-01T00:00:00.000Z",
        None,
        None,
        {"at": "1970-01-01T00:00:01.500Z"},
    )


async def test_numbers_that_msgpack_has_not(both: Both) -> None:
    """Larger integers are floats, as all numbers are in JavaScript."""
    await both.theirs("there")
    await both.server.all.emit("said", 2**70, [-(2**70)], 2**53)
    assert await both.seen("there", 1) == [["said", 2.0**70, [-(2.0**70)], 2**53]]


async def test_order_of_one_side(both: Both) -> None:
    """Events of one server arrive in their order."""
    here = await both.ours("a")
    await both.theirs("there", "a")
    await both.js("for (let n = 0; n < 300; n++) my.io.to('a').emit('n', n)")
    assert [await here.expect("n") for _ in range(300)] == list(range(300))
    for number in range(300, 600):
        await both.server.to("a").emit("n", number)
    assert await both.seen("there", 600) == [["n", number] for number in range(600)]


@pytest.mark.parametrize("name", ["/games", "/g*m[e]", "/a\\b", "/é#x"])
async def test_namespaces_of_theirs(both: Both, server: Valkey, name: str) -> None:
    """Namespaces do not hear each other, whatever their names look like to Redis."""
    both.server.namespace(name)
    await both.js("my.io.of(name)", name=name)
    here = await both.ours()
    await here.connect(name)
    there = await both.ours()
    await until(lambda: both.count(server, name) == 2)
    await both.js("my.io.of(name).emit('n', 1); my.io.emit('n', 2)", name=name)
    assert await here.expect("n", namespace=name) == 1
    assert await here.expect("n") == 2
    assert await there.expect("n") == 2


@pytest.mark.parametrize("name", ["/games", "/é#x"])
async def test_namespaces_of_ours(both: Both, server: Valkey, name: str) -> None:
    """What we emit in a namespace is heard in Node's. Names with `*?[\\` make Node's own adapter
    deaf, as it takes them for patterns."""
    games = both.server.namespace(name)
    await both.js(
        """
        my.io.of(name);
        my.client = await connected(my.io, name);
        my.client.seen = diary(my.client);
        """,
        name=name,
    )
    await until(lambda: both.count(server, name) == 2)
    await both.server.all.emit("n", 1)
    await games.all.emit("n", 2)
    assert await both.seen("client", 1) == [["n", 2]]


async def test_name_within_a_name(both: Both, server: Valkey) -> None:
    """`/a` does not hear what is for `/a#b`, though its pattern does, and the other way round."""
    for name in ("/a", "/a#b"):
        both.server.namespace(name)
        await both.js("my.io.of(name)", name=name)
    await until(lambda: both.count(server, "/a") == both.count(server, "/a#b") == 2)
    client = await both.ours()
    await client.connect("/a")
    await client.connect("/a#b")
    await both.js("my.io.of('/a#b').emit('n', 1); my.io.of('/a').to('b').emit('n', 2)")
    assert await client.expect("n", namespace="/a#b") == 1
    await client.expect_nothing()


async def test_namespace_that_comes_and_goes(both: Both, server: Valkey) -> None:
    """A namespace that a pattern made is counted while somebody is in it."""
    both.server.namespace(re.compile(r"/room-\d"))
    assert both.count(server, "/room-1") == 0
    client = await both.ours()
    await client.connect("/room-1")
    await until(lambda: both.count(server, "/room-1") == 1)
    await client.leave("/room-1")
    await until(lambda: both.count(server, "/room-1") == 0)


async def test_missed_and_recovered(both: Both) -> None:
    """A client that comes back to our server gets what Node emitted meanwhile."""
    client = await both.ours("a")
    await both.js("my.io.to('a').emit('n', 1)")
    assert await client.expect("n") == 1
    claim = client.claim()
    client.close()
    await until(lambda: not both.host.app.get_namespace("/").sockets)
    other = await both.ours("a")
    await both.js("my.io.to('a').emit('n', 2); my.io.emit('n', 3)")
    assert [await other.expect("n") for _ in range(2)] == [2, 3]
    back = await both.host.open()
    await back.connect(auth=claim)
    assert back.claim()["pid"] == claim["pid"]
    assert [await back.expect("n") for _ in range(2)] == [2, 3]


# --- Questions of Node's


async def test_they_fetch_ours(both: Both) -> None:
    """fetchSockets finds our sockets with all that Node's have."""
    client = await both.host.connect(
        auth={"rooms": ["a"], "name": "Ann", "token": "secret"},
        headers={"cookie": "secret", "authorization": "secret", "origin": "http://x"},
    )
    await client.call("ready")
    await both.ours("b")
    there = await both.theirs("there", "a")
    found = await both.js(
        """
        const found = await my.io.in('a').fetchSockets();
        return found.map(({id, handshake, rooms, data}) =>
          ({id, handshake, rooms: [...rooms], data}));
        """
    )
    (ours,) = [socket for socket in found if socket["id"] != there]
    (id,) = [s.id for s in both.host.app.get_namespace("/").sockets.values() if "a" in s.rooms]
    assert ours["id"] == id
    assert sorted(ours["rooms"]) == sorted(["a", id])
    assert ours["data"] == {"name": "Ann"}
    handshake = ours["handshake"]
    assert handshake["query"]["EIO"] == "4"
    assert handshake["issued"] > 1.6e12
    assert handshake["auth"] == {}
    assert handshake["headers"] == {"origin": "http://x"}
    assert handshake["xdomain"] is True
    assert handshake.keys() == {
        "headers", "time", "address", "xdomain", "secure", "issued", "url", "query", "auth"
    }  # fmt: skip
    assert await both.js("return isNaN(new Date(time))", time=handshake["time"]) is False
    excepted = await both.js("return (await my.io.in('a').except('a').fetchSockets()).length")
    assert excepted == 0


async def test_they_ask_for_ids_and_rooms(both: Both, server: Valkey) -> None:
    """allRooms, and requests for ids as older servers send them, have ours."""
    await both.ours("a")
    (id,) = both.host.app.get_namespace("/").sockets
    there = await both.theirs("there", "b")
    rooms = await both.js("return [...await my.io.of('/').adapter.allRooms()]")
    assert sorted(rooms) == sorted(["a", "b", id, there])
    with server.client.pubsub(ignore_subscribe_messages=True) as peer:
        peer.subscribe(f"{both.key}-response#/#")
        request = {"uid": "peer", "requestId": "r", "type": 0, "rooms": ["a"]}
        server.client.publish(f"{both.key}-request#/#", json.dumps(request))
        found: list[Any] = []

        def look() -> bool:
            message = peer.get_message()
            if message is not None:
                found.append(json.loads(message["data"]))
            return len(found) == 2

        await until(look)
    assert {"requestId": "r", "sockets": [id]} in found


async def test_they_ask_an_empty_server(both: Both) -> None:
    """A server without clients answers at once, and so does one without any of the room."""
    assert await both.js("return await my.io.fetchSockets()") == []
    assert await both.js("return [...await my.io.of('/').adapter.allRooms()]") == []
    assert await both.js("return await my.io.timeout(4000).emitWithAck('x')") == []


async def test_they_move_ours(both: Both) -> None:
    """socketsJoin and socketsLeave move our sockets as well."""
    one, other = await both.ours("a"), await both.ours("a", "b")
    for number in range(20):  # in order with events
        await both.js(
            """
            my.io.in('a').except('b').socketsJoin(['x', 'y']);
            my.io.to('x').emit('n', n);
            my.io.in('x').socketsLeave('y');
            my.io.to('y').emit('n', 'nobody');
            my.io.in('x').socketsLeave('x');
            """,
            n=number,
        )
        assert await one.expect("n") == number
    await other.expect_nothing()


async def test_they_put_ours_out(both: Both) -> None:
    """disconnectSockets puts our sockets out, and closes connections when it says so."""
    one, other = await both.ours("a"), await both.ours("b")
    await both.js("my.io.in('a').disconnectSockets()")
    await one.expect_put_out()
    assert not one.has_ended
    await both.js("my.io.in('b').disconnectSockets(true)")
    await other.expect_put_out()
    await other.expect_end(1000)


async def test_they_call_ours(both: Both) -> None:
    """A broadcast with acknowledgement gathers those of our clients, bytes too."""
    await both.theirs("there", "a")
    await both.js("my.there.on('question', (n, answer) => answer('there'))")
    async with trio.open_nursery() as nursery:
        for value in ("one", b"\x02"):
            nursery.start_soon(answer_once, await both.ours("a"), value)
        found = await both.js("return await my.io.to('a').timeout(3000).emitWithAck('question', 7)")
    assert len(found) == 3
    assert all(value in found for value in ("there", "one", b"\x02"))


async def test_they_call_ours_and_one_is_silent(both: Both) -> None:
    """Who answers is heard in time although somebody else does not."""
    await both.ours("a")
    client = await both.ours("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_once, client, "here")
        found = await both.js(
            """
            return await new Promise((done) =>
              my.io.to('a').timeout(400).emit('question', 7, (error, answers) =>
                done([error !== null, answers])));
            """
        )
    assert found == [True, ["here"]]


async def answer_once(client: Client, value: Any) -> None:
    packet = await client.receive()
    assert packet.data[:2] == ["question", 7]
    await client.acknowledge(packet, value)


# --- Questions of ours


async def test_we_find_theirs(both: Both) -> None:
    """Node's sockets are found with their rooms and data, and counted."""
    there = await both.theirs("there", "a")
    await both.theirs("elsewhere", "b")
    await both.ours("a")
    found = await both.server.to("a").sockets()
    (id,) = both.host.app.get_namespace("/").sockets
    assert {socket.id for socket in found.sockets} == {there, id}
    assert found.sockets[1] == SocketInfo(there, "/", "", "", frozenset({"a"}), {"name": "there"})
    assert found.missing_nodes == frozenset()
    assert (await both.server.to("a").count()).count == 2
    assert (await both.server.all.count()).count == 3
    assert (await both.server.all.except_("b").count()).count == 2


async def test_we_move_theirs(both: Both) -> None:
    """Joining and leaving reach Node's sockets, and count them."""
    await both.theirs("there", "a")
    await both.ours("a")
    await both.server.to("x").emit("n", 0)
    total = await both.server.to("a").join("x", "y")
    assert (total.count, total.missing_nodes) == (2, frozenset())
    await both.server.to("x").emit("n", 1)
    await both.server.to("y").leave("x")
    await both.server.to("x").emit("n", 2)
    await both.server.to("y").emit("n", 3)
    assert await both.seen("there", 2) == [["n", 1], ["n", 3]]


async def test_we_put_theirs_out(both: Both) -> None:
    """Node's sockets are put out."""
    await both.theirs("there", "a")
    await both.theirs("other", "b")
    await both.js("my.gone = next(my.there, 'disconnect')")
    assert (await both.server.to("a").disconnect()).count == 1
    assert (await both.js("return await my.gone"))[0] == "io server disconnect"
    assert await both.js("return my.other.connected") is True


async def test_we_call_theirs(both: Both) -> None:
    """A call gathers the acknowledgements of both servers' clients."""
    await both.theirs("there", "a")
    await both.js("my.there.on('question', (n, answer) => answer({n, bytes: Buffer.from([9])}))")
    client = await both.ours("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_once, client, "here")
        replies = await both.server.to("a").call("question", 7, timeout=3)
    values = list(replies.answers.values())
    assert len(values) == 2
    assert "here" in values
    assert {"n": 7, "bytes": b"\x09"} in values
    assert (replies.missing, replies.missing_nodes) == (frozenset(), frozenset())


async def test_we_call_a_silent_one(both: Both) -> None:
    """A client of Node's that does not answer is missing, by a number."""
    await both.theirs("there", "a")
    await both.theirs("silent", "a")
    await both.js("my.there.on('question', (answer) => answer(1))")
    replies = await both.server.to("a").call("question", timeout=0.3)
    assert list(replies.answers.values()) == [1]
    assert len(replies.missing) == 1
    assert replies.missing_nodes == frozenset()


async def test_responses_for_us_alone(both: Both, server: Valkey) -> None:
    """Servers may be told to publish their responses for the asker alone."""
    await both.js(
        """
        my.third = await server(key, {publishOnSpecificResponseChannel: true});
        my.client = await connected(my.third);
        my.client.on('question', (answer) => answer('third'));
        """,
        key=both.key,
    )
    await both.theirs("there")
    await both.js("my.there.on('question', (answer) => answer('second'))")
    await until(lambda: both.count(server) == 3)
    total = await both.server.all.count()
    assert (total.count, total.missing_nodes) == (2, frozenset())
    replies = await both.server.all.call("question", timeout=3)
    assert sorted(replies.answers.values()) == ["second", "third"]
    assert await both.js("return (await my.third.fetchSockets()).length") == 2


async def test_server_that_is_silent(both: Both, server: Valkey) -> None:
    """A server that is counted and does not answer is named as missing, and holds no order up."""
    await both.theirs("there", "a")
    with server.client.pubsub() as dead:
        dead.subscribe(f"{both.key}-request#/#")
        await until(lambda: both.count(server) == 3)
        found = await both.server.to("a").sockets(timeout=0.3)
        assert len(found.sockets) == 1
        assert found.missing_nodes == {"silent server 1"}
        with trio.fail_after(4):  # a question takes five if nobody answers
            total = await both.server.to("a").join("x")
        assert (total.count, len(total.missing_nodes)) == (1, 1)
        await both.server.to("x").emit("n", 1)
        assert await both.seen("there", 1) == [["n", 1]]


# --- Events between servers


async def test_they_emit_to_our_server(both: Both) -> None:
    """serverSideEmit runs our handler, with validation, and not Node's own."""
    heard: list[Any] = []

    @both.server.on_server_event("reload")
    async def reload(what: str, how: dict[str, Any]) -> None:
        heard.append((what, how))

    await both.js("my.io.serverSideEmit('reload', 'all', {hard: true})")
    await until(lambda: heard)
    assert heard == [("all", {"hard": True})]


async def test_they_ask_our_server(both: Both) -> None:
    """serverSideEmit with an acknowledgement gets what our handler returns, whatever happens."""

    @both.server.on_server_event("load")
    async def load(scale: int) -> Any:
        if scale == 0:
            raise Refuse("zero", "no scale")
        return {"load": scale * 2}

    ask = "return await my.io.serverSideEmitWithAck(...args)"
    assert await both.js(ask, args=["load", 4]) == [{"load": 8}]
    (refused,) = await both.js(ask, args=["load", 0])
    assert refused["error"]["code"] == "zero"
    (invalid,) = await both.js(ask, args=["load", "x"])
    assert invalid["error"]["code"] == "invalid"
    assert await both.js(ask, args=["unknown"]) == [None]


async def test_we_emit_to_their_server(both: Both) -> None:
    """server_emit reaches the handlers in Node, and not ours."""

    @both.server.on_server_event("reload")
    async def reload(*values: Any) -> None:
        raise AssertionError("our own")

    await both.js("my.heard = []; my.io.on('reload', (...values) => my.heard.push(values))")
    await both.server.server_emit("reload", 1, {"a": ["é"]})
    await both.server.server_emit("reload", b"\x01")
    heard = await both.js(
        "while (my.heard.length < 2) await new Promise((done) => setTimeout(done, 5));"
        "return my.heard"
    )
    assert heard == [[1, {"a": ["é"]}], [b"\x01"]]


async def test_we_ask_their_server(both: Both) -> None:
    """server_call gathers the acknowledgements of Node's servers, and names the silent."""
    await both.js("my.io.on('load', (scale, answer) => answer({load: scale * 2}))")
    replies = await both.server.server_call("load", 4)
    assert list(replies.answers.values()) == [{"load": 8}]
    assert replies.missing_nodes == frozenset()
    silent = await both.server.server_call("unknown", timeout=0.2)
    assert (dict(silent.answers), len(silent.missing_nodes)) == ({}, 1)
    with pytest.raises(MisuseError):
        await both.server.server_emit("connection")


# --- The emitter


@pytest.fixture
async def emitting(both: Both) -> Both:
    await both.js("my.emitter = await emitter(key)", key=both.key)
    return both


async def test_emitter_emits(emitting: Both, server: Valkey) -> None:
    """What the emitter emits arrives, to rooms and without some; it is no server of the cluster."""
    one, other = await emitting.ours("a"), await emitting.ours("a", "b")
    await emitting.js(
        """
        my.emitter.emit('n', 1, Buffer.from([1]));
        my.emitter.to('b').emit('n', 2);
        my.emitter.to('a').except('b').emit('n', 3);
        my.emitter.volatile.to(['a', 'b']).emit('n', 4);
        """
    )
    assert [await one.expect("n") for _ in range(3)] == [(1, b"\x01"), 3, 4]
    assert [await other.expect("n") for _ in range(3)] == [(1, b"\x01"), 2, 4]
    assert emitting.count(server) == 2
    assert (await emitting.server.all.count(timeout=1)).missing_nodes == frozenset()


async def test_emitter_orders(emitting: Both) -> None:
    """The emitter's orders are carried out."""
    client = await emitting.ours("a")
    namespace = emitting.host.app.get_namespace("/")
    await emitting.js("my.emitter.in('a').socketsJoin('b')")
    await until(lambda: "b" in namespace.rooms)
    await emitting.js("my.emitter.in('b').socketsLeave(['a'])")
    await until(lambda: "a" not in namespace.rooms)
    await emitting.js("my.emitter.in('b').disconnectSockets(true)")
    await client.expect_put_out()
    await client.expect_end(1000)


async def test_emitter_to_servers(emitting: Both) -> None:
    """The emitter's serverSideEmit runs our handler."""
    heard: list[Any] = []

    @emitting.server.on_server_event("reload")
    async def reload(*values: Any) -> None:
        heard.append(values)

    await emitting.js("my.emitter.serverSideEmit('reload', 1, 'x')")
    await until(lambda: heard)
    assert heard == [(1, "x")]
