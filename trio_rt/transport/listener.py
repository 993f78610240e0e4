"""Listening sockets: accepts connections and hands each to a task of its own."""

import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable

import trio

from trio_rt.errors import MisuseError
from trio_rt.log import Sparing, log

BACKLOG = 4096
"""Connections that the kernel holds until we accept them; it caps this at net.core.somaxconn."""

ACCEPTS_PER_STEP = 64
"""Connections accepted between two checkpoints."""

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
_PAUSE = 0.1
"""Seconds to wait when the process is out of descriptors, as Trio's own listeners do."""

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 20\r\n\r\ntoo many connections"
)

_FULL_NOTE = (
    "port %d is full, so that who comes is answered 503 (Config.max_connections; of a port for "
    "pages, Config.max_web_connections)"
)


class Listener:
    """One listening socket.

    Args:
        sock: bound, listening and non-blocking; owned from here on.
        is_full: whether there are as many connections as may be; more are answered 503.
    """

    def __init__(self, sock: socket.socket, is_full: Callable[[], bool]) -> None:
        self._sock = sock
        self._is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
        self._is_full = is_full
        self._sparing = Sparing()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._sock.getsockname()[1])

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self._sock.getsockname()[0].partition("%")[0]).is_loopback

    async def accept(
        self, nursery: trio.Nursery, serve: Callable[[socket.socket], Awaitable[None]]
    ) -> None:
        """Accepts until it is cancelled, and then listens no more.

        Args:
            nursery: where the task of each connection runs.
            serve: gets the connected socket, and closes it.
        """
        try:
            while True:
                await trio.lowlevel.wait_readable(self._sock)
                await self._accept_waiting(nursery, serve)
        finally:
            self.close()

    def close(self) -> None:
        """Listens no more: clients are refused by the kernel. Idempotent."""
        self._sock.close()

    async def _accept_waiting(
        self, nursery: trio.Nursery, serve: Callable[[socket.socket], Awaitable[None]]
    ) -> None:
        for _ in range(ACCEPTS_PER_STEP):
            try:
                sock, _address = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    log.error("cannot accept connections: %s", error)
                    await trio.sleep(_PAUSE)
                return  # anything else: the client was gone again
            sock.setblocking(False)
            if self._is_tcp:
                # Small frames leave at once, and do not wait for the peer's delayed ACK.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._is_full():
                self._sparing.warning("full", trio.current_time(), _FULL_NOTE, self.port)
                _refuse(sock)
            else:
                nursery.start_soon(serve, sock)


async def open_listeners(host: str, port: int, is_full: Callable[[], bool]) -> list[Listener]:
    """Listens on every address of `host`.

    Args:
        host: a name or an address; `""` for all addresses.
        port: 0 for any free one, the same for all addresses.
        is_full: see `Listener`.

    Raises:
        MisuseError: if host or port can never be right.
        OSError: if the port is taken, or the name is unknown.
    """
    return [Listener(sock, is_full) for sock in await listen(host, port)]


async def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for every address of `host`; arguments and errors are as above."""
    _check_address(host, port)
    try:
        found = await trio.socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        problem = f"cannot listen on {host!r}, no name or address of this machine: {error.strerror}"
        raise socket.gaierror(error.errno, problem) from error
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in found:
            sockets.append(_listen(family, (str(address[0]), port)))
            port = port or int(sockets[0].getsockname()[1])
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _check_address(host: object, port: object) -> None:
    if not isinstance(host, str):
        raise MisuseError(
            f'the host is {host!r}, and has to be text, "" for all addresses. Write: '
            f'server.serve("127.0.0.1", 8000)'
        )
    if type(port) is not int or not 0 <= port <= 65_535:
        raise MisuseError(
            f"the port is {port!r}, and has to be a whole number from 0 to 65535. Write: "
            f'server.serve("127.0.0.1", 8000)'
        )


def _listen(family: int, address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise OSError(
            error.errno, f"cannot listen on {address[0]} port {address[1]}: {error.strerror}"
        ) from error
    return sock


def check_loopback(listeners: list[Listener], right: str) -> None:
    """Refuses to be reached by everyone.

    Raises:
        MisuseError: if other machines can reach a listener; the message says `right`.
    """
    if not all(listener.is_loopback for listener in listeners):
        raise MisuseError(right)


def _refuse(sock: socket.socket) -> None:
    with sock:
        try:
            sock.send(_FULL)
        except OSError:
            return  # it is gone, or does not listen: fine
