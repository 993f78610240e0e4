from contextlib import contextmanager

import pytest
from websockets.speedups import apply_mask  # a part of the test environment: missing is failing

from trio_rt.codec import encoders, frames
from trio_rt.codec.masking import xor_mask


@contextmanager
def masking_by(function):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "apply_mask", function)
        patch.setattr(encoders, "apply_mask", function)
        yield


@pytest.fixture(scope="module", params=[apply_mask, xor_mask], ids=["speedups", "python"])
def masking(request):
    """Runs a module's tests with the C function for masks, and with ours."""
    with masking_by(request.param):
        yield
