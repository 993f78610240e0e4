"""Why something ended, as values: a code, a sentence, and whether the client may come back.

The codes are the words that Socket.IO's server uses where it has one, so that people who know
them find them in logs, in `on_disconnect` and in metrics alike.
"""

import attrs


@attrs.frozen
class Reason:
    """Why a socket or a connection ended."""

    code: str
    """The stable name: compare and count by this."""

    text: str
    """One sentence for people, without a peer's own bytes."""

    come_back: bool
    """Whether a well-behaved client connects again by itself."""

    close_code: int = 1000
    """The status of the WebSocket close frame (RFC 6455, section 7.4)."""

    keeps_session: bool = True
    """Whether one that comes back may recover what it missed."""

    def __str__(self) -> str:
        return self.code

    def because(self, text: str) -> "Reason":
        """The same reason told with another sentence."""
        return attrs.evolve(self, text=text)


CLIENT_DISCONNECT = Reason(
    "client namespace disconnect", "the client left the namespace", come_back=False
)
SERVER_DISCONNECT = Reason(
    "server namespace disconnect", "the server put the socket out", come_back=False
)
REFUSED = Reason("refused", "the server did not let the client in", come_back=False)
TRANSPORT_CLOSE = Reason("transport close", "the client closed the transport", come_back=True)
TRANSPORT_ERROR = Reason("transport error", "the transport failed", come_back=True, close_code=1006)
PING_TIMEOUT = Reason("ping timeout", "no pong came in time", come_back=True, close_code=1001)
PARSE_ERROR = Reason("parse error", "the peer broke the protocol", come_back=True, close_code=1002)
MESSAGE_TOO_BIG = Reason(
    "message too big", "a message was over the limit", come_back=True, close_code=1009
)
FORCED_CLOSE = Reason(
    "forced close", "the peer broke the Socket.IO protocol", come_back=True, close_code=1008
)
CONNECT_TIMEOUT = Reason(
    "connect timeout", "no namespace was connected in time", come_back=True, close_code=1008
)
SLOW_CONSUMER = Reason(
    "slow consumer", "the client reads too slowly", come_back=True, close_code=1013
)
OVERRUN = Reason(
    "overrun",
    "the client sent more than a waiting handler may leave unread",
    come_back=True,
    close_code=1008,
)
SERVER_SHUTDOWN = Reason(
    "server shutting down", "the server is shutting down", come_back=True, close_code=1001
)
HISTORY_LOST = Reason(
    "history lost",
    "events were lost on the way; the session begins anew",
    come_back=True,
    close_code=1012,
    keeps_session=False,
)
UNAVAILABLE = Reason("unavailable", "what joins the nodes is away", come_back=True, close_code=1013)
INTERNAL_ERROR = Reason(
    "internal error", "the server failed; its log says how", come_back=True, close_code=1011
)
