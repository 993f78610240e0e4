"""Commands that wait for a link to come back: counted, and refused where too many do."""

from collections.abc import Generator
from contextlib import contextmanager

from trio_rt.backplane.redis.resp import Word, pack
from trio_rt.backplane.redis.settings import RedisSettings
from trio_rt.errors import BackplaneDown


class Waiting:
    """Those that wait now.

    Args:
        settings: how many may.
        name: of the link, for errors.
    """

    def __init__(self, settings: RedisSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._commands = 0
        self._bytes = 0

    @contextmanager
    def counted(self, words: tuple[Word, ...], why: str, *, is_unknown: bool) -> Generator[None]:
        """Counts a command for the length of the block.

        Raises:
            BackplaneDown: if too many wait already.
        """
        size = len(pack(words)) if words else 0
        limits = self._settings
        if self._commands and (
            self._commands >= limits.max_waiting or self._bytes + size > limits.max_waiting_bytes
        ):
            raise BackplaneDown(
                f"{self._name}: {why}, and {self._commands} commands of {self._bytes} bytes wait "
                f"already (limits: {limits.max_waiting} and {limits.max_waiting_bytes})",
                outcome_unknown=is_unknown,
            )
        self._commands += 1
        self._bytes += size
        try:
            yield
        finally:
            self._commands -= 1
            self._bytes -= size
