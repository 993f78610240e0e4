"""WebSocket frames (RFC 6455, section 5): bytes to messages. The encoders are here as well.

The decoder takes any bytes in any cutting. It never raises: what the peer did wrong comes as the
last of the messages, behind everything that arrived intact before it.

Section numbers in the comments are RFC 6455's.
"""

import attrs

from trio_rt import reasons
from trio_rt.codec.closing import BAD_DATA, Close, parse_close
from trio_rt.codec.deflate import decompress
from trio_rt.codec.encoders import (
    BINARY,
    COMPRESSED,
    CONTINUATION,
    CONTROL,
    FIN,
    LENGTH_16,
    MASKED,
    MAX_CONTROL_BYTES,
    OPCODE,
    OPCODES,
    PING,
    PONG,
    RESERVED,
    TEXT,
    binary_frame,
    close_frame,
    ping_frame,
    pong_frame,
    text_frame,
)
from trio_rt.codec.fragments import Fragments
from trio_rt.codec.masking import apply_mask
from trio_rt.errors import RemoteProtocolError


@attrs.frozen
class Ping:
    """Asks for a `Pong` with the same payload."""

    payload: bytes = b""
    """At most 125 bytes."""


@attrs.frozen
class Pong:
    """Answers a `Ping`; unasked, it asks for nothing."""

    payload: bytes = b""
    """At most 125 bytes."""


Message = str | bytes | Ping | Pong | Close | RemoteProtocolError
"""What a decoder finds: text, binary data, a control frame, or the peer's mistake."""

__all__ = [
    "Close",
    "FrameDecoder",
    "Message",
    "Ping",
    "Pong",
    "binary_frame",
    "close_frame",
    "ping_frame",
    "pong_frame",
    "text_frame",
]

_FINAL_TEXT = FIN | TEXT
_MASKED_16 = MASKED | LENGTH_16
_SHORT_HEADS = (b"no frame",) * 6 + tuple(
    bytes((_FINAL_TEXT, MASKED | size)) for size in range(LENGTH_16)
)
"""How a masked text frame begins that is alone, by the bytes that it has with its head of 6."""


