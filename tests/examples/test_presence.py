"""The presence example, as its page uses it."""

import importlib.util
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.examples.tab import fetch, open_tab
from trio_rt import Server
from trio_rt.codec.socketio import EVENT
from trio_rt.packets import unpack
from trio_rt.testing import Client, Host, hosting

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
    monkeypatch.setenv("TRIO_RT_JWT_SECRET", "one that the example need not make")
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def server(presence: ModuleType, nursery: trio.Nursery) -> Server:
    """The example's server, serving."""
    await nursery.start(presence.server.serve, "127.0.0.1", 0)
    return presence.server


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


@pytest.fixture
async def host(presence: ModuleType, autojump_clock: MockClock) -> AsyncIterator[Host]:
    """The example in memory, on a clock that does not wait."""
    async with hosting(presence.server) as host:
        yield host


def entry(presence: ModuleType, name: str) -> dict[str, str]:
    """What somebody shows to be let in."""
    return {"token": presence.auth.issue(name, name)}


async def come(presence: ModuleType, host: Host, name: str, **place: Any) -> Client:
    """One more tab of somebody, which knows who is in its room."""
    client = await host.connect(auth=entry(presence, name))
    await client.call("enter", {"room": "lobby", **place})
    await hear(client, "presence_state")
    return client


async def come_back(presence: ModuleType, host: Host, name: str, lost: Client) -> Client:
    """The tab whose connection was lost."""
    return await host.connect(auth={**entry(presence, name), **lost.claim()})


async def hear(client: Client, event: str) -> Any:
    """The arguments of the next such event; what comes before is not looked at."""
    while True:
        packet = await client.receive()
        if packet.type == EVENT and packet.data[0] == event and is_of_room(packet.data):
            return unpack(packet.data[1:])


def heard(client: Client, event: str) -> list[Any]:
    """The arguments of all such events that nobody has looked at."""
    packets = [packet for packet in client.rest() if packet.type == EVENT]
    found = [packet.data for packet in packets if packet.data[0] == event]
    return [unpack(data[1:]) for data in found if is_of_room(data)]


def is_of_room(data: list[Any]) -> bool:
    """Whether it is not what the server counts the people of all rooms with."""
    return data[1:2] != ["@everywhere"]


def shown(users: dict[str, Any]) -> dict[str, list[bool]]:
    """Of each tab of each user, whether it is away."""
    return {id: [meta["away"] for meta in user["metas"]] for id, user in users.items()}


def words(text: str = "Hello", *, id: str = "message-1", room: str = "lobby") -> dict[str, str]:
    return {"id": id, "room": room, "text": text}


async def test_two_people_find_each_other(presence: ModuleType, host: Host) -> None:
    """Who comes later learns who is there, and who was there hears of it."""
    ada = await come(presence, host, "Ada")
    grace = await host.connect(auth=entry(presence, "Grace"))
    assert await grace.call("enter", {"room": "lobby"}) == []
    room, users = await hear(grace, "presence_state")
    assert (room, shown(users)) == ("lobby", {"Ada": [False], "Grace": [False]})
    room, diff = await hear(ada, "presence_diff")
    assert (room, shown(diff["joins"]), diff["leaves"]) == ("lobby", {"Grace": [False]}, {})
    assert diff["joins"]["Grace"]["metas"][0]["name"] == "Grace"
    await grace.leave()
    _, diff = await hear(ada, "presence_diff")
    assert (diff["joins"], shown(diff["leaves"])) == ({}, {"Grace": [False]})


async def test_tabs_of_one_person(presence: ModuleType, host: Host) -> None:
    """Several tabs of one name are one user, in the room's count too."""
    await come(presence, host, "Ada")
    second = await host.connect(auth=entry(presence, "Ada"))
    await second.call("enter", {"room": "lobby"})
    _, users = await hear(second, "presence_state")
    assert shown(users) == {"Ada": [False, False]}
    assert (await hear(second, "rooms"))["lobby"] == 1


