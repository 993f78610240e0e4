"""Real clients and real servers on wires that break, against a naive model: nothing is lost.

Clients join, leave, publish and call; wires stall, lose one direction, break in the middle of a
frame and for one end only; servers drain, stop, die and begin anew; time passes, a little or too
much. After each step the journal is looked through, and at the end everything comes back:

- of each session its client has got the beginning of what it had to get, in order, nothing twice;
- a session is recovered whole, and one that could have been is not given up;
- what a client told has run, in order, once in each life of a server; what was answered, too;
- nobody is remembered who has left.

Across a restart a key promises less: a new server knows nothing of what the old one ran, so what
was not answered when the old one ended runs once more. What was answered never does.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from trio.testing import wait_all_tasks_blocked

from tests.leftovers import leftovers, memories
from tests.stateful.journal import NEVER, Journal
from tests.stateful.playing import Player, Weather
from tests.stateful.serving import CONFIG, SHAPES, Life
from tests.stateful.stepped import SteppedRun
from trio_rt import ConnectionState

MAX_PLAYERS = 4

ROOMS = st.sampled_from(["a", "b", "c"])
PLAYERS = st.integers(0, MAX_PLAYERS - 1)
SAY = st.tuples(
    st.just("say"),
    st.lists(st.sampled_from(["a", "b", "c", "me"]), max_size=2, unique=True),
    st.lists(st.sampled_from(["a", "b", "me"]), max_size=1),
    st.sampled_from(["stored"] * 7 + ["volatile", "volatile", "often"]),
    st.sampled_from(sorted(SHAPES)),
)
STEP = st.one_of(
    st.tuples(st.just("join"), ROOMS),
    SAY,
    SAY,
    st.tuples(st.just("leave"), ROOMS),
    st.tuples(st.just("nap"), st.sampled_from([0.0, 0.1, 1.0])),
    st.just(("ask",)),
    st.just(("fill", "x" * 400)),
)
WEATHER = st.builds(
    Weather,
    up=st.sampled_from([0.0, 0.01, 0.5, 3.0]),
    down=st.sampled_from([0.0, 0.01, 0.5, 3.0]),
    capacity=st.sampled_from([65_536, 1_500, 300]),
    pieces=st.none() | st.lists(st.integers(2, 60), min_size=1, max_size=3).map(tuple),
)
HELLO = st.lists(STEP, max_size=2).map(lambda steps: [("join", "a"), *steps])
PACE = st.sampled_from(["quiet", "quiet", 0, 1, 3, 10, 0.05, 1.0])
"""What happens after a step: all that can without time passing, so many turns of the scheduler, or
so many seconds."""


async def now() -> float:
    return trio.current_time()


class NothingLost(RuleBasedStateMachine):
    """Up to four clients and one server after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.is_sound = True
        self.run = SteppedRun()
        self.journal = Journal()
        self.players: list[Player] = []
        self.life: Life | None = None
        self.lives = 0

    def do(
        self, pace: int | float | str, function: Callable[..., Awaitable[Any]], *args: Any
    ) -> None:
        """One step, and what happens behind it."""
        self.is_sound = False
        self.run.step(function, *args)
        self.run.step(self._go_on, pace)
        self.is_sound = True

    async def _go_on(self, pace: int | float | str) -> None:
        if pace == "quiet":
            await wait_all_tasks_blocked()
        elif isinstance(pace, float):
            await trio.sleep(pace)
        else:
            for _ in range(int(pace)):
                await trio.lowlevel.checkpoint()

    def do_now(self, pace: int | float | str, function: Callable[..., object], *args: Any) -> None:
        """One step that does not wait."""

        async def call() -> None:
            function(*args)

        self.do(pace, call)

    def player(self, index: int) -> Player:
        """One of them; for those who were closed whoever came in their place."""
        playing = [player for player in self.players if player.is_playing]
        return playing[index % len(playing)]

    # The server

    @initialize(
        random=st.random_module(),
        hellos=st.lists(HELLO, min_size=2, max_size=2),
        most=st.sampled_from([1_000, 1_000, 3]),
        weather=WEATHER | st.just(Weather()),
    )
    def begin(self, random: Any, hellos: list[Any], most: int, weather: Weather) -> None:
        self._start_server()
        for hello in hellos:
            self._open_client(hello, most, weather)
        self.do("quiet", trio.lowlevel.checkpoint)

    def _start_server(self) -> None:
        self.lives += 1
        self.life = Life(self.lives, self.journal, self.players)
        self.do(0, self.run.nursery.start, self.life.serve)
        for player in self.players:
            player.life = self.life

    @rule(
        how=st.sampled_from(["drains"] * 5 + ["stops", "is killed", "vanishes"]),
        away=st.sampled_from([0.0, 0.3, 9.0]),
        pace=PACE,
    )
    def server_ends(self, how: str, away: float, pace: Any) -> None:
        """And is back, sooner or later; a drain alone ends the connections and not the server."""
        assert self.life is not None
        if how == "drains":
            self.do(pace, self.life.drain)
            return
        life, self.life = self.life, None
        for player in self.players:
            player.life = None
        if how == "stops":
            self.do(away, life.stop)
        else:
            self.do(away, partial(life.kill, tell_clients=how == "is killed"))
        self._start_server()
        self.do(pace, trio.lowlevel.checkpoint)

    @rule(say=SAY, pace=PACE)
    def server_says(self, say: Any, pace: Any) -> None:
        """Without a client that asks for it."""
        self._say(pace, say)

    def _say(self, pace: Any, say: Any) -> None:
        assert self.life is not None
        _, rooms, excepted, how, shape = say
        rooms = [room for room in rooms if room != "me"]
        excepted = [room for room in excepted if room != "me"]
        self.do(pace, self._start, self.life.say, "", rooms, excepted, how, shape)

    @rule(who=PLAYERS, what=st.sampled_from(["join", "leave"]), room=ROOMS, say=SAY, pace=PACE)
    def server_moves(self, who: int, what: str, room: str, say: Any, pace: Any) -> None:
        """A client into a room or out of it, when it has said something there."""
        assert self.life is not None
        steps = [("say", [room], *say[2:]), (what, room)]
        self.do(pace, self._start, self.life.move, self.player(who).index, steps)

    async def _start(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        self.run.nursery.start_soon(function, *args)
        await trio.lowlevel.checkpoint()

    # The clients

    def _open_client(self, hello: list[Any], most: int, weather: Weather) -> None:
        player = Player(len(self.players), self.journal, hello, most, weather)
        player.life = self.life
        self.players.append(player)
        self.do(0, self.run.nursery.start, player.play)

    @precondition(lambda self: sum(player.is_playing for player in self.players) < MAX_PLAYERS)
    @rule(hello=HELLO, most=st.sampled_from([1_000, 3]), weather=WEATHER, pace=PACE)
    def client_opens(self, hello: list[Any], most: int, weather: Weather, pace: Any) -> None:
        self._open_client(hello, most, weather)
        self.do(pace, trio.lowlevel.checkpoint)

    @rule(
        who=PLAYERS,
        steps=st.lists(STEP, min_size=1, max_size=3),
        timeout=st.sampled_from([None, 1.0, 90.0, 90.0]),
        has_tail=st.booleans(),
        pace=PACE,
    )
    def client_tells(
        self, who: int, steps: list[Any], timeout: float | None, has_tail: bool, pace: Any
    ) -> None:
        """It emits an event, or calls the server and waits for so long."""
        self.do(pace, self.player(who).tell, steps, timeout, has_tail)

    @rule(who=PLAYERS, says=st.lists(SAY, min_size=1, max_size=4), pace=PACE)
    def client_publishes(self, who: int, says: list[Any], pace: Any) -> None:
        """Several emissions, one behind the other."""
        for say in says:
            self.do(0, self.player(who).tell, [say], 90.0, False)
        self.do(pace, trio.lowlevel.checkpoint)

    @rule(who=PLAYERS, what=st.sampled_from(["now", "now", "leave", "again"]), pace=PACE)
    def client_has_a_will(self, who: int, what: str, pace: Any) -> None:
        """It wants to be connected now, or not any more; or is closed, and another one opens."""
        player = self.player(who)
        if what == "now":
            self.do(pace, player.connect)
        elif what == "leave":
            self.do(pace, player.disconnect)
        elif player.is_playing:
            self.do(pace, player.leave)
            self._open_client(player.hello, player.most, player.weather)

    # The network

    @rule(
        who=PLAYERS,
        weather=WEATHER,
        looks=st.sampled_from([0.0, 0.0, 0.3, 2.0]),
        handler_naps=st.sampled_from([0.0, 0.0, 0.2, 2.0]),
    )
    def all_gets_slow(self, who: int, weather: Weather, looks: float, handler_naps: float) -> None:
        """Or quick: the wires from the next dial on; who lets it in; its handler at once."""
        player = self.player(who)
        player.weather, player.looks, player.handler_naps = weather, looks, handler_naps

    @rule(
        who=PLAYERS,
        is_up=st.booleans(),
        after=st.sampled_from([0, 0, 1]) | st.integers(0, 400),
        told=st.sampled_from(["nobody", "client", "server", "both", "both"]),
        pace=PACE,
    )
    def wire_breaks(self, who: int, is_up: bool, after: int, told: str, pace: Any) -> None:
        """One direction, after so many bytes; then the other, if anybody is told."""
        link = self.player(who).link
        if link is None:
            return
        clients, servers = told in ("client", "both"), told in ("server", "both")
        drop = partial(link.drop, tell_client=clients, tell_server=servers)
        lane = link.up if is_up else link.down
        self.do_now(pace, lane.cut, after, None if told == "nobody" else drop)

    @rule(
        who=PLAYERS,
        lanes=st.sampled_from(["up", "down", "both"]),
        tells=st.integers(0, 5),
        breaks=st.booleans(),
        pace=PACE,
    )
    def wire_stalls(self, who: int, lanes: str, tells: int, breaks: bool, pace: Any) -> None:
        """While the client goes on to tell, more than a wire may take; or goes on, or breaks."""
        player = self.player(who)
        if player.link is None:
            return
        if player.is_stalled:
            self.do_now(pace, player.link.resume)
        else:
            stalls = {"up": player.link.up, "down": player.link.down, "both": player.link}
            self.do_now(0, stalls[lanes].stall)
            for _ in range(tells):
                self.do("quiet", player.tell, [("fill", "x" * 400)], None, False)
            self.do_now(pace, player.link.drop if breaks else list)
        player.is_stalled = not player.is_stalled

    @rule(
        who=PLAYERS,
        seconds=st.sampled_from([0.5, 5.0, 16.0, 25.0]),
        before=st.none() | SAY,
        missed=st.lists(SAY, max_size=2),
    )
    def network_is_away(self, who: int, seconds: float, before: Any, missed: list[Any]) -> None:
        """From a break that both ends notice, for a while in which others go on."""
        player = self.player(who)
        if before is not None:
            self._say("quiet", before)
        player.no_network_until = self.run.step(now) + seconds
        if player.link is not None:
            self.do_now("quiet", player.link.drop)
        for say in missed:
            self._say(0, say)

    # Time

    @rule(seconds=st.sampled_from(["quiet", 0.1, 0.6, 2.0, 5.0, 8.0, 16.0, 35.0]))
    def time_passes(self, seconds: Any) -> None:
        self.do(seconds, trio.lowlevel.checkpoint)

    # What holds

    @invariant()
    def journal_is_sound(self) -> None:
        was_sound, self.is_sound = self.is_sound, False
        self.journal.check()
        for player in self.players:
            player.check()
        self.is_sound = was_sound

    def teardown(self) -> None:
        """The network is well, and everything comes back; then everybody leaves."""
        try:
            if self.is_sound:
                self._come_to_an_end()
        finally:
            self.run.end(quietly=not self.is_sound)

    def _come_to_an_end(self) -> None:
        self.do(60.0, self._mend)
        self.journal_is_sound()
        self.is_sound = False
        for player in self.players:
            if player.is_playing:
                player.check_told(self.run.step(now))
                self._check_got(player)
        self.run.step(self._leave)
        assert self.life is not None
        app = self.life.app
        assert leftovers(app) == {}
        assert memories(app) == {}
        for visit in self.journal.visits.values():
            if visit.life == self.life.number and visit.connected < NEVER:
                assert visit.has_left, f"nobody saw {visit} off"
        self.is_sound = True

    async def _mend(self) -> None:
        for player in self.players:
            player.no_network_until = player.handler_naps = player.looks = 0.0
            player.weather = Weather()
            for link in player.links:
                link.resume()
            await player.connect()

    def _check_got(self, player: Player) -> None:
        """Everything that was meant has come, and was handled."""
        assert player.state is ConnectionState.CONNECTED, f"{player} is {player.state}"
        assert player.client.pending == 0
        assert player.client.id is not None
        visit = self.journal.visits[player.client.id]
        assert self.journal.holes(visit, NEVER) == []
        handled = set(player.handled)
        for other in player.visits_by_pid.values():
            *most, last = other.got or [None]
            assert [said for said in most if said not in handled] == []
            assert other is not visit or last is None or last in handled

    async def _leave(self) -> None:
        for player in self.players:
            if player.is_playing:
                await player.leave()
        await trio.sleep(CONFIG.recovery_window + CONFIG.history_timeout + 10.0)


TestNothingLost: Any = NothingLost.TestCase
# The promise of the whole project: three times as many examples as usual, in each profile.
TestNothingLost.settings = settings(
    max_examples=max(300, settings().max_examples), stateful_step_count=30
)
