"""A server that took the place of another, or was started anew, is known to be another one."""

import attrs
import pytest
import trio

from tests.backplane.redis.conftest import QUICK
from tests.parts.valkey import Valkey
from trio_rt.backplane.redis.address import read_url
from trio_rt.backplane.redis.dial import DirectDial
from trio_rt.backplane.redis.epoch import EpochDial, Epochs, Identity
from trio_rt.backplane.redis.keys import Keys, LogName
from trio_rt.backplane.redis.log import EventLog, Loss, Lost, Recovered
from trio_rt.backplane.redis.steady import SteadyLink
from trio_rt.errors import BackplaneDown, BackplaneRefused

KEYS = Keys()
ROOM = LogName("/", "room")


class Changes:
    """Counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _tag: str) -> None:
        self.count += 1


def dial_to(server: Valkey, changes: Changes) -> EpochDial:
    return EpochDial(DirectDial(read_url(server.url), QUICK), epochs(changes))


def epochs(changes: Changes) -> Epochs:
    return Epochs(KEYS, [KEYS.tag], changes)


def epoch(server: Valkey) -> bytes | None:
    return server.client.hget(KEYS.clock(), "epoch")  # type: ignore[return-value]


async def connect(dial: EpochDial) -> None:
    await trio.aclose_forcefully(await dial.connect("test"))


async def test_same_server(server: Valkey) -> None:
    """Connections to one server are all of one epoch."""
    dials = [dial_to(server, Changes()) for _ in range(2)]
    for dial in (*dials, dials[0]):
        await connect(dial)
    assert epoch(server) is not None
    first = epoch(server)
    await connect(dial_to(server, Changes()))
    assert epoch(server) == first


async def test_another_server(server: Valkey) -> None:
    """Keys that come from another server begin an epoch, behind all that they have."""
    changes = Changes()
    dial = dial_to(server, changes)
    await connect(dial)
    assert changes.count == 0
    first = epoch(server)
    server.client.hset(KEYS.clock(), "server", "another")
    await connect(dial)
    assert changes.count == 1
    assert epoch(server) != first
    await connect(dial)
    assert changes.count == 1


async def test_another_shard(server: Valkey) -> None:
    """Keys that were moved from one shard of a cluster to another are whole; those that another
    server of the same shard has may not be."""
    changes = Changes()
    dial = dial_to(server, changes)
    link = SteadyLink(dial, "test")
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        here = epochs(changes)
        began = epoch(server)
        server.client.hset(KEYS.clock(), "shard", "one")
        await here.enter_moved(link, Identity(b"second", b"two"), [KEYS.tag])
        assert epoch(server) == began
        await here.enter_moved(link, Identity(b"third", b"two"), [KEYS.tag])
        assert epoch(server) != began
        assert changes.count == 1
        nursery.cancel_scope.cancel()


async def test_sessions_of_another_epoch(server: Valkey) -> None:
    """What a session knew that began in another epoch is not built upon."""
    dial = dial_to(server, Changes())
    link = SteadyLink(dial, "test")
    async with trio.open_nursery() as nursery:
        await nursery.start(link.run)
        log = EventLog(link, KEYS)
        old = await log.begin([ROOM])
        heard = (await log.append(ROOM, b"heard")).position
        assert isinstance(await log.recover({ROOM: heard}, began=old), Recovered)
        server.client.hset(KEYS.clock(), "server", "another")
        await connect(dial)
        later = (await log.append(ROOM, b"later")).position
        for since in (heard, later):
            found = await log.recover({ROOM: since}, began=old)
            assert isinstance(found, Lost)
            assert found.why is Loss.FORGOTTEN
        new = await log.begin([ROOM])
        assert isinstance(await log.recover({ROOM: new}, began=new), Recovered)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("command", ["info", "evalsha"])
async def test_no_right(own_server: Valkey, command: str) -> None:
    """Without the rights that this takes there is no connection, and the reason is told."""
    own_server.client.execute_command("ACL", "SETUSER", "default", f"-{command}")
    with pytest.raises(BackplaneRefused, match="no right"):
        await dial_to(own_server, Changes()).connect("test")


async def test_replica(own_server: Valkey, server: Valkey) -> None:
    """A server on which nothing can be written is no place for commands now."""
    own_server.client.replicaof("127.0.0.1", str(server.port))
    with pytest.raises(BackplaneDown, match="not ready"):
        await dial_to(own_server, Changes()).connect("test")


async def test_silent_server(own_server: Valkey) -> None:
    """A server that says nothing more is not waited for."""
    settings = attrs.evolve(QUICK, reply_timeout=0.1)
    dial = EpochDial(Stalling(own_server, settings), epochs(Changes()))
    with pytest.raises(BackplaneDown, match="who it is"):
        await dial.connect("test")
    own_server.resume()


class Stalling(DirectDial):
    """Connects to a server that stops right after that."""

    def __init__(self, server: Valkey, settings) -> None:
        super().__init__(read_url(server.url), settings)
        self._server = server

    async def connect(self, name: str) -> trio.abc.Stream:
        stream = await super().connect(name)
        self._server.pause()
        return stream
