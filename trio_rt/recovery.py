"""How a client that comes back on another connection gets its session, and what it missed.

The client shows its private id and the last offset that it saw, in the CONNECT packet. The private
id alone opens nothing: whoever shows it is authenticated anew, and has to be the session's user.
Source: Socket.IO's connection state recovery. Where its own server gives up we do not: a session
without events, a connection that we did not know to be dead yet, the second return and the tenth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from trio_rt import reasons
from trio_rt.backplane.base import SavedSession
from trio_rt.codec.position import Position, parse_position
from trio_rt.errors import BackplaneDown
from trio_rt.log import log, printable
from trio_rt.socket import Socket

if TYPE_CHECKING:
    from trio_rt.app import App


@attrs.frozen
class Claim:
    """What a client shows to get its session back."""

    pid: str
    """The session's private id."""

    offset: str | None
    """The last offset that it saw; None if it has seen none."""


def split_auth(auth: dict[str, Any]) -> tuple[dict[str, Any], Claim | None, bool]:
    """Takes a CONNECT packet's payload apart.

    Returns:
        What the program's client sent; what it shows to come back; whether it sends a key with
        each event (`"rt": 1`, which is what our own client says).
    """
    auth = dict(auth)
    pid, offset, version = auth.pop("pid", None), auth.pop("offset", None), auth.pop("rt", None)
    claim = None
    if isinstance(pid, str):
        claim = Claim(pid, offset if isinstance(offset, str) else None)
    return auth, claim, version == 1


async def take_session(app: App, socket: Socket, claim: Claim) -> SavedSession | None:
    """Finds the session that a client shows, and takes it for this socket.

    A connection that it still seems to have is dead, or as good as that, and is ended; so is one
    on which it was coming back until now.

    Args:
        app: whose backplane keeps the sessions.
        socket: already authenticated.
        claim: what it shows.

    Returns:
        The session; None if there is none, or none that this user may have.
    """
    namespace = socket.namespace.name
    session = await app.backplane.find_session(namespace, claim.pid)
    if session is None:
        return None
    user = app.auth.recognize(session.user, socket.user)
    if user is None:
        log.warning(
            "user %s showed the private id of a session of %s: it gets a new session",
            printable(socket.user.id),
            printable(session.user.id),
        )
        return None
    while not session.is_lost and await _end_old_connection(app, socket, session):
        pass  # it may have been coming back on that one, and have come back
    if not await app.backplane.take_session(session):
        if await app.backplane.find_session(namespace, claim.pid) is not None:
            raise BackplaneDown("another connection has just got it", outcome_unknown=False)
        return None
    app.absentees.begin_return(session, socket.connection)
    session.user = socket.user = user
    return session


async def readmit(app: App, socket: Socket, session: SavedSession, claim: Claim) -> bool:
    """Connects a socket with the session that was taken for it, and sends what it missed.

    Returns:
        Whether it was recovered. If not, the session has ended: some of what the client missed is
        not kept any more.
    """
    since = _last_seen(session, claim)
    if since is not None and await socket.namespace.readmit(socket, session, since):
        return True
    log.info("session %s cannot be recovered any more", session.membership.sid)
    await socket.namespace.end_unrecovered(session)
    return False


def _last_seen(session: SavedSession, claim: Claim) -> Position | None:
    """What the client has got; None if its offset is none of ours, or from too long ago.

    An offset from before the session is what is left of an earlier one: then nothing of this one
    has arrived.
    """
    since = session.membership.since
    if claim.offset is not None:
        position = parse_position(claim.offset)
        if position is None:
            return None
        since = max(position, since)
    return None if since < session.membership.whole_since else since


async def _end_old_connection(app: App, socket: Socket, session: SavedSession) -> bool:
    """Returns whether there was one."""
    reason = reasons.TRANSPORT_CLOSE.because("the client came back on another connection")
    old = socket.namespace.sockets.get(session.membership.sid)
    if old is None or old.session is not session:
        return await app.absentees.cut_return(session, reason)
    old.connection.stop(reason)  # a handler that runs has its grace, as after any loss
    await socket.namespace.remove(old, reason)
    return True
