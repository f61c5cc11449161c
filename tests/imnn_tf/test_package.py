"""The installed packages and their import."""

import re
import runpy
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest


def run(program):
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:imnn_tf", "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )


def test_import_is_light_and_silent():
    result = run(
        "import sys, imnn_tf, rim_tf, imnn_tf.lfi\n"
        "assert imnn_tf.__version__ == rim_tf.__version__\n"
        "heavy = {'tensorflow', 'keras', 'matplotlib.pyplot', 'tf_keras'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout == ""


def test_use_gives_no_warnings_of_ours():
    result = run(
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    from imnn_tf import IMNN, Estimator\n"
        "    from imnn_tf.lfi import GaussianApproximation\n"
        "ours = [w for w in caught if 'imnn_tf' in w.filename]\n"
        "assert not ours, ours"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""


def test_unknown_names_are_unknown():
    import imnn_tf

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = imnn_tf.nothing
    assert "IMNN" in dir(imnn_tf)


@pytest.mark.parametrize("package", ["imnn_tf", "rim_tf"])
def test_packages_are_typed(package):
    assert files(package).joinpath("py.typed").is_file()


def test_the_readme_of_the_distribution_has_no_link_into_a_checkout():
    root = Path(__file__).parents[2]
    readme = runpy.run_path(str(root / "setup.py"))["readme"]
    text = (root / "README.md").read_text(encoding="utf-8")
    assert "](docs/" in text
    alone = readme(text, None)
    assert all(link.startswith("https:") for link in re.findall(r"\]\(([^)]*)\)", alone))
    assert "- docs/install.md: extras" in alone
    linked = readme(text, "https://example.org/imnn-tf/")
    assert "](https://example.org/imnn-tf/blob/main/docs/install.md)" in linked
    assert "](https://example.org/imnn-tf/raw/main/docs/figures/posterior.png)" in linked
    assert alone.count("arxiv.org") == linked.count("arxiv.org") == text.count("arxiv.org")
