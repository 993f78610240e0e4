"""A message that comes in several frames (RFC 6455, section 5.4), while it does."""

from codecs import IncrementalDecoder, getincrementaldecoder


class Fragments:
    """The part of a message that has arrived."""

    __slots__ = ("_checker", "is_compressed", "is_text", "payload")

    def __init__(self, *, is_text: bool, is_compressed: bool) -> None:
        self.is_text = is_text
        self.is_compressed = is_compressed
        self.payload = bytearray()
        # Refuses bad text at the first fragment that proves it (8.1). What it decodes is thrown
        # away: a list of strings would let a sender of one-byte fragments take fifty times the
        # memory that the limit allows.
        self._checker: IncrementalDecoder | None = None
        if is_text and not is_compressed:
            self._checker = getincrementaldecoder("utf-8")()

    def add(self, payload: bytes, *, is_final: bool) -> None:
        """Takes the next fragment.

        Raises:
            UnicodeDecodeError: if the text so far cannot become UTF-8 any more.
        """
        self.payload += payload
        if self._checker is not None:
            self._checker.decode(payload, is_final)
