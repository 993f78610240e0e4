"""Who is in the rooms of a namespace, in the whole cluster, and how the members are told.

Every node says who is on it (`machine/roster.py`), to the nodes that have members in the same room.
Changes are gathered for a moment, so that a wave of joins is one event for each member:

    presence_state   room, {user: {"metas": [{..., "ref"}]}}          to who is new in a room
    presence_diff    room, {"joins": {user: ...}, "leaves": ...}      to all others

Neither is recovered: who comes back gets the state anew. Source: Phoenix's `Phoenix.Presence`,
whose words and shapes these are.

It is one long file because what is told, to whom, and when hangs on the same few rosters.
"""

from __future__ import annotations

import fnmatch
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import TYPE_CHECKING, Any

import attrs
import msgspec
import trio

from trio_rt.backplane.base import Note
from trio_rt.codec import questions
from trio_rt.codec.questions import RollCall
from trio_rt.errors import MisuseError
from trio_rt.log import log
from trio_rt.machine.roster import Delta, Meta, PresenceDiff, Roster, State, View, diff
from trio_rt.packets import encode_event
from trio_rt.schedule.bell import Bell
from trio_rt.target import Target

if TYPE_CHECKING:
    from trio_rt.namespace import Namespace
    from trio_rt.socket import Socket

COALESCE = 0.05
"""Seconds in which changes are gathered: a wave of joins is told at once, and nobody sees it."""

ROLL_CALL_TIMEOUT = 2.0
"""Seconds that another node may take to say who is on it."""

CATCH_UPS_AT_ONCE = 16
"""Rooms of which other nodes are asked side by side, where something was missed."""

ANY = "*"
"""In place of a node's name: all of them."""

NEVER_AGAIN = 2**53
"""Incarnation of all words of a node that is gone: it has another name in its next life."""

Hook = Callable[..., Awaitable[None]]

_delta = msgspec.msgpack.Decoder(Delta)
_view = msgspec.msgpack.Decoder(View | None)


@attrs.frozen
class RoomRef:
    """A room, for `on_presence`."""

    name: str

    target: Target
    """Its members: `await room.target.emit(...)`."""


@attrs.frozen
class Present:
    """Who is in a room."""

    users: Mapping[str, tuple[Meta, ...]]
    """What each user shows of itself, once for each of its sockets."""

    missing_nodes: frozenset[str]
    """Nodes of the cluster that did not say in time who is on them."""


@attrs.define(eq=False)
class _Watch:
    """An `on_presence` hook of one room."""

    hook: Hook
    known: State = attrs.field(factory=dict[str, Mapping[str, Meta]])
    """What it was told."""
    is_running: bool = False


