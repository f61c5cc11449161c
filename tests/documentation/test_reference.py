"""The reference of the site names everything that is public."""

from importlib import import_module
from pathlib import Path

import pytest

API = Path(__file__).parents[2] / "docs" / "api"
MODULES = ("imnn_tf", "imnn_tf.lfi", "imnn_tf.lfi.calibration", "imnn_tf.networks", "rim_tf")


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference(module):
    text = "".join(page.read_text() for page in API.glob("*.md"))
    for name in import_module(module).__all__:
        # A module is described by its names; `automodule` describes all of those.
        if name in ("lfi", "networks", "utils", "calibration", "__version__"):
            continue
        named = f":: {module}.{name}\n" in text
        whole = f":: {module}\n   :members:\n   :imported-members:\n" in text
        assert named or whole, f"docs/api/ lacks {module}.{name}"
