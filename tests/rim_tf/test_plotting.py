import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from problems import draw, small_rim

import rim_tf
from rim_tf.plotting import plot_reconstruction, plot_trajectory

RANDOM = np.random.default_rng(0)


def test_a_line_for_every_step_and_the_truth():
    steps, truth = RANDOM.normal(size=(2, 4, 7, 3)), RANDOM.normal(size=(2, 7, 3))
    (axis,) = plot_trajectory(steps, truth=truth, example=1, channel=2)
    drawn = [line.get_ydata() for line in axis.lines]
    np.testing.assert_array_equal(drawn, [*steps[1, ::-1, :, 2], truth[1, :, 2]])
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["step 4", "step 1", "truth"]


def test_an_image_for_every_step_and_the_truth():
    steps, truth = RANDOM.normal(size=(1, 3, 5, 6, 1)), RANDOM.normal(size=(1, 5, 6, 1))
    axes = plot_trajectory(steps, truth=truth)
    shown = [np.asarray(axis.images[0].get_array()) for axis in axes]
    np.testing.assert_array_equal(shown, [*steps[0, ..., 0], truth[0, ..., 0]])
    assert axes[-1].get_title() == "truth"


def test_a_row_for_every_field():
    fields = {name: RANDOM.normal(size=(1, 3, 5, 6, 1)) for name in ("source", "mass")}
    assert plot_trajectory(fields).shape == (2, 3)


@pytest.mark.parametrize("sizes", [(9,), (6, 7)])
def test_reconstruction_has_four_panels(sizes):
    truth, estimate = RANDOM.normal(size=(2, 3, *sizes, 1))
    data = RANDOM.normal(size=(3, *[n + 2 for n in sizes]))
    _, given = plt.subplots(1, 4)
    axes = plot_reconstruction(truth, data, estimate, example=2, axes=given)
    assert list(axes) == list(given)
    last = axes[3].lines[0].get_ydata() if len(sizes) == 1 else axes[3].images[0].get_array()
    np.testing.assert_array_equal(last, (estimate - truth)[2, ..., 0])


def test_the_rim_draws_its_own_steps():
    rim = small_rim(T=2)
    y, x, *args = draw(2, 0)
    (axis,) = rim.plot_trajectory(y, *args, truth=x, T=3, example=1)
    expected = rim.predict(y, *args, T=3)[1, :, 0]
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), expected)
    assert len(axis.lines) == 4


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plot_trajectory(np.ones((1, 2, 3, 3, 3, 1))), "one or two dimensions"),
        (lambda: plot_trajectory(np.ones((1, 2))), "a batch, sizes and channels"),
        (lambda: plot_trajectory(np.ones((1, 2, 3, 1)), example=1), "`example` must be one of"),
        (lambda: plot_trajectory(np.ones((1, 2, 3, 1)), channel=1), "`channel` must be one of"),
        (
            lambda: plot_trajectory(np.ones((1, 2, 3, 1)), truth=np.ones((1, 4, 1))),
            r"`truth` must have the sizes of a step, \(3,\), got \(4,\)",
        ),
        (
            lambda: plot_trajectory(np.ones((1, 2, 3, 3, 1)), axes=[plt.gca()]),
            "`axes` must be 2 or more, got 1",
        ),
        (
            lambda: plot_reconstruction(np.ones((1, 3, 1)), np.ones((1, 3)), np.ones((1, 4, 1))),
            "`reconstruction` must have the one or two dimensions of `truth`",
        ),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_importing_the_package_imports_nothing_heavy():
    heavy = "{'tensorflow', 'keras', 'matplotlib'}"
    program = f"import sys, rim_tf; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_only_plotting_imports_matplotlib():
    package = Path(rim_tf.__file__).parent
    users = {path.name for path in package.rglob("*.py") if "import matplotlib" in path.read_text()}
    assert users == {"plotting.py"}
