"""Settings of the tests of pixel errors."""

import pytest

from rim_tf import prediction
from rim_tf.fitting import compilation
from rim_tf.uncertainty import pixel_errors


@pytest.fixture(scope="module", autouse=True)
def without_xla():
    """XLA compiles for long, and one test is enough for it."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (compilation, prediction, pixel_errors):
            patch.setattr(module, "resolve_jit", lambda rim, jit_compile: jit_compile is True)
        yield
