"""Somebody who uses the presence page."""

from pathlib import Path

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, expect

expect.set_options(timeout=8_000)


class Visitor:
    """A browser context with the presence page, in the words of the page.

    Args:
        context: owned from here on.
        url: where the page is.
        artifacts: the folder for screenshots.
    """

    def __init__(self, context: BrowserContext, url: str, artifacts: Path) -> None:
        self._context = context
        self._url = url
        self._artifacts = artifacts
        self._complaints: list[str] = []
        self.page = self.open_tab()

    def open_tab(self) -> Page:
        """One more tab with the page."""
        page = self._context.new_page()
        page.on("console", self._complain)
        page.on("pageerror", lambda error: self._complaints.append(str(error)))
        page.goto(self._url)
        return page

    def part(self, name: str) -> Locator:
        """A part of the page, by its data-testid."""
        return self.page.get_by_test_id(name)

    def log_in(self, name: str) -> None:
        """Give a name and wait until the page is connected."""
        self.part("login-name").fill(name)
        self.part("login-submit").click()
        self.sees_connection("connected")

    def types(self, text: str) -> None:
        """Write something without sending it."""
        self.part("message-input").press_sequentially(text)

    def says(self, text: str) -> None:
        """Write a message and send it."""
        self.part("message-input").fill(text)
        self.part("message-input").press("Enter")

    def sees_online(self, *names: str) -> None:
        """Exactly these people are online, in any order."""
        people = self.page.locator("[data-testid=online-item][data-state=online] .name")
        expect(people).to_have_count(len(names))
        assert sorted(people.all_inner_texts()) == sorted(names)

    def sees_message(self, text: str, *, count: int = 1) -> None:
        """The message was delivered, and stands there so often."""
        item = self.page.locator("[data-testid=message-item][data-state=delivered] .bubble")
        expect(item.get_by_text(text, exact=True)).to_have_count(count)

    def sees_typing(self, text: str) -> None:
        """That is what the page tells of who is typing."""
        expect(self.part("typing")).to_have_text(text)

    def sees_notice(self, text: str) -> None:
        """The conversation has this notice."""
        expect(self.part("notice").get_by_text(text, exact=True)).to_be_visible()

    def sees_connection(self, state: str) -> None:
        """That is the state of the connection."""
        expect(self.part("connection-state")).to_have_attribute("data-state", state)

    def expects_complaints(self) -> None:
        """Forget what the console has said so far, which this test provoked."""
        self._complaints.clear()

    def takes_picture(self, name: str) -> None:
        """Keep a screenshot."""
        self.page.screenshot(path=self._artifacts / f"{name}.png", animations="disabled")

    def close(self) -> None:
        """Leave. The page must not have complained in the console."""
        self._context.close()
        assert self._complaints == []

    def _complain(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self._complaints.append(message.text)
