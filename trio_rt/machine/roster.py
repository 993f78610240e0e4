"""Who is in one room: what each node says of its own sockets, merged.

    a socket of ours  track                   update    untrack  dropped  grace passed
    ----------------  ----------------------  --------  -------  -------  ------------
    ABSENT            PRESENT                           ABSENT
    PRESENT           PRESENT, a changed meta PRESENT   ABSENT   DROPPED
    DROPPED           PRESENT, a changed meta DROPPED   ABSENT   DROPPED  ABSENT

    another node      its view or delta               node_down
    ----------------  ------------------------------  --------------------------
    UNKNOWN           KNOWN                           DOWN
    KNOWN             KNOWN, if that is newer         DOWN, all its entries leave
    DOWN              KNOWN, of a later incarnation   DOWN

Only a node itself says who is on it, and each word has a number: its incarnation (which start of
the node) and its version (which change since). So a merge keeps, node by node, the word with the
higher number, whatever comes late, twice or in another order.

A socket that came back on another node may be on both for a while: the one where it was has not
noticed yet, or is dead and not known to be. Of the entries of one socket the one with the most
moves is shown, whatever the order in which they came.

A user is a `key` with a meta for each socket. Each meta that is set has a `ref` of its own,
Phoenix's `phx_ref`: an update is a leave of the old ref and a join of the new one, as it is there.
Source: Phoenix's `Phoenix.Presence` and `Phoenix.Tracker`.

It is one long file because our own sockets and the other nodes' words change the same few tables.
"""

import math
from collections.abc import Mapping
from typing import Any

import attrs

from trio_rt.machine.delta import is_same

MAX_DOWN = 1_000
"""Nodes that are remembered as down; of those that fell before, a late word would be believed."""

Meta = Mapping[str, Any]
"""What a socket tells of its user: a JSON object, not to be changed once it was handed in."""

State = Mapping[str, Mapping[str, Meta]]
"""Everybody: metas by ref, by key."""


@attrs.frozen
class Entry:
    """One meta of one user."""

    key: str
    meta: Meta

    socket: str = ""
    """Whose it is; empty for one that no other entry can be of."""

    moves: int = 0
    """How often the socket has come to another node: the entry with the most is the newest."""


@attrs.frozen
class View:
    """All that a node says of a room."""

    node: str
    incarnation: int
    """Which start of the node; later ones are higher."""
    version: int
    """Changes since that start."""
    entries: Mapping[str, Entry]
    """By ref."""


@attrs.frozen
class Delta:
    """What changed on a node."""

    node: str
    incarnation: int
    since: int
    """The version that it changes; one in between will do as well."""
    version: int
    """The version that it leads to."""
    added: Mapping[str, Entry]
    """By ref."""
    removed: tuple[str, ...]
    """Refs."""


@attrs.frozen
class PresenceDiff:
    """What changed for the members of a room."""

    joins: State
    """The metas that are new."""
    leaves: State
    """The metas that are gone."""
    arrived: frozenset[str]
    """Keys of users who had no meta before."""
    departed: frozenset[str]
    """Keys of users who have none any more."""

    def __bool__(self) -> bool:
        return bool(self.joins or self.leaves)


def diff(before: State, after: State) -> PresenceDiff:
    """What changed between two states."""
    return PresenceDiff(
        joins=_without(after, before),
        leaves=_without(before, after),
        arrived=frozenset(after.keys() - before.keys()),
        departed=frozenset(before.keys() - after.keys()),
    )


