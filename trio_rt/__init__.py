"""Real-time applications on Trio: a Socket.IO server and client with structured concurrency."""

import typing

from trio_rt.auth import Anonymous, Authenticator, Handshake, JWTAuth, User
from trio_rt.backplane.chosen import Redis, SocketIORedis
from trio_rt.client import Change, Client, ClientConfig, ClientNamespace, open_client
from trio_rt.config import Config
from trio_rt.dispatch import NO_ACK
from trio_rt.errors import (
    BackplaneDown,
    BackplaneError,
    BackplaneRefused,
    CallTimeout,
    Disconnected,
    LimitError,
    LocalError,
    MisuseError,
    RealtimeError,
    Refuse,
    Refused,
    RemoteError,
    RemoteProtocolError,
    TransportClosed,
)
from trio_rt.machine.backlog import BacklogLimits, WhenFull
from trio_rt.machine.lobby_effects import Phase
from trio_rt.machine.matchmaking import MatchRules
from trio_rt.machine.reconnect import ConnectionState, ReconnectLimits
from trio_rt.machine.restarts import Restart
from trio_rt.machine.roster import PresenceDiff
from trio_rt.namespace import Namespace
from trio_rt.policies import Block, Close, DropOldest, Latest
from trio_rt.presence import Present, RoomRef
from trio_rt.reasons import Reason
from trio_rt.rooms import Input, Player, Room, Rooms, Tick, on
from trio_rt.server import Server
from trio_rt.server_events import ServerReplies
from trio_rt.socket import Socket
from trio_rt.target import Found, Replies, Target, Total
from trio_rt.web.messages import HttpError, Request, Response

__all__ = [
    "NO_ACK",
    "Anonymous",
    "Authenticator",
    "BacklogLimits",
    "BackplaneDown",
    "BackplaneError",
    "BackplaneRefused",
    "Block",
    "CallTimeout",
    "Change",
    "Client",
    "ClientConfig",
    "ClientNamespace",
    "Close",
    "Config",
    "ConnectionState",
    "Disconnected",
    "DropOldest",
    "Found",
    "Handshake",
    "HttpError",
    "Input",
    "JWTAuth",
    "Latest",
    "LimitError",
    "LocalError",
    "MatchRules",
    "MisuseError",
    "Namespace",
    "Phase",
    "Player",
    "PresenceDiff",
    "Present",
    "RealtimeError",
    "Reason",
    "ReconnectLimits",
    "Redis",
    "Refuse",
    "Refused",
    "RemoteError",
    "RemoteProtocolError",
    "Replies",
    "Request",
    "Response",
    "Restart",
    "Room",
    "RoomRef",
    "Rooms",
    "Server",
    "ServerReplies",
    "Socket",
    "SocketIORedis",
    "Target",
    "Tick",
    "Total",
    "TransportClosed",
    "User",
    "WhenFull",
    "on",
    "open_client",
]

if typing.TYPE_CHECKING:
    __version__: str
    """The version that is installed, such as `"0.1.0"`."""
else:  # a type checker would take it for every name that there is not

    def __getattr__(name: str) -> str:
        if name == "__version__":
            # Here, because the import of it takes longer than most of ours.
            from importlib.metadata import version  # noqa: PLC0415

            return version("trio-rt")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
