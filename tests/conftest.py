"""What tests of several folders use.

HYPOTHESIS_PROFILE chooses how long properties are searched: "ci" takes the same examples each time,
"nightly" ten thousand new ones, which outlasts the usual limit of a test: use `nox -s nightly`.
"""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    # Fills a cache of Unicode's categories on the first run, which takes seconds on a slow machine.
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("nightly", deadline=None, max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


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
