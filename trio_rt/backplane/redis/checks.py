"""What is wrong with a server that answers: found at the start, not when it is full."""

from typing import Final

from redis.exceptions import NoPermissionError

from trio_rt.backplane.redis.keys import Keys
from trio_rt.backplane.redis.steady import CommandLink
from trio_rt.errors import BackplaneRefused

SCHEMA: Final = b"1"
"""The version of the keys. Nodes with different ones would not understand each other."""


async def check_schema(link: CommandLink, keys: Keys | None = None) -> None:
    """Claims the keys for this version, or finds them claimed for it.

    Raises:
        BackplaneRefused: if nodes of another version use them.
    """
    key = (keys or Keys()).of("ver")
    await link.call("SET", key, SCHEMA, "NX", may_repeat=True)
    found = await link.call("GET", key, may_repeat=True)
    if found not in (SCHEMA, None):  # None: flushed in between, and claimed by the next node
        raise BackplaneRefused(
            f"the keys in Redis are of version {found!r}, ours are {SCHEMA!r}: "
            "give one of the programs another prefix"
        )


async def find_risk(link: CommandLink) -> str | None:
    """What will go wrong one day with this server's settings, as a sentence; None if nothing.

    A server that evicts keys when it is full loses positions, leases and sessions in silence.
    """
    try:
        info: bytes = await link.call("INFO", "memory", may_repeat=True)
    except NoPermissionError:
        return "we have no right to look at its memory settings (INFO)"
    lines = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    policy = lines.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and lines.get("maxmemory") != "0":
        return f"it drops keys when it is full: set maxmemory-policy to noeviction, not {policy}"
    return None
