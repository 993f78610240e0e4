"""Redis behind Sentinels: which server is the primary is asked anew for each connection."""

from collections.abc import Sequence

import attrs
import trio
from redis.exceptions import RedisError

from trio_rt.backplane.redis.address import Address
from trio_rt.backplane.redis.dial import Dial, check_primary, connect, exchange
from trio_rt.backplane.redis.settings import RedisSettings
from trio_rt.errors import BackplaneDown, BackplaneError, BackplaneRefused, MisuseError


class SentinelDial(Dial):
    """Connects to the primary that Sentinels name, once that says itself that it is one.

    Args:
        sentinels: where they are; the first that answers is asked.
        service: the name under which they watch the primary.
        server: who we are at the primary: user, password, database and TLS. Its host and port
            do not matter.
        settings: limits of the connections.
    """

    def __init__(
        self,
        sentinels: Sequence[Address],
        service: str,
        server: Address | None = None,
        settings: RedisSettings | None = None,
    ) -> None:
        if not sentinels:
            raise MisuseError("no Sentinels: give the address of each, as read_url makes them")
        self.sentinels = list(sentinels)
        self.service = service
        self.server = server or Address()
        self.settings = settings or RedisSettings()

    async def connect(self, name: str) -> trio.abc.Stream:
        """See `Dial`."""
        address = await self._find_primary(name)
        stream = await connect(address, name, self.settings.connect_timeout)
        try:
            await check_primary(stream, address, self.settings.reply_timeout)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream

    async def _find_primary(self, name: str) -> Address:
        """Asks one Sentinel after the other."""
        errors: list[BackplaneError] = []
        for sentinel in tuple(self.sentinels):  # others move what they find to the front
            try:
                primary = await self._ask(sentinel, name)
            except BackplaneError as error:
                errors.append(error)
            else:
                # It is the first to be asked the next time: those before it did not answer.
                self.sentinels.remove(sentinel)
                self.sentinels.insert(0, sentinel)
                return primary
        why = "; ".join(str(error) for error in errors)
        if all(isinstance(error, BackplaneRefused) for error in errors):
            raise BackplaneRefused(f"no Sentinel tells the primary of {self.service!r}: {why}")
        raise BackplaneDown(
            f"no Sentinel tells the primary of {self.service!r}: {why}", outcome_unknown=False
        )

    async def _ask(self, sentinel: Address, name: str) -> Address:
        # Half the time each, so that a dead one does not use up a short outage.
        timeout = self.settings.connect_timeout / 2
        stream = await connect(sentinel, name, timeout)
        try:
            with trio.fail_after(timeout):
                (found,) = await exchange(
                    stream, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
                )
        except (trio.TooSlowError, trio.BrokenResourceError) as error:
            raise BackplaneDown(f"{sentinel} does not answer", outcome_unknown=False) from error
        finally:
            await trio.aclose_forcefully(stream)
        if isinstance(found, RedisError):
            raise BackplaneRefused(f"{sentinel}: {found}")
        if found is None:
            raise BackplaneRefused(f"{sentinel} does not know {self.service!r}")
        return attrs.evolve(self.server, host=found[0].decode(), port=int(found[1]))
