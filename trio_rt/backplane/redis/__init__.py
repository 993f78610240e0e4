"""Redis, Valkey and their kin, spoken to from Trio: links of our own on redis-py's public parts.

    dial = DirectDial(read_url("redis://localhost"))
    link = SteadyLink(dial, "commands")
    await nursery.start(link.run)
    await RedisCommands(link).set("a", 1)

From the ground up: `resp` and `pipeline` (bytes and replies), `address`, `dial` and `sentinel`
(where servers are), `link` (one connection), `redial`, `steady` and `subscriptions` (connections
that come back), `commands` (redis-py's), `scripts` and what is made of them: `log`, `registry`,
`leases`, `sessions`, `once`, `limits`, `presence`; `control`, `probe` and `checks`.
"""

try:
    import hiredis as _hiredis  # noqa: F401 # pyright: ignore[reportUnusedImport]
    import redis as _redis  # noqa: F401 # pyright: ignore[reportUnusedImport]
except ImportError as error:
    raise ImportError("Redis needs packages of its own: pip install 'trio-rt[redis]'") from error

from trio_rt.backplane.redis.address import Address, read_url
from trio_rt.backplane.redis.arrivals import Gap, Message
from trio_rt.backplane.redis.commands import RedisCommands
from trio_rt.backplane.redis.dial import Dial, DirectDial
from trio_rt.backplane.redis.link import BlockingLink, Link, open_blocking, open_link
from trio_rt.backplane.redis.sentinel import SentinelDial
from trio_rt.backplane.redis.settings import RedisSettings
from trio_rt.backplane.redis.steady import SteadyLink
from trio_rt.backplane.redis.subscriptions import Subscriptions

__all__ = [
    "Address",
    "BlockingLink",
    "Dial",
    "DirectDial",
    "Gap",
    "Link",
    "Message",
    "RedisCommands",
    "RedisSettings",
    "SentinelDial",
    "SteadyLink",
    "Subscriptions",
    "open_blocking",
    "open_link",
    "read_url",
]