async def test_away(presence: ModuleType, host: Host) -> None:
    """A tab that says that nobody is there is away, and here again when it says so."""
    ada = await come(presence, host, "Ada")
    grace = await come(presence, host, "Grace")
    await hear(ada, "presence_diff")
    for is_away in [True, False]:
        await grace.call("away", is_away)
        _, diff = await hear(ada, "presence_diff")
        assert shown(diff["joins"]) == {"Grace": [is_away]}
        assert shown(diff["leaves"]) == {"Grace": [not is_away]}


async def test_rooms(presence: ModuleType, host: Host) -> None:
    """A tab is in one room; each room has its own people and its own messages."""
    ada = await come(presence, host, "Ada")
    grace = await come(presence, host, "Grace")
    await ada.call("say", words("in the lobby"))
    await hear(grace, "said")
    assert await grace.call("enter", {"room": "tea"}) == []
    _, users = await hear(grace, "presence_state")
    assert set(users) == {"Grace"}
    _, diff = await hear(ada, "presence_diff")
    assert set(diff["leaves"]) | set(diff["joins"]) == {"Grace"}
    await ada.call("say", words("again", id="message-2"))
    await grace.call("say", words("in the new room", id="message-3", room="tea"))
    assert [said["text"] for said in heard(grace, "said")] == ["in the new room"]
    assert len(await grace.call("enter", {"room": "lobby"})) == 2


async def test_list_of_rooms(presence: ModuleType, host: Host) -> None:
    """Everybody knows how many are in each room; a room that was made ends with its last guest."""
    empty = dict.fromkeys(presence.ROOMS, 0)
    ada = await host.connect(auth=entry(presence, "Ada"))
    assert await hear(ada, "rooms") == empty
    grace = await come(presence, host, "Grace", room="tea")
    await grace.call("say", words(room="tea"))
    assert await hear(ada, "rooms") == {**empty, "tea": 1}
    await grace.leave()
    assert await hear(ada, "rooms") == empty
    assert await ada.call("enter", {"room": "tea"}) == []


async def test_too_many_rooms(presence: ModuleType, host: Host) -> None:
    """There is an end to making rooms, and who asks for more stays where it is."""
    ada = await come(presence, host, "Ada")
    for number in range(presence.MAX_ROOMS - 1):
        await ada.call("say", words(id=f"message-{number}", room=f"room-{number}"))
    refused = await ada.call("enter", {"room": "one-more"})
    assert refused["error"]["code"] == "full"
    await ada.call("say", words(id="message-last"))
    assert (await hear(ada, "said"))["room"] == "lobby"


@pytest.mark.parametrize("room", ["", " ", "a b", "-a", "a-", "a--b", "x" * 25, "a\n", None])
async def test_bad_room(presence: ModuleType, host: Host, room: Any) -> None:
    """A name that is none for a room is refused."""
    ada = await come(presence, host, "Ada")
    assert (await ada.call("enter", {"room": room}))["error"]["code"] == "invalid"
    assert (await ada.call("say", {**words(), "room": room}))["error"]["code"] == "invalid"


async def test_messages(presence: ModuleType, host: Host) -> None:
    """A message reaches everybody, is acknowledged, and is there for who comes later."""
    ada = await come(presence, host, "Ada")
    grace = await come(presence, host, "Grace")
    reply = await ada.call("say", words("Hello"))
    assert reply == {**words("Hello"), "who": "Ada", "name": "Ada", "at": reply["at"]}
    assert await hear(grace, "said") == reply
    assert await hear(ada, "said") == reply
    late = await host.connect(auth=entry(presence, "Linus"))
    assert await late.call("enter", {"room": "lobby"}) == [reply]


async def test_said_again(presence: ModuleType, host: Host) -> None:
    """A message that is sent again after a lost answer is said once, as it was."""
    ada = await come(presence, host, "Ada")
    grace = await come(presence, host, "Grace")
    first = await ada.call("say", words("Hello"))
    assert await ada.call("say", words("changed")) == first
    await grace.call("say", words("somebody else's, with the same id"))
    said = [message["text"] for message in heard(grace, "said")]
    assert said == ["Hello", "somebody else's, with the same id"]
    assert len(await grace.call("enter", {"room": "lobby"})) == 2


