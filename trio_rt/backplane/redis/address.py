"""Where a server is, and how to get in: read from a URL.

    redis://[user:password@]host[:port][/db]
    rediss://...                                  the same by TLS; the host's name is checked
    unix://[user:password@]/path[?db=N]

TLS takes `?ssl_ca_certs=FILE`, `ssl_certfile=FILE` and `ssl_keyfile=FILE`; whatever else it needs
goes into an `ssl.SSLContext` of your own.
"""

import ssl
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import attrs
import trio

from trio_rt.errors import MisuseError

PORT = 6379
"""Redis's default."""

_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_FORMS = (
    "redis://host:6379/0, rediss://user:password@host/0 or unix:///run/redis.sock?db=0; with "
    "several hosts redis+sentinel://a:26379,b:26379/service or redis+cluster://a:6379,b:6379"
)


@attrs.frozen(kw_only=True)
class Address:
    """One server, and who we are there."""

    host: str = ""
    """A name or an address; empty if `path` is set."""

    port: int = PORT

    path: str = ""
    """Of a unix socket."""

    username: str = ""
    """Of an ACL user; empty for the default one."""

    password: str = attrs.field(default="", repr=False)

    db: int = 0

    tls: ssl.SSLContext | None = attrs.field(default=None, repr=False)
    """Encrypts the connection; None for none."""

    def __str__(self) -> str:
        """For people: without the password."""
        if self.path:
            return f"unix://{self.path}"
        scheme = "redis" if self.tls is None else "rediss"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"

    async def open(self) -> trio.abc.Stream:
        """Connects. Bounded by the caller.

        Raises:
            OSError: if nobody answers.
            trio.BrokenResourceError: if TLS fails.
        """
        if self.path:
            return await trio.open_unix_socket(self.path)
        stream = await trio.open_tcp_stream(self.host, self.port)
        _watch_dead_peers(stream)
        if self.tls is None:
            return stream
        encrypted = trio.SSLStream(
            stream, self.tls, server_hostname=self.host, https_compatible=True
        )
        try:
            await encrypted.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(encrypted)
            raise
        return encrypted


def read_url(url: str, *, tls: ssl.SSLContext | None = None) -> Address:
    """Reads a URL.

    Args:
        url: see this module's head.
        tls: used by rediss:// instead of the system's authorities.

    Raises:
        MisuseError: if it is none of those, or has an option that is not known.
        OSError: if a certificate's file cannot be read.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise MisuseError(f"{error}. Write {_FORMS}") from error
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise MisuseError(f"{parts.scheme or 'no'} scheme of a Redis URL. Write {_FORMS}")
    if "," in parts.netloc.rpartition("@")[2]:
        raise MisuseError(f"several hosts are no single server. Write {_FORMS}")
    if tls is not None and parts.scheme != "rediss":
        raise MisuseError("a TLS context needs a URL that begins with rediss://")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    db = options.pop("db", parts.path.strip("/") if parts.scheme != "unix" else "") or "0"
    files = {name: options.pop(name) for name in _FILES if name in options}
    if options:
        raise MisuseError(
            f"unknown in a Redis URL: {', '.join(sorted(options))}. For TLS of another kind give "
            "an ssl.SSLContext: Address and read_url take one as `tls`"
        )
    if files and (parts.scheme != "rediss" or tls is not None):
        raise MisuseError(f"{', '.join(files)} in a URL need rediss:// and no context of your own")
    if not db.isdecimal():
        raise MisuseError(f"a database is a number, not {db!r}. Write {_FORMS}")
    if parts.scheme == "rediss":
        tls = tls or _make_context(files)
    return Address(
        host="" if parts.scheme == "unix" else parts.hostname or "localhost",
        port=_read_port(parts),
        path=_read_path(parts),
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        db=int(db),
        tls=tls,
    )


def each_host(url: str) -> list[str]:
    """A URL that names several hosts, as a URL for each of them.

    They are taken apart before `urllib` sees them, which takes brackets at a host's start only.
    """
    scheme, slashes, rest = url.partition("://")
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    login, at_sign, hosts = rest[:end].rpartition("@")
    before, behind = f"{scheme}{slashes}{login}{at_sign}", rest[end:]
    return [f"{before}{host}{behind}" for host in hosts.split(",") if host]


def _read_port(parts: SplitResult) -> int:
    try:
        return parts.port or PORT
    except ValueError as error:
        raise MisuseError(f"a port is a number up to 65535. Write {_FORMS}") from error


def _read_path(parts: SplitResult) -> str:
    if parts.scheme != "unix":
        return ""
    if parts.hostname or parts.path in ("", "/"):
        raise MisuseError("a unix socket has an absolute path: unix:///run/redis.sock")
    return unquote(parts.path)


def _make_context(files: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=files.get("ssl_ca_certs"))
    if "ssl_certfile" in files:
        context.load_cert_chain(files["ssl_certfile"], files.get("ssl_keyfile"))
    return context


def _watch_dead_peers(stream: trio.SocketStream) -> None:
    """Lets the kernel find a dead peer as well, where nothing of ours is asked or written."""
    socket = trio.socket
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5_000)  # milliseconds
