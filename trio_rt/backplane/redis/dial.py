"""How to get a connection: connect, say who we are, see who answers. Asked anew for each one."""

import ssl
from abc import ABC, abstractmethod
from typing import Any

import trio
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from trio_rt.backplane.redis.address import Address
from trio_rt.backplane.redis.resp import NOT_ENOUGH, ProtocolError, Reader, make_reader, pack
from trio_rt.backplane.redis.settings import RedisSettings
from trio_rt.errors import BackplaneDown, BackplaneRefused

OLDEST = (6, 2)
"""The oldest Redis that has all we use: its RESP3, XADD and scripts' effects are as ours expect."""


class Dial(ABC):
    """Where connections come from."""

    settings: RedisSettings

    @abstractmethod
    async def connect(self, name: str) -> trio.abc.Stream:
        """Opens a connection that is ready for commands in RESP3.

        Args:
            name: what CLIENT LIST shows, without spaces.

        Raises:
            BackplaneDown: if there is none now.
            BackplaneRefused: if there will not be one before somebody changes the settings.
        """


class DirectDial(Dial):
    """Connects to one address.

    Args:
        address: where the server is.
        settings: limits of the connections.
    """

    def __init__(self, address: Address, settings: RedisSettings | None = None) -> None:
        self.address = address
        self.settings = settings or RedisSettings()

    async def connect(self, name: str) -> trio.abc.Stream:
        """See `Dial`."""
        return await connect(self.address, name, self.settings.connect_timeout)


async def connect(
    address: Address, name: str, timeout: float, *, oldest: tuple[int, int] = OLDEST
) -> trio.abc.Stream:
    """Opens one connection, as `Dial.connect` does.

    Args:
        address: where the server is, and who we are there.
        name: what CLIENT LIST shows.
        timeout: seconds for all of it.
        oldest: the version that it needs to have.
    """
    try:
        with trio.fail_after(timeout):
            stream = await address.open()
            try:
                await _introduce(stream, address, name, oldest)
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
    except (AuthenticationError, NoPermissionError) as error:
        raise BackplaneRefused(f"{address} does not let us in: {error}") from error
    except (trio.TooSlowError, OSError, trio.BrokenResourceError, RedisError) as error:
        raise _describe(address, error, timeout) from error
    return stream


async def check_primary(stream: trio.abc.Stream, address: Address, timeout: float) -> None:
    """Asks a server whether it is a primary: those who name it may be the last to know.

    Raises:
        BackplaneDown: if it is not, or does not answer.
        BackplaneRefused: if we have no right to ask.
    """
    try:
        with trio.fail_after(timeout):
            (role,) = await exchange(stream, ("ROLE",))
    except (trio.TooSlowError, trio.BrokenResourceError) as error:
        raise BackplaneDown(f"{address} does not tell its role", outcome_unknown=False) from error
    if isinstance(role, RedisError):
        raise BackplaneRefused(f"{address} does not tell its role: {role}") from role
    if role[0] != b"master":
        raise BackplaneDown(
            f"{address} is not the primary but a {role[0].decode()}", outcome_unknown=False
        )


async def exchange(stream: trio.abc.Stream, *commands: tuple[Any, ...]) -> list[Any]:
    """Sends commands on a connection of which nobody else knows, and waits for their replies.

    Returns:
        A reply for each command. Errors are values.

    Raises:
        trio.BrokenResourceError: if the connection ends before, or speaks something else.
    """
    await stream.send_all(b"".join([pack(command) for command in commands]))
    reader = make_reader()
    return [await receive(stream, reader) for _ in commands]


async def receive(stream: trio.abc.Stream, reader: Reader) -> Any:
    """The next reply of a connection of which nobody else knows; an error is a value.

    Raises:
        trio.BrokenResourceError: if the connection ends before, or speaks something else.
    """
    try:
        while (value := reader.gets()) is NOT_ENOUGH:
            data = await stream.receive_some()
            if not data:
                raise trio.BrokenResourceError("the server closed the connection")
            reader.feed(bytes(data))
    except ProtocolError as error:
        raise trio.BrokenResourceError(f"that is no Redis: {error}") from error
    return value


async def _introduce(
    stream: trio.abc.Stream, address: Address, name: str, oldest: tuple[int, int]
) -> None:
    hello: tuple[Any, ...] = ("HELLO", 3)
    if address.password or address.username:
        hello += ("AUTH", address.username or "default", address.password)
    commands: list[tuple[Any, ...]] = [(*hello, "SETNAME", name)]
    if address.db:
        commands.append(("SELECT", address.db))
    greeting, *others = await exchange(stream, *commands)
    _check_greeting(address, greeting, oldest)
    for reply in others:
        if isinstance(reply, Exception):
            raise BackplaneRefused(f"{address} has no database {address.db}: {reply}") from reply


def _check_greeting(address: Address, greeting: Any, oldest: tuple[int, int]) -> None:
    if isinstance(greeting, Exception):
        if "unknown command" in str(greeting) or "NOPROTO" in str(greeting):
            raise BackplaneRefused(f"{address} is older than Redis 6.2") from greeting
        raise greeting
    version = greeting[b"version"].decode("ascii", "replace")
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < oldest:
        raise BackplaneRefused(
            f"{address} is Redis {version}, but {'.'.join(map(str, oldest))} is needed"
        )


def _describe(
    address: Address, error: Exception, timeout: float
) -> BackplaneDown | BackplaneRefused:
    """What it means to us that a connection could not be made."""
    if isinstance(error, trio.TooSlowError):
        why = f"no answer within {timeout:g} s"
    else:
        why = str(error) or repr(error)
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return BackplaneRefused(f"{address} has no certificate that we trust: {cause}")
    if isinstance(cause, Exception) and str(cause) not in why:
        why = f"{why} ({cause})"
    return BackplaneDown(f"cannot connect to {address}: {why}", outcome_unknown=False)
