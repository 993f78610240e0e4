"""Events between servers: alone, with neighbours that the test plays, and by a real Redis."""

import logging
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from trio.testing import wait_all_tasks_blocked

from tests.backplane.redis.cluster import nodes
from tests.parts import valkey
from tests.test_queries import Neighbours
from trio_rt import MisuseError, Refuse, Server
from trio_rt.backplane.base import Question
from trio_rt.codec import questions
from trio_rt.codec.questions import ServerAnswer, ServerEvent
from trio_rt.testing import hosting


@attrs.frozen
class Reload:
    what: str
    hard: bool = False


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with valkey.running() as server:
        yield server.url


def make_server(neighbours: Neighbours) -> Server:
    server = Server(backplane=neighbours)

    @server.on_server_event("add")
    async def add(a: int, b: int = 1) -> int:
        if a == 13:
            raise Refuse("unlucky", "not that one", {"a": a})
        return a + b if b else a // b

    return server


async def ask(server: Server, neighbours: Neighbours, *arguments: Any, event: str = "add") -> Any:
    """What the server answers another one's call."""
    asked = questions.encode(ServerEvent("/", event, list(arguments), True))
    neighbours.bring(server, Question("id", "one", asked))
    await wait_all_tasks_blocked()
    return questions.decode_server_answer(neighbours.answered["id"]).value


async def test_alone(autojump_clock) -> None:
    """A single server has nobody to ask, and does not ask itself."""
    server = Server()

    @server.on_server_event("add")
    async def add(a: int) -> None:
        raise AssertionError("our own")

    async with hosting(server):
        await server.server_emit("add", 1)
        replies = await server.server_call("add", 1)
        assert (dict(replies.answers), replies.missing_nodes) == ({}, frozenset())


async def test_answers(autojump_clock) -> None:
    """Answers of other nodes are gathered; the silent ones, and those without sense, are named."""
    good = questions.encode(ServerAnswer({"load": b"\x01"}))
    neighbours = Neighbours(one=good, two=b"\xc1")
    server = make_server(neighbours)
    async with hosting(server):
        replies = await server.namespace("/games").server_call("load", Reload("all"), timeout=2)
        assert replies.answers == {"one": {"load": b"\x01"}}
        assert replies.missing_nodes == {"two", "gone"}
    arguments = [{"what": "all", "hard": False}]
    assert neighbours.asked == [ServerEvent("/games", "load", arguments, True)]


async def test_emit_that_is_not_heard(autojump_clock, caplog) -> None:
    """Nodes that may have missed an event are logged."""
    caplog.set_level(logging.WARNING)
    neighbours = Neighbours()
    server = make_server(neighbours)
    async with hosting(server):
        await server.server_emit("load")
    assert neighbours.asked == [ServerEvent("/", "load", [], False)]
    assert "may not have reached gone" in caplog.text


async def test_handlers_answer(autojump_clock) -> None:
    """What a handler returns, refuses or does not take is the answer."""
    neighbours = Neighbours()
    server = make_server(neighbours)
    async with hosting(server):
        assert await ask(server, neighbours, 1, 2) == 3
        assert await ask(server, neighbours, 1) == 2
        assert (await ask(server, neighbours, 13))["error"] == {
            "code": "unlucky",
            "message": "not that one",
            "details": {"a": 13},
        }
        assert (await ask(server, neighbours, "x"))["error"]["code"] == "invalid"
        assert await ask(server, neighbours, event="unknown") is None


async def test_handler_fails(autojump_clock, caplog) -> None:
    """A failure is logged with an id, which is all that the other node is told."""
    neighbours = Neighbours()
    server = make_server(neighbours)

    @server.on_server_event("strange")
    async def strange() -> Any:
        return object()

    async with hosting(server):
        for arguments, event in (((1, 0), "add"), ((), "strange")):
            caplog.clear()
            error = (await ask(server, neighbours, *arguments, event=event))["error"]
            assert error["code"] == "internal"
            assert error["details"]["id"] in caplog.text


async def test_emitted(autojump_clock) -> None:
    """An emitted event is answered before its handler is done."""
    neighbours = Neighbours()
    server = Server(backplane=neighbours)
    seen: list[Any] = []

    @server.on_server_event("reload")
    async def reload(change: Reload) -> None:
        assert neighbours.answered["id"]
        seen.append(change)

    async with hosting(server):
        asked = questions.encode(ServerEvent("/", "reload", [{"what": "all"}], False))
        neighbours.bring(server, Question("id", "one", asked))
        await wait_all_tasks_blocked()
        assert seen == [Reload("all")]


async def test_misuse(autojump_clock) -> None:
    """What cannot work is told at once."""
    server = Server()
    with pytest.raises(MisuseError, match="on_server_event"):

        @server.on_server_event("sync")
        def sync() -> None: ...  # type: ignore[type-var]

    async def twice() -> None: ...

    server.on_server_event("twice")(twice)
    with pytest.raises(MisuseError, match="one event, one handler"):
        server.on_server_event("twice")(twice)
    for name in ("connection", "connect", "new_namespace", "*", 3):
        with pytest.raises(MisuseError):
            await server.server_emit(name)  # type: ignore[arg-type]
    with pytest.raises(MisuseError, match="cannot be sent"):
        await server.server_call("reload", object())
    with pytest.raises(MisuseError, match="on_server_event"):
        server.on_server_event(server.all)  # type: ignore[arg-type]


async def test_by_redis(redis_url: str) -> None:
    """Through the Redis backplane the others answer, by their names, and the asker does not."""
    async with nodes(redis_url, 3) as hosts:
        for number, host in enumerate(hosts):

            @host.app.on_server_event("who")
            async def who(text: str, number: int = number) -> Any:
                return [number, text, b"\x00"]

        asker = hosts[0].app
        replies = await asker.server_call("who", "é")
        answers = {host.app.backplane.node: [n, "é", b"\x00"] for n, host in enumerate(hosts)}
        del answers[asker.backplane.node]
        assert (replies.answers, replies.missing_nodes) == (answers, frozenset())
