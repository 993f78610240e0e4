"""Lua scripts: what has to be decided and done in one step, in Redis itself."""

from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from trio_rt.backplane.redis.resp import Word
from trio_rt.backplane.redis.steady import CommandLink


class Script:
    """One script.

    Args:
        text: its Lua.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._sha = sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def call(
        self, link: CommandLink, keys: Sequence[str], *words: Word, may_repeat: bool = False
    ) -> Any:
        """Runs it.

        Args:
            link: carries it there.
            keys: all keys that it touches.
            words: its arguments.
            may_repeat: whether it does no harm if it is run twice.

        Raises:
            redis.RedisError: if it fails.
            BackplaneDown: see `CommandLink.call`.
        """
        rest = (len(keys), *keys, *words)
        try:
            return await link.call("EVALSHA", self._sha, *rest, may_repeat=may_repeat)
        except NoScriptError:  # nothing was done: the server does not know it yet, or any more
            return await link.call("EVAL", self.text, *rest, may_repeat=may_repeat)


@cache
def load(*names: str) -> Script:
    """The script made of these files of the folder `lua`, one behind the other."""
    folder = files("trio_rt.backplane.redis") / "lua"
    return Script("\n".join((folder / f"{name}.lua").read_text("utf-8") for name in names))
