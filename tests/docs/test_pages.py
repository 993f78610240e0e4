"""Every piece of code in the documentation runs, and does what its page says."""

import attrs
import pytest
import trio

from tests.browser.program import free_port
from tests.docs.pages import DEADLINE, ROOT, blocks, run, run_async
from tests.parts import valkey
from trio_rt import (
    Anonymous,
    ConnectionState,
    JWTAuth,
    PresenceDiff,
    ReconnectLimits,
    RoomRef,
    Server,
    Socket,
    open_client,
)
from trio_rt.testing import MemoryDialer, hosting

TESTED = {
    ("README.md", "python"): 1,
    ("README.md", "js"): 1,
    ("docs/howto/chat.md", "python"): 1,
    ("docs/howto/chat.md", "js"): 1,
    ("docs/howto/chat.md", "html"): 1,
    ("docs/howto/client.md", "python"): 5,
    ("docs/howto/cluster.md", "python"): 2,
    ("docs/howto/node_cluster.md", "python"): 2,
    ("docs/howto/room.md", "python"): 1,
    ("docs/howto/room.md", "js"): 1,
    ("docs/howto/testing.md", "python"): 1,
    ("docs/topics/presence.md", "python"): 1,
    ("docs/topics/recovery.md", "python"): 1,
    ("docs/topics/rooms.md", "python"): 1,
    ("docs/topics/supervision.md", "python"): 1,
}
"""The blocks that the tests in this folder run, by page and language: a new one needs a test."""

SECRET = "a secret that nobody knows, of 32 bytes"
CLIENT = blocks("docs/howto/client.md")
CLUSTER = blocks("docs/howto/cluster.md")


def test_all_blocks_are_tested() -> None:
    """Each block of code is run by one of the tests here."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    names = [path.relative_to(ROOT).as_posix() for path in pages]
    found = {
        (name, language): len(blocks(name, language))
        for name in names
        for language in ("python", "js", "javascript", "py", "ts", "html")
        if blocks(name, language)
    }
    assert found == TESTED


# docs/howto/client.md


async def test_client_program(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    """Two of the first clients hear each other by way of the README's first program."""
    server = run(blocks("README.md")[0])["server"]
    await nursery.start(server.serve, "127.0.0.1", 0)
    program = CLIENT[0].replace("http://127.0.0.1:8000", server.url)
    shown = ""
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as clients:
            clients.start_soon(run(program)["main"])
            while "ok" not in shown or " Hello" not in shown:
                await trio.sleep(0.01)
                shown += capsys.readouterr().out
            clients.start_soon(run(program)["main"])
            while shown.count(" Hello") < 3:
                await trio.sleep(0.01)
                shown += capsys.readouterr().out
            clients.cancel_scope.cancel()
    nursery.cancel_scope.cancel()


async def test_changes(autojump_clock, capsys: pytest.CaptureFixture[str]) -> None:
    """What happens to the connection is printed as it happens."""
    async with hosting(Server(auth=Anonymous())) as host:
        dial = MemoryDialer(host)
        async with open_client("http://test", dial=dial) as client, trio.open_nursery() as nursery:
            nursery.start_soon(lambda: run_async(CLIENT[1], client=client))
            await client.wait_connected()
            dial.cut()
            await trio.sleep(10)
            nursery.cancel_scope.cancel()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4  # connected, backing off, connecting, connected
    assert lines[-1].endswith("True")


async def test_token(nursery: trio.Nursery) -> None:
    """A function is asked for the token."""
    auth = JWTAuth(SECRET)
    server = Server(auth=auth)
    await nursery.start(server.serve, "127.0.0.1", 0)

    async def fetch_token() -> str:
        return auth.issue("ada")

    with trio.fail_after(DEADLINE):
        code = CLIENT[2].replace("http://127.0.0.1:8000", server.url)
        await run_async(code, fetch_token=fetch_token, open_client=open_client)
    nursery.cancel_scope.cancel()


async def test_memory_dialer(autojump_clock) -> None:
    """A program's tests break its client's network."""
    names = await run_async(CLIENT[3], server=Server(auth=Anonymous()), open_client=open_client)
    assert names["client"].state is ConnectionState.CLOSED


async def test_handing_over(nursery: trio.Nursery) -> None:
    """A trio-websocket server hands a client over."""
    ours, theirs = free_port(), free_port()
    server = Server(auth=Anonymous(), share_port=True)
    code = CLIENT[4].replace("8001", str(ours)).replace("8000", str(theirs))
    nursery.start_soon(lambda: run_async(code, server=server, trio=trio))
    with trio.fail_after(DEADLINE):
        async with open_client(
            f"http://127.0.0.1:{theirs}", reconnect=ReconnectLimits(backoff_base=0.05)
        ) as client:
            await client.wait_connected()
    nursery.cancel_scope.cancel()


# docs/howto/cluster.md


async def test_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server is joined to a Redis, and its program uses that for its own."""
    monkeypatch.setenv("TRIO_RT_JWT_SECRET", SECRET)
    with valkey.running() as redis:
        server = run(CLUSTER[0].replace("redis://localhost", redis.url))["server"]
        async with hosting(server):
            with trio.fail_after(DEADLINE):
                names = await run_async(CLUSTER[1], server=server)
    assert names["text"] == b"hello"


# docs/topics


async def test_presence(autojump_clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Who comes is shown to the members, and told to the hook."""
    server = Server(auth=Anonymous())
    names = {"Socket": Socket, "RoomRef": RoomRef, "PresenceDiff": PresenceDiff}
    run(blocks("docs/topics/presence.md")[0], server=server, **names)
    async with hosting(server) as host:
        client = await host.connect()
        await client.expect("presence_state")
        await trio.sleep(1)
    assert "came: {'guest-" in capsys.readouterr().out


@attrs.frozen
class Order:
    id: str


async def test_idempotent(autojump_clock) -> None:
    """A resend is answered, and not run."""
    server = Server(auth=Anonymous())
    runs: list[str] = []
    program = blocks("docs/topics/recovery.md")[0].replace("...", "runs.append(order.id)")
    run(program, server=server, Socket=Socket, Order=Order, runs=runs)
    async with hosting(server) as host:
        client = await host.connect()
        for _ in range(2):
            assert await client.call("pay", {"id": "a"}) is None
    assert runs == ["a"]


async def test_supervision(autojump_clock) -> None:
    """A ticker runs, and a game is run until it has started."""
    ticks: list[float] = []

    async def tick_forever() -> None:
        while True:
            ticks.append(trio.current_time())
            await trio.sleep(1)

    class Game:
        async def run(self, *, task_status: trio.TaskStatus[str]) -> None:
            task_status.started("on")

    values: list[object] = []

    async def told(ended: object) -> None:
        values.append(ended)

    code = blocks("docs/topics/supervision.md")[0] + "    values.append(value)\n"
    with trio.move_on_after(3.5):
        await run_async(
            code, trio=trio, told=told, tick_forever=tick_forever, game=Game(), values=values
        )
    assert "on" in values
    assert len(ticks) == 4
