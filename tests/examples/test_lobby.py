"""The lobby example, as its page uses it."""

import hashlib
import json
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import attrs
import pytest
import trio

from tests.examples.lobby import FOLDER, load
from tests.examples.tab import fetch, open_tab
from trio_rt import Server
from trio_rt.machine.delta import apply
from trio_rt.testing import Client, Host, hosting

GAMES = "/games"
DEADLINE = 200.0
"""Seconds in which everything happens that a test waits for."""


@pytest.fixture
def lobby() -> ModuleType:
    """The example, as if it had just been started."""
    return load("server")


@pytest.fixture
async def server(lobby: ModuleType, nursery: trio.Nursery) -> Server:
    """The example's server, serving."""
    await nursery.start(lobby.server.serve, "127.0.0.1", 0)
    return lobby.server


async def test_page(server: Server) -> None:
    """The page is at the root, beside its scripts, under a strict policy."""
    status, headers, body = await fetch(server, "/")
    policy = {name.lower(): value for name, value in headers.items()}["content-security-policy"]
    assert (status, server.web_port) == (200, server.port)
    assert b'data-testid="login-name"' in body
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    for file in (FOLDER / "static").rglob("*.*"):
        path = f"/{file.relative_to(FOLDER / 'static')}"
        assert (path, (await fetch(server, path))[0]) == (path, 200)


