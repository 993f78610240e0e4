"""What happens to an event at a member who reads too slowly, as values chosen per emission."""

import attrs


@attrs.frozen
class Close:
    """The client is disconnected, may come back, and recovers what it missed. The default."""


@attrs.frozen
class DropOldest:
    """The oldest waiting event that may be dropped makes room, at last the new one itself."""


@attrs.frozen
class Latest:
    """Of the waiting events with the same key, only the newest stays: for states, not events.

    A client that is too slow for even its newest state is disconnected, as with `Close`.
    """

    key: str
    """Names the state, such as `"position:42"`."""


@attrs.frozen
class Block:
    """The one who emits waits until there is room. Only for an emission to one socket."""


Policy = Close | DropOldest | Latest | Block

CLOSE = Close()
