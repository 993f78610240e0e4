"""RESP3: commands to bytes, bytes to replies, and the server's errors by name.

Both directions are hiredis's. An error reply becomes the exception of redis-py that its first
word stands for, so that people who know redis-py catch what they expect.
"""

from collections.abc import Callable
from typing import Any, Final, cast

import hiredis
from hiredis import ProtocolError, PushNotification, Reader
from redis import exceptions

__all__ = [
    "NOT_ENOUGH",
    "ProtocolError",
    "PushNotification",
    "Reader",
    "Word",
    "make_reader",
    "pack",
]

Word = str | bytes | int | float | memoryview
"""One part of a command."""

NOT_ENOUGH: Final = object()
"""What a reader gives while a reply is not whole yet. Compare with `is`."""

_BY_NAME: dict[str, type[exceptions.RedisError]] = {
    "ASK": exceptions.AskError,
    "CLUSTERDOWN": exceptions.ClusterDownError,
    "CROSSSLOT": exceptions.ClusterCrossSlotError,
    "EXECABORT": exceptions.ExecAbortError,
    "LOADING": exceptions.BusyLoadingError,
    "MASTERDOWN": exceptions.MasterDownError,
    "MOVED": exceptions.MovedError,
    "NOAUTH": exceptions.AuthenticationError,
    "NOPERM": exceptions.NoPermissionError,
    "NOSCRIPT": exceptions.NoScriptError,
    "OOM": exceptions.OutOfMemoryError,
    "READONLY": exceptions.ReadOnlyError,
    "TRYAGAIN": exceptions.TryAgainError,
    "WRONGPASS": exceptions.AuthenticationError,
}


# Its stub says neither what it takes nor what it returns.
_pack_command = cast("Callable[[tuple[Any, ...]], bytes]", getattr(hiredis, "pack_command"))  # noqa: B009


def make_reader() -> Reader:
    """A reader of the replies of one connection."""
    return Reader(replyError=_read_error, notEnoughData=NOT_ENOUGH)


def pack(words: tuple[Any, ...]) -> bytes:
    """The bytes of one command. Names of two words, such as "CLIENT KILL", are two parts.

    Raises:
        redis.DataError: if a part is neither text, bytes nor a number.
    """
    name = words[0]
    if isinstance(name, str) and " " in name:
        words = (*name.split(), *words[1:])
    try:
        return _pack_command(words)
    except TypeError as error:
        raise exceptions.DataError(
            f"{name}: a command is made of str, bytes, int and float; {error}"
        ) from error


def _read_error(text: str) -> Exception:
    name, _, rest = text.partition(" ")
    found = _BY_NAME.get(name)
    if found is None:
        return exceptions.ResponseError(text)
    return found(rest, status_code=name) if rest else found(text)
