"""The opening handshake: what a request on the listener's port becomes.

Source: Engine.IO protocol v4, "Handshake"; RFC 6455, section 4.2. The checks come in the order, and
with the codes, of Engine.IO's own server.
"""

import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import attrs
import h11
import trio

from trio_rt.codec import deflate
from trio_rt.codec.frames import FrameDecoder
from trio_rt.codec.upgrade import Refusal, Upgrade, read_upgrade, upgrade_response
from trio_rt.config import Config
from trio_rt.errors import TransportClosed
from trio_rt.reasons import TRANSPORT_ERROR
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
            TransportClosed: if the client has gone, or does not read the answer.
        """
        extensions = deflate.negotiate(self.upgrade.extensions) if config.compression else None
        answer = upgrade_response(self.upgrade, extensions=extensions)
        sent = wire.send_nowait(answer)
        if sent < len(answer):  # hardly ever, so that the usual handshake needs no scope
            with trio.move_on_after(config.handshake_timeout) as scope:
                await wire.send_all(answer[sent:])
            if scope.cancelled_caught:
                raise TransportClosed(TRANSPORT_ERROR.because("it does not read its handshake"))
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


@attrs.frozen
class Rejection:
    """A request on Socket.IO's path that may not go on."""

    code: int
    """Engine.IO's number for what is wrong."""

    message: str
    """Engine.IO's words for it, told to the client."""

    note: str
    """What the log says, for whoever has to mend it: may have the client's own text in it."""

    status: int = 400
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    """What the response says besides."""

    def response(self) -> Response:
        """As Engine.IO's clients know it."""
        told = {"code": self.code, "message": self.message}
        return Response.json(told, self.status, headers=self.headers)


def is_for_engine(head: h11.Request, config: Config) -> bool:
    """Whether a request is for Socket.IO, and not for a page."""
    return head.target.startswith(config.path.encode())


def read_opening(head: h11.Request, config: Config) -> Opening | Rejection:
    """Decides whether a request on Socket.IO's path may go on.

    Raises:
        HttpError: if its target is malformed.
    """
    headers = merge_headers(head)
    query = split_target(head.target)[1]
    is_allowed = _is_origin_allowed(headers, config)
    problem = find_problem(query, headers, is_allowed=is_allowed, is_upgrade="upgrade" in headers)
    if problem is not None:
        return problem
    upgrade = read_upgrade(head.method.decode(), head.http_version.decode(), headers)
    if isinstance(upgrade, Refusal):
        message = f"Bad request: {upgrade.message}"
        return Rejection(3, message, upgrade.message, upgrade.status, upgrade.headers)
    return Opening(upgrade, query, headers, head.target.decode())


def find_problem(
    query: Mapping[str, str], headers: Mapping[str, str], *, is_allowed: bool, is_upgrade: bool
) -> Rejection | None:
    """What is wrong with a request for Engine.IO, whatever is wrong with it for a WebSocket.

    Args:
        query: of the request.
        headers: by lower-case name.
        is_allowed: whether its origin is.
        is_upgrade: whether it asks for a WebSocket at all.
    """
    transport = query.get("transport")
    if transport != "websocket":
        return Rejection(
            0,
            "Transport unknown",
            f"the transport {transport!r} is not served. Its client has to say: "
            f'io(url, {{ transports: ["websocket"] }})',
        )
    if not is_allowed:
        origin = headers.get("origin", "")
        message = "Forbidden: the origin is not allowed (Config.origins)"
        note = (
            f"the origin {origin!r} is not allowed. If it is yours: Server(origins=({origin!r},))"
        )
        return Rejection(4, message, note, 403)
    if not is_upgrade:
        message = "the websocket transport needs an upgrade"
        note = f"{message}: a proxy in between has to pass on Upgrade and Connection"
        return Rejection(3, f"Bad request: {message}", note)
    if "sid" in query:
        return Rejection(1, "Session ID unknown", "it asks for a session that is not here")
    if query.get("EIO") != "4":
        return Rejection(5, "Unsupported protocol version", "it speaks another Engine.IO than 4")
    return None


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
