"""The logs of rooms: one total order, and all of it that is kept.

Each entry names the one before it in its log, so that whoever reads along sees at once when one is
missing. A frame is opaque.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from itertools import islice
from typing import Any

import attrs
import msgspec

from trio_rt.backplane.redis.keys import Keys, LogName
from trio_rt.backplane.redis.scripts import load
from trio_rt.backplane.redis.steady import CommandLink
from trio_rt.codec.position import Position, parse_position
from trio_rt.config import positive
from trio_rt.errors import BackplaneError

CHUNK = 256
"""Logs that are recovered in one step, which holds up the server for about half a millisecond."""


@attrs.frozen(kw_only=True)
class LogLimits:
    """How much is kept, and how much is given."""

    entries: int = positive(1_000)
    """Entries of one log; Redis keeps up to a hundred more."""

    history_timeout: float = positive(180.0)
    """Seconds after its last entry until a log's entries are dropped."""

    meta_timeout: float = positive(86_400.0)
    """Seconds until it is forgotten that there was a log: after that, all positions in it are
    taken for lost. Far above `history_timeout`, or quiet rooms could not be recovered."""

    recovered_entries: int = positive(1_000)
    """Entries that one recovery may have."""

    recovered_bytes: int = positive(4_194_304)
    """Bytes of their frames."""

    key_timeout: float = positive(120.0)
    """Seconds that an idempotency key is remembered."""


class Appended(msgspec.Struct, frozen=True, gc=False):
    """What an append gave."""

    position: Position

    is_new: bool
    """False if the same idempotency key had been appended before, there."""


class Published(msgspec.Struct, frozen=True, gc=False):
    """An entry as it arrives from the channel of its log."""

    position: Position

    previous: Position
    """Of the entry before it in its log, or where that begins; its own for the very first one of
    a log of which nothing else is known."""

    frame: bytes


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An entry that was recovered."""

    log: LogName
    position: Position
    frame: bytes


class Loss(Enum):
    """Why a log cannot be recovered."""

    FORGOTTEN = "forgotten"
    """It is not known, or begins later, or has been on another server since."""
    EXPIRED = "expired"
    """Its entries are too old."""
    TRIMMED = "trimmed"
    """Some of its entries are not kept any more."""
    TOO_MUCH = "too much"
    """It would be more than one recovery may have."""


@attrs.frozen
class Recovered:
    """All that was missed."""

    position: Position
    """Everything up to here."""

    entries: tuple[Entry, ...]
    """In order over all logs."""


@attrs.frozen
class Lost:
    """Some of what was missed is not known any more."""

    why: Loss
    log: LogName


class EventLog:
    """The logs of all rooms.

    Args:
        link: carries commands.
        keys: how things are named.
        limits: how much is kept.
    """

    def __init__(
        self, link: CommandLink, keys: Keys | None = None, limits: LogLimits | None = None
    ) -> None:
        self._link = link
        self._keys = keys or Keys()
        self._limits = limits or LogLimits()

    def channel(self, log: LogName) -> bytes:
        """Where entries of a log are published; read what arrives there with `read_message`."""
        return self._keys.channel(log).encode()

    async def append(self, log: LogName, frame: bytes, *, key: str | None = None) -> Appended:
        """Puts a frame behind all others, and publishes it.

        Args:
            log: the log.
            frame: any bytes.
            key: an idempotency key: within its window, the same one is appended once only.

        Raises:
            BackplaneDown: if it cannot be done in time. With a key it can be tried again without
                harm, and has been.
        """
        keys, limits = self._keys, self._limits
        names = [keys.clock(), keys.stream(log), keys.meta(log)]
        if key is not None:
            names.append(keys.appended(key))
        place, _previous, is_new = await load("clock", "append").call(
            self._link,
            names,
            frame,
            limits.entries,
            _milliseconds(limits.history_timeout),
            _milliseconds(limits.meta_timeout),
            keys.publish,
            keys.channel(log),
            _milliseconds(limits.key_timeout),
            may_repeat=key is not None,
        )
        return Appended(_read_place(place), bool(is_new))

    async def begin(self, logs: Sequence[LogName]) -> Position:
        """A position behind which all entries of these logs can be recovered.

        Asked for after the channels are subscribed: then all later ones arrive there as well.
        """
        keys = self._keys
        place = await load("clock", "begin").call(
            self._link,
            [keys.clock(), *map(keys.meta, logs)],
            _milliseconds(self._limits.meta_timeout),
            may_repeat=True,
        )
        return _read_place(place)

    async def recover(
        self, since: Mapping[LogName, Position], *, began: Position | None = None
    ) -> Recovered | Lost:
        """All entries of some logs that are behind a position in each.

        Args:
            since: the positions.
            began: where the session began that knows them: they do not count in a later epoch.
                None if it is known that they are of this one.
        """
        position: Position | None = None
        entries: list[Entry] = []
        logs = iter(since.items())
        while (chunk := list(islice(logs, CHUNK))) or position is None:
            found = await self._recover_chunk(chunk, began, entries)
            if isinstance(found, Lost):
                return found
            # What came between two chunks is not known of the earlier ones.
            position = found if position is None else min(position, found)
        kept = [entry for entry in entries if entry.position <= position]
        kept.sort(key=lambda entry: entry.position)
        return Recovered(position, tuple(kept))

    async def last(self, logs: Sequence[LogName]) -> list[Position | None]:
        """The last position of each log; None where nothing is known to have been appended."""
        commands = [("HGET", self._keys.meta(log), "last") for log in logs]
        replies = await self._link.call_all(commands, may_repeat=True)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return [None if reply is None else _read_place(reply) for reply in replies]

    async def _recover_chunk(
        self, chunk: list[tuple[LogName, Position]], began: Position | None, entries: list[Entry]
    ) -> Position | Lost:
        """Adds the entries of some logs, and returns what they are all up to."""
        keys, limits = self._keys, self._limits
        names = [keys.clock()]
        for log, _since in chunk:
            names += [keys.stream(log), keys.meta(log)]
        reply: list[Any] = await load("clock", "recover").call(
            self._link,
            names,
            limits.recovered_entries - len(entries),
            limits.recovered_bytes - sum(len(entry.frame) for entry in entries),
            "" if began is None else str(began),
            *[str(since) for _log, since in chunk],
            may_repeat=True,
        )
        state = reply[0].decode()
        if state != "ok":
            return Lost(Loss(state), chunk[int(reply[1]) - 1][0])
        for index in range(2, len(reply), 3):
            number, place, frame = reply[index : index + 3]
            entries.append(Entry(chunk[int(number) - 1][0], _read_place(place), frame))
        return _read_place(reply[1])


def read_message(data: bytes) -> Published:
    """Reads what was published to the channel of a log.

    Raises:
        BackplaneError: if somebody else publishes there as well.
    """
    try:
        place, previous, frame = data.split(b" ", 2)
        return Published(_read_place(place), _read_place(previous), frame)
    except ValueError as error:
        raise BackplaneError(f"not published by us: {data[:80]!r}") from error


def _read_place(text: bytes) -> Position:
    position = parse_position(text.decode("ascii", "replace"))
    if position is None:
        raise BackplaneError(f"no position of ours: {text[:80]!r}")
    return position


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
