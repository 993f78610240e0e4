"""The lobby example in real browsers: a game from the list of rooms to its rematch."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import ARTIFACTS
from tests.browser.player import Player
from tests.browser.program import EXAMPLES, Program

Visit = Callable[..., Player]

LAPTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
    "device_scale_factor": 2,
}


@pytest.fixture
def round_seconds() -> float:
    """How long a round takes: too long to end by itself, unless a test wants that."""
    return 600.0


@pytest.fixture
def lobby(
    tmp_path: Path, round_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Program]:
    """The lobby example, running."""
    monkeypatch.setenv("ROUND_SECONDS", str(round_seconds))
    program = Program(EXAMPLES / "lobby" / "server.py", tmp_path / "lobby.log")
    program.start()
    yield program
    program.stop()


@pytest.fixture
def visit(browser: Browser, lobby: Program) -> Iterator[Visit]:
    """Open the page: `visit("Ada")` logs in too. No two players share anything."""
    players: list[Player] = []

    def visit(name: str | None = None, *, link: str = "", **context: object) -> Player:
        player = Player(browser.new_context(**{**LAPTOP, **context}), link or lobby.url, ARTIFACTS)
        players.append(player)
        if name is not None:
            player.log_in(name)
        return player

    yield visit
    for player in players:
        player.close()


def gather(visit: Visit, *names: str, title: str = "Tea") -> list[Player]:
    """Players in one room, the first of whom has made it."""
    host, *others = [visit(name) for name in names]
    host.makes_room(title)
    for player in others:
        player.joins(title)
    host.sees_players(*names)
    return [host, *others]


def begin(*players: Player) -> None:
    """All are ready, and the round has begun."""
    for player in players:
        player.gets_ready()
    for player in players:
        player.sees_phase("playing")


@pytest.mark.parametrize("round_seconds", [9.0])
def test_game(visit: Visit) -> None:
    """Four play a game to its end; one reloads in the middle, and a fifth one only watches."""
    ada, bob = visit("Ada"), visit("Bob", color_scheme="dark")
    ada.sees_lobby()
    expect(ada.part("no-rooms")).to_be_visible()
    ada.makes_room("Friday round")
    bob.joins("Friday round")
    grace, kim, eve = visit("Grace", **PHONE), visit("Kim"), visit("Eve", color_scheme="dark")
    kim.makes_room("Beginners, come in")
    expect(eve.part("room-item")).to_have_count(2)
    expect(eve.entry("Friday round")).to_contain_text("2/4 players · host Ada")
    eve.takes_picture("list")
    grace.takes_picture("list-phone")
    kim.part("leave").click()
    kim.joins("Friday round")
    grace.joins("Friday round")
    eve.watches("Friday round")
    players = [ada, bob, grace, kim]
    for player in [*players, eve]:
        player.sees_players("Ada", "Bob", "Grace", "Kim")
    bob.gets_ready()
    ada.sees_facts("Bob", "ready")
    ada.takes_picture("waiting")
    grace.takes_picture("waiting-phone")

    begin(ada, grace, kim)
    bob.sees_phase("playing")
    eve.sees_phase("playing")
    ada.runs("right")
    bob.runs("left")
    grace.page.locator("[data-heading=down]").tap()
    kim.runs("up")
    for player in players:
        player.sees_score_above(player.name, 3)
    kim.page.get_by_text("Wow!").click()
    expect(eve.part("bubble")).to_be_visible()
    before = bob.score("Bob")
    bob.page.reload()
    bob.sees_phase("playing")
    assert bob.score("Bob") >= before
    bob.runs("up")
    ada.runs("down")
    grace.page.locator("[data-heading=left]").tap()
    eve.sees_score_above("Bob", before)
    for player, name in [(ada, "play"), (bob, "play-dark"), (grace, "play-phone"), (eve, "watch")]:
        player.takes_picture(name)

    for player in [*players, eve]:
        expect(player.part("standing")).to_have_count(4)
    standings = ada.part("standing").all_inner_texts()
    assert all(player.part("standing").all_inner_texts() == standings for player in [*players, eve])
    expect(eve.part("rematch")).to_be_hidden()
    expect(eve.part("take-seat")).to_be_hidden()
    for player, name in [(ada, "end"), (grace, "end-phone"), (eve, "end-watch")]:
        player.takes_picture(name)
    ada.part("rematch").click()
    for player in players:
        expect(player.part("ready")).to_be_visible()


def test_reload(visit: Visit) -> None:
    """Who reloads in a round is back in the seat, with all that was painted; the others see it."""
    ada, bob = gather(visit, "Ada", "Bob")
    begin(ada, bob)
    bob.runs("left")
    ada.sees_score_above("Bob", 15)
    before = ada.score("Bob")
    bob.page.reload()
    ada.sees_notice("Bob is back")
    bob.sees_phase("playing")
    assert bob.score("Bob") >= before
    bob.runs("up")
    ada.sees_score_above("Bob", before + 3)
    assert bob.score("Ada") == ada.score("Ada") == 1


def test_lost_and_back(visit: Visit) -> None:
    """The seat of who loses the connection is held, and the page comes back to it by itself."""
    ada, bob = gather(visit, "Ada", "Bob")
    begin(ada, bob)
    bob.loses_connection()
    expect(ada.seat("Bob")).to_have_attribute("data-state", "lost")
    ada.runs("right")
    ada.sees_score_above("Ada", 5)
    bob.takes_picture("reconnecting")
    ada.takes_picture("lost")
    bob.finds_connection()
    expect(ada.seat("Bob")).to_have_attribute("data-state", "here")
    bob.sees_score_above("Ada", 5)
    bob.runs("left")
    ada.sees_score_above("Bob", 3)


def test_host_leaves(visit: Visit) -> None:
    """When the host leaves, the one who was there next is the host, and all say so."""
    ada, bob, eve = gather(visit, "Ada", "Bob", "Eve")
    expect(bob.part("start")).to_be_hidden()
    ada.part("leave").click()
    ada.sees_lobby()
    for player in [bob, eve]:
        player.sees_notice("Bob is the host now")
        player.sees_players("Bob", "Eve")
    bob.part("start").click()
    eve.sees_phase("playing")


def test_late(visit: Visit) -> None:
    """Who comes in the middle of a round watches it, as a whole, and has a seat after."""
    ada, bob = gather(visit, "Ada", "Bob")
    begin(ada, bob)
    ada.runs("right")
    ada.sees_score_above("Ada", 5)
    eve = visit("Eve")
    expect(eve.entry("Tea").get_by_test_id("join")).to_be_disabled()
    eve.watches("Tea")
    eve.sees_phase("playing")
    eve.sees_score_above("Ada", 5)
    ada.sees_notice("Eve watches")
    eve.page.reload()
    eve.sees_score_above("Ada", 5)
    expect(ada.part("watchers")).to_have_text("Watching: Eve")
    eve.sees_players("Ada", "Bob")


def test_invitation(visit: Visit) -> None:
    """A private room is in no list; the link of an invitation leads to a seat in it."""
    ada = visit("Ada")
    ada.makes_room("Secret", is_private=True)
    link = ada.invites()
    ada.takes_picture("invitation")
    bob = visit(link=link)
    expect(bob.page.get_by_text("You are invited to a room")).to_be_visible()
    bob.log_in("Bob")
    bob.sees_room("Secret")
    ada.sees_players("Ada", "Bob")
    assert link.split(".")[-1] not in bob.page.url
    eve = visit("Eve")
    expect(eve.part("no-rooms")).to_be_visible()
    kim = visit("Kim", link=link.rsplit(".", 1)[0] + ".wrong")
    kim.sees_notice("That invitation is not good any more.")
    kim.sees_lobby()


def test_put_out(visit: Visit) -> None:
    """Who is put out by the host is back in the lobby, told why, and does not come in again."""
    ada, bob = gather(visit, "Ada", "Bob")
    ada.seat("Bob").locator(".kick").click()
    bob.sees_lobby()
    bob.sees_notice("The host has put you out.")
    ada.sees_players("Ada")
    bob.entry("Tea").get_by_test_id("join").click()
    bob.sees_notice("You were put out of that room.")
    bob.sees_lobby()


def test_play_now(visit: Visit) -> None:
    """One button finds a seat, or makes a room where none is free; back leads to the lobby."""
    ada = visit("Ada")
    ada.part("play-now").click()
    ada.sees_room("Ada's room")
    bob = visit("Bob")
    expect(bob.entry("Ada's room")).to_be_visible()
    bob.part("play-now").click()
    bob.sees_room("Ada's room")
    ada.sees_players("Ada", "Bob")
    bob.page.go_back()
    bob.sees_lobby()
    ada.sees_players("Ada")


def test_countdown(visit: Visit) -> None:
    """When all are ready it counts down; who leaves stops it."""
    ada, bob = gather(visit, "Ada", "Bob")
    ada.gets_ready()
    bob.gets_ready()
    expect(ada.part("countdown")).to_be_visible()
    ada.takes_picture("countdown")
    bob.part("leave").click()
    ada.sees_phase("open")
    expect(ada.part("countdown")).to_be_hidden()


def test_text_is_never_markup(visit: Visit) -> None:
    """Names and titles are shown as written, whatever they look like."""
    name = "<img src=x onerror=a()>"
    eve, ada = visit(name), visit("Ada")
    eve.makes_room("<script>alert(2)</script>")
    ada.joins("<script>alert(2)</script>")
    eve.sees_notice("Ada takes a seat")
    begin(ada, eve)
    ada.page.get_by_text("Nice!").click()
    expect(eve.part("bubble")).to_have_text("Nice!")


def test_phone(visit: Visit) -> None:
    """A phone shows all of it without scrolling sideways, and a thumb steers by swiping."""
    ada, bob = gather(visit, "Ada", "Bob")
    grace = visit("Grace", **PHONE)
    assert grace.fits()
    grace.joins("Tea")
    assert grace.fits()
    begin(ada, bob, grace)
    assert grace.fits()
    box = grace.part("board").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    grace.page.mouse.move(x, y)
    grace.page.mouse.down()
    grace.page.mouse.move(x - 40, y + 4, steps=4)
    grace.page.mouse.up()
    ada.sees_score_above("Grace", 10)


def test_server_restarts(visit: Visit, lobby: Program) -> None:
    """When the server was away, pages come back to a lobby that has none of the old rooms."""
    ada, bob = gather(visit, "Ada", "Bob")
    lobby.stop()
    ada.sees_connection("reconnecting")
    lobby.start()
    for player in [ada, bob]:
        player.sees_connection("connected")
        player.sees_lobby()
        player.expects_complaints()
    expect(ada.part("no-rooms")).to_be_visible()
