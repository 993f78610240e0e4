"""What is there while a server serves, and gone when it does not."""

import attrs
import trio

from trio_rt.schedule.hub import Hub
from trio_rt.transport.listener import Listener
from trio_rt.web.idle import IdleStreams


@attrs.define(eq=False)
class Running:
    """What is there while a server serves."""

    host: str
    hub: Hub
    listeners: list[Listener] = attrs.field(factory=list[Listener])
    web_listeners: list[Listener] = attrs.field(factory=list[Listener])
    """Empty where pages share the port."""
    connections: trio.Nursery = attrs.field(init=False)
    """Where requests and sessions run."""
    idle: IdleStreams = attrs.field(factory=IdleStreams)
    """Those of them that wait for a request."""
    late: IdleStreams = attrs.field(factory=IdleStreams)
    """The same, of those who ask for a page while the server drains."""
    stopping: trio.Event = attrs.field(factory=trio.Event)

    async def run_hub(
        self, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Shielded, as the app's services are: goodbyes have to be read."""
        with trio.CancelScope(shield=True) as scope:
            task_status.started(scope)
            await self.hub.run()
