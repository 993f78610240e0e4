"""redis-py's typed commands on a link: `await commands.hset("a", "b", 1)`."""

from typing import Any, Literal, cast

import redis
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.commands import AsyncCoreCommands
from redis.commands.core import AsyncScript
from redis.event import EventDispatcher
from redis.exceptions import ResponseError

from trio_rt.backplane.redis.steady import Caller


class RedisCommands(AsyncCoreCommands):
    """Every command of redis-py, awaitable in Trio; texts in replies are bytes.

    Also what redis-py builds on them: `scan_iter`, `register_script` and so on. Commands that wait
    in the server (`blpop`, `xread(block=...)`) or change the connection (`subscribe`, `multi`) are
    refused: they need a link of their own.

    Args:
        caller: carries the commands.
    """

    _is_async_client: Literal[True] = True

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        # Never connected: it lends what redis-py makes of replies in RESP3.
        lender = redis.Redis(protocol=3)
        self.response_callbacks: dict[str, Any] = dict(lender.response_callbacks)
        self._encoder = lender.get_encoder()
        self._event_dispatcher = EventDispatcher()

    def get_encoder(self) -> Any:
        """What turns texts into bytes; redis-py asks for it."""
        return self._encoder

    def register_script(self, script: str | bytes) -> AsyncScript:  # type: ignore[override]
        """A Lua script that is called like a function: `await script(keys=[...], args=[...])`.

        It is loaded into the server when that does not know it.
        """
        return AsyncScript(cast("Any", self), script)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Gives a command to the server; the typed methods end here.

        Raises:
            redis.RedisError: if the server answers with an error.
            BackplaneDown: if there is no link in time, or it breaks before the reply.
            MisuseError: if the command needs a link of its own.
        """
        try:
            reply = await self._caller.call(*args)
        except ResponseError:
            if EMPTY_RESPONSE in options:
                return options[EMPTY_RESPONSE]
            raise
        callback = self.response_callbacks.get(args[0])
        if callback is None:
            return reply
        if options:
            for name in (NEVER_DECODE, EMPTY_RESPONSE, "keys"):
                options.pop(name, None)
        return callback(reply, **options)
