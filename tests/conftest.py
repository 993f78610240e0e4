"""What tests of several folders use."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Iterator[list[logging.LogRecord]]:
    """The errors that were logged; a test that expects some takes them out."""
    caplog.set_level(logging.INFO)
    found: list[logging.LogRecord] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = found.append  # type: ignore[method-assign]
    logger = logging.getLogger("trio_rt")
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)
    assert found == []
