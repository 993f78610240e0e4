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
from trio_rt.handshake import Rejection, find_problem
from trio_rt.session import Request
from trio_rt.transport.trio_websocket import TrioWebSocketWire
from trio_rt.transport.websocket import WebSocketTransport
from trio_rt.web.head import split_target
from trio_rt.web.messages import Response


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


def read_visit(
    request: WebSocketRequest, config: Config, *, needs_loopback: bool
) -> Visit | Rejection:
    """Decides whether a request may become a session.

    Args:
        request: what trio-websocket has read.
        config: names the origins that browsers may come from.
        needs_loopback: nothing says who may come in, so only this machine may.

    Raises:
        HttpError: if its target is malformed.
        MisuseError: if everybody could come in, and nobody has said so.
    """
    remote = request.remote
    if needs_loopback and not _is_loopback(remote):
        raise MisuseError(
            f"{_address(remote)} is another machine, and nothing says who may come in. Write "
            f"Server(auth=JWTAuth.from_env()), or Server(auth=Anonymous()) to let everybody in"
        )
    headers = _read_headers(request)
    query = split_target(request.path.encode())[1]
    is_allowed = _is_origin_allowed(headers, config)
    problem = find_problem(query, headers, is_allowed=is_allowed, is_upgrade=True)
    if problem is not None:
        return problem
    is_secure = isinstance(remote, Endpoint) and remote.is_ssl
    return Visit(query, headers, _address(remote), request.path, is_secure)


async def reject(request: WebSocketRequest, response: Response) -> None:
    """Answers a request that is not accepted."""
    headers = {"content-type": response.content_type, **response.headers}
    await request.reject(
        response.status,
        extra_headers=[(name.encode(), value.encode()) for name, value in headers.items()],
        body=response.body if isinstance(response.body, bytes) else b"",
    )


def address_of(request: WebSocketRequest) -> str:
    """Where it came from, as our own wires name their peers."""
    return _address(request.remote)


def _read_headers(request: WebSocketRequest) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _is_origin_allowed(headers: dict[str, str], config: Config) -> bool:
    """As `handshake.py`, but trio-websocket does not tell the Host to compare with."""
    origin = headers.get("origin")
    allowed = config.origins or ()
    return origin is None or "*" in allowed or origin in allowed


def _is_loopback(remote: Endpoint | str) -> bool:
    return isinstance(remote, Endpoint) and ip_address(str(remote.address)).is_loopback


def _address(remote: Endpoint | str) -> str:
    """As our own wires name their peers."""
    if not isinstance(remote, Endpoint):
        return remote
    host = f"[{remote.address}]" if remote.address.version == 6 else str(remote.address)
    return f"{host}:{remote.port}"
