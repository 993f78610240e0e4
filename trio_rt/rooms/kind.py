"""A class of rooms as it was read when it was registered: what can never work is told then."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import attrs

from trio_rt.errors import MisuseError
from trio_rt.handlers import EventHandler, inspect_handler
from trio_rt.machine.lobby_effects import Rules
from trio_rt.machine.matchmaking import MatchRules
from trio_rt.machine.restarts import Restart
from trio_rt.rooms.room import MARK, Room

HOOKS: Mapping[str, tuple[str, ...]] = {
    "run": (),
    "on_start": (),
    "on_join": ("player",),
    "on_drop": ("player",),
    "on_return": ("player",),
    "on_leave": ("player", "reason"),
    "on_phase": ("phase",),
    "on_close": ("reason",),
}
"""What may be overridden, and what it takes besides `self`."""

NUMBERS = tuple(
    name
    for name, value in vars(Room).items()
    if isinstance(value, int | float) and not isinstance(value, bool)
)
"""Attributes of a class that are numbers."""


@attrs.frozen(eq=False)
class Kind:
    """A class of rooms."""

    name: str
    room: type[Room]
    handlers: Mapping[str, EventHandler]
    """By event."""
    for_spectators: frozenset[str]
    """Events that those who watch may send, too."""
    inputs: Mapping[str, EventHandler]
    """Events that are gathered for ticks; only their payload's validation is used."""
    options: EventHandler
    """Validates what a room is created with."""
    rules: Rules

    def rules_for(self, seats: int | None, is_private: bool) -> Rules:
        """The rules of one room: a creator may want fewer seats, or guests only."""
        return attrs.evolve(
            self.rules,
            seats=min(seats or self.rules.seats, self.rules.seats),
            invite_only=self.rules.invite_only or is_private,
        )

    @property
    def may_sleep(self) -> bool:
        """Whether it has no `run` that would have to go on."""
        return self.room.run is Room.run


def inspect_room(room: Any) -> Kind:
    """Reads a class of rooms.

    Raises:
        MisuseError: if it could never work, with what would.
    """
    if not (inspect.isclass(room) and issubclass(room, Room)):
        raise MisuseError(f"{room!r} is no class of rooms. Write: class Lobby(Room): ...")
    for name, takes in HOOKS.items():
        hook, right = getattr(room, name), f"async def {name}({', '.join(('self', *takes))}): ..."
        if not inspect.iscoroutinefunction(hook):
            raise MisuseError(f"{room.__name__}.{name} has to be async. Write: {right}")
        try:
            inspect.signature(hook).bind(room, *takes)
        except TypeError as error:
            raise MisuseError(
                f"{room.__name__}.{name} has the wrong arguments. Write: {right}"
            ) from error
    for name in ("snapshot", "restore", "info"):
        if inspect.iscoroutinefunction(getattr(room, name)):
            raise MisuseError(f"{room.__name__}.{name} cannot be async: it runs between handlers")
    if not isinstance(room.restart, Restart):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MisuseError(
            f"{room.__name__}.restart is no Restart. Write: restart = Restart.TRANSIENT"
        )
    if room.match is not None and not isinstance(room.match, MatchRules):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MisuseError(f"{room.__name__}.match takes rules. Write: match = MatchRules(size=2)")
    handlers, for_spectators = _read_handlers(room)
    if not isinstance(room.inputs, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MisuseError(
            f"{room.__name__}.inputs has names with the types of their payloads. "
            f'Write: inputs = {{"push": int}}'
        )
    inputs = {event: _read_payload(event, wanted) for event, wanted in room.inputs.items()}
    for event in (*handlers, *inputs):
        if not room.is_hidden:
            _check_event(room, event)
    twice = handlers.keys() & inputs.keys()
    if twice:
        raise MisuseError(f"{room.__name__}: {twice.pop()!r} is in `inputs` and has a handler, too")
    return Kind(
        room.kind or room.__name__,
        room,
        handlers,
        for_spectators,
        inputs,
        _read_payload("options", room.options_type),
        _read_rules(room),
    )


def _read_handlers(room: type[Room]) -> tuple[dict[str, EventHandler], frozenset[str]]:
    handlers: dict[str, EventHandler] = {}
    for_spectators: set[str] = set()
    for name in dir(room):
        method = inspect.getattr_static(room, name)
        if not hasattr(method, MARK):
            continue
        event, is_for_spectators = getattr(method, MARK)
        if event in handlers:
            raise MisuseError(f"{room.__name__}: event {event!r} has two handlers")
        handlers[event] = inspect_handler(event, method, owner="", first=("self", "player"))
        if is_for_spectators:
            for_spectators.add(event)
    return handlers, frozenset(for_spectators)


def _read_payload(event: str, wanted: Any) -> EventHandler:
    """What validates one value, or none where a None will do."""

    async def take(value: Any) -> None: ...

    take.__annotations__["value"] = wanted
    return inspect_handler(event, take, first=())


def _check_event(room: type[Room], event: Any) -> None:
    if type(event) is not str or event.startswith("room:") or event == "*":
        raise MisuseError(
            f"{room.__name__}: {event!r} cannot be an event of a room. Names are texts that do not "
            f"begin with 'room:'"
        )


def _read_rules(room: type[Room]) -> Rules:
    for name in NUMBERS:
        value, default = getattr(room, name), getattr(Room, name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise MisuseError(
                f"{room.__name__}.{name} is a number, and not {value!r}. "
                f"The default is: {name} = {default}"
            )
    try:
        return Rules(
            seats=room.seats,
            max_spectators=room.max_spectators,
            countdown=room.countdown,
            hold=room.hold_seconds,
            host_grace=room.host_grace,
            reservation=room.reservation_seconds,
            invite=room.invite_seconds,
            rematch=room.rematch_seconds,
            linger=room.linger,
            invite_only=room.invite_only,
            late_join=room.late_join,
        )
    except (TypeError, ValueError) as error:
        raise MisuseError(f"{room.__name__}: {error}") from error
