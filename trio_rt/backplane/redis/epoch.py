"""Finds that the keys are on another server than before, or on one that was started anew.

Replication is asynchronous, and so is what a server writes to its disk: after a failover, or a
restart, the newest of what was acknowledged may be gone, and nothing in the keys shows it. So each
connection for commands tells the keys which server they are on (its run id), before it carries
anything else. Where that is another one than before, an epoch begins: no session that began before
it is recovered, and whoever listens is told that something may be missing.
"""

from collections.abc import Callable

import trio
from redis.exceptions import NoPermissionError, RedisError

from trio_rt.backplane.redis.dial import Dial, exchange
from trio_rt.backplane.redis.keys import Keys
from trio_rt.backplane.redis.scripts import load
from trio_rt.errors import BackplaneDown, BackplaneRefused
from trio_rt.log import log


class EpochDial(Dial):
    """Connects to a server whose keys know that they are there.

    Args:
        dial: where connections come from.
        keys: how things are named.
        on_change: called where it is another epoch than at the connection before. Does not wait.
    """

    def __init__(self, dial: Dial, keys: Keys, on_change: Callable[[], None]) -> None:
        self.settings = dial.settings
        self._dial = dial
        self._clock = keys.clock()
        self._on_change = on_change
        self._epoch: bytes | None = None

    async def connect(self, name: str) -> trio.abc.Stream:
        """See `Dial`."""
        stream = await self._dial.connect(name)
        try:
            with trio.fail_after(self.settings.reply_timeout):
                epoch = await self._enter(stream)
        except (trio.TooSlowError, trio.BrokenResourceError) as error:
            await trio.aclose_forcefully(stream)
            raise BackplaneDown(
                f"the server does not tell who it is: {error}", outcome_unknown=False
            ) from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        if self._epoch is not None and self._epoch != epoch:
            log.error("another Redis, or one that was started anew: an epoch begins at %s", epoch)
            self._on_change()
        self._epoch = epoch
        return stream

    async def _enter(self, stream: trio.abc.Stream) -> bytes:
        (info,) = await exchange(stream, ("INFO", "server"))
        run_id = _find_run_id(_checked(info))
        script = load("clock", "epoch").text
        (epoch,) = await exchange(stream, ("EVAL", script, 1, self._clock, run_id))
        return _checked(epoch)


def _checked(reply: bytes | RedisError) -> bytes:
    if isinstance(reply, NoPermissionError):
        raise BackplaneRefused(f"no right to INFO or EVAL: {reply}") from reply
    if isinstance(reply, RedisError):
        raise BackplaneDown(f"the server is not ready: {reply}", outcome_unknown=False) from reply
    return reply


def _find_run_id(info: bytes) -> bytes:
    for line in info.splitlines():
        name, _, value = line.partition(b":")
        if name == b"run_id":
            return value
    raise BackplaneRefused("the server does not tell its run id (INFO server)")
