"""Several processes that serve one port: started, watched, started again, and ended together.

    the parent        holds the listening sockets, and serves nobody itself
    └── a worker      a whole server of its own, on the parent's sockets

A worker that ends by itself is started again, but not without end: one that cannot live is given
up, and the others are drained. When the parent dies, even by SIGKILL, the workers see the end of
their standard input and drain as well.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence

import attrs
import trio

from trio_rt.errors import MisuseError, RealtimeError
from trio_rt.log import log
from trio_rt.machine.restarts import Again, Ending, Restart, Restarts
from trio_rt.server import Server
from trio_rt.transport.listener import listen

INTENSITY = 5
"""Restarts of one worker within `PERIOD` seconds before it is given up."""

PERIOD = 30.0

PAUSE = 0.5
"""Seconds before a worker is started again."""

GRACE = 5.0
"""Seconds that a draining worker may take longer than its `Config.drain_timeout`."""


class WorkersFailed(RealtimeError):
    """A worker ended again and again; its own words are above."""


@attrs.frozen
class Sockets:
    """What all workers listen on."""

    main: list[socket.socket]
    web: list[socket.socket] | None
    """None where pages share the port."""

    @property
    def arguments(self) -> list[str]:
        """How a worker is told of them."""
        found = ["--fds", _numbers(self.main)]
        return found if self.web is None else [*found, "--web-fds", _numbers(self.web)]

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Their numbers, which are the same in the workers."""
        return tuple(sock.fileno() for sock in (*self.main, *(self.web or ())))

    def close(self) -> None:
        """Listens no more, as soon as the workers do not."""
        for sock in (*self.main, *(self.web or ())):
            sock.close()


async def run_workers(
    server: Server, count: int, arguments: Sequence[str], host: str, port: int
) -> None:
    """Runs workers until SIGTERM or SIGINT; the second one cuts what the first one drains.

    Args:
        server: as the workers have it; it says which ports there are.
        count: how many.
        arguments: of `trio-rt run`, for a worker.
        host, port: where they listen.

    Raises:
        OSError: if a port is taken.
        WorkersFailed: if a worker ends again and again.
    """
    if os.name != "posix":
        raise MisuseError("--workers shares listening sockets as only Unix does")
    config = server.config
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        main = await listen(host, port)
        web = None
        if not config.share_port:
            web_port = config.web_port
            if web_port is None:
                web_port = port + 1 if 0 < port < 65_535 else 0
            web = await listen(host, web_port)
        sockets = Sockets(main, web)
        try:
            await _Workers(sockets, arguments, config.drain_timeout + GRACE).run(count, signals)
        finally:
            sockets.close()


class _Workers:
    def __init__(self, sockets: Sockets, arguments: Sequence[str], stop_timeout: float) -> None:
        self._sockets = sockets
        self._arguments = arguments
        self._stop_timeout = stop_timeout
        self._processes: dict[int, trio.Process] = {}
        self._stopping = trio.Event()
        self._failure: WorkersFailed | None = None

    async def run(self, count: int, signals: AsyncIterator[int]) -> None:
        main = self._sockets.main[0].getsockname()
        log.info("%d workers serve on %s, port %d", count, main[0], main[1])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._obey, signals)
            async with trio.open_nursery() as workers:
                for number in range(count):
                    workers.start_soon(self._keep, number)
            nursery.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            log.info("%s: draining the workers", signal.Signals(number).name)
            self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        for process in self._processes.values():
            process.terminate()

    async def _keep(self, number: int) -> None:
        """Keeps one worker running until all are told to stop."""
        restarts = Restarts(Restart.PERMANENT, intensity=INTENSITY, period=PERIOD, delay=PAUSE)
        while not self._stopping.is_set():
            await self._run_one(number)
            if self._stopping.is_set():
                return
            verdict = restarts.ended(Ending.FAILED, trio.current_time())
            if not isinstance(verdict, Again):
                self._failure = WorkersFailed(f"worker {number} ends again and again: see above")
                self._stop()
                return
            with trio.move_on_after(verdict.delay):
                await self._stopping.wait()

    async def _run_one(self, number: int) -> None:
        """One life of a worker. A process group of its own: Ctrl+C is the parent's to pass on."""
        command = [sys.executable, "-m", "trio_rt", "run", *self._arguments]
        process = await trio.lowlevel.open_process(
            [*command, *self._sockets.arguments],
            stdin=subprocess.PIPE,
            pass_fds=self._sockets.descriptors,
            start_new_session=True,
        )
        log.info("worker %d is process %d", number, process.pid)
        self._processes[number] = process
        try:
            if self._stopping.is_set():
                process.terminate()
            await self._wait(process)
        finally:
            del self._processes[number]
            if process.returncode is None:
                process.kill()
            if process.stdin is not None:
                await trio.aclose_forcefully(process.stdin)
        if not self._stopping.is_set():
            log.error("worker %d has ended by itself, with status %d", number, process.returncode)

    async def _wait(self, process: trio.Process) -> None:
        """Waits for its end; once it was told to stop, not for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._kill_late, process)
            await process.wait()
            nursery.cancel_scope.cancel()

    async def _kill_late(self, process: trio.Process) -> None:
        await self._stopping.wait()
        await trio.sleep(self._stop_timeout)
        log.error("process %d did not stop within %s s: killed", process.pid, self._stop_timeout)
        process.kill()


async def serve_as_worker(server: Server, fds: str, web_fds: str | None) -> None:
    """Serves on the parent's sockets, until it is told to stop or the parent is gone."""
    sockets = _adopt(fds)
    web_sockets = None if web_fds is None else _adopt(web_fds)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_when_orphaned, server)
        await server.serve(sockets=sockets, web_sockets=web_sockets)
        nursery.cancel_scope.cancel()


async def _stop_when_orphaned(server: Server) -> None:
    async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
        while await stdin.receive_some():
            pass  # the parent says nothing; its end is what counts
    log.error("the parent process is gone: draining")
    server.stop()


def _adopt(numbers: str) -> list[socket.socket]:
    sockets = [socket.socket(fileno=int(number)) for number in numbers.split(",")]
    for sock in sockets:
        sock.setblocking(False)
    return sockets


def _numbers(sockets: Sequence[socket.socket]) -> str:
    return ",".join(str(sock.fileno()) for sock in sockets)
