"""The presence example in two real browsers."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Route, WebSocketRoute, expect

from tests.browser.program import Program
from tests.browser.visitor import Visitor

Visit = Callable[..., Visitor]

PHONE = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
    "device_scale_factor": 2,
}


def test_two_people_find_each_other(visit: Visit) -> None:
    """Both see each other come, type and talk."""
    ada = visit("Ada")
    ada.sees_online("Ada")
    ada.takes_picture("presence-alone")
    bob = visit("Bob", color_scheme="dark")
    ada.sees_online("Ada", "Bob")
    bob.sees_online("Ada", "Bob")
    ada.sees_notice("Bob joined")

    bob.types("Hel")
    ada.sees_typing("Bob is typing")
    ada.takes_picture("presence-typing")
    bob.sees_typing("")
    bob.says("Hello, Ada ☃")
    for person in [ada, bob]:
        person.sees_message("Hello, Ada ☃")
    ada.sees_typing("")
    ada.says("Hello, Bob")
    for person in [ada, bob]:
        person.sees_message("Hello, Bob")
    ada.takes_picture("presence-ada")
    bob.takes_picture("presence-bob")


def test_typing_ends_by_itself(visit: Visit) -> None:
    """Who stops typing is not said to type for ever."""
    ada, bob = visit("Ada"), visit("Bob")
    bob.types("H")
    ada.sees_typing("Bob is typing")
    ada.sees_typing("")


@pytest.mark.parametrize("way", ["logs out", "closes the browser"])
def test_leaving(visit: Visit, way: str) -> None:
    """Who leaves, in whatever way, is gone for the others."""
    ada, bob = visit("Ada"), visit("Bob")
    ada.sees_online("Ada", "Bob")
    if way == "logs out":
        bob.part("logout").click()
        expect(bob.part("login-name")).to_be_visible()
    else:
        bob.close()
    ada.sees_notice("Bob left")
    ada.sees_online("Ada")


def test_reload(visit: Visit) -> None:
    """Who reloads the page has never been away, and is one tab as before."""
    ada, bob = visit("Ada"), visit("Bob")
    ada.says("before")
    bob.sees_message("before")
    bob.page.reload()
    bob.sees_connection("connected")
    bob.sees_message("before")
    bob.says("after")
    ada.sees_message("after")
    # At once: the socket of before, whose grace is not over, must not count.
    expect(bob.person("Bob").locator(".facts")).to_have_text("you", timeout=3_000)
    expect(ada.notice("Bob left")).to_have_count(0)
    expect(ada.notice("Bob joined")).to_have_count(1)


def test_coming_late(visit: Visit) -> None:
    """Who comes later sees what was said."""
    ada = visit("Ada")
    ada.says("first")
    ada.says("second")
    ada.sees_message("second")
    bob = visit("Bob")
    bob.sees_messages("first", "second")


def test_two_tabs_are_one_person(visit: Visit) -> None:
    """The same name in two tabs is one person, who is there until both are closed."""
    ada, first, second = visit("Ada"), visit("Bob"), visit("Bob")
    ada.sees_online("Ada", "Bob")
    ada.sees_person("Bob", "here", "2 tabs")
    second.sees_person("Bob", "here", "you · 2 tabs")
    first.close()
    second.says("still here")
    ada.sees_message("still here")
    ada.sees_person("Bob", "here", "")
    second.close()
    ada.sees_online("Ada")


def test_away_and_back(visit: Visit) -> None:
    """Who hides all tabs is away, and is told what came meanwhile."""
    ada, first, second = visit("Ada"), visit("Bob"), visit("Bob")
    first.hides()
    first.sees_person("Bob", "here", "you · 2 tabs")
    second.hides()
    ada.sees_person("Bob", "away", "away · 2 tabs")
    ada.takes_picture("presence-away")
    ada.says("anybody?")
    second.sees_message("anybody?")
    second.looks_again()
    ada.sees_person("Bob", "here", "2 tabs")
    second.sees_notice("Back. 1 message while you were away")


def test_idle(visit: Visit) -> None:
    """Who touches nothing for a while is away, until the next touch."""
    ada, bob = visit("Ada"), visit()

    def hurry(route: Route) -> None:
        answer = route.fetch()
        assert "120_000" in answer.text()
        route.fulfill(response=answer, body=answer.text().replace("120_000", "500"))

    bob.page.route("**/away.js", hurry)
    bob.page.reload()
    bob.log_in("Bob")
    ada.sees_person("Bob", "away", "away")
    with ada.websocket.expect_event("framereceived", lambda frame: '"away":false' in frame):
        bob.page.mouse.move(5, 5)


def test_rooms(visit: Visit) -> None:
    """Each room has its own people and its own messages; the list counts who is where."""
    ada, bob = visit("Ada"), visit("Bob")
    ada.says("in the lobby")
    bob.sees_message("in the lobby")
    bob.goes_to("garden")
    bob.sees_online("Bob")
    bob.sees_messages()
    ada.sees_online("Ada")
    ada.sees_notice("Bob left")
    for room in ["lobby", "garden"]:
        expect(ada.room(room).locator(".count")).to_have_text("1")
    bob.says("in the garden")
    bob.sees_messages("in the garden")
    ada.sees_messages("in the lobby")
    ada.takes_picture("presence-rooms")
    bob.page.go_back()
    bob.sees_online("Ada", "Bob")
    bob.sees_messages("in the lobby")


def test_making_a_room(visit: Visit) -> None:
    """A new room is in everybody's list, for as long as somebody is there."""
    ada, bob = visit("Ada"), visit("Bob")
    ada.makes_room("Book club!")
    expect(ada.part("room-name")).to_have_text("book-club")
    bob.goes_to("book-club")
    for person in [ada, bob]:
        person.sees_online("Ada", "Bob")
    ada.says("page one")
    bob.sees_messages("page one")
    for person in [ada, bob]:
        person.goes_to("lobby")
    expect(ada.room("book-club")).to_have_count(0)


