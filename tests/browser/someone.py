"""What everybody does who uses an example's page."""

from pathlib import Path

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, expect

expect.set_options(timeout=10_000)


class Someone:
    """A browser context with a page, in the words of the page.

    Args:
        context: owned from here on.
        url: where the page is.
        artifacts: the folder for screenshots.
    """

    page: Page
    """The tab that is used."""

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
        self.prepare(page)
        page.goto(self._url)
        return page

    def prepare(self, page: Page) -> None:
        """Called with a tab before it has its page."""

    def part(self, name: str) -> Locator:
        """A part of the page, by its data-testid."""
        return self.page.get_by_test_id(name)

    def connects(self, name: str) -> None:
        """Give a name and wait until the page is connected."""
        self.part("login-name").fill(name)
        self.part("login-submit").click()
        self.sees_connection("connected")

    def loses_connection(self) -> None:
        """Be without a network, and see it."""
        self._context.set_offline(True)
        self.sees_connection("reconnecting")

    def finds_connection(self) -> None:
        """Have a network again, and be connected by it."""
        self._context.set_offline(False)
        self.sees_connection("connected")
        self.expects_complaints()  # the console tells of each attempt that failed

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
