"""How hard hypothesis tries: `HYPOTHESIS_PROFILE=nightly` takes its time, the default does not.

Neither has a deadline for one example, because machines that run tests are slow at times. The
default tries the same examples in every run: a failure is of the change, never of luck. Nightly
takes minutes for a machine, so give pytest `--timeout=0` with it.
"""

import os

from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("nightly", deadline=None, max_examples=10_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
