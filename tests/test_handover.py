"""Clients of a program's own trio-websocket server, handed over to ours."""

import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from trio_websocket import WebSocketRequest

from tests.interop.conftest import driver, play
from tests.interop.stage import Stage
from tests.leftovers import assert_nothing_left
from trio_rt import Anonymous, Config, ConnectionState, MisuseError, Server, Socket, open_client
from trio_rt.errors import TransportClosed
from trio_rt.handover import Visit, read_visit
from trio_rt.handshake import Rejection
from trio_rt.transport.trio_websocket import dial_websocket

__all__ = ["driver", "play"]

DEADLINE = 5.0
ENGINE = "/socket.io/?EIO=4&transport=websocket"

Handler = Callable[[WebSocketRequest], Awaitable[None]]


def new_server(**changes: Any) -> Server:
    server = Server(auth=Anonymous(), **changes)

    @server.on("echo")
    async def echo(socket: Socket, *values: Any) -> Any:
        return values

    @server.on("where")
    async def where(socket: Socket) -> Any:
        shaken = socket.handshake
        return [shaken.address.split(":")[0], shaken.headers.get("x-name"), shaken.query["a"]]

    return server


async def listen(
    nursery: trio.Nursery, handle: Handler, context: ssl.SSLContext | None = None
) -> int:
    """A trio-websocket server on a free port."""
    serving = partial(trio_websocket.serve_websocket, handle, "127.0.0.1", 0, ssl_context=context)
    return int((await nursery.start(serving)).port)


async def hand_over(nursery: trio.Nursery, server: Server) -> str:
    """Serves the server, with a trio-websocket server beside it; where that listens."""
    await nursery.start(server.serve, "127.0.0.1", 0)
    return f"http://127.0.0.1:{await listen(nursery, server.serve_websocket)}"


async def test_our_client(nursery: trio.Nursery) -> None:
    """Our client is served as by our own listener, and what its request says is shown."""
    server = new_server()
    url = await hand_over(nursery, server)
    with trio.fail_after(DEADLINE):
        async with open_client(f"{url}?a=b", headers={"X-Name": "me"}) as client:
            assert await client.call("echo", 1, b"\x00") == (1, b"\x00")
            assert await client.call("echo", "x" * 300_000) == "x" * 300_000
            assert await client.call("where") == ["127.0.0.1", "me", "b"]
            await server.all.emit("x")
        await trio.testing.wait_all_tasks_blocked(0.01)
    await assert_nothing_left(server)
    nursery.cancel_scope.cancel()


async def test_official_client(nursery: trio.Nursery, play: Stage) -> None:
    """The official client is served: calls, bytes, events, recovery after a cut."""
    server = new_server()
    js = await play(server)
    port = await listen(nursery, server.serve_websocket)
    js.url = f"http://127.0.0.1:{port}"
    assert await js(
        """
        my.socket = await connected();
        my.seen = diary(my.socket);
        return await acked(my.socket, "echo", 1, Buffer.from([0, 255]));
        """
    ) == [1, b"\x00\xff"]
    await server.all.emit("n", 1)
    await js("while (my.seen.length < 1) await next(my.socket.io, 'packet')")
    await js(
        """
        wire(my.socket).terminate();
        await next(my.socket, "disconnect");
        """
    )
    await server.all.emit("n", 2)
    assert await js(
        """
        if (!my.socket.connected) await next(my.socket, "connect");
        return [my.socket.recovered, my.seen.map((event) => event.slice(0, 2))];
        """
    ) == [True, [["n", 1], ["n", 2]]]
    await js.close()


async def test_drain(nursery: trio.Nursery) -> None:
    """Draining the server closes these clients too, so that they come back; then it ends."""
    server = new_server()
    ended = trio.Event()

    async def serve(**task_status: Any) -> None:
        await server.serve("127.0.0.1", 0, **task_status)
        ended.set()

    await nursery.start(serve)
    url = f"http://127.0.0.1:{await listen(nursery, server.serve_websocket)}"
    reasons: list[str] = []

    @server.on_disconnect
    async def bye(socket: Socket, reason: Any) -> None:
        reasons.append(reason.code)

    with trio.fail_after(DEADLINE):
        async with open_client(f"{url}?a=b") as client:
            await client.wait_connected()
            server.stop()
            await ended.wait()
            assert client.state in (ConnectionState.BACKING_OFF, ConnectionState.CONNECTING)
    assert reasons == ["server shutting down"]
    nursery.cancel_scope.cancel()


