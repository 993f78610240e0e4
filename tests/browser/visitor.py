"""Somebody who uses the presence page."""

from pathlib import Path

from playwright.sync_api import BrowserContext, Locator, Page, WebSocket, expect

from tests.browser.someone import Someone

HIDDEN = """(isHidden) => {
  Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


class Visitor(Someone):
    """Somebody on the presence page."""

    websocket: WebSocket
    """The last connection that the page made."""

    def __init__(self, context: BrowserContext, url: str, artifacts: Path) -> None:
        self._frames: list[str] = []
        super().__init__(context, url, artifacts)

    def prepare(self, page: Page) -> None:
        """Listen to what the server tells it."""
        page.on("websocket", self._listen)

    # What is done

    def log_in(self, name: str) -> None:
        """Give a name and wait until the page is in a room."""
        self.connects(name)
        expect(self.person(name)).to_be_visible()

    def types(self, text: str) -> None:
        """Write something without sending it."""
        self.part("message-input").press_sequentially(text)

    def says(self, text: str) -> None:
        """Write a message and send it."""
        self.part("message-input").fill(text)
        self.part("message-input").press("Enter")

    def goes_to(self, room: str) -> None:
        """Choose a room, and wait until it is shown."""
        self.room(room).click()
        expect(self.room(room)).to_have_attribute("aria-current", "page")

    def makes_room(self, name: str) -> None:
        """Give a new room's name."""
        self.part("make-room").click()
        self.part("new-room").fill(name)
        self.part("new-room").press("Enter")

    def hides(self) -> None:
        """Look at another tab; a browser without a window never hides one by itself."""
        self.page.evaluate(HIDDEN, True)

    def looks_again(self) -> None:
        """Look at this tab again."""
        self.page.evaluate(HIDDEN, False)

    # What is seen

    def person(self, name: str) -> Locator:
        """Somebody in the list of people."""
        return self.page.locator(f'[data-testid=online-item][data-id="{name}"]')

    def room(self, name: str) -> Locator:
        """A room in the list of rooms."""
        return self.page.locator(f'[data-testid=room-item][data-room="{name}"]')

    def sees_online(self, *names: str) -> None:
        """Exactly these people are in the room, in any order."""
        expect(self.part("online-item")).to_have_count(len(names))
        for name in names:
            label = self.part("online-item").locator(".name").get_by_text(name, exact=True)
            expect(label).to_have_count(1)

    def sees_person(self, name: str, state: str, facts: str) -> None:
        """Somebody is "here" or "away", and the list says so much of it."""
        expect(self.person(name)).to_have_attribute("data-state", state)
        expect(self.person(name).locator(".facts")).to_have_text(facts)

    def sees_message(self, text: str) -> None:
        """The message was delivered, and stands there once."""
        item = self.page.locator("[data-testid=message-item][data-state=delivered] .bubble")
        expect(item.get_by_text(text, exact=True)).to_have_count(1)

    def sees_messages(self, *texts: str) -> None:
        """Exactly these messages are there, in this order."""
        expect(self.page.locator("[data-testid=message-item] .bubble")).to_have_text(texts)

    def sees_typing(self, text: str) -> None:
        """That is what the page tells of who is typing."""
        expect(self.part("typing")).to_have_text(text)

    def sees_notice(self, text: str) -> None:
        """The conversation has this notice."""
        expect(self.notice(text)).to_be_visible()

    def notice(self, text: str) -> Locator:
        """Such notices in the conversation."""
        return self.part("notice").get_by_text(text, exact=True)

    def times_heard(self, text: str) -> int:
        """How often the server told this page that this was said."""
        return sum(frame.startswith('42["said"') and text in frame for frame in self._frames)

    def times_refused(self) -> int:
        """How often the server did not let this page in."""
        return sum(frame.startswith("44") for frame in self._frames)

    def _listen(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        websocket.on("framereceived", lambda frame: self._frames.append(str(frame)))