class Presence:
    """The presence of one namespace.

    Args:
        namespace: whose sockets it is about.
        keeper: tells members and other nodes what has changed.
    """

    __slots__ = ("_hooks", "_keeper", "_namespace", "_newcomers", "_rosters", "_watches")

    def __init__(self, namespace: Namespace, keeper: PresenceKeeper) -> None:
        self._namespace = namespace
        self._keeper = keeper
        self._hooks = namespace.handlers.presence
        self._rosters: dict[str, Roster] = {}
        self._newcomers: dict[str, set[Socket]] = {}
        self._watches: dict[str, _Watch | None] = {}

    def __len__(self) -> int:
        """Rooms in which presence is kept."""
        return len(self._rosters)

    # Our own sockets

    async def track(self, socket: Socket, room: str, meta: Meta) -> None:
        """A member of a room shows something of itself, or something else.

        Raises:
            MisuseError: if that is no JSON object.
        """
        session = socket.session
        shown = _check(meta)
        if session.presence is None:
            session.presence = {}
        session.presence[room] = shown
        await self.open(room)
        if socket.connected and room in session.membership:
            self._rosters[room].track(socket.id, socket.user.id, shown, session.moves)
            self._newcomers.setdefault(room, set()).add(socket)
        self._keeper.mark(self, room)

    def joined(self, socket: Socket, room: str) -> None:
        """A socket has joined a room: if presence is kept there, it is told who is in it."""
        if room in self._rosters:
            self._newcomers.setdefault(room, set()).add(socket)
            self._keeper.mark(self, room)
        elif (self._rosters or self._hooks) and len(self._namespace.app.backplane.nodes) > 1:
            self._keeper.open_soon(self, room)  # others may be there, and we have not listened

    def left(self, socket: Socket, room: str) -> None:
        """A socket has left a room."""
        roster = self._rosters.get(room)
        if roster is not None:
            roster.untrack(socket.id)
            self._keeper.mark(self, room)
        if socket.session.presence is not None:
            socket.session.presence.pop(room, None)

    def lost(self, socket: Socket, *, may_come_back: bool) -> None:
        """A socket is gone from all its rooms."""
        now = trio.current_time()
        for room in socket.session.presence or ():
            roster = self._rosters.get(room)
            if roster is None:
                continue
            if may_come_back:
                roster.dropped(socket.id, now)
                self._keeper.mark_at(self, room, roster.deadline)
            else:
                roster.untrack(socket.id)
            self._keeper.mark(self, room)

    async def came_back(self, socket: Socket) -> None:
        """A socket is back in its rooms: it shows what it showed, and is told who is there."""
        for room in socket.rooms:
            self.joined(socket, room)
        for room, meta in list((socket.session.presence or {}).items()):
            await self.track(socket, room, meta)

    # The other nodes

    async def open(self, room: str) -> None:
        """Presence is kept for a room from here on; other nodes are asked who is on them."""
        if room in self._rosters:
            return
        backplane = self._namespace.app.backplane
        grace = self._namespace.app.config.presence_grace
        incarnation = self._keeper.next_incarnation()
        roster = self._rosters[room] = Roster(backplane.node, incarnation, grace=grace)
        if len(backplane.nodes) > 1:
            body = questions.encode(RollCall(self._namespace.name, room))
            answers = await backplane.ask(body, timeout=ROLL_CALL_TIMEOUT)
            _merge(roster, answers.bodies)
            self._keeper.mark(self, room)
            for node in answers.missing:  # it was slow, or is gone: asked once more
                self._keeper.catch_up_soon(self, room, node)

    async def catch_up(self, room: str, node: str) -> None:
        """What a node said, or `ANY` did, was missed in part: asks for all."""
        roster = self._rosters.get(room)
        if roster is not None:
            body = questions.encode(RollCall(self._namespace.name, room))
            backplane = self._namespace.app.backplane
            answers = await backplane.ask(
                body, nodes=None if node == ANY else [node], timeout=ROLL_CALL_TIMEOUT
            )
            _merge(roster, answers.bodies)
            self._keeper.mark(self, room)

    def take(self, note: Note) -> None:
        """Another node told what changed on it; in no room, that its words may have been lost."""
        if not note.room:
            for room in self._rosters:
                self._keeper.catch_up_soon(self, room, note.node)
            return
        roster = self._rosters.get(note.room)
        if roster is None:
            if note.room in self._namespace.rooms:
                self._keeper.open_soon(self, note.room)
            return
        try:
            is_known = roster.apply(_delta.decode(note.body))
        except msgspec.DecodeError as error:
            log.warning("node %s told something unknown of a room: %s", note.node, error)
            return
        if is_known:
            self._keeper.mark(self, note.room)
        else:
            self._keeper.catch_up_soon(self, note.room, note.node)

    def node_down(self, node: str) -> None:
        """A node is gone, and all who were on it."""
        for room, roster in self._rosters.items():
            roster.node_down(node, NEVER_AGAIN)
            self._keeper.mark(self, room)

    def fenced(self) -> None:
        """The others took this node for dead: for them it is another one from here on."""
        for room, roster in self._rosters.items():
            roster.rename(self._namespace.app.backplane.node)
            self._keeper.mark(self, room)

    def rejoined(self) -> None:
        """This node was cut off: asks the others who is on them, and lets them ask it."""
        backplane = self._namespace.app.backplane
        if len(backplane.nodes) > 1:
            backplane.tell(self._namespace.name, "", b"")
            for room in self._rosters:
                self._keeper.catch_up_soon(self, room, ANY)

    def call_roll(self, room: str) -> bytes:
        """Who is on this node: the answer to another one's question."""
        roster = self._rosters.get(room)
        return msgspec.msgpack.encode(None if roster is None else roster.view())

    # Telling

    async def present(self, room: str, seconds: float) -> Present:
        """See `Target.presence`."""
        roster = self._rosters.get(room)
        missing: frozenset[str] = frozenset()
        if roster is None or room not in self._namespace.rooms:
            roster = Roster(self._namespace.app.backplane.node, 0, grace=0.0)
            body = questions.encode(RollCall(self._namespace.name, room))
            answers = await self._namespace.app.backplane.ask(body, timeout=seconds)
            _merge(roster, answers.bodies)
            missing = answers.missing
        else:
            await trio.lowlevel.checkpoint()
        users = {key: tuple(metas.values()) for key, metas in roster.state().items()}
        return Present(users, missing)

    def flush(self, room: str, now: float) -> None:
        """Tells members and other nodes what has changed in a room."""
        roster = self._rosters.get(room)
        newcomers = self._newcomers.pop(room, set())
        if roster is None:
            return
        roster.tick(now)
        namespace = self._namespace
        delta = roster.take_delta()
        if delta is not None:
            namespace.app.backplane.tell(namespace.name, room, msgspec.msgpack.encode(delta))
        change = roster.take_diff()
        members = namespace.rooms.get(room, set())
        if change is not None:
            others = [socket for socket in members if socket not in newcomers]
            body = {"joins": _shown(change.joins), "leaves": _shown(change.leaves)}
            namespace.send_to(others, encode_event(namespace.name, "presence_diff", (room, body)))
        present = [socket for socket in newcomers if socket in members]
        if present:
            packet = encode_event(namespace.name, "presence_state", (room, _shown(roster.state())))
            namespace.send_to(present, packet)
        self._watch(room, roster)
        watch = self._watches.get(room)
        if not members and not roster.has_own and (watch is None or not watch.is_running):
            # What others say of this room does not arrive any more.
            del self._rosters[room]
            self._watches.pop(room, None)

    def _watch(self, room: str, roster: Roster) -> None:
        """Runs the hook of a room, unless it runs: then it is run again when it is done."""
        if room not in self._watches:
            hook = next((h for p, h in self._hooks.items() if fnmatch.fnmatchcase(room, p)), None)
            self._watches[room] = None if hook is None else _Watch(hook)
        watch = self._watches[room]
        if watch is not None and not watch.is_running:
            state = roster.state()
            change = diff(watch.known, state)
            if change:
                watch.known = state
                watch.is_running = True
                self._keeper.run_soon(self._run_hook, room, watch, change)

    async def _run_hook(self, room: str, watch: _Watch, change: PresenceDiff) -> None:
        seconds = self._namespace.app.config.disconnect_timeout
        try:
            with trio.move_on_after(seconds) as scope:
                await watch.hook(RoomRef(room, self._namespace.to(room)), change)
            if scope.cancelled_caught:
                log.error("on_presence of room %r was cancelled after %s s", room, seconds)
        except Exception:
            log.exception("on_presence failed for room %r", room)
        finally:
            watch.is_running = False
            self._keeper.mark(self, room)


