"""What is there while a server serves, and gone when it does not."""

import attrs
import trio

from trio_rt.handshake import Rejection
from trio_rt.log import Sparing, printable
from trio_rt.schedule.hub import Hub
from trio_rt.transport.listener import Listener
from trio_rt.web.idle import IdleStreams


@attrs.define(eq=False)
class Running:
    """What is there while a server serves."""

    host: str
    listeners: list[Listener]
    web_listeners: list[Listener]
    """Empty where pages share the port."""
    hub: Hub
    connections: trio.Nursery = attrs.field(init=False)
    """Where requests and sessions run."""
    idle: IdleStreams = attrs.field(factory=IdleStreams)
    """Those of them that wait for a request."""
    late: IdleStreams = attrs.field(factory=IdleStreams)
    """The same, of those who ask for a page while the server drains."""
    requests: int = 0
    """Sockets of the Socket.IO port that have no session: in the handshake, or reading pages."""
    pages: int = 0
    """Sockets of the web port."""
    stopping: trio.Event = attrs.field(factory=trio.Event)
    sparing: Sparing = attrs.field(factory=Sparing)

    def note(self, peer: str, rejection: Rejection) -> None:
        """One line about a request that was turned away."""
        text, kind = "%s was turned away: %s", f"rejection {rejection.code}"
        note = printable(rejection.note)
        self.sparing.warning(kind, trio.current_time(), text, printable(peer), note)

    async def run_hub(
        self, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Shielded, as the app's services are: goodbyes have to be read."""
        with trio.CancelScope(shield=True) as scope:
            task_status.started(scope)
            await self.hub.run()
