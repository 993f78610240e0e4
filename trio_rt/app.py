"""A program: its namespaces with their handlers, who may come in, and the backplane behind them.

An `App` does no I/O of its own: a server, or a test, hands it connections.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, overload

import trio

from trio_rt.absentees import Absentees
from trio_rt.auth import Anonymous, Authenticator
from trio_rt.backplane.base import Backplane, Envelope
from trio_rt.backplane.memory import MemoryBackplane
from trio_rt.cluster import Cluster
from trio_rt.config import Config
from trio_rt.connection import Connection
from trio_rt.errors import MisuseError, name_misnomers
from trio_rt.fields import change
from trio_rt.handlers import Handlers
from trio_rt.log import Sparing
from trio_rt.namespace import Namespace
from trio_rt.presence import PresenceKeeper
from trio_rt.registry import Registry
from trio_rt.rooms import Room, Rooms
from trio_rt.schedule.alarms import Alarms
from trio_rt.schedule.flusher import Flusher
from trio_rt.schedule.wheel import Wheel
from trio_rt.server_events import ServerReplies
from trio_rt.session import Session
from trio_rt.target import DEFAULT_CALL_TIMEOUT, Target

Matcher = Callable[[str], bool]


class App(Registry):
    """The namespaces of a program, and everybody who is connected to them on this node.

    Its own decorators register for the namespace `/`.

    Args:
        auth: who decides who a client is; None lets everyone in as a guest.
        backplane: what joins the nodes of a cluster; None is a single node.
        config: limits and intervals.
        changes: fields of `Config` to be changed.
    """

    def __init__(
        self,
        *,
        auth: Authenticator | None = None,
        backplane: Backplane | None = None,
        config: Config | None = None,
        **changes: Any,
    ) -> None:
        super().__init__(Handlers())
        _check_part("auth", auth, Authenticator, "JWTAuth(secret)")
        _check_part("backplane", backplane, Backplane, 'Redis.from_url("redis://localhost")')
        _check_part("config", config, Config, "Config(share_port=True)")
        self.config = config or Config()
        """Limits and intervals."""
        self.auth: Authenticator = auth or Anonymous()
        """Who decides who a client is."""
        self.backplane: Backplane = backplane or MemoryBackplane()
        """What joins the nodes of a cluster. Another one may be set before the server serves."""
        self.absentees = Absentees()
        """Lost clients that may come back."""
        self.flusher = Flusher()
        self.wheel = Wheel()
        self.alarms = Alarms()
        self.sessions: dict[Connection, Session] = {}
        """Everybody who is connected to this node."""
        self.presence_keeper = PresenceKeeper()
        """Tells who has come and gone."""
        self._cluster = Cluster(self)
        self._serves_rooms = False
        self._sparing = Sparing()
        self._root = Namespace("/", self.handlers, self)
        self._namespaces: dict[str, Namespace] = {"/": self._root}
        self._patterns: list[tuple[Matcher, Registry]] = []
        self._dynamic: set[str] = set()
        if changes:
            self.configure(**changes)

    def configure(self, **changes: Any) -> None:
        """Changes fields of `config`; for connections that come from now on.

        Raises:
            MisuseError: if there is no such field, or a value is out of its range.
        """
        for name in ("host", "port"):
            if name in changes:
                right = 'trio.run(server.serve, "127.0.0.1", 8000)'
                raise MisuseError(f"{name}= is told where it is used. Write: {right}")
        self.config = change(self.config, changes)

    # Namespaces

    @overload
    def namespace(self, name: str, *, rooms: Sequence[type[Room]] = ()) -> Namespace: ...

    @overload
    def namespace(self, name: "re.Pattern[str] | Matcher") -> Registry: ...

    def namespace(
        self, name: "str | re.Pattern[str] | Matcher", *, rooms: Sequence[type[Room]] = ()
    ) -> Registry:
        """Registers a namespace, and gives what its handlers are registered with.

        Args:
            name: `"/games"`; or a compiled pattern, or a function from a name to a bool, for
                namespaces that begin when a client asks and end when the last one leaves.
            rooms: the kinds of rooms with a life of their own that clients may create there, use
                and list, by the events `room:create` and so on. For a name, once.

        Returns:
            For a name the `Namespace`, the same one each time; else a registry of handlers.

        Raises:
            MisuseError: if that is no name of a namespace.
        """
        if isinstance(name, str):
            if not name.startswith("/") or "," in name or "?" in name:
                raise MisuseError(f'{name!r} is no namespace. Write: server.namespace("/games")')
            if name not in self._namespaces:
                self._namespaces[name] = Namespace(name, Handlers(), self)
                self.backplane.begin_namespace(name)
            if rooms != ():
                self._add_rooms(self._namespaces[name], rooms)
            return self._namespaces[name]
        if rooms:
            raise MisuseError('rooms need one namespace: server.namespace("/games", rooms=[Lobby])')
        registry = Registry(Handlers())
        if isinstance(name, re.Pattern):
            self._patterns.append((lambda text: name.fullmatch(text) is not None, registry))
        elif callable(name):
            self._patterns.append((name, registry))
        else:
            raise MisuseError('namespace() takes "/name", re.compile(r"/room-\\d+") or a function')
        return registry

    def _add_rooms(self, namespace: Namespace, kinds: Sequence[type[Room]]) -> None:
        if not isinstance(kinds, list | tuple):
            raise MisuseError(f"rooms={kinds!r} is no list of classes. Write: rooms=[Lobby]")
        if namespace.live_rooms is not None or self._serves_rooms:
            raise MisuseError("rooms= is given once for a namespace, before the server serves")
        namespace.live_rooms = Rooms(namespace, kinds)

    def find_namespace(self, name: str) -> Namespace | None:
        """The namespace that a client asks for, made if a pattern matches it."""
        found = self._namespaces.get(name)
        if found is not None:
            return found
        for matches, registry in self._patterns:
            if matches(name):
                if len(self._dynamic) >= self.config.max_dynamic_namespaces:
                    note = "a namespace was refused: too many (Config.max_dynamic_namespaces)"
                    self._sparing.warning("namespaces", trio.current_time(), note)
                    return None
                self._dynamic.add(name)
                self._namespaces[name] = Namespace(name, registry.handlers, self)
                self.backplane.begin_namespace(name)
                return self._namespaces[name]
        return None

    def forget_if_deserted(self, namespace: Namespace) -> None:
        """Ends a namespace that a pattern made, when nobody is in it any more."""
        name = namespace.name
        is_ours = name in self._dynamic and self._namespaces[name] is namespace
        if is_ours and not namespace.sockets and not namespace.admissions:
            self._dynamic.discard(name)
            del self._namespaces[name]
            self.backplane.end_namespace(name)

    def to(self, *rooms: str) -> Target:
        """The members of rooms of the namespace `/`, or single sockets by their ids."""
        return self._root.to(*rooms)

    @property
    def all(self) -> Target:
        """Everybody in the namespace `/`."""
        return self._root.all

    async def server_emit(self, event: str, *arguments: Any) -> None:
        """As `Namespace.server_emit`, in the namespace `/`."""
        await self._root.server_emit(event, *arguments)

    async def server_call(
        self, event: str, *arguments: Any, timeout: float = DEFAULT_CALL_TIMEOUT
    ) -> ServerReplies:
        """As `Namespace.server_call`, in the namespace `/`."""
        return await self._root.server_call(event, *arguments, timeout=timeout)

    # Connections

    async def put_out_all(self, connection: Connection) -> None:
        """Puts a client out of all its namespaces."""
        session = self.sessions.get(connection)
        if session is not None:
            await session.put_out_all()

    def deliver_arrived(self) -> None:
        """Hands everything that the backplane has for this node to whom it is for, in order."""
        for arrival in self.backplane.receive_nowait():
            if isinstance(arrival, Envelope):
                namespace = self._namespaces.get(arrival.namespace)
                if namespace is not None:
                    namespace.deliver(arrival)
            else:
                self._cluster.take(arrival)
        self.flusher.reached = self.backplane.reached

    def get_namespace(self, name: str) -> Namespace | None:
        """The namespace of this name, if anybody is in it or it was registered."""
        return self._namespaces.get(name)

    @property
    def all_namespaces(self) -> list[Namespace]:
        """All namespaces that there are."""
        return list(self._namespaces.values())

    async def run_services(
        self, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Runs what all connections share, until the scope that it reports is cancelled.

        Shielded: a server that is cancelled still says goodbye to its clients.
        """
        self.absentees.clear()
        self.backplane.open(self.config)
        for name in self._namespaces:
            self.backplane.begin_namespace(name)
        with trio.CancelScope(shield=True) as scope:
            async with trio.open_nursery() as nursery:
                base = await nursery.start(self._run_base)
                try:
                    await self._run_rooms(lambda: task_status.started(scope))
                finally:
                    base.cancel()

    async def _run_base(self, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Runs what rooms need to the very end."""
        with trio.CancelScope(shield=True) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.backplane.run)
                nursery.start_soon(self._see_off_absentees)
                nursery.start_soon(self._cluster.run)
                nursery.start_soon(self.presence_keeper.run)
                nursery.start_soon(self.flusher.run)
                nursery.start_soon(self.wheel.run)
                nursery.start_soon(self.alarms.run)
                nursery.start_soon(self._receive)
                task_status.started(scope)

    async def _run_rooms(self, started: Callable[[], None]) -> None:
        """Runs all rooms until it is cancelled; then their states are saved for other nodes.

        Args:
            started: called when programs and clients may create some.
        """
        self._serves_rooms = True
        try:
            async with trio.open_nursery() as nursery:
                for namespace in self.all_namespaces:
                    if namespace.live_rooms is not None:
                        await nursery.start(namespace.live_rooms.run)
                started()
                await trio.sleep_forever()
        finally:
            self._serves_rooms = False

    async def _receive(self) -> None:
        """Delivers what other nodes publish."""
        while True:
            await self.backplane.wait()
            self.deliver_arrived()

    async def _see_off_absentees(self) -> None:
        """Ends the sessions of those who did not come back in time."""
        while True:
            absentee = await self.absentees.next_due(self.config.max_lost_sessions)
            if await self.backplane.end_session(absentee.session):
                await absentee.namespace.see_off(absentee)


def _check_part(name: str, part: object, kind: type, example: str) -> None:
    """Tells what is no part of a server, such as a class where one made from it is due."""
    if part is None or isinstance(part, kind):
        return
    what = f"a {type(part).__name__}"
    if isinstance(part, type):
        what = f"the class {part.__name__}"
        if issubclass(part, kind) and not inspect.isabstract(part):
            example = f"{part.__name__}({'...' if inspect.signature(part).parameters else ''})"
    raise MisuseError(f"{name}= is {what}, and no {kind.__name__}. Write: Server({name}={example})")


ELSEWHERE = {
    "emit": 'await server.all.emit("said", text), or server.to("lobby").emit(...)',
    "broadcast": 'await server.all.emit("said", text)',
    "send": 'await server.all.emit("message", text)',
    "call": "await socket.call(event, ...), or server.to(socket.id).call(...)",
    "enter_room": 'await socket.join("lobby")',
    "leave_room": 'await socket.leave("lobby")',
    "disconnect": "await socket.disconnect(), or server.to(socket.id).disconnect()",
    "event": '@server.on("say")',
    "of": 'server.namespace("/games")',
    "run": 'trio.run(server.serve, "127.0.0.1", 8000)',
    "static": 'server.web.static("/", directory)',
    "get": '@server.web.get("/path")',
    "post": '@server.web.post("/path")',
    "live_rooms": 'server.namespace("/games", rooms=[Lobby]).live_rooms',
}
"""What other frameworks have in their servers, and where it is here."""

name_misnomers(App, ELSEWHERE)
