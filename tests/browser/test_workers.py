"""The presence example on two workers, which know of each other by a real Valkey alone."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.browser.program import EXAMPLES
from tests.browser.visitor import Visitor
from tests.browser.workers import Workers
from tests.parts import valkey

VisitOn = Callable[..., Visitor]


@pytest.fixture
def presence(tmp_path: Path) -> Iterator[Workers]:
    """The presence example on two workers. It is what `visit` visits."""
    with valkey.running() as store:
        workers = Workers(EXAMPLES / "presence", store.url, tmp_path / "presence.log")
        try:
            workers.start()
            yield workers
        finally:
            workers.stop()


@pytest.fixture
def visit_on(visit: Callable[..., Visitor], presence: Workers) -> VisitOn:
    """Log in on a worker: `visit_on(pid, "Ada")`."""

    def visit_on(pid: int, name: str, **context: object) -> Visitor:
        before = presence.connections(pid)
        with presence.only(pid):
            visitor = visit(**context)
            visitor.connects(name)
        assert presence.connections(pid) > before
        expect(visitor.person(name)).to_be_visible()
        return visitor

    return visit_on


def test_two_workers_are_one_server(presence: Workers, visit_on: VisitOn) -> None:
    """People on two workers see each other come, go, type and talk, in all rooms."""
    first, second = presence.pids
    ada, bob = visit_on(first, "Ada"), visit_on(second, "Bob", color_scheme="dark")
    for person in [ada, bob]:
        person.sees_online("Ada", "Bob")
    ada.sees_notice("Bob joined")

    bob.types("Hel")
    ada.sees_typing("Bob is typing")
    bob.says("Hello, Ada")
    ada.sees_message("Hello, Ada")
    ada.says("Hello, Bob")
    for person in [ada, bob]:
        person.sees_messages("Hello, Ada", "Hello, Bob")
    bob.hides()
    ada.sees_person("Bob", "away", "away")
    bob.looks_again()
    ada.takes_picture("workers-ada")
    bob.takes_picture("workers-bob")

    bob.makes_room("Book club")
    expect(ada.room("book-club").locator(".count")).to_have_text("1")
    ada.sees_notice("Bob left")
    ada.sees_online("Ada")
    bob.says("page one")
    ada.goes_to("book-club")
    ada.sees_messages("page one")
    for person in [ada, bob]:
        person.sees_online("Ada", "Bob")
        expect(person.room("book-club").locator(".count")).to_have_text("2")
    ada.takes_picture("workers-rooms")

    bob.part("logout").click()
    ada.sees_online("Ada")
    expect(ada.room("book-club").locator(".count")).to_have_text("1")


def test_a_worker_is_killed(presence: Workers, visit_on: VisitOn) -> None:
    """Who was on a worker that is killed comes back on one that lives, and nothing is lost."""
    first, second = presence.pids
    ada, bob = visit_on(first, "Ada"), visit_on(second, "Bob")
    ada.says("before")
    bob.sees_message("before")
    os.kill(second, signal.SIGSTOP)  # what comes now, it never handles
    bob.says("to a dead one")
    ada.says("one")
    ada.says("two")
    ada.sees_message("two")
    os.kill(second, signal.SIGKILL)
    bob.sees_connection("reconnecting")
    bob.sees_connection("connected")
    bob.expects_complaints()
    assert bob.times_refused() == 0  # the other worker's tokens are good
    for person in [ada, bob]:
        person.sees_messages("before", "one", "two", "to a dead one")
        person.sees_online("Ada", "Bob")
    bob.takes_picture("workers-back")
    for text in ["before", "one", "two", "to a dead one"]:
        assert (text, ada.times_heard(f'"{text}"')) == (text, 1)
        assert (text, bob.times_heard(f'"{text}"')) == (text, 1)
    expect(ada.notice("Bob left")).to_have_count(0)

    (new,) = set(presence.wait_both()) - {first}
    eve = visit_on(new, "Eve")
    eve.sees_messages("before", "one", "two", "to a dead one")
    for person in [ada, bob, eve]:
        person.sees_online("Ada", "Bob", "Eve")
        # The dead worker's word is over: what it said of Bob is no tab of his any more.
        expect(person.person("Bob").locator(".facts")).not_to_contain_text("tabs", timeout=15_000)
        expect(person.room("lobby").locator(".count")).to_have_text("3")


def test_resent_to_another_worker(
    presence: Workers, visit: Callable[..., Visitor], visit_on: VisitOn
) -> None:
    """A message whose answer is lost is sent again to another worker, and said once."""
    first, second = presence.pids
    ada = visit_on(first, "Ada")
    sent: list[str] = []

    def lose_the_first_answer(page: WebSocketRoute) -> None:
        server = page.connect_to_server()

        def up(frame: str | bytes) -> None:
            if '"say"' in str(frame):
                sent.append(str(frame))
            server.send(frame)

        def down(frame: str | bytes) -> None:
            if len(sent) == 1 and str(frame).startswith("43"):
                os.kill(second, signal.SIGSTOP)
                page.close()
            else:
                page.send(frame)

        page.on_message(up)
        server.on_message(down)

    with presence.only(second):
        bob = visit()
        bob.page.route_web_socket("**/socket.io/**", lose_the_first_answer)
        bob.page.reload()
        bob.connects("Bob")
    ada.sees_online("Ada", "Bob")
    bob.says("only once")
    bob.sees_connection("reconnecting")
    bob.sees_connection("connected")
    os.kill(second, signal.SIGCONT)
    bob.says("and then")
    for person in [ada, bob]:
        person.sees_messages("only once", "and then")
    assert sum("only once" in frame for frame in sent) == 2
    assert ada.times_heard("only once") == 1
