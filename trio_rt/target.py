"""Whom an emission is for, and how: a value that is made by chaining.

server.to("a", "b").except_("c").volatile
socket.when_slow(Latest("position"))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from trio_rt.codec.questions import SocketInfo
from trio_rt.errors import MisuseError
from trio_rt.policies import CLOSE, Block, Policy

if TYPE_CHECKING:
    from trio_rt.namespace import Namespace
    from trio_rt.presence import Present
    from trio_rt.socket import Socket


DEFAULT_CALL_TIMEOUT = 5.0
"""Seconds that `call` waits where nothing else is said."""


@attrs.frozen
class Replies:
    """What came back from a call to many."""

    answers: Mapping[str, Any]
    """By socket id: the acknowledgement's value, None for an empty one, a tuple of several."""

    missing: frozenset[str]
    """The sockets that did not answer in time, or went away."""

    missing_nodes: frozenset[str] = frozenset()
    """Nodes of the cluster that were asked in vain; their sockets are not among the missing."""


@attrs.frozen
class Found:
    """The sockets that somebody asked for."""

    sockets: tuple[SocketInfo, ...]

    missing_nodes: frozenset[str]
    """Nodes of the cluster that did not say theirs in time."""


@attrs.frozen
class Total:
    """A number of sockets."""

    count: int

    missing_nodes: frozenset[str]
    """Nodes of the cluster whose sockets are not counted, because they did not answer in time."""