class Roster:
    """The presence of one room, as one node knows it.

    Args:
        node: our id.
        incarnation: which start of ours this is: higher than that of any start before.
        grace: seconds that a user who was lost stays, so that a return goes unnoticed.
    """

    __slots__ = (
        "_added",
        "_by_socket",
        "_down",
        "_dropped",
        "_grace",
        "_joined",
        "_left",
        "_own",
        "_refs",
        "_removed",
        "_said",
        "_shown",
        "_sockets",
        "_users",
        "_views",
    )

    def __init__(self, node: str, incarnation: int, *, grace: float) -> None:
        self._grace = grace
        self._own = _Known(node, incarnation)
        self._views: dict[str, _Known] = {}  # of the other nodes
        self._down: dict[str, int] = {}  # the incarnation that fell, the latest last
        self._users: dict[str, dict[str, Meta]] = {}  # all who are shown
        self._by_socket: dict[str, dict[str, Entry]] = {}  # by ref; the newest is shown
        # Our sockets
        self._refs: dict[str, str] = {}
        self._sockets: dict[str, str] = {}  # by ref
        self._dropped: dict[str, float] = {}  # until when they stay, the first to go first
        # What the members and the other nodes have not been told
        self._joined: dict[str, Entry] = {}
        self._left: dict[str, Entry] = {}
        self._added: dict[str, Entry] = {}
        self._removed: dict[str, None] = {}
        self._said = 0  # the version that the last delta led to
        self._shown: set[str] = set()  # what no delta has said, but a view

    # --- Asking

    def __contains__(self, key: object) -> bool:
        return key in self._users

    def __len__(self) -> int:
        """How many users there are."""
        return len(self._users)

    @property
    def has_own(self) -> bool:
        """Whether a socket of ours is there, or may come back."""
        return bool(self._refs)

    def metas(self, key: str) -> Mapping[str, Meta]:
        """A user's metas by ref; none for one who is not there."""
        return dict(self._users.get(key, {}))

    def state(self) -> State:
        """Everybody."""
        return {key: dict(metas) for key, metas in self._users.items()}

    # --- Our own sockets

    def track(self, socket: str, key: str, meta: Meta, moves: int = 0) -> None:
        """A socket is there, or there again, and has moved between nodes so often.

        A socket that is new takes the place of one of the same user that was dropped: who loads a
        page again, with the same meta, has never been away.
        """
        entry = Entry(key, dict(meta), socket, moves)
        ref = self._refs.get(socket) or self._take_over(entry)
        if ref is not None:
            self._dropped.pop(self._sockets[ref], None)
            if self._is_entry(ref, entry):
                self._hand_over(ref, entry)
                return
            self._remove(ref)
        self._add(socket, entry)

    def update(self, socket: str, meta: Meta) -> None:
        """A socket has another meta; one that is not tracked has none."""
        ref = self._refs.get(socket)
        if ref is None:
            return
        entry = attrs.evolve(self._own.entries[ref], meta=dict(meta))
        if self._is_entry(ref, entry):
            return
        self._remove(ref)
        self._add(socket, entry)

    def untrack(self, socket: str) -> None:
        """A socket has left."""
        ref = self._refs.get(socket)
        if ref is None:
            return
        self._dropped.pop(socket, None)
        self._remove(ref)

    def dropped(self, socket: str, now: float) -> None:
        """A socket was lost, and may come back."""
        if socket in self._refs:
            self._dropped.setdefault(socket, now + self._grace)
            self._give_up_if_overtaken(socket)

    @property
    def deadline(self) -> float:
        """When `tick` wants to be called."""
        return next(iter(self._dropped.values()), math.inf)

    def tick(self, now: float) -> None:
        """Time has passed: whoever was away too long leaves."""
        while self.deadline <= now:
            self.untrack(next(iter(self._dropped)))

    def rename(self, node: str) -> None:
        """We are another node for the others from here on: what we said before does not count."""
        sockets = {socket: self._own.entries[ref] for socket, ref in self._refs.items()}
        dropped = dict(self._dropped)
        for socket in sockets:
            self.untrack(socket)
        self._added, self._removed, self._shown, self._said = {}, {}, set(), 0
        self._own = _Known(node, self._own.incarnation)
        for socket, entry in sockets.items():
            self._add(socket, entry)
        self._dropped = dropped

    # --- The other nodes

    def merge(self, view: View) -> None:
        """A node has said all that it knows of its own."""
        if self.knows(view.node, view.incarnation, view.version):
            return
        known = self._views.setdefault(view.node, _Known(view.node, view.incarnation))
        known.incarnation, known.version = view.incarnation, view.version
        for ref in known.entries.keys() - view.entries.keys():
            self._leave(ref, known.entries.pop(ref))
        for ref, entry in view.entries.items():
            self._join(known, ref, entry)

    def nobody(self, node: str) -> None:
        """A node does not keep this room any more: it begins it anew if it says anything later."""
        known = self._views.get(node)
        if known is not None:
            self.merge(View(node, known.incarnation + 1, 0, {}))

    def apply(self, delta: Delta) -> bool:
        """A node has said what changed.

        Returns:
            Whether that is known now. If not, something before it was missed: ask for the view.
        """
        if self.knows(delta.node, delta.incarnation, delta.version):
            return True
        if not self.knows(delta.node, delta.incarnation, delta.since):
            if delta.since > 0:
                return False
            self.merge(View(delta.node, delta.incarnation, 0, {}))
        known = self._views[delta.node]
        known.version = delta.version
        for ref in delta.removed:
            if ref in known.entries:
                self._leave(ref, known.entries.pop(ref))
        for ref, entry in delta.added.items():
            self._join(known, ref, entry)
        return True

    def knows(self, node: str, incarnation: int, version: int) -> bool:
        """Whether this node's word, or a later one, was heard; nobody tells us of ourselves."""
        if node == self._own.node or incarnation <= self._down.get(node, -1):
            return True
        known = self._views.get(node)
        return known is not None and (incarnation, version) <= known.number

    def node_down(self, node: str, incarnation: int) -> None:
        """A node is dead: whoever was on it is gone, and no word of that start of it counts.

        One that is alive after all is heard again when it has begun a later incarnation.
        """
        known = self._views.get(node)
        if known is not None and known.incarnation <= incarnation:
            del self._views[node]
            for ref, entry in known.entries.items():
                self._leave(ref, entry)
        self._down[node] = max(incarnation, self._down.pop(node, incarnation))
        if len(self._down) > MAX_DOWN:
            del self._down[next(iter(self._down))]

    # --- What has to be told

    def view(self) -> View:
        """All that we say to a node that has missed something."""
        self._shown.update(self._added)
        return View(
            self._own.node, self._own.incarnation, self._own.version, dict(self._own.entries)
        )

    def take_delta(self) -> Delta | None:
        """What we have to say to the other nodes since the last time; `None` if nothing."""
        if not self._added and not self._removed:
            return None
        node, incarnation, version = self._own.node, *self._own.number
        delta = Delta(node, incarnation, self._said, version, self._added, tuple(self._removed))
        self._said, self._added, self._removed, self._shown = version, {}, {}, set()
        return delta

    def take_diff(self) -> PresenceDiff | None:
        """What changed for the members since the last time; `None` if nothing.

        Who came and went in between is not told of.
        """
        if not self._joined and not self._left:
            return None
        joins, leaves = _by_key(self._joined), _by_key(self._left)
        arrived = {
            key
            for key, metas in joins.items()
            if key not in leaves and len(metas) == len(self._users[key])
        }
        departed = leaves.keys() - self._users.keys()
        self._joined, self._left = {}, {}
        return PresenceDiff(joins, leaves, frozenset(arrived), frozenset(departed))

    # --- The parts

    def _take_over(self, entry: Entry) -> str | None:
        """The ref of a dropped socket of the same user, one with the same meta before others."""
        refs = [
            ref for ref in self._users.get(entry.key, ()) if self._sockets.get(ref) in self._dropped
        ]
        return next((ref for ref in refs if self._is_entry(ref, entry)), next(iter(refs), None))

    def _is_entry(self, ref: str, entry: Entry) -> bool:
        own = self._own.entries[ref]
        return own.key == entry.key and is_same(own.meta, entry.meta)

    def _hand_over(self, ref: str, entry: Entry) -> None:
        """Who shows the same is somebody else, or has moved: the other nodes are told, and nobody
        sees it."""
        own, before = self._own, self._own.entries[ref]
        if (before.socket, before.moves) == (entry.socket, entry.moves):
            return
        del self._refs[self._sockets[ref]]
        self._refs[entry.socket] = ref
        self._sockets[ref] = entry.socket
        own.version += 1
        if ref not in self._added:
            self._shown.add(ref)  # the others know it
        self._added[ref] = entry
        self._join(own, ref, entry)

    def _add(self, socket: str, entry: Entry) -> None:
        own = self._own
        own.version += 1
        ref = f"{own.node}:{own.incarnation}:{own.version}"
        self._refs[socket] = ref
        self._sockets[ref] = socket
        self._added[ref] = entry
        self._join(own, ref, entry)

    def _remove(self, ref: str) -> None:
        del self._refs[self._sockets.pop(ref)]
        self._own.version += 1
        if self._added.pop(ref, None) is None or ref in self._shown:
            self._removed[ref] = None
        self._leave(ref, self._own.entries.pop(ref))

    def _join(self, known: "_Known", ref: str, entry: Entry) -> None:
        before = known.entries.get(ref)
        if before is not None:
            if (before.socket, before.moves) == (entry.socket, entry.moves):
                return
            self._leave(ref, before)
        known.entries[ref] = entry
        name = entry.socket or ref
        others = self._by_socket.setdefault(name, {})
        newest = _newest(others)
        others[ref] = entry
        if _newest(others) == ref:
            if newest is not None:
                self._hide(newest, others[newest])
            self._show(ref, entry)
        if known is not self._own and entry.socket in self._dropped:
            self._give_up_if_overtaken(entry.socket)

    def _give_up_if_overtaken(self, socket: str) -> None:
        """A socket that we have lost is not waited for if it is back on another node."""
        ref = self._refs[socket]
        if _newest(self._by_socket[socket]) != ref:
            self.untrack(socket)

    def _leave(self, ref: str, entry: Entry) -> None:
        name = entry.socket or ref
        others = self._by_socket[name]
        was_shown = _newest(others) == ref
        del others[ref]
        if was_shown:
            self._hide(ref, entry)
        newest = _newest(others)
        if newest is None:
            del self._by_socket[name]
        elif was_shown:
            self._show(newest, others[newest])

    def _show(self, ref: str, entry: Entry) -> None:
        self._users.setdefault(entry.key, {})[ref] = entry.meta
        if self._left.pop(ref, None) is None:
            self._joined[ref] = entry

    def _hide(self, ref: str, entry: Entry) -> None:
        metas = self._users[entry.key]
        del metas[ref]
        if not metas:
            del self._users[entry.key]
        if self._joined.pop(ref, None) is None:
            self._left[ref] = entry


@attrs.define
class _Known:
    """What is known of one node."""

    node: str
    incarnation: int
    version: int = 0
    entries: dict[str, Entry] = attrs.field(factory=dict[str, Entry])

    @property
    def number(self) -> tuple[int, int]:
        """The number of its last word."""
        return self.incarnation, self.version


def _newest(entries: Mapping[str, Entry]) -> str | None:
    """The ref of the entry that is shown."""
    return max(entries, key=lambda ref: (entries[ref].moves, ref), default=None)


def _without(state: State, other: State) -> State:
    """The metas of one state that the other has not."""
    found = {
        key: {ref: meta for ref, meta in metas.items() if ref not in other.get(key, {})}
        for key, metas in state.items()
    }
    return {key: metas for key, metas in found.items() if metas}


def _by_key(entries: Mapping[str, Entry]) -> dict[str, dict[str, Meta]]:
    found: dict[str, dict[str, Meta]] = {}
    for ref, entry in entries.items():
        found.setdefault(entry.key, {})[ref] = entry.meta
    return found