async def test_cancel(nursery: trio.Nursery) -> None:
    """Cancelled by its own server, a client is seen off in good order."""
    server = new_server()
    url = await hand_over(nursery, server)
    reasons: list[str] = []
    is_off = trio.Event()

    @server.on_disconnect
    async def bye(socket: Socket, reason: Any) -> None:
        await trio.lowlevel.checkpoint()
        reasons.append(reason.code)
        is_off.set()

    async with trio.open_nursery() as clients:

        @clients.start_soon
        async def visit() -> None:
            async with open_client(f"{url}?a=b") as client:
                await client.wait_connected()
                nursery.cancel_scope.cancel()
                await trio.sleep_forever()

        with trio.fail_after(DEADLINE), trio.CancelScope(shield=True):
            await is_off.wait()
        clients.cancel_scope.cancel()
    assert reasons == ["server shutting down"]


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        (ENGINE, {"Origin": "http://evil"}, 403),
        (ENGINE, {"Origin": "http://good"}, None),
        ("/socket.io/?EIO=3&transport=websocket", {}, 400),
        ("/socket.io/?EIO=4&transport=polling", {}, 400),
        (ENGINE + "&sid=1", {}, 400),
    ],
)
async def test_refusals(
    nursery: trio.Nursery, target: str, headers: dict[str, str], status: int | None
) -> None:
    """Requests that our own listener would refuse are rejected before they are accepted."""
    url = await hand_over(nursery, new_server(origins=("http://good",)))
    dial = dial_websocket("ws" + url[4:] + target, headers=headers, max_message_bytes=1_000)

    async def visit() -> str | bytes:
        async with dial as messages:
            return await messages.receive()

    with trio.fail_after(DEADLINE):
        if status is None:
            assert str(await visit()).startswith("0{")
        else:
            with pytest.raises(TransportClosed, match=f"HTTP {status}"):
                await visit()
    nursery.cancel_scope.cancel()


async def test_full(nursery: trio.Nursery) -> None:
    """A full server takes no more."""
    url = await hand_over(nursery, new_server(max_connections=1))
    with trio.fail_after(DEADLINE):
        async with open_client(url) as client:
            await client.wait_connected()
            with pytest.raises(TransportClosed, match="HTTP 503"):
                async with dial_websocket("ws" + url[4:] + ENGINE, max_message_bytes=1_000):
                    raise AssertionError("accepted")
    nursery.cancel_scope.cancel()


async def test_not_serving() -> None:
    """A server that does not serve says so."""
    with pytest.raises(MisuseError, match=r"server\.serve"):
        await new_server().serve_websocket(None)  # type: ignore[arg-type]


def self_signed(folder: Path) -> Path:
    """A certificate for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    file = folder / "test.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file


async def test_tls(nursery: trio.Nursery, tmp_path: Path) -> None:
    """Over TLS it is the same, and handlers see that it is; who is not trusted is not talked to."""
    file = self_signed(tmp_path)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(file)
    server = new_server()

    @server.on("secure")
    async def secure(socket: Socket) -> bool:
        return socket.handshake.secure

    await nursery.start(server.serve, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{await listen(nursery, server.serve_websocket, ours)}"
    trusting = ssl.create_default_context(cafile=file)
    with trio.fail_after(DEADLINE):
        async with open_client(url, ssl_context=trusting) as client:
            assert await client.call("secure") is True
            assert await client.call("echo", "x" * 300_000) == "x" * 300_000
        async with open_client(url) as client:
            changes = client.changes()
            async for change in changes:
                if change.state is ConnectionState.BACKING_OFF:
                    break
            assert client.reason is not None
            assert "certificate" in client.reason.text.lower()
    nursery.cancel_scope.cancel()


class Stranger:
    """A request from another machine."""

    remote = trio_websocket.Endpoint("192.0.2.1", 1, True)
    path = ENGINE
    headers = [(b"X-A", b"1"), (b"x-a", b"2")]


def test_nobody_says_who() -> None:
    """Without `auth=` only this machine may come in."""
    request: Any = Stranger()
    with pytest.raises(MisuseError, match=r"192\.0\.2\.1:1 is another machine"):
        read_visit(request, Config(), needs_loopback=True)
    visit = read_visit(request, Config(), needs_loopback=False)
    assert isinstance(visit, Visit)
    assert visit.is_secure
    assert visit.headers == {"x-a": "1, 2"}
    rejection = read_visit(_with_origin(), Config(), needs_loopback=False)
    assert isinstance(rejection, Rejection)
    assert (rejection.code, rejection.status) == (4, 403)


def _with_origin() -> Any:
    request = Stranger()
    request.headers = [(b"Origin", b"http://same")]
    return request