def test_vendored() -> None:
    """The vendored files are those of the presence example, which has tests for them."""
    here, there = FOLDER / "static" / "vendor", FOLDER.parent / "presence" / "static" / "vendor"
    digests = [
        {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
        for folder in (here, there)
    ]
    assert digests[0] == digests[1] != {}


@pytest.mark.parametrize("name", ["", " ", " Ada", "Ada\n", "x" * 25, None, ["Ada"]])
async def test_bad_name(server: Server, name: Any) -> None:
    """A name that does not fit gets no token, and an answer that says so."""
    status, _, body = await fetch(server, "/dev/token", {"name": name})
    assert status == 400
    assert json.loads(body)["error"]["code"] == "invalid"


async def test_refused(server: Server) -> None:
    """Without a good token nobody gets in."""
    async with open_tab(server, {"token": "none"}) as stranger:
        assert stranger.connected["data"]["code"].startswith("token_")


# Flows, on a clock that does not wait


@pytest.fixture
async def host(lobby: ModuleType, errors: list[Any]) -> AsyncIterator[Host]:
    """The example in memory."""
    async with hosting(lobby.server) as host:
        yield host


@attrs.define
class Tab:
    """Somebody's page: it knows the state of its room as it was told."""

    client: Client
    state: Any = None
    version: int = 0
    told: list[list[Any]] = attrs.field(factory=list)

    async def ask(self, event: str, *payload: Any) -> Any:
        """What the server answers; of rooms, the state is kept."""
        answer = await self.client.call(event, *payload, namespace=GAMES)
        if isinstance(answer, dict) and "version" in answer:
            self.take(answer)
        return answer

    async def refused(self, event: str, *payload: Any) -> str:
        """The code of the refusal."""
        answer = await self.ask(event, *payload)
        return answer["error"]["code"]

    async def hear(self, event: str, **facts: Any) -> Any:
        """The next such event; those before it are not looked at any more."""
        with trio.fail_after(DEADLINE):
            while True:
                for at, (name, payload) in enumerate(self.told):
                    if name == event and facts.items() <= payload.items():
                        del self.told[: at + 1]
                        return payload
                self.told.clear()
                self.note(await self.client.receive())

    def look(self) -> Any:
        """The state by now."""
        for packet in self.client.rest():
            self.note(packet)
        return self.state

    def look_told(self, event: str) -> list[list[Any]]:
        """All such events by now."""
        self.look()
        return [told for told in self.told if told[0] == event]

    def take(self, view: Any) -> None:
        self.state, self.version = view["state"], view["version"]

    def note(self, packet: Any) -> None:
        if packet.type != 2:
            return
        event, payload = packet.data
        if event == "room:patch":
            if payload["version"] > self.version:
                assert payload["version"] == self.version + 1
                self.state = apply(self.state, payload["patch"])
                self.version = payload["version"]
        elif event == "room:state":
            self.take(payload)
        self.told.append([event, payload])


async def come(lobby: ModuleType, host: Host, name: str, **claim: Any) -> Tab:
    """One more tab of somebody."""
    return Tab(await host.connect(GAMES, {"token": lobby.auth.issue(name, name), **claim}))


async def gather(lobby: ModuleType, host: Host, *names: str) -> tuple[str, list[Tab]]:
    """A room with these players, the first of whom has made it."""
    tabs = [await come(lobby, host, name) for name in names]
    id = (await tabs[0].ask("room:create", {"options": {"title": "Tea"}}))["room"]
    for tab in tabs[1:]:
        await tab.ask("room:join", {"room": id})
    return id, tabs


async def begin(tabs: list[Tab]) -> None:
    """All are ready, and the round begins."""
    for tab in tabs:
        await tab.ask("room:ready")
    for tab in tabs:
        await tab.hear("room:phase", phase="playing")


async def test_list(autojump_clock, lobby: ModuleType, host: Host) -> None:
    """Who follows the list sees rooms come, fill, start and end."""
    eve = await come(lobby, host, "Eve")
    assert await eve.ask("room:list", {"live": True}) == {"rooms": []}
    id, tabs = await gather(lobby, host, "Ada", "Bob")
    await trio.sleep(1)
    entries = [entry for _, told in eve.look_told("rooms") for entry in told["changed"]]
    last = entries[-1]
    assert (last["room"], last["players"], last["seats"]) == (id, 2, 4)
    assert last["info"] == {"title": "Tea", "host": "Ada"}
    await begin(tabs)
    await trio.sleep(1)
    [entry] = (await eve.ask("room:list"))["rooms"]
    assert entry["phase"] == "playing"
    for tab in tabs:
        await tab.ask("room:leave", {"room": id})
    await trio.sleep(200)
    assert [id] in [told["gone"] for _, told in eve.look_told("rooms")]


async def test_round(autojump_clock, lobby: ModuleType, host: Host) -> None:
    """A round from ready to its end: everybody has the same floor, and the best has won."""
    _, [ada, bob] = await gather(lobby, host, "Ada", "Bob")
    assert bob.look()["colours"] == {"Ada": 1, "Bob": 2}
    assert "arena" not in bob.state
    assert await ada.refused("room:rematch") == "wrong_phase"
    await begin([ada, bob])
    await ada.ask("steer", "right")
    await bob.ask("steer", "up")
    await trio.sleep(2)
    await bob.ask("steer", "stop")
    await trio.sleep(10)
    assert ada.look() == bob.look()
    painters = ada.state["arena"]["painters"]
    assert painters["Ada"]["x"] == 23
    assert painters["Bob"]["heading"] == "stop"
    assert 48 <= ada.state["arena"]["left"] <= 49
    ended = await ada.hear("room:ended")
    assert ended["seconds"] == pytest.approx(120)
    await trio.sleep(1)
    standings = ada.look()["standings"]
    assert [(one["name"], one["place"]) for one in standings] == [("Ada", 1), ("Bob", 2)]
    assert standings[0]["tiles"] == 21
    assert bob.look()["standings"] == standings


async def test_rematch(autojump_clock, lobby: ModuleType, host: Host) -> None:
    """The host asks for another round; it begins with a clean floor, and with who came since."""
    id, [ada, bob] = await gather(lobby, host, "Ada", "Bob")
    await begin([ada, bob])
    await ada.ask("steer", "right")
    await ada.hear("room:ended")
    eve = await come(lobby, host, "Eve")
    assert (await eve.ask("room:join", {"room": id}))["state"]["standings"][0]["name"] == "Ada"
    assert await bob.refused("room:rematch") == "not_host"
    await ada.ask("room:rematch")
    await begin([ada, bob, eve])
    await trio.sleep(0.1)
    arena = eve.look()["arena"]
    assert {id: painter["tiles"] for id, painter in arena["painters"].items()} == {
        "Ada": 1,
        "Bob": 1,
        "Eve": 1,
    }
    assert "standings" not in eve.state


async def test_who_watches(autojump_clock, lobby: ModuleType, host: Host) -> None:
    """Who comes late sees all of it, and what changes; they may cheer, but not steer."""
    id, [ada, bob] = await gather(lobby, host, "Ada", "Bob")
    await begin([ada, bob])
    await ada.ask("steer", "right")
    await trio.sleep(1)
    eve = await come(lobby, host, "Eve")
    assert await eve.refused("room:join", {"room": id}) == "wrong_phase"
    await eve.ask("room:watch", {"room": id})
    assert eve.state == bob.look()
    assert "Eve" not in eve.state["colours"]
    before = eve.state["arena"]["painters"]["Ada"]["x"]
    await trio.sleep(1)
    assert eve.look()["arena"]["painters"]["Ada"]["x"] > before
    assert await eve.refused("steer", "left") == "spectator"
    await eve.ask("cheer", "Nice!")
    assert await ada.hear("cheer") == {"player": "Eve", "cheer": "Nice!"}
    await ada.hear("room:ended")
    await trio.sleep(0.1)
    assert "Eve" not in [one["id"] for one in eve.look()["standings"]]


async def test_reload(autojump_clock, lobby: ModuleType, host: Host) -> None:
    """Who reloads the page is back in the seat, with colour, tiles and place."""
    id, [ada, bob] = await gather(lobby, host, "Ada", "Bob")
    await begin([ada, bob])
    await bob.ask("steer", "left")
    await trio.sleep(1)
    bob.client.close()
    await ada.hear("room:dropped", player="Bob")
    await trio.sleep(1)
    lost = ada.look()["arena"]["painters"]["Bob"]
    assert lost["heading"] == "stop"
    await trio.sleep(5)
    again = await come(lobby, host, "Bob")
    await again.ask("room:join", {"room": id})
    assert again.state["arena"]["painters"]["Bob"] == lost
    assert again.state["colours"]["Bob"] == 2
    assert await ada.hear("room:returned") == {"room": id, "player": "Bob"}
    await again.ask("steer", "left")
    await trio.sleep(1)
    assert again.look()["arena"]["painters"]["Bob"]["tiles"] > lost["tiles"]


async def test_connection_comes_back(autojump_clock, lobby: ModuleType, host: Host) -> None:
    """A page whose connection was lost gets the whole state by itself."""
    _, [ada, bob] = await gather(lobby, host, "Ada", "Bob")
    await begin([ada, bob])
    bob.client.close()
    await ada.ask("steer", "right")
    await trio.sleep(3)
    back = await come(lobby, host, "Bob", **bob.client.claim(GAMES))
    await back.hear("room:state")
    await trio.sleep(1)
    assert back.look() == ada.look()


async def test_leaving_in_a_round(autojump_clock, lobby: ModuleType, host: Host) -> None:
    """Who leaves takes the tiles along, and the host's part is somebody else's."""
    _, [ada, bob, eve] = await gather(lobby, host, "Ada", "Bob", "Eve")
    await begin([ada, bob, eve])
    await ada.ask("steer", "right")
    await trio.sleep(1)
    await ada.ask("room:leave")
    assert (await bob.hear("room:host"))["host"] == "Bob"
    await trio.sleep(0.2)
    state = bob.look()
    assert set(state["arena"]["painters"]) == set(state["colours"]) == {"Bob", "Eve"}
    assert "1" not in "".join(state["arena"]["rows"].values())


async def test_lost_host(autojump_clock, lobby: ModuleType, host: Host) -> None:
    """A host who is lost for some seconds is the host no more, and keeps the seat."""
    _, [ada, bob] = await gather(lobby, host, "Ada", "Bob")
    ada.client.close()
    await trio.sleep(11)
    assert (await bob.hear("room:host"))["host"] == "Bob"
    view = await bob.ask("room:state")
    assert [player["id"] for player in view["players"]] == ["Ada", "Bob"]


async def test_invitation(autojump_clock, lobby: ModuleType, host: Host) -> None:
    """A room for guests is in no list; whoever has the code of an invitation comes in."""
    ada, bob = await come(lobby, host, "Ada"), await come(lobby, host, "Bob")
    id = (await ada.ask("room:create", {"private": True}))["room"]
    assert (await bob.ask("room:list"))["rooms"] == []
    assert await bob.refused("room:join", {"room": id}) == "bad_invite"
    code = (await ada.ask("room:invite"))["code"]
    view = await bob.ask("room:join", {"room": id, "code": code})
    assert view["options"] == {"title": "A room"}
    assert len(view["players"]) == 2


async def test_colours(autojump_clock, lobby: ModuleType, host: Host) -> None:
    """A seat that is free again gives its colour to who takes it."""
    id, [ada, bob, *_] = await gather(lobby, host, "Ada", "Bob", "Eve", "Kim")
    zoe = await come(lobby, host, "Zoe")
    assert await zoe.refused("room:join", {"room": id}) == "full"
    await bob.ask("room:leave")
    await zoe.ask("room:join", {"room": id})
    assert zoe.state["colours"] == {"Ada": 1, "Eve": 3, "Kim": 4, "Zoe": 2}
    await trio.sleep(0.1)
    assert ada.look()["colours"] == zoe.state["colours"]


async def test_crash(autojump_clock, lobby: ModuleType, host: Host, errors: list[Any]) -> None:
    """A room that crashes in a round goes on with it, a moment before."""
    id, [ada, bob] = await gather(lobby, host, "Ada", "Bob")
    await begin([ada, bob])
    await ada.ask("steer", "right")
    await trio.sleep(5)
    room = lobby.games.live_rooms.cells[id]
    before = ada.look()["arena"]["left"]

    async def fail() -> None:
        raise RuntimeError("on purpose")

    room.nursery.start_soon(fail)
    await trio.sleep(0.5)
    assert [record.levelname for record in errors] == ["ERROR"]
    errors.clear()
    arena = ada.look()["arena"]
    assert before <= arena["left"] <= before + 2
    assert arena["painters"]["Ada"]["tiles"] > 1
    assert await bob.hear("room:ended")


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("steer", "sideways"),
        ("steer", None),
        ("cheer", "<b>"),
        ("room:create", {"options": {"title": ""}}),
        ("room:create", {"options": {"title": "x" * 41}}),
    ],
)
async def test_bad_payload(
    autojump_clock, lobby: ModuleType, host: Host, event: str, payload: Any
) -> None:
    """What does not fit is refused before the room sees it."""
    _, [ada, _] = await gather(lobby, host, "Ada", "Bob")
    assert await ada.refused(event, payload) == "invalid"
