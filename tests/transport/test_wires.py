"""All wires keep the same contract."""

from collections.abc import Awaitable, Callable

import pytest

from trio_rt.testing.contracts import WIRE_CHECKS, NewWires


@pytest.mark.parametrize("check", WIRE_CHECKS, ids=lambda check: check.__name__)
async def test_contract(new_wires: NewWires, check: Callable[[NewWires], Awaitable[None]]) -> None:
    """Every kind of wire keeps what `Wire` promises."""
    await check(new_wires)
