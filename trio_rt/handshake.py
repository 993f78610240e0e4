"""The opening handshake: what a request on the listener's port becomes.

Source: Engine.IO protocol v4, "Handshake"; RFC 6455, section 4.2. The checks come in the order, and
with the codes, of Engine.IO's own server.
"""

import time
from urllib.parse import urlsplit

import attrs
import h11

from trio_rt.codec import deflate
from trio_rt.codec.frames import FrameDecoder
from trio_rt.codec.upgrade import Refusal, Upgrade, read_upgrade, upgrade_response
from trio_rt.config import Config
from trio_rt.session import Request
from trio_rt.transport.websocket import WebSocketTransport
from trio_rt.transport.wire import Wire
from trio_rt.web.head import merge_headers, split_target
from trio_rt.web.messages import Response


@attrs.frozen
class Opening:
    """A request that may become a WebSocket with Engine.IO on it."""

    upgrade: Upgrade
    query: dict[str, str]
    headers: dict[str, str]
    url: str

    async def open(self, wire: Wire, received: bytes, config: Config) -> WebSocketTransport:
        """Completes the handshake.

        Args:
            wire: where the request came from.
            received: what came behind the request.
            config: says whether messages are compressed, and how large they may be.

        Raises:
            TransportClosed: if the client has gone.
        """
        extensions = deflate.negotiate(self.upgrade.extensions) if config.compression else None
        await wire.send_all(upgrade_response(self.upgrade, extensions=extensions))
        is_compressed = extensions is not None
        decoder = FrameDecoder(
            max_message_bytes=config.max_payload_bytes, compression=is_compressed
        )
        return WebSocketTransport(
            wire,
            decoder,
            received,
            base64=self.query.get("b64") == "1",
            compress_from=config.compression_threshold_bytes if is_compressed else None,
            takes_offsets=self.query.get("recovery") != "0",
        )

    def request(self, wire: Wire) -> Request:
        """What handshakes tell of this request."""
        return Request(
            query=self.query,
            headers=self.headers,
            address=wire.peer,
            url=self.url,
            is_secure=False,
            time=time.time(),
        )


def is_for_engine(head: h11.Request, config: Config) -> bool:
    """Whether a request is for Socket.IO, and not for a page."""
    return head.target.startswith(config.path.encode())


def read_opening(head: h11.Request, config: Config) -> Opening | Response:
    """Decides whether a request on Socket.IO's path may go on, or what it is answered.

    Raises:
        HttpError: if its target is malformed.
    """
    headers = merge_headers(head)
    query = split_target(head.target)[1]
    transport = query.get("transport")
    if transport != "websocket":
        return _error(0, "Transport unknown")
    if not _is_origin_allowed(headers, config):
        return _error(4, "Forbidden: the origin is not allowed (Config.origins)", status=403)
    if "upgrade" not in headers:
        return _error(3, "Bad request: the websocket transport needs an upgrade")
    if "sid" in query:
        return _error(1, "Session ID unknown")
    upgrade = read_upgrade(head.method.decode(), head.http_version.decode(), headers)
    if isinstance(upgrade, Refusal):
        return _error(3, f"Bad request: {upgrade.message}", upgrade.status, dict(upgrade.headers))
    if query.get("EIO") != "4":
        return _error(5, "Unsupported protocol version")
    return Opening(upgrade, query, headers, head.target.decode())


def _is_origin_allowed(headers: dict[str, str], config: Config) -> bool:
    """Browsers always send an Origin with a WebSocket; programs, which need no fence, do not."""
    origin = headers.get("origin")
    if origin is None:
        return True
    if config.origins is None:
        try:
            origin_host = urlsplit(origin).netloc.lower()
        except ValueError:
            return False
        return origin_host == headers.get("host", "").lower() != ""
    return "*" in config.origins or origin in config.origins


def _error(
    code: int, message: str, status: int = 400, headers: dict[str, str] | None = None
) -> Response:
    return Response.json({"code": code, "message": message}, status, headers=headers or {})
