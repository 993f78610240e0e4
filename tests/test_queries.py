"""What is asked about sockets, and done to them; on one node here, and in tests/cluster on many."""

import logging
from collections.abc import Iterable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_rt import Anonymous, LimitError, MisuseError, Server
from trio_rt.app import App
from trio_rt.backplane.base import Answers, Arrival, Gap, Question
from trio_rt.backplane.memory import MemoryBackplane
from trio_rt.codec import questions
from trio_rt.codec.questions import Count, Find, Gathered, SocketInfo
from trio_rt.testing import Client, Host, hosting


class Neighbours(MemoryBackplane):
    """A backplane with other nodes, which say what the test says."""

    def __init__(self, **answers: bytes) -> None:
        super().__init__()
        self.others = answers
        self.asked: list[Any] = []
        self.answered: dict[str, bytes] = {}

    async def ask(
        self, body: bytes, *, nodes: Iterable[str] | None = None, timeout: float
    ) -> Answers:
        self.asked.append(questions.decode_question(body))
        return Answers(self.others, frozenset({"gone"}))

    def answer(self, question: Question, body: bytes) -> None:
        self.answered[question.id] = body

    def bring(self, app: App, *arrivals: Arrival) -> None:
        """Something arrives from another node."""
        self._arrived.extend(arrivals)
        app.deliver_arrived()


def make_server(backplane: MemoryBackplane | None = None) -> Server:
    server = Server(auth=Anonymous(), backplane=backplane, max_rooms=3)

    @server.on_connect
    async def enter(socket):
        socket.data["seen"] = 1
        await socket.join(*socket.handshake.auth.get("rooms", []))

    return server


async def come(host: Host, *rooms: str) -> Client:
    return await host.connect(auth={"rooms": rooms})


async def test_who_and_how_many(autojump_clock) -> None:
    """Members are found with what they are, as targets mean them."""
    server = make_server()
    async with hosting(server) as host:
        for rooms in (["a"], ["a", "b"], ["b"], []):
            await come(host, *rooms)
        found = await server.to("a").except_("b").sockets()
        (only,) = found.sockets
        socket = server.all.namespace.sockets[only.id]
        assert only == SocketInfo(socket.id, "/", socket.user.id, "", frozenset({"a"}), {"seen": 1})
        assert found.missing_nodes == frozenset()
        assert (await server.to("a", "b").count()).count == 3
        assert (await server.all.count()).count == 4
        assert (await server.to("nobody").count()).count == 0
        assert (await server.to(socket.id).count()).count == 1


async def test_moved_and_put_out(autojump_clock) -> None:
    """Members join, leave and are put out together; one that is in too many rooms stays."""
    server = make_server()
    gone: list[str] = []

    @server.on_disconnect
    async def bye(socket, reason):
        gone.append(reason.code)

    async with hosting(server) as host:
        ann, bob = await come(host, "a"), await come(host, "a", "b", "c")
        assert (await server.to("a").join("x")).count == 2
        assert (await server.to("x").count()).count == 1
        assert (await server.to("a").leave("a", "x")).count == 2
        assert (await server.to("a").count()).count == 0
        assert (await server.all.disconnect(close=True)).count == 2
        await ann.expect_put_out()
        await bob.expect_put_out()
        await ann.expect_end(1000)
        assert gone == ["server namespace disconnect"] * 2


async def test_other_nodes(autojump_clock) -> None:
    """What other nodes say counts as well; those that are gone are named."""
    there = SocketInfo("s", "/", "u", "U", frozenset({"a"}), {})
    neighbours = Neighbours(one=questions.encode([there]), two=questions.encode([]))
    server = make_server(neighbours)
    async with hosting(server) as host:
        await come(host, "a")
        found = await server.to("a").sockets()
        assert len(found.sockets) == 2
        assert there in found.sockets
        assert found.missing_nodes == {"gone"}
        assert neighbours.asked == [Find("/", ("a",), ())]
        neighbours.others = {"one": questions.encode(40), "two": questions.encode(2)}
        assert (await server.to("a").count()).count == 43
        neighbours.others = {"one": questions.encode(Gathered({"s": [1, 2]}, ["t"]))}
        replies = await server.to("nobody").call("question", timeout=1)
        assert replies.answers == {"s": (1, 2)}
        assert (replies.missing, replies.missing_nodes) == ({"t"}, {"gone"})


async def test_only_this_node(autojump_clock) -> None:
    """A local target asks nobody else."""
    neighbours = Neighbours(one=questions.encode(40))
    server = make_server(neighbours)
    async with hosting(server) as host:
        await come(host, "a")
        assert (await server.to("a").local.count()).count == 1
        assert neighbours.asked == []


async def test_answer_that_makes_no_sense(autojump_clock, caplog) -> None:
    """A node that answers something else is named as missing, and the others count."""
    caplog.set_level(logging.WARNING)
    server = make_server(Neighbours(one=b"\xc1", two=questions.encode("x"), three=b"\x02"))
    async with hosting(server):
        total = await server.to("a").count()
        assert (total.count, total.missing_nodes) == (2, {"one", "two", "gone"})
    assert "node one" in caplog.text


async def test_asked_by_another_node(autojump_clock, caplog) -> None:
    """Questions of other nodes are answered; those that nobody understands are not."""
    caplog.set_level(logging.WARNING)
    neighbours = Neighbours()
    server = make_server(neighbours)
    async with hosting(server) as host:
        await come(host, "a")
        bodies = {
            "count": questions.encode(Count("/", ("a",), ())),
            "elsewhere": questions.encode(Count("/unknown", (), ())),
            "find": questions.encode(Find("/unknown", (), ())),
            "nonsense": b"\xc1",
        }
        neighbours.bring(server, *(Question(id, "other", body) for id, body in bodies.items()))
        await wait_all_tasks_blocked()
        assert neighbours.answered == {"count": b"\x01", "elsewhere": b"\x00", "find": b"\x90"}
    assert "node other" in caplog.text


async def test_gap(autojump_clock) -> None:
    """Who may have missed something of a room begins anew; others notice nothing."""
    neighbours = Neighbours()
    server = make_server(neighbours)
    async with hosting(server) as host:
        ann, bob = await come(host, "a"), await come(host, "b")
        claim = ann.claim()
        neighbours.bring(server, Gap("/", "a"), Gap("/unknown", "a"), Gap("/", "nobody"))
        await ann.expect_end(1012)
        assert (await come(host)).recovered == set()
        again = await host.connect(auth=claim)
        assert again.recovered == set()
        await bob.expect_nothing()


async def test_misuse(autojump_clock) -> None:
    """One socket is asked directly, and rooms have names."""
    server = make_server()
    caught: list[str] = []

    @server.on("go")
    async def go(socket):
        for act in (socket.volatile.count(), socket.volatile.sockets(), server.all.join("")):
            with pytest.raises(MisuseError):
                await act
            caught.append("one")

    async with hosting(server) as host:
        client = await come(host)
        await client.call("go")
        assert caught == ["one"] * 3


async def test_limit_of_rooms_is_told_where_it_is_the_callers(autojump_clock) -> None:
    """A socket that joins too many rooms by itself is told so."""
    server = make_server()
    told = trio.Event()

    @server.on("more")
    async def more(socket):
        with pytest.raises(LimitError):
            await socket.join("a", "b", "c", "d")
        told.set()

    async with hosting(server) as host:
        await (await come(host)).call("more")
        assert told.is_set()