def test_missed_messages(visit: Visit) -> None:
    """Who was offline for a moment gets what was missed, once; nobody saw it."""
    ada, bob = visit("Ada"), visit("Bob")
    ada.says("before")
    bob.sees_message("before")
    bob.loses_connection()
    for text in ["one", "two", "three"]:
        ada.says(text)
    bob.says("written offline")
    bob.takes_picture("presence-reconnecting")
    ada.sees_messages("before", "one", "two", "three")
    bob.finds_connection()
    bob.sees_notice("Back. 3 messages while you were away")
    for person in [ada, bob]:
        person.sees_messages("before", "one", "two", "three", "written offline")
    bob.takes_picture("presence-back")
    for text in ["before", "one", "two", "three", "written offline"]:
        assert (text, bob.times_heard(f'"{text}"')) == (text, 1)
    assert ada.times_heard("written offline") == 1
    expect(ada.notice("Bob left")).to_have_count(0)


def test_gone_and_back(visit: Visit) -> None:
    """Who is offline for longer is gone for the others, and misses nothing all the same."""
    ada, bob = visit("Ada"), visit("Bob")
    bob.loses_connection()
    ada.sees_notice("Bob left")
    ada.sees_online("Ada")
    ada.says("gone?")
    ada.sees_message("gone?")
    bob.finds_connection()
    ada.sees_online("Ada", "Bob")
    bob.sees_online("Ada", "Bob")
    bob.sees_notice("Back. 1 message while you were away")
    bob.sees_messages("gone?")
    assert bob.times_heard("gone?") == 1


def test_leaving_a_room_offline(visit: Visit) -> None:
    """Who goes to another room while offline is there when back, and each room gets its own."""
    ada, bob = visit("Ada"), visit("Bob")
    bob.loses_connection()
    bob.says("for the lobby")
    bob.goes_to("garden")
    bob.says("for the garden")
    ada.says("still in the lobby")
    ada.sees_message("still in the lobby")
    bob.finds_connection()
    bob.sees_message("for the garden")
    bob.sees_online("Bob")
    bob.sees_messages("for the garden")
    ada.sees_messages("still in the lobby", "for the lobby")
    ada.sees_notice("Bob left")


def test_lost_answer(visit: Visit) -> None:
    """A message whose answer is lost is sent again, and said once."""
    ada, bob = visit("Ada"), visit()
    sent: list[str] = []

    def lose_the_first_answer(page: WebSocketRoute) -> None:
        server = page.connect_to_server()

        def up(frame: str | bytes) -> None:
            if '"say"' in str(frame):
                sent.append(str(frame))
            server.send(frame)

        def down(frame: str | bytes) -> None:
            if len(sent) == 1 and str(frame).startswith("43"):
                page.close()
            else:
                page.send(frame)

        page.on_message(up)
        server.on_message(down)

    bob.page.route_web_socket("**/socket.io/**", lose_the_first_answer)
    bob.page.reload()
    bob.log_in("Bob")
    bob.says("only once")
    bob.sees_connection("reconnecting")
    bob.sees_connection("connected")
    bob.says("and then")
    for person in [ada, bob]:
        person.sees_messages("only once", "and then")
    assert sum("only once" in frame for frame in sent) == 2
    assert ada.times_heard("only once") == 1


def test_text_is_never_markup(visit: Visit) -> None:
    """Names and messages are shown as written, whatever they look like."""
    name = "<img src=x onerror=alert(1)>"
    eve, ada = visit(name), visit("Ada")
    ada.sees_online("Ada", name)
    eve.says("<script>alert(2)</script>")
    ada.sees_message("<script>alert(2)</script>")


def test_server_restarts(visit: Visit, presence: Program) -> None:
    """Pages come back by themselves, and what was written meanwhile is delivered once."""
    ada, bob = visit("Ada"), visit("Bob")
    presence.stop()
    ada.sees_connection("reconnecting")
    ada.says("are you there?")
    presence.start()
    for person in [ada, bob]:
        person.sees_connection("connected")
        person.sees_message("are you there?")
        person.sees_online("Ada", "Bob")
        person.expects_complaints()  # the console tells of each attempt that failed


def test_phone(visit: Visit) -> None:
    """A phone shows all of it, without scrolling sideways."""
    ada = visit("Ada", **PHONE)
    bob, eve = visit("Bob"), visit("Eve")
    bob.says("a word of " + "considerable" * 20 + " length")
    ada.sees_message("a word of " + "considerable" * 20 + " length")
    ada.sees_online("Ada", "Bob", "Eve")
    eve.hides()
    ada.sees_person("Eve", "away", "away")
    ada.says("Hi!")
    bob.sees_message("Hi!")
    ada.takes_picture("presence-phone")
    for room in ["a-room-with-a-long-name", "tea"]:
        ada.makes_room(room)
        expect(ada.part("room-name")).to_have_text(room)
    ada.sees_online("Ada")
    ada.takes_picture("presence-phone-alone")
    wide, narrow = ada.page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide == narrow


@pytest.mark.parametrize("name", ["", "   "])
def test_no_name(visit: Visit, name: str) -> None:
    """Without a name nobody gets in, and the page says why."""
    guest = visit()
    guest.part("login-name").fill(name)
    guest.part("login-submit").click()
    expect(guest.part("login-error")).not_to_be_empty()
    expect(guest.part("online-list")).to_be_hidden()
