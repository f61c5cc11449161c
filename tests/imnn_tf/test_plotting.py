"""The plot of the history of a fit."""

import numpy as np
import pytest

from imnn_tf.fit.history import empty_history
from imnn_tf.plotting import plot_history


def recorded(validation=True, updates=6, every=2):
    history = empty_history()
    for key in ("loss", "det_F", "det_C", "det_Cinv", "reg", "r"):
        history[key] = [1.0 + 0.1 * update for update in range(updates)]
        if validation:
            history[f"val_{key}"] = [1.0 + 0.05 * n for n in range(updates // every)]
    if validation:
        history["val_iteration"] = list(range(every, updates + 1, every))
    return history


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("regulariser", [True, False])
def test_panels_show_what_was_recorded_where_it_belongs(validation, regulariser):
    history = recorded(validation)
    axes = plot_history(history, regulariser=regulariser, known_det_fisher=50)
    assert len(axes) == (3 if regulariser else 2)
    lines = {line.get_label(): line for line in axes[0].get_lines()}
    np.testing.assert_array_equal(lines["training"].get_xdata(), range(6))
    np.testing.assert_array_equal(lines["training"].get_ydata(), history["det_F"])
    assert ("validation" in lines) == validation
    if validation:
        np.testing.assert_array_equal(lines["validation"].get_xdata(), [2, 4, 6])
        np.testing.assert_array_equal(lines["weights kept"].get_xdata(), [6, 6])
    else:
        np.testing.assert_array_equal(lines["weights kept"].get_xdata(), [5, 5])
    np.testing.assert_array_equal(lines["exact"].get_ydata(), [50, 50])


def test_moves_of_the_fiducial_point_are_marked_and_weights_chosen_after_the_last():
    history = recorded()
    history["val_det_F"] = [9.0, 8.0, 3.0]
    history["θ_fid_iteration"] = [2, 4]
    lines = {line.get_label(): line for line in plot_history(history)[0].get_lines()}
    assert [line.get_xdata()[0] for label, line in lines.items() if "moved" in label] == [2]
    np.testing.assert_array_equal(lines["weights kept"].get_xdata(), [6, 6])
    history["θ_fid_iteration"] = [6]
    lines = [line.get_label() for line in plot_history(history)[0].get_lines()]
    assert "weights kept" not in lines


def test_an_empty_history_is_an_empty_plot():
    axes = plot_history(empty_history(), figsize=(3, 4))
    assert axes[0].get_lines()[0:] == []
    np.testing.assert_allclose(axes[0].figure.get_size_inches(), (3, 4))
