"""Sessions that outlive their connection and their node, each owned by one node at a time."""

from collections.abc import Iterable, Sequence

import attrs

from trio_rt.backplane.redis.keys import Keys
from trio_rt.backplane.redis.scripts import load
from trio_rt.backplane.redis.steady import CommandLink


@attrs.frozen
class Found:
    """A session, whoever has it."""

    node: str
    is_lost: bool
    data: bytes


class SessionStore:
    """The sessions of all nodes.

    Args:
        link: carries commands.
        node: this node's name.
        keys: how things are named.
    """

    def __init__(self, link: CommandLink, node: str, keys: Keys | None = None) -> None:
        self._link = link
        self._node = node
        self._keys = keys or Keys()

    async def save(self, sid: str, data: bytes, seconds: float, *, is_lost: bool = False) -> bool:
        """Writes a session of this node.

        Args:
            sid: the id of its socket.
            data: any bytes.
            seconds: until it is forgotten, unless it is saved or touched before.
            is_lost: whether another node may take it from here on.

        Returns:
            Whether it was written: False if another node has taken it.
        """
        is_written = await load("session_save").call(
            self._link,
            [self._key(sid)],
            self._node,
            round(seconds * 1000),
            int(is_lost),
            data,
            may_repeat=True,
        )
        return bool(is_written)

    async def touch(self, sids: Sequence[str], seconds: float) -> None:
        """Sessions of this node live on for so long."""
        milliseconds = round(seconds * 1000)
        await self._link.call_all(
            [("PEXPIRE", self._key(sid), milliseconds) for sid in sids], may_repeat=True
        )

    async def find(self, sid: str) -> Found | None:
        """A session, whoever has it."""
        node, lost, data = await self._link.call(
            "HMGET", self._key(sid), "node", "lost", "data", may_repeat=True
        )
        return None if node is None else Found(node.decode(), lost == b"1", data)

    async def take(self, sid: str, seconds: float, dead: Iterable[str] = ()) -> bytes | None:
        """Makes a session this node's own, if it is lost or its node is dead.

        Given again after an unknown outcome it could be refused to the one who has it, so it is
        not: whoever gets `BackplaneDown` finds out with `find`.

        Args:
            sid: the id of its socket.
            seconds: until it is forgotten, unless it is saved or touched before.
            dead: nodes that are known to be dead.

        Returns:
            Its data; None if it is not there, or somebody else was faster.
        """
        data: bytes | None = await load("session_take").call(
            self._link, [self._key(sid)], self._node, round(seconds * 1000), *dead
        )
        return data

    async def end(self, sid: str) -> bool:
        """Removes a session of this node. False if there was none, or it is another node's."""
        return bool(await load("session_end").call(self._link, [self._key(sid)], self._node))

    def _key(self, sid: str) -> str:
        return self._keys.of("s", sid)
