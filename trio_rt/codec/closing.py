"""The content of a close frame (RFC 6455, sections 5.5.1 and 7.4)."""

import attrs

from trio_rt import reasons
from trio_rt.errors import MisuseError, RemoteProtocolError

BAD_DATA = attrs.evolve(reasons.PARSE_ERROR, close_code=1007)
"""The content of a message is not what its type promises (7.4.1)."""

# What may stand in a close frame: 7.4.1 and IANA's registry (1012 to 1014), then the ranges for
# libraries and applications (7.4.2). The others are reserved or unknown; 1005, 1006 and 1015
# only ever say that no code was received.
_CODES = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))

# The 125 bytes of a control frame, less the code.
_MAX_TEXT_BYTES = 123


@attrs.frozen
class Close:
    """The peer's half of the closing handshake: its last message."""

    code: int = 1005
    """A status of section 7.4; 1005 if the peer gave none."""

    text: str = ""
    """The peer's own words, at most 123 bytes of UTF-8. Not for logs as they are."""


def parse_close(payload: bytes) -> Close:
    """Reads the payload of a close frame.

    Raises:
        RemoteProtocolError: if there is half a code, or one that may not be sent.
        UnicodeDecodeError: if the text is not UTF-8.
    """
    if not payload:
        return Close()
    if len(payload) < 2:
        raise RemoteProtocolError("a close frame has half a code")
    code = int.from_bytes(payload[:2])
    if code not in _CODES:
        raise RemoteProtocolError(f"a close frame has the code {code}, which may not be sent")
    return Close(code, payload[2:].decode())


def close_payload(code: int | None, text: str = "") -> bytes:
    """Writes the payload of a close frame; text that does not fit is cut.

    Raises:
        MisuseError: if the code may not be sent, such as 1006.
    """
    if code is None:
        return b""
    if code not in _CODES:
        raise MisuseError(f"a close frame cannot say {code}; close_frame(None) gives no code")
    words = text.encode(errors="replace")[:_MAX_TEXT_BYTES]
    # The cut may have left half a character.
    return code.to_bytes(2) + words.decode(errors="ignore").encode()
