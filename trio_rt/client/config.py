"""Every limit and interval of a client: its unit, its default, and where the number comes from."""

import attrs

from trio_rt.config import positive
from trio_rt.fields import checked
from trio_rt.machine.backlog import BacklogLimits
from trio_rt.machine.reconnect import ReconnectLimits


@attrs.frozen(kw_only=True, field_transformer=checked)
class ClientConfig:
    """The settings of one client. Make changed copies with `attrs.evolve`."""

    reconnect: ReconnectLimits = attrs.field(factory=ReconnectLimits)
    """When it dials, waits and gives up."""

    backlog: BacklogLimits = attrs.field(factory=BacklogLimits)
    """How much each namespace may have to tell, and what happens to what there is no room for."""

    close_timeout: float = positive(5.0)
    """Seconds that leaving `open_client`'s block may wait for what was emitted to arrive."""

    max_message_bytes: int = positive(16_777_216)
    """Largest message that is taken from the server."""

    max_attachments: int = positive(10)
    """Binary attachments in one packet (the official JavaScript parser's own limit)."""

    max_pending_calls: int = positive(1_000)
    """Acknowledgements that a server without idempotency keys may owe us in one namespace."""

    inbox_messages: int = positive(256)
    """Events that may wait behind a running handler before reading pauses (as the server's)."""

    inbox_bytes: int = positive(1_048_576)
    """Bytes of such events before reading pauses."""
