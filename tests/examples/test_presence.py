"""The presence example, as its page uses it."""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio

from tests.examples.tab import fetch, open_tab
from trio_rt import Server

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "examples" / "presence" / "server.py"


@pytest.fixture
def presence(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The example, as if it had just been started."""
    spec = importlib.util.spec_from_file_location("presence_example", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def server(presence: ModuleType, nursery: trio.Nursery) -> Server:
    """The example's server, serving."""
    await nursery.start(presence.server.serve, "127.0.0.1", 0)
    return presence.server


async def token(server: Server, name: str) -> dict[str, str]:
    status, _, body = await fetch(server, "/dev/token", {"name": name})
    assert status == 200
    return json.loads(body)


async def test_page(server: Server) -> None:
    """The page is at the root, beside its scripts, under a strict policy."""
    status, headers, body = await fetch(server, "/")
    policy = {name.lower(): value for name, value in headers.items()}["content-security-policy"]
    assert (status, server.web_port) == (200, server.port)
    assert b'data-testid="login-name"' in body
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    for path in ["/app.js", "/style.css", "/vendor/socket.io.esm.min.js"]:
        assert (await fetch(server, path))[0] == 200


@pytest.mark.parametrize("name", ["", " ", " Ada", "Ada\n", "x" * 33, None, ["Ada"]])
async def test_bad_name(server: Server, name: Any) -> None:
    """A name that does not fit gets no token, and an answer that says so."""
    status, _, body = await fetch(server, "/dev/token", {"name": name})
    assert status == 400
    assert json.loads(body)["error"]["code"] == "invalid"


@pytest.mark.parametrize("auth", [None, {"token": "none"}])
async def test_refused(server: Server, auth: dict[str, str] | None) -> None:
    """Without a good token nobody gets in."""
    async with open_tab(server, auth) as stranger:
        assert "sid" not in stranger.connected
        assert stranger.connected["data"]["code"].startswith("token_")


async def test_two_tabs_find_each_other(server: Server) -> None:
    """Who comes later learns who is there, and who was there hears of it."""
    async with open_tab(server, await token(server, "Ada")) as ada:
        first = {"tab": ada.connected["sid"], "id": "Ada", "name": "Ada"}
        assert await ada.next("welcome") == {"visitors": [first], "messages": []}
        async with open_tab(server, await token(server, "Grace")) as grace:
            second = {"tab": grace.connected["sid"], "id": "Grace", "name": "Grace"}
            assert (await grace.next("welcome"))["visitors"] == [first, second]
            assert await ada.next("arrived") == second
        assert await ada.next("departed") == second


async def test_tabs_of_one_person(server: Server) -> None:
    """Several tabs of one name are told apart, and known to be one person's."""
    mine = await token(server, "Ada")
    async with open_tab(server, mine) as first:
        async with open_tab(server, mine) as second:
            visitors = (await second.next("welcome"))["visitors"]
            assert {visitor["id"] for visitor in visitors} == {"Ada"}
            assert len({visitor["tab"] for visitor in visitors}) == 2
        assert (await first.next("departed"))["tab"] == second.connected["sid"]


async def test_messages(server: Server) -> None:
    """A message reaches everybody, is acknowledged, and is there for who comes later."""
    async with (
        open_tab(server, await token(server, "Ada")) as ada,
        open_tab(server, await token(server, "Grace")) as grace,
    ):
        reply = await ada.call("say", {"id": "message-1", "text": "Hello"})
        said = await grace.next("said")
        assert said == {
            "id": "message-1",
            "who": "Ada",
            "name": "Ada",
            "text": "Hello",
            "at": reply["at"],
        }
        assert await ada.next("said") == said
        async with open_tab(server, await token(server, "Linus")) as late:
            assert (await late.next("welcome"))["messages"] == [said]


async def test_said_again(server: Server) -> None:
    """A message that is sent again after a lost answer is remembered once, as it was."""
    async with open_tab(server, await token(server, "Ada")) as ada:
        first = await ada.call("say", {"id": "message-1", "text": "Hello"})
        assert await ada.call("say", {"id": "message-1", "text": "changed"}) == first
        async with open_tab(server, await token(server, "Grace")) as grace:
            [message] = (await grace.next("welcome"))["messages"]
            assert message["text"] == "Hello"


async def test_memory_is_bounded(server: Server, presence: ModuleType) -> None:
    """Of many messages the last are remembered, in their order."""
    async with open_tab(server, await token(server, "Ada")) as ada:
        for number in range(presence.REMEMBERED + 2):
            await ada.call("say", {"id": f"message-{number}", "text": str(number)})
        async with open_tab(server, await token(server, "Grace")) as grace:
            messages = (await grace.next("welcome"))["messages"]
    assert [message["text"] for message in messages] == [
        str(number) for number in range(2, presence.REMEMBERED + 2)
    ]


@pytest.mark.parametrize(
    "payload",
    [
        {"id": "message-1", "text": ""},
        {"id": "message-1", "text": "x" * 2001},
        {"id": "1", "text": "Hello"},
        {"text": "Hello"},
        "Hello",
    ],
)
async def test_bad_message(server: Server, payload: Any) -> None:
    """A message that does not fit is answered with what is wrong, and nobody gets it."""
    async with open_tab(server, await token(server, "Ada")) as ada:
        reply = await ada.call("say", payload)
        assert reply["error"]["code"] == "invalid"
        assert reply["error"]["message"]
        assert await ada.heard_nothing("said")


async def test_typing(server: Server) -> None:
    """The others hear that somebody is typing; the typist does not."""
    async with (
        open_tab(server, await token(server, "Ada")) as ada,
        open_tab(server, await token(server, "Grace")) as grace,
    ):
        await ada.emit("typing")
        assert (await grace.next("typing"))["name"] == "Ada"
        assert await ada.heard_nothing("typing")


def run(port: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, PROGRAM],
        env={**os.environ, "PORT": str(port), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_program() -> None:
    """The program says where it is and that its secret is new, and ends in order at Ctrl+C."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with run(port) as program:
        assert program.stdout
        words = ""
        while "serving on" not in words:  # from here on Ctrl+C is the server's
            line = program.stdout.readline()
            assert line, words
            words += line
        assert f"http://127.0.0.1:{port}/" in words
        assert "TRIO_RT_JWT_SECRET is not set" in words
        program.send_signal(signal.SIGINT)
        rest = program.communicate(timeout=10)[0]
    assert "Traceback" not in rest


def test_port_taken() -> None:
    """If the port is taken, the program says so and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with run(port) as program:
            words = program.communicate(timeout=10)[0]
    assert program.returncode == 1
    assert f"Port {port} is taken" in words
    assert "Traceback" not in words
