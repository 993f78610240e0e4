"""Somebody who plays the lobby example."""

from pathlib import Path

from playwright.sync_api import BrowserContext, Locator, expect

from tests.browser.someone import Someone

KEYS = {"up": "ArrowUp", "right": "ArrowRight", "down": "ArrowDown", "left": "ArrowLeft"}


class Player(Someone):
    """Somebody on the game's page; with a room and a code behind its url, an invitation."""

    def __init__(self, context: BrowserContext, url: str, artifacts: Path) -> None:
        super().__init__(context, url, artifacts)
        self.name = ""

    # What is done

    def log_in(self, name: str) -> None:
        """Give a name, and be connected."""
        self.name = name
        self.connects(name)

    def makes_room(self, title: str, *, is_private: bool = False) -> None:
        """Have a room of one's own."""
        self.part("room-title").fill(title)
        self.part("room-private").set_checked(is_private)
        self.part("create").click()
        self.sees_room(title)

    def joins(self, title: str) -> None:
        """Take a seat in a room of the list."""
        self.entry(title).get_by_test_id("join").click()
        self.sees_room(title)

    def watches(self, title: str) -> None:
        """Watch in a room of the list."""
        self.entry(title).get_by_test_id("watch").click()
        self.sees_room(title)

    def gets_ready(self) -> None:
        """Say so."""
        self.part("ready").click()

    def invites(self) -> str:
        """The link of an invitation."""
        self.part("invite").click()
        expect(self.part("invite-link")).to_be_visible()
        return self.part("invite-link").input_value()

    def runs(self, *headings: str) -> None:
        """Press one arrow after the other."""
        for heading in headings:
            self.page.keyboard.press(KEYS[heading])

    # What is seen

    def entry(self, title: str) -> Locator:
        """A room in the list."""
        return self.part("room-item").filter(has_text=title)

    def seat(self, name: str) -> Locator:
        """A player in the room."""
        return self.page.locator(f'[data-testid=player][data-id="{name}"]')

    def score(self, name: str) -> int:
        """The tiles of a player."""
        return int(self.seat(name).get_by_test_id("score").inner_text())

    def sees_room(self, title: str) -> None:
        """The page shows this room."""
        expect(self.part("room")).to_be_visible()
        expect(self.part("title")).to_have_text(title)

    def sees_lobby(self) -> None:
        """The page shows the list."""
        expect(self.part("lobby")).to_be_visible()

    def sees_players(self, *names: str) -> None:
        """Exactly these have seats, in any order."""
        expect(self.part("player")).to_have_count(len(names))
        for name in names:
            expect(self.seat(name)).to_be_visible()

    def sees_phase(self, phase: str) -> None:
        """So far is the game."""
        expect(self.part("room")).to_have_attribute("data-phase", phase)

    def sees_facts(self, name: str, facts: str) -> None:
        """So much is told of a player."""
        expect(self.seat(name).locator(".facts")).to_have_text(facts)

    def sees_score_above(self, name: str, tiles: int) -> None:
        """A player has more tiles than that."""
        self.page.wait_for_function(
            """([name, tiles]) => Number(document.querySelector(
                `[data-testid=player][data-id="${name}"] [data-testid=score]`
              )?.textContent) > tiles""",
            arg=[name, tiles],
        )

    def sees_notice(self, text: str) -> None:
        """The page said this a moment ago."""
        expect(self.part("notice").get_by_text(text, exact=True)).to_be_visible()

    def fits(self) -> bool:
        """Whether nothing has to be scrolled sideways."""
        return bool(
            self.page.evaluate(
                "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
            )
        )

    def takes_picture(self, name: str) -> None:
        """Keep a screenshot."""
        super().takes_picture(f"lobby-{name}")