class FrameDecoder:
    """Turns the bytes of one connection into messages.

    It holds nothing but its settings while no frame or message is half here.

    Args:
        max_message_bytes: the largest message, as sent and as inflated. A larger one is refused
            at its header, before any of it is kept.
        from_client: whether the peer is a client, whose frames must be masked; a server's must not.
        compression: whether permessage-deflate was negotiated.
    """

    __slots__ = (
        "_compression",
        "_ended",
        "_fragments",
        "_from_client",
        "_held",
        "_max_message_bytes",
        "_short_heads",
        "_wanted",
    )

    def __init__(
        self, *, max_message_bytes: int, from_client: bool = True, compression: bool = False
    ) -> None:
        self._max_message_bytes = max_message_bytes
        self._from_client = from_client
        self._compression = compression
        self._held: bytearray | None = None  # the start of a frame that is not whole yet
        self._wanted = 0  # bytes of it that must be here to get any further
        self._fragments: Fragments | None = None  # the message that is not whole yet
        self._ended = False
        self._short_heads: tuple[bytes, ...] = ()  # of the frames that `receive_short` takes now
        self._note_between()

    def receive_short(self, data: bytes) -> str | None:
        """The hot path: the text of `data` if it is one short frame, alone and between messages.

        Returns:
            None if it is anything else, which `receive` has to be given then.
        """
        size = len(data)
        heads = self._short_heads
        if size < len(heads) and data[:2] == heads[size]:
            try:
                return apply_mask(data[6:], data[2:6]).decode()
            except UnicodeDecodeError:
                pass  # it is told as that of any frame
        return None

    def receive(self, data: bytes) -> list[Message]:
        """All messages that `data` completes.

        After a `Close` or a `RemoteProtocolError`, which is always the last message, everything
        that the peer may still send is ignored (1.4, 7.1.7).
        """
        messages: list[Message] = []
        if self._ended:
            return messages
        buffer: bytes | bytearray = data
        if self._held is not None:
            self._held += data
            if len(self._held) < self._wanted:
                return messages
            buffer, self._held = self._held, None
        # The first branch is as hot where several came at once: a final masked text frame below
        # 64 KiB that is all here, where no message is half here (5.4). It repeats what
        # `_decode_frame` does for any frame, in 0.3 us instead of 1.0 us (100 bytes, mask undone
        # in C).
        position, end = 0, len(buffer)
        try:
            while position < end:
                if (
                    buffer[position] == _FINAL_TEXT
                    and position + 6 <= end
                    and self._fragments is None
                    and self._from_client
                ):
                    length = buffer[position + 1]
                    if MASKED <= length < _MASKED_16:
                        length -= MASKED
                        start = position + 6
                    elif length == _MASKED_16:
                        length = buffer[position + 2] << 8 | buffer[position + 3]
                        start = position + 8 if length >= LENGTH_16 else end + 1
                    else:
                        start = end + 1  # not for this branch
                    stop = start + length
                    if stop <= end and length <= self._max_message_bytes:
                        mask = buffer[start - 4 : start]
                        messages.append(apply_mask(buffer[start:stop], mask).decode())
                        position = stop
                        continue
                stop = self._decode_frame(buffer, position, messages)
                if stop < 0:
                    self._held = bytearray(buffer[position:])
                    break
                if self._ended:
                    break  # type: ignore[unreachable]  # a close frame ended it just now
                position = stop
        except UnicodeDecodeError:
            messages.append(RemoteProtocolError("text is not UTF-8", BAD_DATA))  # 8.1
            self._end()
        except RemoteProtocolError as error:
            # Now it is a value: its traceback would tie these frames and messages into a cycle.
            messages.append(error.with_traceback(None))
            self._end()
        self._note_between()
        return messages

    def _decode_frame(self, data: bytes | bytearray, position: int, messages: list[Message]) -> int:
        """Decodes one frame of any kind.

        Returns:
            Where the frame ends, or -1 if it is not whole: then `_wanted` bytes of it must be
            here before it is tried again.
        """
        end = len(data)
        self._wanted = 2
        start = position + 2
        if start > end:
            return -1
        first, second = data[position], data[position + 1]
        self._check_head(first, second)
        length = second & ~MASKED
        if length >= LENGTH_16:
            start += 2 if length == LENGTH_16 else 8
            self._wanted = start - position
            if start > end:
                return -1
            length = _long_length(data[position + 2 : start])
        if not first & CONTROL:
            self._check_size(length)
        if self._from_client:
            start += 4
        stop = start + length
        self._wanted = stop - position
        if stop > end:
            return -1
        payload = (
            apply_mask(data[start:stop], data[start - 4 : start])
            if self._from_client
            else bytes(data[start:stop])
        )
        if first & CONTROL:
            self._take_control(first & OPCODE, payload, messages)
        else:
            self._take_data(first, payload, messages)
        return stop

    def _check_head(self, first: int, second: int) -> None:
        """Refuses what is wrong by a frame's first two bytes already (5.2 to 5.5)."""
        opcode = first & OPCODE
        if opcode not in OPCODES:
            raise RemoteProtocolError(f"opcode {opcode} is reserved")
        if first & RESERVED:
            raise RemoteProtocolError("a reserved bit is set")
        if first & COMPRESSED and not (self._compression and opcode in (TEXT, BINARY)):
            # RFC 7692, 6: on the first frame of a message only, and only if negotiated.
            raise RemoteProtocolError("the bit for compression is set where it may not be")
        if bool(second & MASKED) is not self._from_client:
            raise RemoteProtocolError(
                "a client's frame is not masked"
                if self._from_client
                else "a server's frame is masked"
            )
        if opcode & CONTROL:
            if not first & FIN:
                raise RemoteProtocolError("a control frame is fragmented")
            if second & ~MASKED > MAX_CONTROL_BYTES:
                raise RemoteProtocolError(f"a control frame is over {MAX_CONTROL_BYTES} bytes")
        elif opcode == CONTINUATION and self._fragments is None:
            raise RemoteProtocolError("a continuation has nothing to continue")
        elif opcode != CONTINUATION and self._fragments is not None:
            raise RemoteProtocolError("a message starts before the last one ended")

    def _check_size(self, length: int) -> None:
        """Refuses a data frame that makes its message too large."""
        size = length + (len(self._fragments.payload) if self._fragments else 0)
        if size > self._max_message_bytes:
            raise RemoteProtocolError(
                f"a message of {size} bytes or more is over {self._max_message_bytes} bytes",
                reasons.MESSAGE_TOO_BIG,
            )

    def _take_data(self, first: int, payload: bytes, messages: list[Message]) -> None:
        """Handles a whole data frame: a message, or a part of one (5.4, 5.6)."""
        opcode, is_final = first & OPCODE, bool(first & FIN)
        fragments = self._fragments
        if fragments is None:
            is_text, is_compressed = opcode == TEXT, bool(first & COMPRESSED)
            if not is_final:
                self._fragments = Fragments(is_text=is_text, is_compressed=is_compressed)
                self._fragments.add(payload, is_final=False)
                return
        else:
            fragments.add(payload, is_final=is_final)
            if not is_final:
                return
            is_text, is_compressed = fragments.is_text, fragments.is_compressed
            payload = bytes(fragments.payload)
            self._fragments = None
        if is_compressed:
            payload = decompress(payload, self._max_message_bytes)
        messages.append(payload.decode() if is_text else payload)

    def _take_control(self, opcode: int, payload: bytes, messages: list[Message]) -> None:
        """Handles a whole control frame (5.5)."""
        if opcode == PING:
            messages.append(Ping(payload))
        elif opcode == PONG:
            messages.append(Pong(payload))
        else:
            messages.append(parse_close(payload))
            self._end()

    def _note_between(self) -> None:
        """Notes whether a short frame may be taken at once: nothing is half here, or over."""
        self._short_heads = ()
        if self._from_client and self._held is None and self._fragments is None and not self._ended:
            self._short_heads = _SHORT_HEADS[: 6 + self._max_message_bytes + 1]

    def _end(self) -> None:
        """Ignores what may still come, and keeps nothing."""
        self._ended = True
        self._held = self._fragments = None


def _long_length(field: bytes | bytearray) -> int:
    """The length in an extended field of 2 or 8 bytes (5.2)."""
    length = int.from_bytes(field)
    if length < (LENGTH_16 if len(field) == 2 else 1 << 16):
        raise RemoteProtocolError("a length is not in its shortest form")
    if length >= 1 << 63:
        raise RemoteProtocolError("the top bit of a length is set")
    return length
