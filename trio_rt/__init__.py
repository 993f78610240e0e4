"""Real-time applications on Trio: a Socket.IO server with structured concurrency."""

from trio_rt.auth import Anonymous, Authenticator, Handshake, JWTAuth, User
from trio_rt.config import Config
from trio_rt.dispatch import NO_ACK
from trio_rt.errors import (
    CallTimeout,
    Disconnected,
    LimitError,
    LocalError,
    MisuseError,
    RealtimeError,
    Refuse,
    RemoteError,
    RemoteProtocolError,
    TransportClosed,
)
from trio_rt.namespace import Namespace
from trio_rt.policies import Block, Close, DropOldest, Latest
from trio_rt.reasons import Reason
from trio_rt.server import Server
from trio_rt.socket import Socket
from trio_rt.target import Replies, Target
from trio_rt.web.messages import HttpError, Request, Response

__all__ = [
    "NO_ACK",
    "Anonymous",
    "Authenticator",
    "Block",
    "CallTimeout",
    "Close",
    "Config",
    "Disconnected",
    "DropOldest",
    "Handshake",
    "HttpError",
    "JWTAuth",
    "Latest",
    "LimitError",
    "LocalError",
    "MisuseError",
    "Namespace",
    "RealtimeError",
    "Reason",
    "Refuse",
    "RemoteError",
    "RemoteProtocolError",
    "Replies",
    "Request",
    "Response",
    "Server",
    "Socket",
    "Target",
    "TransportClosed",
    "User",
]