class PresenceKeeper:
    """The task that tells what has changed, for all rooms of all namespaces of a node."""

    __slots__ = ("_bell", "_due", "_incarnations", "_marked", "_nursery", "_slots", "_todo")

    def __init__(self) -> None:
        self._bell = Bell()
        self._marked: dict[tuple[Presence, str], None] = {}
        self._due: deque[tuple[float, Presence, str]] = deque()  # when somebody's grace is over
        self._todo: dict[tuple[Presence, str, str], None] = {}  # with the node, or all
        self._nursery: trio.Nursery | None = None
        self._incarnations = count()
        self._slots = trio.CapacityLimiter(CATCH_UPS_AT_ONCE)

    def next_incarnation(self) -> int:
        """Greater than all before: a room that is kept again is not what it was."""
        return next(self._incarnations)

    def mark(self, presence: Presence, room: str) -> None:
        """Something has changed in a room."""
        self._marked[presence, room] = None
        self._bell.ring()

    def mark_at(self, presence: Presence, room: str, time: float) -> None:
        """Something changes by itself; the times have to come in order, or nearly."""
        self._due.append((time, presence, room))
        self._bell.ring()

    def open_soon(self, presence: Presence, room: str) -> None:
        """Somebody may be in a room for which presence is not kept here yet."""
        self._todo[presence, room, ""] = None
        self._bell.ring()

    def catch_up_soon(self, presence: Presence, room: str, node: str) -> None:
        """What a node said of a room was missed in part."""
        self._todo[presence, room, node] = None
        self._bell.ring()

    def run_soon(self, function: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Runs a program's hook beside the keeper."""
        if self._nursery is not None:
            self._nursery.start_soon(function, *arguments)

    async def run(self) -> None:
        """Keeps until it is cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                while True:
                    await self._wait()
                    await trio.sleep(COALESCE)
                    self._take_todo(self._nursery)
                    now = trio.current_time()
                    while self._due and self._due[0][0] <= now:
                        _, presence, room = self._due.popleft()
                        self._marked[presence, room] = None
                    marked, self._marked = self._marked, {}
                    for presence, room in marked:
                        presence.flush(room, now)
        finally:
            self._nursery = None

    async def _catch_up(self, presence: Presence, room: str, node: str) -> None:
        async with self._slots:
            await presence.catch_up(room, node)

    async def _wait(self) -> None:
        """Until something was marked, or is due."""
        if self._due:
            with trio.move_on_after(max(self._due[0][0] - trio.current_time(), 0)):
                await self._bell.wait()
        else:
            await self._bell.wait()

    def _take_todo(self, nursery: trio.Nursery) -> None:
        todo, self._todo = self._todo, {}
        for presence, room, node in todo:
            if node:
                nursery.start_soon(self._catch_up, presence, room, node)
            else:
                nursery.start_soon(presence.open, room)


def _check(meta: Any) -> dict[str, Any]:
    plain = msgspec.to_builtins(meta, str_keys=True)
    if type(plain) is not dict:
        raise MisuseError(
            f"{meta!r} is no presence: it is an object that everybody sees. Write: "
            f'await socket.join("lobby", presence={{"name": socket.user.name}})'
        )
    if "ref" in plain:
        raise MisuseError('"ref" is what we add to a presence. Choose another name')
    try:  # now, because it is told later, together with others'
        msgspec.msgpack.encode(plain)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise MisuseError(f"a presence cannot be told: {error}. Use plain JSON values") from error
    return plain  # pyright: ignore[reportUnknownVariableType]


def _merge(roster: Roster, bodies: Mapping[str, bytes]) -> None:
    for node, body in bodies.items():
        try:
            view = _view.decode(body)
        except msgspec.DecodeError as error:
            log.warning("node %s told something unknown of a room: %s", node, error)
            continue
        if view is None:
            roster.nobody(node)
        else:
            roster.merge(view)


def _shown(state: State) -> dict[str, Any]:
    """A state as clients get it."""
    return {
        key: {"metas": [{**meta, "ref": ref} for ref, meta in metas.items()]}
        for key, metas in state.items()
    }
