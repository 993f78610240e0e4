"""The keys and channels that the nodes of a cluster use among themselves.

    rt:{p}:r:<namespace>:<room>  channel of a room
    rt:{p}:a                     channel of what is for whole namespaces, or for several rooms
    rt:{p}:n:<node>              channel of one node: marks, events for its sockets; {0}: answers
    rt:{p}:probe:<node>          channel of the delivery probe
    rt:{p}:s:<sid>               hash: a session, and where the log of its socket begins and ends
    rt:{0}:all                   channel that all nodes read: questions to everybody
    rt:ver                       string: what all of this means; another one is not touched

An event for a single socket is in the log of that socket, and is published to the node that has it.
"""

import attrs

from trio_rt.backplane.redis.keys import Keys, LogName

SCHEMA = "1"
"""Of keys and channels. Nodes of another one cannot share a Redis with this one."""


@attrs.frozen
class SocketLog(LogName):
    """The log of one socket, whose id is `room`: of what was sent to it alone."""


@attrs.frozen
class NodeKeys(Keys):
    """The names of keys and channels."""

    def meta(self, log: LogName) -> str:
        """See `Keys`. The log of a socket begins and ends with its session."""
        return self.session(log.room) if isinstance(log, SocketLog) else super().meta(log)

    def channel(self, log: LogName) -> str:
        """See `Keys`. All namespaces share a channel that every node reads."""
        return super().channel(log) if log.room else self.wide()

    def wide(self) -> str:
        """The channel of what is for whole namespaces, or for several rooms."""
        return self.of("a")

    def everyone(self) -> str:
        """The channel of questions to all nodes."""
        return self.of("all")

    def node(self, node: str) -> str:
        """The channel of one node."""
        return self.of("n", node)

    def session(self, sid: str) -> str:
        """A session, by the id of its socket."""
        return self.of("s", sid)

    def version(self) -> str:
        """What all of this means."""
        return f"{self.prefix}:ver"
