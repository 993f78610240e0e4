"""Commands to a Redis Cluster: each goes to the primary that has the slot of its keys.

    run ── tend             learns anew who has which slot when something does not fit
        ├─ follow           drops links, and lets servers know, when it was learnt
        ├─ primary          one link to each primary that was needed, made anew whenever it breaks
        └─ primary ...

    MOVED      the slot is somebody else's: known from here on, and asked there
    ASK        this one command is another server's, while the slot moves
    TRYAGAIN, CLUSTERDOWN, LOADING ...   nothing was done: asked again a little later

A command is tried until `wait_timeout` is over, by the same rules as those of one server: one that
certainly was not carried out is given again, one that may have been only if that does no harm.

It is one long file because links, slots and redirections change each other with each reply.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import attrs
import trio
from redis.exceptions import AskError, MovedError, RedisError, TryAgainError

from trio_rt.backplane.redis.dial import Dial, connect
from trio_rt.backplane.redis.epoch import EpochDial, Epochs
from trio_rt.backplane.redis.link import Link
from trio_rt.backplane.redis.redial import Redial, pick_delay
from trio_rt.backplane.redis.resp import Word
from trio_rt.backplane.redis.routing import Router
from trio_rt.backplane.redis.slots import HOME, TAGS, Place, slot_of
from trio_rt.backplane.redis.steady import ELSEWHERE, CommandLink
from trio_rt.backplane.redis.topology import OLDEST, Topology
from trio_rt.backplane.redis.waiting import Waiting
from trio_rt.errors import BackplaneDown, BackplaneRefused
from trio_rt.log import log
from trio_rt.schedule.bell import Bell

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_NOT_THERE = (AskError, TryAgainError, *ELSEWHERE, BackplaneDown)
"""The server has done nothing, or the link to it is broken."""

MAX_REDIRECTIONS = 5
"""Redirections in a row that are followed at once; then it waits a little before each."""


_SLOTS = {tag: slot_of(f"{{{tag}}}") for tag in TAGS}


class _Attempt(Protocol[T_co]):
    """Gives commands to one server."""

    def __call__(self, link: Link, *, is_asking: bool) -> Awaitable[T_co]: ...


class _PrimaryDial(Dial):
    """Connects to one primary, and tells when that does not succeed."""

    def __init__(self, topology: Topology, place: Place, suspect: Callable[[], None]) -> None:
        self.settings = topology.settings
        self._address = topology.address(place)
        self._suspect = suspect

    async def connect(self, name: str) -> trio.abc.Stream:
        try:
            return await connect(self._address, name, self.settings.connect_timeout, oldest=OLDEST)
        except (BackplaneDown, BackplaneRefused):
            self._suspect()
            raise


@attrs.define(eq=False)
class _Primary:
    place: Place
    dial: EpochDial
    link: Link | None = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)


class ClusterLink(CommandLink):
    """The links to all primaries of one cluster.

    Args:
        topology: who has which slot.
        name: what CLIENT LIST shows.
        epochs: of all partitions.
    """

    def __init__(self, topology: Topology, name: str, epochs: Epochs) -> None:
        self._topology = topology
        self._epochs = epochs
        self._settings = topology.settings
        self._name = name
        self._primaries: dict[Place, _Primary] = {}
        self._wanted: list[_Primary] = []
        self._changed = trio.Event()
        self._doubt = Bell()
        self._need = Bell()
        self._waiting = Waiting(topology.settings, name)
        self._router = Router(self)
        self._is_closed = False
        self._why = "not connected yet"

    # Its life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keeps links up until it is cancelled. Started as soon as the slots are known.

        Raises:
            BackplaneRefused: if no server lets us in, or they are no cluster.
        """
        try:
            await self._learn_first()
            self._tell()
            task_status.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tend)
                nursery.start_soon(self._follow)
                while True:
                    while self._wanted:
                        nursery.start_soon(self._serve, self._wanted.pop())
                    await self._need.wait()
        finally:
            self._is_closed = True
            self._tell()

    async def _learn_first(self) -> None:
        failed = 0
        while True:
            try:
                await self._topology.learn()
            except BackplaneDown as down:
                log.warning("%s: %s", self._name, down)
                self._why = str(down)
                await trio.sleep(pick_delay(failed, self._settings, random.random()))
                failed += 1
            else:
                return

    async def _tend(self) -> None:
        """Learns who has which slot whenever there is doubt, ever more slowly while that fails."""
        attempt = 0
        while True:
            await self._doubt.wait()
            began = trio.current_time()
            try:
                await self._topology.learn(began)
            except (BackplaneDown, BackplaneRefused) as error:
                log.warning("%s: %s", self._name, error)
                self._why = str(error)
                self._doubt.ring()
                self._tell()
            await trio.sleep(pick_delay(attempt, self._settings, random.random()))
            attempt = attempt + 1 if self._doubt.is_rung else 0

    async def _follow(self) -> None:
        """Does what follows from each answer, also where a link for subscriptions has asked."""
        while True:
            await self._topology.news.wait()
            self._drop_former()
            self._tell()
            await self._enter_moved()

    def _drop_former(self) -> None:
        """Links to servers that have no slot any more end."""
        primaries = self._topology.slots.primaries
        for place in [place for place in self._primaries if place not in primaries]:
            self._primaries.pop(place).scope.cancel()

    async def _enter_moved(self) -> None:
        """Partitions that have come to a server while there is a link to it get to know it."""
        for primary in list(self._primaries.values()):
            tags, dial, link = self._tags_at(primary.place), primary.dial, primary.link
            dial.entered &= tags  # one that comes back some day gets to know it again
            missing = tags - dial.entered
            if not missing or link is None or link.ended is not None or dial.server is None:
                continue  # a new link lets all of them know
            entered = await self._epochs.enter_moved(link, dial.server, missing)
            if primary.link is link:
                dial.entered |= entered
            if entered != missing:
                self._suspect()

    def _tags_at(self, place: Place) -> set[str]:
        """The partitions that a server has, as far as is known."""
        slots = self._topology.slots
        return {tag for tag, slot in _SLOTS.items() if slots[slot] == place}

    async def _serve(self, primary: _Primary) -> None:
        """Keeps the link to one primary up while it is one."""
        redial = Redial(primary.dial, self._name)
        with primary.scope:
            while True:
                try:
                    stream = await redial.connect()
                except BackplaneRefused as error:
                    log.error("%s: %s", self._name, error)
                    self._why = str(error)
                    await trio.sleep(self._settings.max_backoff)
                    continue
                primary.link = link = Link(stream, self._settings)
                self._tell()
                if not self._tags_at(primary.place) <= primary.dial.entered:
                    self._suspect()  # it came while the link was made
                await link.run()
                primary.link = None
                self._why = link.ended or ""
                log.warning("%s: %s", self._name, link.ended)
                self._suspect()

    # For those who give commands

    @property
    def is_up(self) -> bool:
        """Whether any primary would get a command at once."""
        links = [primary.link for primary in self._primaries.values()]
        return any(link is not None and link.ended is None for link in links)

    def reset(self, why: str) -> None:
        """See `CommandLink`: all links."""
        for primary in self._primaries.values():
            if primary.link is not None:
                primary.link.close(why)
        self._suspect()

    async def call(self, *words: Word, may_repeat: bool = False) -> Any:
        """See `CommandLink`. It goes where its keys are; one without keys goes anywhere.

        Raises:
            redis.RedisError: if the server answers with an error.
            BackplaneDown: if it cannot be given in time, or a link breaks before the reply.
            MisuseError: if its keys are in several slots, or it means all servers at once; see
                `Link.call`.
        """
        slot = self._router.find(words)
        if slot is None:
            if self._router.is_for_all(words):
                return (await self.everywhere(*words))[0]
            slot = await self._router.ask(words)
        return await self.call_at(slot, words, may_repeat=may_repeat)

    async def call_all(
        self, commands: Sequence[tuple[Word, ...]], *, may_repeat: bool = False
    ) -> list[Any]:
        """See `CommandLink`. One after the other, as they may be for several servers."""
        replies: list[Any] = []
        for words in commands:
            try:
                replies.append(await self.call(*words, may_repeat=may_repeat))
            except RedisError as error:
                replies.append(error)
        return replies

    async def everywhere(self, *words: Word) -> list[Any]:
        """See `CommandLink`."""
        places = self._topology.slots.primaries
        if not places:  # not known yet
            return [await self.call_at(slot_of(HOME), words, may_repeat=True)]
        slots = {place: slot for slot, _last, place in self._topology.slots.ranges() if place}
        return [await self.call_at(slots[place], words, may_repeat=True) for place in places]

    async def call_at(self, slot: int, words: tuple[Word, ...], *, may_repeat: bool) -> Any:
        """As `call`, for a slot that is known."""
        error: Exception | None = None
        link = self._find(slot)
        if link is not None:  # spares the usual command the rest
            try:
                return await link.call(*words)
            except _NOT_THERE as raised:
                error = raised

        async def attempt(link: Link, *, is_asking: bool) -> Any:
            return await (link.ask(*words) if is_asking else link.call(*words))

        return await self._try(slot, attempt, words, error, may_repeat=may_repeat)

    async def call_all_at(
        self, slot: int, commands: Sequence[tuple[Word, ...]], *, may_repeat: bool
    ) -> list[Any]:
        """As `call_all`, together, for a slot that is known."""

        async def attempt(link: Link, *, is_asking: bool) -> list[Any]:
            return await link.call_all(commands)

        words = tuple(word for command in commands for word in command)
        replies = await self._try(slot, attempt, words, None, may_repeat=may_repeat)
        for index, reply in enumerate(replies):
            if isinstance(reply, _NOT_THERE):  # one after the other, in their order
                try:
                    replies[index] = await self.call_at(
                        slot, commands[index], may_repeat=may_repeat
                    )
                except RedisError as error:
                    replies[index] = error
        return replies

    def is_up_at(self, slot: int) -> bool:
        """Whether a command for a slot would leave at once."""
        return self._find(slot) is not None

    def reset_at(self, slot: int, why: str) -> None:
        """The server that has a slot is not the right one."""
        link = self._find(slot)
        if link is not None:
            link.close(why)
        self._suspect()

    # How they get there

    def _find(self, slot: int) -> Link | None:
        """The link to the primary that has a slot, if it is up."""
        place = self._topology.slots[slot]
        if place is None:
            self._suspect()
            return None
        return self._link_to(place)

    def _link_to(self, place: Place) -> Link | None:
        """The link to a server, if it is up; one that there was not is made from here on."""
        primary = self._primaries.get(place)
        if primary is None:
            dial = _PrimaryDial(self._topology, place, self._suspect)
            primary = self._primaries[place] = _Primary(place, EpochDial(dial, self._epochs))
            self._wanted.append(primary)
            self._need.ring()
        link = primary.link
        return link if link is not None and link.ended is None else None

    async def _try(
        self,
        slot: int,
        attempt: _Attempt[T],
        words: tuple[Word, ...],
        error: Exception | None,
        *,
        may_repeat: bool,
    ) -> T:
        """Gives commands where errors say, and again where that does no harm.

        Args:
            slot: of their keys.
            attempt: gives them to one server.
            words: all of their words, for the count of what waits.
            error: what the first attempt gave, if there was one.
            may_repeat: see `CommandLink.call`.
        """
        deadline = trio.current_time() + self._settings.wait_timeout
        is_unknown, tries = False, 0
        while True:
            asked: Place | None = None
            if error is not None:
                is_unknown = is_unknown or _is_unknown(error)
                if _is_unknown(error) and not may_repeat:
                    raise error
                if trio.current_time() >= deadline:
                    why = f"{self._name}: {error}"
                    raise BackplaneDown(why, outcome_unknown=is_unknown) from error
                tries += 1
                asked = self._heed(slot, error)
                if tries > MAX_REDIRECTIONS or not isinstance(error, AskError):
                    delay = pick_delay(tries, self._settings, random.random())
                    await trio.sleep(min(delay, deadline - trio.current_time()))
            try:
                link = await self._wait_link(slot, asked, words, deadline, is_unknown=is_unknown)
                return await attempt(link, is_asking=asked is not None)
            except _NOT_THERE as raised:
                error = raised

    def _heed(self, slot: int, error: Exception) -> Place | None:
        """Learns from an error; returns where it sends this one command, if it does."""
        if not isinstance(error, AskError):
            self._suspect()
            return None
        host, _, port = str(error.args[0]).rpartition(" ")[2].rpartition(":")
        place = (host, int(port))
        if not isinstance(error, MovedError):
            return place
        if host:
            self._topology.slots.move(slot, place)
        self._suspect()  # it will not be the only one that has moved
        return None

    async def _wait_link(
        self,
        slot: int,
        asked: Place | None,
        words: tuple[Word, ...],
        deadline: float,
        *,
        is_unknown: bool,
    ) -> Link:
        def find() -> Link | None:
            return self._find(slot) if asked is None else self._link_to(asked)

        if (link := find()) is not None:
            return link
        with (
            self._waiting.counted(words, self._why, is_unknown=is_unknown),
            trio.move_on_at(deadline),
        ):
            while not self._is_closed:
                if (link := find()) is not None:
                    return link
                await self._changed.wait()
        why = "closed" if self._is_closed else self._why
        raise BackplaneDown(f"{self._name}: {why}", outcome_unknown=is_unknown)

    def _suspect(self) -> None:
        """What is known of the slots may be wrong."""
        self._doubt.ring()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _is_unknown(error: Exception) -> bool:
    return isinstance(error, BackplaneDown) and error.outcome_unknown