async def test_sent_again_after_coming_back(presence: ModuleType, host: Host) -> None:
    """A resend on a new connection is still the same message."""
    ada = await come(presence, host, "Ada")
    grace = await come(presence, host, "Grace")
    first = await ada.call("say", words())
    ada.close()
    ada = await come_back(presence, host, "Ada", ada)
    assert await ada.call("say", words()) == first
    assert len(heard(grace, "said")) == 1


async def test_missed_messages(presence: ModuleType, host: Host) -> None:
    """Who is lost for a moment gets what was missed, once; the others have seen nothing."""
    ada = await come(presence, host, "Ada")
    grace = await come(presence, host, "Grace")
    await hear(ada, "presence_diff")
    grace.close()
    for number in range(3):
        await ada.call("say", words(str(number), id=f"message-{number}"))
    await trio.sleep(presence.server.config.presence_grace / 2)
    back = await come_back(presence, host, "Grace", grace)
    assert back.recovered == {"/"}
    await ada.call("say", words("last", id="message-last"))
    await trio.sleep(2 * presence.server.config.presence_grace)
    packets = [packet.data for packet in back.rest() if packet.type == EVENT]
    said = [data[1]["text"] for data in packets if data[0] == "said"]
    assert said == ["0", "1", "2", "last"]
    [state] = [data[2] for data in packets if data[0] == "presence_state" and is_of_room(data)]
    assert set(state) == {"Ada", "Grace"}
    changes = [diff for _, diff in heard(ada, "presence_diff")]
    assert all(set(diff["joins"]) == set(diff["leaves"]) == {"Grace"} for diff in changes)


async def test_gone_and_back(presence: ModuleType, host: Host) -> None:
    """Who is lost for longer is gone for the others, and misses nothing all the same."""
    ada = await come(presence, host, "Ada")
    grace = await come(presence, host, "Grace")
    await hear(ada, "presence_diff")
    grace.close()
    await trio.sleep(presence.server.config.presence_grace)
    _, diff = await hear(ada, "presence_diff")
    assert (set(diff["joins"]), set(diff["leaves"])) == (set(), {"Grace"})
    await ada.call("say", words())
    back = await come_back(presence, host, "Grace", grace)
    assert [said["text"] for said in heard(back, "said")] == ["Hello"]
    _, diff = await hear(ada, "presence_diff")
    assert (set(diff["joins"]), set(diff["leaves"])) == ({"Grace"}, set())


async def test_memory_is_bounded(presence: ModuleType, host: Host) -> None:
    """Of many messages the last are remembered, in their order."""
    ada = await come(presence, host, "Ada")
    for number in range(presence.REMEMBERED + 2):
        await ada.call("say", words(str(number), id=f"message-{number}"))
    messages = await ada.call("enter", {"room": "lobby"})
    assert [message["text"] for message in messages] == [
        str(number) for number in range(2, presence.REMEMBERED + 2)
    ]


@pytest.mark.parametrize(
    "payload",
    [words(""), words("x" * 2001), words(id="1"), {"text": "Hello"}, "Hello"],
)
async def test_bad_message(presence: ModuleType, host: Host, payload: Any) -> None:
    """A message that does not fit is answered with what is wrong, and nobody gets it."""
    ada = await come(presence, host, "Ada")
    reply = await ada.call("say", payload)
    assert reply["error"]["code"] == "invalid"
    assert reply["error"]["message"]
    assert await ada.call("enter", {"room": "lobby"}) == []
    assert heard(ada, "said") == []


async def test_typing(presence: ModuleType, host: Host) -> None:
    """The others in the room hear that somebody is typing; the typist does not."""
    ada = await come(presence, host, "Ada")
    grace = await come(presence, host, "Grace")
    linus = await come(presence, host, "Linus", room="garden")
    await ada.call("typing")
    assert await hear(grace, "typing") == ("lobby", {"who": "Ada", "name": "Ada"})
    await wait_all_tasks_blocked()
    assert heard(ada, "typing") == heard(linus, "typing") == []
