"""Finds that the keys are on another server than before, or on one that was started anew.

Replication is asynchronous, and so is what a server writes to its disk: after a failover, or a
restart, the newest of what was acknowledged may be gone, and nothing in the keys shows it. So each
connection for commands tells the keys which server they are on (its run id), before it carries
anything else. Where that is another one than before, an epoch begins: no session that began before
it is recovered, and whoever listens is told that something may be missing.

In a cluster each partition has an epoch of its own. One that was moved from one shard to another
is whole: only another server of the same shard makes an epoch begin. (Redis before 7.2 does not
tell shards apart; there each move begins one.)
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import trio
from redis.exceptions import AskError, ClusterDownError, NoPermissionError, RedisError

from trio_rt.backplane.redis.dial import Dial, exchange
from trio_rt.backplane.redis.keys import Keys
from trio_rt.backplane.redis.scripts import load
from trio_rt.backplane.redis.steady import Caller
from trio_rt.errors import BackplaneDown, BackplaneRefused
from trio_rt.log import log


@attrs.frozen
class Identity:
    """Which server it is that has the keys."""

    run_id: bytes
    """Another one whenever it is started."""

    shard: bytes = b""
    """The same for a primary and its replicas; empty where there are no shards."""


class Epochs:
    """The epochs of all that one node knows.

    Args:
        keys: how things are named.
        tags: of all partitions there may be.
        on_change: called with the tag of a partition in which another epoch than the known one
            has begun. Does not wait.
    """

    def __init__(self, keys: Keys, tags: Sequence[str], on_change: Callable[[str], None]) -> None:
        self._clocks = {tag: attrs.evolve(keys, tag=tag).clock() for tag in tags}
        self._is_sharded = keys.is_sharded
        self._on_change = on_change
        self._known: dict[str, bytes] = {}

    async def enter(self, stream: trio.abc.Stream) -> tuple[Identity, set[str]]:
        """Tells the keys that are at a server where they are.

        Args:
            stream: a connection to it that carries nothing else yet.

        Returns:
            The server, and the tags of the partitions that are there.

        Raises:
            BackplaneDown: if it cannot be done now.
            BackplaneRefused: if we have no right to.
            trio.BrokenResourceError: if the connection ends.
        """
        info, *rest = await exchange(stream, *self._questions())
        shard = rest[0] if rest and isinstance(rest[0], bytes) else b""
        server = Identity(_find_run_id(_checked(info)), shard)
        script = load("clock", "epoch")
        (sha,) = await exchange(stream, ("SCRIPT", "LOAD", script.text))
        commands = [
            ("EVALSHA", _checked(sha), 1, clock, server.run_id, server.shard)
            for clock in self._clocks.values()
        ]
        replies = await exchange(stream, *commands)
        epochs = {
            tag: _checked(reply)
            for tag, reply in zip(self._clocks, replies, strict=True)
            if not _is_elsewhere(reply)
        }
        self._note(epochs)
        return server, set(epochs)

    async def enter_moved(self, link: Caller, server: Identity, tags: Iterable[str]) -> set[str]:
        """The same for partitions that were moved to a server while there is a link to it.

        Returns:
            The tags of those that are there.
        """
        text = load("clock", "epoch").text
        epochs: dict[str, bytes] = {}
        for tag in tags:
            try:
                epochs[tag] = await link.call(
                    "EVAL", text, 1, self._clocks[tag], server.run_id, server.shard
                )
            except (BackplaneDown, RedisError) as error:
                log.debug("partition %s is not there yet: %s", tag, error)
        self._note(epochs)
        return set(epochs)

    def _questions(self) -> list[tuple[Any, ...]]:
        questions: list[tuple[Any, ...]] = [("INFO", "server")]
        if self._is_sharded:
            questions.append(("CLUSTER", "MYSHARDID"))
        return questions

    def _note(self, epochs: Mapping[str, bytes]) -> None:
        known = self._known
        changed = [tag for tag, epoch in epochs.items() if known.get(tag, epoch) != epoch]
        known.update(epochs)
        if changed:
            log.error(
                "another Redis, or one that was started anew: an epoch begins at %s (partition %s)",
                epochs[changed[0]].decode(),
                ", ".join(changed),
            )
        for tag in changed:
            self._on_change(tag)


class EpochDial(Dial):
    """Connects to a server whose keys know that they are there.

    Args:
        dial: where connections come from.
        epochs: what is known of them.
    """

    def __init__(self, dial: Dial, epochs: Epochs) -> None:
        self.settings = dial.settings
        self.server: Identity | None = None
        """Which server it was, the last time."""
        self.entered: set[str] = set()
        """The tags of the partitions that were there."""
        self._dial = dial
        self._epochs = epochs

    async def connect(self, name: str) -> trio.abc.Stream:
        """See `Dial`."""
        stream = await self._dial.connect(name)
        try:
            with trio.fail_after(self.settings.reply_timeout):
                self.server, self.entered = await self._epochs.enter(stream)
        except (trio.TooSlowError, trio.BrokenResourceError) as error:
            await trio.aclose_forcefully(stream)
            raise BackplaneDown(
                f"the server does not tell who it is: {error}", outcome_unknown=False
            ) from error
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream


def _is_elsewhere(reply: Any) -> bool:
    """Whether a partition is not on this server: it is entered on the one that has it.

    That a whole cluster is down says nothing about where its partitions are.
    """
    is_nowhere = isinstance(reply, ClusterDownError) and "not served" in str(reply)
    return is_nowhere or isinstance(reply, AskError)  # MOVED is one of these


def _checked(reply: Any) -> bytes:
    if isinstance(reply, NoPermissionError):
        raise BackplaneRefused(f"no right to INFO, SCRIPT or EVALSHA: {reply}") from reply
    if isinstance(reply, RedisError):
        raise BackplaneDown(f"the server is not ready: {reply}", outcome_unknown=False) from reply
    answer: bytes = reply
    return answer


def _find_run_id(info: bytes) -> bytes:
    for line in info.splitlines():
        name, _, value = line.partition(b":")
        if name == b"run_id":
            return value
    raise BackplaneRefused("the server does not tell its run id (INFO server)")
