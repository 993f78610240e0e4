"""Contract of a stream of messages: what a client needs of its transport.

Texts and binary messages, one at a time, in order; waiting is allowed here, unlike in `base`.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class MessageStream(Protocol):
    """An open transport. It has one task that sends and one that receives."""

    async def send(self, message: str | bytes) -> None:
        """Sends one message, when the transport takes it.

        When cancelled, an unknown part of it has been sent: nothing else may be sent then.

        Raises:
            TransportClosed: if the transport has ended, with the reason.
        """
        ...

    async def receive(self) -> str | bytes:
        """The next message. Cancelling it loses nothing.

        Raises:
            TransportClosed: if the transport has ended, with the reason.
        """
        ...


Dialer = Callable[[str], AbstractAsyncContextManager[MessageStream]]
"""Opens a transport for one block: `async with dial(url) as messages`.

The url is that of the WebSocket, with its query. Whatever tasks the transport needs live in the
context manager. Its end closes the transport: in the protocol's way and within a deadline of its
own, or at once if it is cancelled. What keeps it from opening is raised as `TransportClosed`, whose
reason says whether it makes sense to try again, or as `OSError`, where it does.
"""
