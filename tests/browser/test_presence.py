"""The presence example in two real browsers."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

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
    ada.sees_online("Ada")
    ada.sees_notice("Bob left")


def test_reload(visit: Visit) -> None:
    """Who reloads the page is still there, for the others and with what was said."""
    ada, bob = visit("Ada"), visit("Bob")
    ada.says("before")
    bob.sees_message("before")
    bob.page.reload()
    bob.sees_connection("connected")
    bob.sees_message("before")
    bob.says("after")
    ada.sees_message("after")
    expect(ada.part("notice").get_by_text("Bob left")).to_have_count(0)


def test_coming_late(visit: Visit) -> None:
    """Who comes later sees what was said."""
    ada = visit("Ada")
    ada.says("first")
    ada.says("second")
    ada.sees_message("second")
    bob = visit("Bob")
    bob.sees_message("first")
    bob.sees_message("second")


def test_two_tabs_are_one_person(visit: Visit) -> None:
    """The same name in two tabs is one person, who is there until both are closed."""
    ada, first, second = visit("Ada"), visit("Bob"), visit("Bob")
    ada.sees_online("Ada", "Bob")
    first.close()
    second.says("still here")
    ada.sees_message("still here")
    ada.sees_online("Ada", "Bob")
    second.close()
    ada.sees_online("Ada")


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
    ada.takes_picture("presence-reconnecting")
    presence.start()
    for person in [ada, bob]:
        person.sees_connection("connected")
        person.sees_message("are you there?")
        person.sees_online("Ada", "Bob")
        person.expects_complaints()  # the console tells of each attempt that failed


def test_phone(visit: Visit) -> None:
    """A phone shows all of it, without scrolling sideways."""
    ada = visit("Ada", **PHONE)
    bob = visit("Bob")
    bob.says("a word of " + "considerable" * 20 + " length")
    ada.sees_message("a word of " + "considerable" * 20 + " length")
    ada.sees_online("Ada", "Bob")
    ada.says("Hi!")
    bob.sees_message("Hi!")
    ada.takes_picture("presence-phone")
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
