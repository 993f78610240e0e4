"""Clients of a WebSocket server that is not ours: a program's own trio-websocket hands them over.

Whether they may come in is decided here, before the request is accepted, as `handshake.py` does it
for our own listener. Source: Engine.IO protocol v4, "Handshake".
"""

import secrets
import time
from ipaddress import ip_address

import attrs
from trio_websocket import Endpoint, WebSocketRequest

from trio_rt.app import App
from trio_rt.codec.frames import FrameDecoder
from trio_rt.config import Config
from trio_rt.connection import Connection
from trio_rt.errors import MisuseError
from trio_rt.session import Request
from trio_rt.transport.trio_websocket import TrioWebSocketWire
from trio_rt.transport.websocket import WebSocketTransport
from trio_rt.web.head import split_target
from trio_rt.web.messages import HttpError


@attrs.frozen
class Visit:
    """A request that may be accepted."""

    query: dict[str, str]
    headers: dict[str, str]
    address: str
    url: str
    is_secure: bool

    async def accept(
        self, request: WebSocketRequest, app: App
    ) -> tuple[TrioWebSocketWire, Connection]:
        """Accepts the request. The wire has to be run, and the connection's session as well."""
        websocket = await request.accept()
        wire = TrioWebSocketWire(websocket, self.address)
        transport = WebSocketTransport(
            wire,
            FrameDecoder(max_message_bytes=app.config.max_payload_bytes, from_client=False),
            base64=self.query.get("b64") == "1",
            takes_offsets=self.query.get("recovery") != "0",
        )
        sid = secrets.token_urlsafe(15)
        return wire, Connection(sid, transport, app.config, app.flusher, app.wheel)

    def request(self) -> Request:
        """What handshakes tell of this request."""
        return Request(
            query=self.query,
            headers=self.headers,
            address=self.address,
            url=self.url,
            is_secure=self.is_secure,
            time=time.time(),
        )


def read_visit(request: WebSocketRequest, config: Config, *, needs_loopback: bool) -> Visit:
    """Decides whether a request may become a session.

    Args:
        request: what trio-websocket has read.
        config: names the origins that browsers may come from.
        needs_loopback: nothing says who may come in, so only this machine may.

    Raises:
        HttpError: if it is to be refused, with the status.
        MisuseError: if everybody could come in, and nobody has said so.
    """
    remote = request.remote
    if needs_loopback and not _is_loopback(remote):
        raise MisuseError(
            f"{_address(remote)} is another machine, and nothing says who may come in. Write "
            f"Server(auth=JWTAuth.from_env()), or Server(auth=Anonymous()) to let everybody in"
        )
    headers = _read_headers(request)
    _check_origin(headers, config)
    query = split_target(request.path.encode())[1]
    if query.get("EIO") != "4" or query.get("transport") != "websocket" or "sid" in query:
        raise HttpError(400, "bad_request", "this is for Engine.IO 4 by WebSocket alone")
    is_secure = isinstance(remote, Endpoint) and remote.is_ssl
    return Visit(query, headers, _address(remote), request.path, is_secure)


def _read_headers(request: WebSocketRequest) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _check_origin(headers: dict[str, str], config: Config) -> None:
    """As `handshake.py`, but trio-websocket does not tell the Host to compare with."""
    origin = headers.get("origin")
    allowed = config.origins or ()
    if origin is not None and "*" not in allowed and origin not in allowed:
        raise HttpError(403, "forbidden", "the origin is not allowed (Config.origins)")


def _is_loopback(remote: Endpoint | str) -> bool:
    return isinstance(remote, Endpoint) and ip_address(str(remote.address)).is_loopback


def _address(remote: Endpoint | str) -> str:
    """As our own wires name their peers."""
    if not isinstance(remote, Endpoint):
        return remote
    host = f"[{remote.address}]" if remote.address.version == 6 else str(remote.address)
    return f"{host}:{remote.port}"
