"""Which slot a command of a Redis Cluster is for: that of its keys."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import attrs
from redis.exceptions import ResponseError

from trio_rt.backplane.redis.resp import Word
from trio_rt.backplane.redis.slots import HOME, slot_of
from trio_rt.errors import MisuseError

_SCRIPTS = frozenset(("EVALSHA", "EVAL", "FCALL", "EVAL_RO", "EVALSHA_RO", "FCALL_RO"))
"""Have the number of their keys in the third word, and the keys behind it."""

_FIRST = frozenset(("GET", "SET", "HGET", "HMGET", "HSET", "SPUBLISH", "PEXPIRE", "ZREM", "XADD"))
"""Have one key, behind their name."""

# fmt: off
_OF_ONE_SERVER = frozenset((
    "DBSIZE", "FLUSHALL", "FLUSHDB", "FUNCTION", "KEYS", "RANDOMKEY", "SCAN", "SCRIPT", "SWAPDB",
))
"""Mean all keys, or all scripts, of one server: of a cluster they would tell, or do, a part."""
# fmt: on


class Asked(Protocol):
    """Where a server's own tables come from."""

    async def call_at(self, slot: int, words: tuple[Word, ...], *, may_repeat: bool) -> Any:
        """Gives a command to the primary that has a slot."""


@attrs.frozen
class _Keys:
    """Where the keys of a command are: the first one's place, the last one's, the step."""

    first: int
    last: int
    step: int
    is_movable: bool


class Router:
    """Finds the slots of commands.

    Args:
        cluster: is asked for what has to be known of commands.
    """

    def __init__(self, cluster: Asked) -> None:
        self._cluster = cluster
        self._known: dict[str, _Keys] | None = None

    def find(self, words: Sequence[Word]) -> int | None:
        """The slot of a command that we use ourselves; None for any other one.

        Raises:
            MisuseError: if its keys are in several slots.
        """
        name = words[0]
        if name in _SCRIPTS and len(words) > 2:
            count = int(_text(words[2]))
            return _one_slot(name, words[3 : 3 + count])
        return slot_of(_data(words[1])) if name in _FIRST and len(words) > 1 else None

    @staticmethod
    def is_for_all(words: Sequence[Word]) -> bool:
        """Whether all servers have to get a command, and say the same: a script to load."""
        return " ".join(map(_text, words[:2])).upper().startswith("SCRIPT LOAD")

    async def ask(self, words: Sequence[Word]) -> int:
        """The slot of any command, for which servers may have to be asked.

        Raises:
            MisuseError: if its keys are in several slots, or it means all servers at once.
            redis.RedisError: if the server does not know the command.
        """
        name = _text(words[0]).upper()
        name, *rest = name.split()
        words = (name, *rest, *words[1:])
        if name in _OF_ONE_SERVER:
            raise MisuseError(
                f"{name} is about one server, and a cluster has several: keep the names of your "
                "keys in a set of yours, and run scripts by register_script"
            )
        if self._known is None:
            self._known = _read_commands(await self._call("COMMAND"))
        keys = self._known.get(name)
        if keys is None:
            return slot_of(HOME)  # the server will say that it does not know it
        if keys.is_movable:
            try:
                found: list[bytes] = await self._call("COMMAND", "GETKEYS", *words)
            except ResponseError:  # it has none, or is none
                found = []
            return _one_slot(name, found)
        if not keys.first:
            return slot_of(HOME)
        last = keys.last if keys.last >= 0 else len(words) + keys.last
        return _one_slot(name, words[keys.first : last + 1 : keys.step])

    async def _call(self, *words: Word) -> Any:
        return await self._cluster.call_at(slot_of(HOME), words, may_repeat=True)


def _read_commands(reply: Iterable[Sequence[Any]]) -> dict[str, _Keys]:
    """The answer to COMMAND. One with subcommands has its keys wherever those have them."""
    known: dict[str, _Keys] = {}
    for name, _arity, flags, first, last, step, *more in reply:
        has_subcommands = len(more) > 3 and bool(more[3])
        is_movable = has_subcommands or "movablekeys" in {_text(flag) for flag in flags}
        known[_text(name).upper()] = _Keys(first, last, step, is_movable)
    return known


def _one_slot(name: Word, keys: Iterable[Word]) -> int:
    slots = {slot_of(_data(key)): key for key in keys}
    if len(slots) > 1:
        one, other, *_ = slots.values()
        raise MisuseError(
            f"{_text(name)}: keys {_text(one)!r} and {_text(other)!r} are in different slots of "
            "the cluster. Give keys that belong together the same part in braces, as in "
            "'{cart:7}:items'"
        )
    return next(iter(slots), slot_of(HOME))


def _text(word: Word) -> str:
    if isinstance(word, bytes | memoryview):
        return bytes(word).decode("utf-8", "replace")
    return str(word)


def _data(word: Word) -> bytes:
    return bytes(word) if isinstance(word, bytes | memoryview) else str(word).encode()
