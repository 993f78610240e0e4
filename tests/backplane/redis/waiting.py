"""Waits for what another process does, which tells nobody."""

from collections.abc import Callable

import trio


async def until(condition: Callable[[], object], within: float = 5.0) -> None:
    """Waits until a condition holds, looking now and then.

    Raises:
        trio.TooSlowError: if it does not hold within so many seconds.
    """
    with trio.fail_after(within):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.005)
