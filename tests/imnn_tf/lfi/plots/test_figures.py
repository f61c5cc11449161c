import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from scipy import stats

from imnn_tf.lfi import Marginals, triangle
from imnn_tf.lfi.plots.layout import root_figure
from imnn_tf.lfi.plots.scatter import Cloud, scatter

COVARIANCE = np.array([[1.0, 0.6, 0.1], [0.6, 2.0, -0.3], [0.1, -0.3, 0.5]])


def gaussian(n_params, centre=0.0, size=41):
    covariance = COVARIANCE[:n_params, :n_params]
    axes = [centre + np.sqrt(covariance[i, i]) * np.linspace(-5, 5, size) for i in range(n_params)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    normal = stats.multivariate_normal(np.full(n_params, centre), covariance)
    return Marginals.of_grid(normal.pdf(grid).reshape((size,) * n_params), axes)


@pytest.mark.parametrize("n_params", [1, 2, 3])
def test_triangle_of_any_number_of_parameters(n_params):
    labels = [f"p{i}" for i in range(n_params)]
    axes = triangle([gaussian(n_params)], labels=labels)
    assert axes.shape == (n_params, n_params)
    for row in range(n_params):
        for column in range(n_params):
            assert axes[row, column].axison == (column <= row)
    assert [ax.get_xlabel() for ax in axes[-1]] == labels
    assert [ax.get_ylabel() for ax in axes[1:, 0]] == labels[1:]


def test_contours_hold_what_they_claim():
    axes = triangle([gaussian(2, size=201)], labels=["a", "b"], levels=[0.68, 0.95])
    inverse = np.linalg.inv(COVARIANCE[:2, :2])
    lines = axes[1, 0].collections[0].get_paths()
    chi2 = []
    for line in lines:
        points = line.vertices
        chi2.append(np.einsum("ni,ij,nj->n", points, inverse, points).mean())
    held = np.sort(stats.chi2(2).cdf(chi2))
    np.testing.assert_allclose(held, [0.68, 0.95], atol=2e-3)


def test_several_targets_are_told_apart_and_explained():
    targets = [gaussian(2), gaussian(2, centre=2.0)]
    axes = triangle(targets, labels=["a", "b"])
    colors = [line.get_color() for line in axes[0, 0].lines]
    assert len(set(colors)) == 2
    texts = [text.get_text() for text in axes[0, 1].get_legend().get_texts()]
    assert texts == ["Target 1", "Target 2"]
    axes = triangle(targets, labels=["a", "b"], color="C3", label="ABC")
    assert {line.get_color() for line in axes[0, 0].lines} == {"C3"}
    assert len({line.get_linestyle() for line in axes[0, 0].lines}) == 2
    axes = triangle(targets, labels=["a", "b"], color=["C0", "C4"], label=["x", "y"], linewidth=2)
    assert [line.get_color() for line in axes[1, 1].lines] == ["C0", "C4"]


def test_overlays_keep_all_in_sight():
    axes = triangle([gaussian(2)], labels=["a", "b"], label="first")
    same = triangle(
        [gaussian(2, centre=20.0)], labels=["a", "b"], ax=axes, label="second", smoothing=2
    )
    assert same is axes
    colors = [line.get_color() for line in axes[0, 0].lines]
    assert len(set(colors)) == 2
    for ax in (axes[0, 0], axes[1, 0]):
        np.testing.assert_allclose(ax.get_xlim(), (-5, 25))
    np.testing.assert_allclose(axes[1, 0].get_ylim(), axes[1, 1].get_xlim())
    assert len(axes[0, 1].get_legend().get_texts()) == 2
    triangle([gaussian(2)], labels=["p1", "p2"], ax=axes)
    assert [ax.get_xlabel() for ax in axes[1]] == ["a", "b"]
    assert axes[1, 0].get_ylabel() == "b"


def test_nothing_is_cut_off():
    axes = triangle(
        [gaussian(3)], labels=[r"$\Omega_\mathrm{c}$", r"$\sigma_8$", "n"], label="posterior"
    )
    figure = axes[0, 0].figure
    figure.canvas.draw()
    box = figure.get_tightbbox(figure.canvas.get_renderer())
    width, height = figure.get_size_inches()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height


def test_axes_of_the_users_own():
    _, axes = plt.subplots(2, 2)
    assert triangle([gaussian(2)], labels=["a", "b"], ax=axes) is axes
    _, single = plt.subplots()
    assert triangle([gaussian(1)], labels=["a"], ax=single)[0, 0] is single
    with pytest.raises(ValueError, match=r"`ax` must be an array of axes of shape \(2, 2\)"):
        triangle([gaussian(2)], labels=["a", "b"], ax=single)
    with pytest.raises(ValueError, match="`color` must have 2 entries, got 1"):
        triangle([gaussian(1)] * 2, labels=["a"], color=["C0"])
    with pytest.raises(ValueError, match="`smoothing` must be greater than 0"):
        triangle([gaussian(1)], labels=["a"], smoothing=-1)


def test_known_parameters_are_marked_and_in_view():
    axes = triangle([gaussian(2)], labels=["a", "b"], known=[0.5, 40.0])
    dashed = [line for line in axes[1, 0].get_lines() if line.get_linestyle() == "--"]
    np.testing.assert_array_equal(dashed[0].get_xdata(), [0.5, 0.5])
    np.testing.assert_array_equal(dashed[1].get_ydata(), [40, 40])
    assert axes[1, 0].get_ylim()[1] >= 40
    with pytest.raises(ValueError, match=r"`known` must have shape \(2,\), got \(1,\)"):
        triangle([gaussian(2)], labels=["a", "b"], known=[0.5])


def test_marginals_from_elsewhere_are_drawn():
    # One from a density on a grid, and one that has no pairs, as from a chain.
    density = stats.multivariate_normal([0, 0], COVARIANCE[:2, :2])
    points = [np.linspace(-4, 4, 61), np.linspace(-6, 6, 71)]
    grid = np.stack(np.meshgrid(*points, indexing="ij"), axis=-1)
    axes = triangle([Marginals.of_grid(density.pdf(grid), points)], labels=["a", "b"])
    single = [stats.norm(0, 2).pdf(each) for each in points]
    widths = [np.full(len(each), each[1] - each[0]) for each in points]
    triangle([Marginals(points, widths, single, {})], labels=["a", "b"], ax=axes, label="other")
    first, second = axes[0, 0].lines
    np.testing.assert_allclose(first.get_ydata(), stats.norm(0, 1).pdf(points[0]), atol=1e-3)
    np.testing.assert_array_equal(second.get_ydata(), single[0])
    assert len(axes[1, 0].collections) == 1
    with pytest.raises(ValueError, match="`marginals` must be of 2 parameters each, got 3"):
        triangle([gaussian(3)], labels=["a", "b"])
    with pytest.raises(ValueError, match=r"`density` must have shape \(61, 71\), got \(71, 61\)"):
        Marginals.of_grid(density.pdf(grid).T, points)


def scattered(targets, **options):
    rng = np.random.default_rng(0)
    clouds = [Cloud(*rng.normal(i, 1, (2, 50, 2)), np.ones(50)) for i in range(targets)]
    centres = np.arange(targets)[:, np.newaxis] * np.ones(2)
    options = {"xlabels": ["a", "b"], "ylabels": ["c", "d"], "horizontal": centres, **options}
    return scatter(clouds, [], **options)


def test_estimates_are_marked_in_the_targets_colours():
    for ax in np.ravel(scattered(3)):
        colors = [cloud.get_facecolor()[0, :3] for cloud in ax.collections]
        np.testing.assert_allclose([to_rgb(line.get_color()) for line in ax.lines], colors)
        assert [line.get_ydata()[0] for line in ax.lines] == [0, 1, 2]
    assert [line.get_color() for line in scattered(1)[0, 0].lines] == ["black"]


def test_known_parameters_are_marked_in_scatter_plots():
    axes = scattered(1, known=[0.5, 7.0])
    dotted = [line for line in axes[1, 0].lines if line.get_linestyle() == ":"]
    np.testing.assert_array_equal(dotted[0].get_xdata(), [0.5, 0.5])
    np.testing.assert_array_equal(dotted[1].get_ydata(), [7, 7])
    with pytest.raises(ValueError, match=r"`known` must have shape \(2,\), got \(1,\)"):
        scattered(1, known=[0.5])


@pytest.mark.parametrize("targets", [1, 3, 9])
def test_legend_of_a_scatter_plot_is_not_cut_off(targets):
    figure = scattered(targets)[0, 0].figure
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.y1 <= figure.bbox.height
    assert len(legend.get_texts()) == targets


def test_the_whole_figure_of_axes_in_a_part_of_it():
    whole = plt.figure()
    part = whole.subfigures(1, 2)[0]
    assert root_figure(part.subplots()) is whole
    assert root_figure(whole.subplots()) is whole
