"""A primary and its replica, and three Sentinels that watch them: real ones, as `valkey.py`."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from tests.parts.valkey import STARTS_WITHIN, Valkey

SERVICE = "ours"
"""What the Sentinels call the primary."""

AT_ONCE = ("--repl-diskless-sync-delay", "0")
"""A replica is not kept waiting for others."""

KNOWN_WITHIN = 30.0
"""Seconds until all Sentinels know each other and the replica: they ask every ten."""


@attrs.frozen
class Watched:
    """Two servers, of which the first is the primary to begin with."""

    primary: Valkey
    replica: Valkey
    sentinels: list[Valkey]

    @property
    def url(self) -> str:
        """Of whatever server is the primary."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    def wait_known(self) -> None:
        """Waits until a failover can succeed."""
        _wait(lambda: all(map(_sees_all, self.sentinels)), KNOWN_WITHIN)

    def has_failed_over(self) -> bool:
        """Whether the Sentinels name the replica as the primary."""
        found = self.sentinels[0].client.sentinel_get_master_addr_by_name(SERVICE)
        return found is not None and int(found[1]) == self.replica.port

    def cut_off_replica(self) -> None:
        """The replica gets nothing any more of what the primary is told."""
        client = self.primary.client
        client.execute_command("ACL", "SETUSER", "replica", "off")
        client.execute_command("CLIENT", "KILL", "TYPE", "replica")


def _sees_all(sentinel: Valkey) -> bool:
    """Whether a Sentinel knows the replica and both of the others."""
    state: dict[str, int] = sentinel.client.sentinel_master(SERVICE)  # type: ignore[assignment]
    return (state["num-other-sentinels"], state["num-slaves"]) == (2, 1)


def _is_linked(replica: Valkey) -> bool:
    return replica.client.info("replication")["master_link_status"] == "up"  # type: ignore[index]


def _wait(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the servers do not find each other"
        time.sleep(0.02)  # they tell nobody


@contextmanager
def watching() -> Iterator[Watched]:
    """A primary, a replica that follows it, and Sentinels that know the primary."""
    with tempfile.TemporaryDirectory(prefix="valkey") as folder:
        servers = [Valkey(Path(folder), *AT_ONCE) for _ in range(2)]
        sentinels = [Valkey(Path(folder), sentinel=True) for _ in range(3)]
        try:
            for server in servers + sentinels:
                server.start()
            primary, replica = servers
            primary.client.execute_command(
                "ACL", "SETUSER", "replica", "on", ">word", "+psync", "+replconf", "+ping"
            )
            replica.client.config_set("masteruser", "replica")
            replica.client.config_set("masterauth", "word")
            replica.client.replicaof("127.0.0.1", str(primary.port))
            _wait(lambda: _is_linked(replica), STARTS_WITHIN)
            for sentinel in sentinels:
                sentinel.client.sentinel_monitor(SERVICE, "127.0.0.1", primary.port, 2)
                sentinel.client.sentinel_set(SERVICE, "down-after-milliseconds", 500)
                sentinel.client.sentinel_set(SERVICE, "failover-timeout", 2000)
            yield Watched(primary, replica, sentinels)
        finally:
            for server in servers + sentinels:
                server.close()
