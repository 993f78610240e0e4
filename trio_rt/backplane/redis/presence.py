"""Who is in which room, over all nodes: users come with their first socket and go with the last."""

from collections.abc import Iterable

import msgspec

from trio_rt.backplane.redis.keys import Keys, LogName, escape
from trio_rt.backplane.redis.scripts import load
from trio_rt.backplane.redis.steady import SteadyLink


class Present(msgspec.Struct, frozen=True):
    """A socket in a room."""

    node: str
    sid: str
    user: str
    info: str
    """Whatever the program told when it joined; JSON or any other text."""


class PresenceStore:
    """The presence of all rooms.

    Args:
        link: carries commands.
        node: this node's name.
        keys: how things are named.
    """

    def __init__(self, link: SteadyLink, node: str, keys: Keys | None = None) -> None:
        self._link = link
        self._node = node
        self._keys = keys or Keys()

    async def join(self, room: LogName, sid: str, user: str, info: str = "") -> bool:
        """A socket of this node is in a room.

        Returns:
            Whether its user was not there before.
        """
        has_come = await load("join").call(
            self._link,
            self._names(room, self._node),
            sid,
            user,
            info,
            self._node,
            _text(room),
        )
        return bool(has_come)

    async def leave(self, room: LogName, sid: str) -> list[str]:
        """A socket of this node is not in a room any more.

        Returns:
            Its user, if no other socket of it is there; else nothing.
        """
        return await self._leave(room, self._node, sid)

    async def reap(self, node: str) -> dict[LogName, list[str]]:
        """Removes all that a node has left, this one or a dead one. Harmless to do again.

        Returns:
            The users who are not there any more, by room.
        """
        rooms: set[bytes] = await self._link.call(
            "SMEMBERS", self._keys.of("nr", node), may_repeat=True
        )
        gone: dict[LogName, list[str]] = {}
        for text in sorted(rooms):
            room = _read(text.decode())
            users = await self._leave(room, node)
            if users:
                gone[room] = users
        return gone

    async def present(self, room: LogName, alive: Iterable[str]) -> list[Present]:
        """The sockets in a room.

        Args:
            room: the room.
            alive: the nodes that are there: what others left does not count.
        """
        nodes = sorted(alive)
        replies = await self._link.call_all(
            [("HGETALL", self._names(room, node)[0]) for node in nodes], may_repeat=True
        )
        found: list[Present] = []
        for node, reply in zip(nodes, replies, strict=True):
            if isinstance(reply, Exception):
                raise reply
            for sid, text in reply.items():
                user, info = msgspec.json.decode(text, type=tuple[str, str])
                found.append(Present(node, sid.decode(), user, info))
        return found

    async def _leave(self, room: LogName, node: str, *sids: str) -> list[str]:
        users: list[bytes] = await load("leave").call(
            self._link, self._names(room, node), node, _text(room), *sids
        )
        return [user.decode() for user in users]

    def _names(self, room: LogName, node: str) -> list[str]:
        of, path = self._keys.of, _text(room)
        return [of("p", node, path), of("pu", path), of("pn", path), of("nr", node)]


def _text(room: LogName) -> str:
    return f"{escape(room.namespace)}:{room.room}"


def _read(text: str) -> LogName:
    namespace, _, room = text.partition(":")
    return LogName(namespace.replace("%3A", ":").replace("%25", "%"), room)
