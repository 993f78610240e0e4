"""Connections are made as the address says, and what forbids one is told truthfully."""

import ssl
from collections.abc import Iterator

import attrs
import pytest
import trio
import trustme
from redis.exceptions import NoPermissionError

from tests.backplane.redis.conftest import QUICK
from tests.parts import valkey
from tests.parts.valkey import Valkey
from trio_rt.backplane.redis.address import Address, read_url
from trio_rt.backplane.redis.dial import DirectDial
from trio_rt.backplane.redis.link import open_blocking
from trio_rt.errors import BackplaneDown, BackplaneRefused
from trio_rt.testing import open_proxy


async def ask(address: Address, *words: str) -> object:
    """The reply to one command on a connection of its own."""
    settings = attrs.evolve(QUICK, reply_timeout=5.0)
    async with open_blocking(DirectDial(address, settings), "test") as link:
        return await link.call(*words)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Valkey]:
    """A server that wants a password, and knows ann, who may only PING."""
    with valkey.running() as server:
        server.client.acl_setuser("ann", True, passwords="+pw", commands=["+ping", "+hello"])
        server.client.config_set("requirepass", "secret")
        yield server


async def test_unix_socket(server: Valkey) -> None:
    """A unix socket works as an address."""
    assert await ask(read_url(f"unix://{server.path}"), "PING") == b"PONG"


async def test_database(server: Valkey) -> None:
    """Commands go to the database of the address."""
    await ask(read_url(f"{server.url}/3"), "SET", "a", "3")
    assert await ask(read_url(f"{server.url}/3"), "GET", "a") == b"3"
    assert await ask(read_url(server.url), "GET", "a") is None


async def test_no_such_database(server: Valkey) -> None:
    """A database that is not there is refused for good."""
    with pytest.raises(BackplaneRefused, match="no database 99"):
        await ask(read_url(f"{server.url}/99"), "PING")


async def test_password(guarded: Valkey) -> None:
    """A password, and an ACL user's, let us in."""
    assert await ask(read_url(f"redis://:secret@127.0.0.1:{guarded.port}"), "PING") == b"PONG"
    assert await ask(read_url(f"redis://ann:pw@127.0.0.1:{guarded.port}"), "PING") == b"PONG"
    with pytest.raises(NoPermissionError, match="get"):
        await ask(read_url(f"redis://ann:pw@127.0.0.1:{guarded.port}"), "GET", "a")


@pytest.mark.parametrize("who", ["", ":wrong@", "ann:wrong@", "nobody:pw@"])
async def test_wrong_password(guarded: Valkey, who: str) -> None:
    """No or a wrong password is refused for good."""
    with pytest.raises(BackplaneRefused, match="does not let us in"):
        await ask(read_url(f"redis://{who}127.0.0.1:{guarded.port}"), "PING")


async def test_nobody_listens() -> None:
    """Where nobody listens the server is down, and nothing was done."""
    with pytest.raises(BackplaneDown, match="cannot connect") as down:
        await ask(Address(host="127.0.0.1", port=valkey.free_port()), "PING")
    assert not down.value.outcome_unknown


async def test_no_such_socket() -> None:
    """A unix socket that is not there means that the server is down."""
    with pytest.raises(BackplaneDown, match="cannot connect"):
        await ask(Address(path="/nowhere/redis.sock"), "PING")


async def test_silent_server(server: Valkey) -> None:
    """A server that accepts and says nothing is down, after the time to connect."""
    async with open_proxy("127.0.0.1", server.port) as proxy:
        proxy.stall()
        settings = attrs.evolve(QUICK, connect_timeout=0.2)
        dial = DirectDial(Address(host="127.0.0.1", port=proxy.port), settings)
        with trio.fail_after(5), pytest.raises(BackplaneDown, match=r"no answer within 0\.2 s"):
            await dial.connect("test")


async def test_no_redis() -> None:
    """A server that speaks something else is down, and the message says so."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, serve, [listener])
        port = listener.socket.getsockname()[1]
        with pytest.raises(BackplaneDown, match="no Redis"):
            await ask(Address(host="127.0.0.1", port=port), "PING")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "greeting",
    [
        b"%2\r\n+server\r\n+redis\r\n+version\r\n+6.0.9\r\n",
        b"-ERR unknown command `HELLO`\r\n",
        b"-NOPROTO unsupported protocol version\r\n",
    ],
)
async def test_too_old(greeting: bytes) -> None:
    """A server that is too old is refused for good, and the message says what is needed."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(greeting)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, serve, [listener])
        port = listener.socket.getsockname()[1]
        with pytest.raises(BackplaneRefused, match=r"6\.2"):
            await ask(Address(host="127.0.0.1", port=port), "PING")
        nursery.cancel_scope.cancel()


# TLS: a proxy speaks it in front of the server, whose wheel is built without.


@attrs.frozen
class Certificates:
    """For 127.0.0.1 only, by an authority of our own."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    authority: str
    """The file that a URL names."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return Certificates(server, client, str(path))


async def test_tls(server: Valkey, certificates: Certificates) -> None:
    """TLS works with a context of one's own and with a file in the URL; so do big replies."""
    async with open_proxy("127.0.0.1", server.port, tls=certificates.server) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}"
        assert await ask(read_url(url, tls=certificates.client), "PING") == b"PONG"
        address = read_url(f"{url}?ssl_ca_certs={certificates.authority}")
        assert await ask(address, "ECHO", "x" * 1_000_000) == b"x" * 1_000_000


async def test_tls_other_host(server: Valkey, certificates: Certificates) -> None:
    """A certificate for another host name is refused for good."""
    async with open_proxy("127.0.0.1", server.port, tls=certificates.server) as proxy:
        address = read_url(f"rediss://localhost:{proxy.port}", tls=certificates.client)
        with pytest.raises(BackplaneRefused, match="certificate"):
            await ask(address, "PING")


async def test_tls_unknown_authority(server: Valkey, certificates: Certificates) -> None:
    """A certificate of an authority that we do not know is refused for good."""
    async with open_proxy("127.0.0.1", server.port, tls=certificates.server) as proxy:
        with pytest.raises(BackplaneRefused, match="certificate"):
            await ask(read_url(f"rediss://127.0.0.1:{proxy.port}"), "PING")


async def test_tls_to_plain_server(server: Valkey, certificates: Certificates) -> None:
    """TLS towards a server without it means that it is down, in time."""
    address = read_url(f"rediss://127.0.0.1:{server.port}", tls=certificates.client)
    with trio.fail_after(5), pytest.raises(BackplaneDown, match="cannot connect"):
        await ask(address, "PING")
