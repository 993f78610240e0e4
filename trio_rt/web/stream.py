"""What the web side needs of a byte stream; every `trio_rt.transport.wire.Wire` has it."""

from typing import Protocol


class ByteStream(Protocol):
    """A connected byte stream with one reader and one writer.

    Every method raises `TransportClosed` if the stream broke, or was closed.
    """

    async def receive(self) -> bytes:
        """Some bytes, waiting for them if need be; `b""` at the end of the stream."""
        ...

    async def send_all(self, data: bytes) -> None:
        """Sends all of `data`."""
        ...

    def send_eof(self) -> None:
        """Tells the peer that nothing more will come; receiving goes on."""
        ...

    def close(self) -> None:
        """Ends both directions at once. Idempotent."""
        ...

    @property
    def peer(self) -> str:
        """The peer's address, for logs."""
        ...
