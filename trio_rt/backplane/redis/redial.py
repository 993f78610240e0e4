"""Connects again and again, ever more slowly and never in step with other nodes."""

import logging
import random

import trio

from trio_rt.backplane.redis.dial import Dial
from trio_rt.backplane.redis.settings import RedisSettings
from trio_rt.errors import BackplaneDown, BackplaneRefused
from trio_rt.log import log

REMIND = 30.0
"""Seconds after which what is wrong is said again, if it is still the same."""


def pick_delay(attempt: int, settings: RedisSettings, number: float) -> float:
    """Seconds before an attempt to connect: exponential backoff with full jitter.

    Args:
        attempt: how many failed before; 0 for the first one.
        settings: the bounds.
        number: random, from 0 up to 1.
    """
    longest = min(settings.max_backoff, settings.backoff * 2.0 ** min(attempt, 32))
    return longest * number


class Redial:
    """Connections for one purpose, one after the other.

    Args:
        dial: where they come from.
        name: what CLIENT LIST shows.
    """

    def __init__(self, dial: Dial, name: str) -> None:
        self._dial = dial
        self._name = name
        self.failed = 0
        """Attempts since there was a connection that lasted."""
        self._connected_at: float | None = None
        self._is_given_up = False
        self._said = ""
        self._said_at = 0.0
        self.last_error = "not connected yet"
        """Why there is no connection, while there is none."""

    async def connect(self) -> trio.abc.Stream:
        """Connects, however often it has to try.

        The first attempt is made at once, those after a lost connection after a short random
        time. A connection that was lost right after it was made counts as failed, unless it was
        given up.

        Raises:
            BackplaneRefused: if none has succeeded so far. Later it is logged, and tried again.
        """
        if self._connected_at is not None:
            lasted = trio.current_time() - self._connected_at
            is_good = self._is_given_up or lasted > self._dial.settings.max_backoff
            self.failed = 0 if is_good else self.failed + 1
            self._is_given_up = False
            await self._pause()
        while True:
            try:
                stream = await self._dial.connect(self._name)
            except BackplaneRefused as error:
                if self._connected_at is None:
                    raise
                self._say(logging.ERROR, str(error))
            except BackplaneDown as error:
                self._say(logging.WARNING, str(error))
            else:
                if self._said:
                    log.warning("%s: connected, attempts before: %d", self._name, self.failed)
                    self._said = ""
                self._connected_at = trio.current_time()
                return stream
            self.failed += 1
            await self._pause()

    def give_up(self) -> None:
        """The connection that there is will be lost because we want another one."""
        self._is_given_up = True

    def _say(self, level: int, why: str) -> None:
        """One line for each change, and a reminder now and then."""
        self.last_error = why
        now = trio.current_time()
        if why != self._said or now >= self._said_at + REMIND:
            log.log(level, "%s: %s", self._name, why)
            self._said, self._said_at = why, now

    async def _pause(self) -> None:
        await trio.sleep(pick_delay(self.failed, self._dial.settings, random.random()))
