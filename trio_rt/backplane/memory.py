"""The backplane of a single node: everything stays in this process."""

import secrets

import trio

from trio_rt.backplane.base import Backplane, Envelope, Position


class MemoryBackplane(Backplane):
    """Delivers to its own node only, in the order of publishing, without a single wait."""

    def __init__(self) -> None:
        self._epoch = secrets.token_hex(8)
        self._offset = 0
        self._arrived: list[Envelope] = []

    async def publish(self, envelope: Envelope) -> Position:
        """See `Backplane`. A checkpoint only if cancelled: the next emission may join this one."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._offset += 1
        self._arrived.append(envelope)
        return Position(self._epoch, self._offset)

    def publish_nowait(self, envelope: Envelope) -> None:
        """See `Backplane`."""
        self._arrived.append(envelope)

    async def subscribe(self, namespace: str, room: str) -> None:
        """See `Backplane`. Whatever is published arrives here anyway."""

    def unsubscribe(self, namespace: str, room: str) -> None:
        """See `Backplane`."""

    def receive_nowait(self) -> list[Envelope]:
        """See `Backplane`."""
        arrived, self._arrived = self._arrived, []
        return arrived

    async def wait(self) -> None:
        """See `Backplane`. There is no elsewhere."""
        await trio.sleep_forever()