@attrs.frozen
class Target:
    """Some sockets of a namespace, and how to reach them. Each modifier returns a new one."""

    namespace: Namespace
    rooms: tuple[str, ...] = ()
    """Whose members are meant; empty for everybody."""
    excepted: tuple[str, ...] = ()
    """Whose members are left out."""
    socket: Socket | None = None
    """The one socket that is meant, instead of rooms."""
    is_volatile: bool = False
    is_local: bool = False
    call_timeout: float | None = None
    policy: Policy = CLOSE

    def to(self, *rooms: str) -> Target:
        """The members of these rooms as well; a socket's id is a room with one member."""
        if self.socket is not None:
            raise MisuseError(
                "socket.volatile and the like mean one socket. Write: "
                "socket.to('room').volatile.emit(...)"
            )
        check_names(rooms)
        return attrs.evolve(self, rooms=self.rooms + rooms)

    def except_(self, *rooms: str) -> Target:
        """Without the members of these rooms, or these socket ids."""
        check_names(rooms)
        return attrs.evolve(self, excepted=self.excepted + rooms)

    @property
    def volatile(self) -> Target:
        """Events that whoever cannot take them at once goes without."""
        return attrs.evolve(self, is_volatile=True)

    @property
    def local(self) -> Target:
        """Only sockets of this node."""
        return attrs.evolve(self, is_local=True)

    def timeout(self, seconds: float) -> Target:
        """Another time to wait in `call`."""
        check_timeout(seconds)
        return attrs.evolve(self, call_timeout=seconds)

    def when_slow(self, policy: Policy) -> Target:
        """What happens at a socket that reads too slowly: `Close()` (the default),
        `DropOldest()`, `Latest(key)`, or for one socket `Block()`."""
        if not isinstance(policy, Policy):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MisuseError(
                f"{policy!r} is no policy. Write: when_slow(DropOldest()), or Close(), "
                f"Latest('key'), Block()"
            )
        if isinstance(policy, Block) and self.socket is None:
            raise MisuseError(
                "Block() would let the slowest member hold up all others. Use it "
                "for one socket: socket.when_slow(Block()).emit(...)"
            )
        return attrs.evolve(self, policy=policy)

    async def emit(self, event: str, *arguments: Any) -> None:
        """Sends an event to all of them.

        Returns when the backplane has accepted it: from then on it is not lost. A checkpoint only
        when cancelled, or when it has to wait.

        Args:
            event: its name.
            arguments: any JSON values, attrs classes and the like, with `bytes` anywhere in them.

        Raises:
            Disconnected: if one socket is meant, and it is gone.
            MisuseError: if the event cannot be sent.
        """
        if self.is_volatile:
            self.emit_nowait(event, *arguments)
        elif self.socket is not None:
            await self.socket.emit_with(self.policy, event, arguments)
        else:
            await self.namespace.emit(self, event, arguments)

    def emit_nowait(self, event: str, *arguments: Any) -> None:
        """Sends a volatile event without waiting: who cannot take it at once goes without."""
        if self.socket is not None:
            self.socket.emit_nowait(event, *arguments)
        else:
            self.namespace.emit_nowait(self, event, arguments)

    async def call(self, event: str, *arguments: Any, timeout: float | None = None) -> Any:
        """Sends an event and gathers the acknowledgements.

        Args:
            event: its name.
            arguments: as for `emit`.
            timeout: seconds to wait; else those of the `timeout` modifier, else 5.

        Returns:
            `Replies` for rooms: what came in time, and who is missing. For one socket its value,
            as `Socket.call` returns it.

        Raises:
            CallTimeout: if one socket is meant and does not answer in time.
            Disconnected: if one socket is meant, and it is or goes away.
        """
        seconds = timeout if timeout is not None else self.call_timeout
        seconds = DEFAULT_CALL_TIMEOUT if seconds is None else seconds
        if self.socket is not None:
            return await self.socket.call(event, *arguments, timeout=seconds)
        return await self.namespace.queries.call(self, event, arguments, seconds)

    async def sockets(self, *, timeout: float = DEFAULT_CALL_TIMEOUT) -> Found:
        """Who they are, in the whole cluster.

        Args:
            timeout: seconds that other nodes may take; it does not wait for those that are gone.
        """
        return await self._everybody.namespace.queries.find(self, timeout)

    async def count(self, *, timeout: float = DEFAULT_CALL_TIMEOUT) -> Total:
        """How many they are, in the whole cluster; `timeout` as for `sockets`."""
        return await self._everybody.namespace.queries.count(self, timeout)

    async def presence(self, *, timeout: float = DEFAULT_CALL_TIMEOUT) -> Present:
        """Who shows itself in one room, in the whole cluster; `timeout` as for `sockets`."""
        if len(self.rooms) != 1 or self.excepted:
            raise MisuseError("presence is that of one room. Write: server.to('lobby').presence()")
        return await self._everybody.namespace.presence.present(self.rooms[0], timeout)

    async def disconnect(
        self, close: bool = False, *, timeout: float = DEFAULT_CALL_TIMEOUT
    ) -> Total:
        """Puts all of them out of the namespace, as `Socket.disconnect` does.

        Args:
            close: closes their connections as well.
            timeout: as for `sockets`.

        Returns:
            How many were put out.
        """
        return await self._everybody.namespace.queries.put_out(self, close, timeout)

    async def join(self, *rooms: str, timeout: float = DEFAULT_CALL_TIMEOUT) -> Total:
        """Makes all of them join rooms; the result and `timeout` are as for `disconnect`.

        Sockets that are in too many rooms already are left as they are.
        """
        check_names(rooms)
        return await self._everybody.namespace.queries.move(self, timeout, joined=rooms)

    async def leave(self, *rooms: str, timeout: float = DEFAULT_CALL_TIMEOUT) -> Total:
        """Makes all of them leave rooms; the result and `timeout` are as for `disconnect`."""
        check_names(rooms)
        return await self._everybody.namespace.queries.move(self, timeout, left=rooms)

    @property
    def _everybody(self) -> Target:
        """This target, where it can mean sockets of other nodes."""
        if self.socket is not None:
            raise MisuseError(
                "one socket is asked directly: socket.rooms, socket.join(...), "
                "socket.disconnect(). Everybody in a room: server.to('room').sockets()"
            )
        return self


def check_timeout(seconds: Any) -> None:
    """Tells what is no time to wait.

    Raises:
        MisuseError: if it is none.
    """
    if not isinstance(seconds, int | float) or not seconds >= 0:
        raise MisuseError(
            f"timeout={seconds!r} is no time in seconds. Write: call(..., timeout=2), or timeout(2)"
        )


def check_names(rooms: tuple[Any, ...]) -> None:
    """Tells what is no name of a room.

    Raises:
        MisuseError: if one is no text, or empty.
    """
    for room in rooms:
        if type(room) is not str or not room:
            raise MisuseError(
                f"{room!r} is no room. Rooms are named by text that is not empty; "
                f"several are given one by one: .to('a', 'b')"
            )
