"""How summaries are scaled, and which observations are unlike them."""

import numpy as np
import pytest

from imnn_tf.lfi.neural.summaries import FALSE_ALARMS, Familiarity, SummaryScaling


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(3)


def test_summaries_without_tails_are_only_shifted_and_divided(rng):
    x = rng.normal([3.0, -1e9], [0.1, 1e4], (5000, 2))
    scaled = SummaryScaling(x)(x)
    assert np.abs(scaled.mean(axis=0)).max() < 0.1
    assert np.abs(scaled.std(axis=0) - 1).max() < 0.05
    for column in range(2):
        assert np.corrcoef(x[:, column], scaled[:, column])[0, 1] > 1 - 1e-9


def test_outliers_squash_nothing(rng):
    x = rng.normal(size=(2000, 1))
    wild = x.copy()
    wild[::100] = 1e30
    wild[1::100] = -np.finfo(float).max
    scaling = SummaryScaling(wild)
    ordinary = np.setdiff1d(np.arange(2000), np.r_[0:2000:100, 1:2000:100])
    scaled = scaling(wild)
    assert np.isfinite(scaled).all()
    assert np.abs(scaled).max() == 20
    np.testing.assert_allclose(scaled[ordinary], SummaryScaling(x)(x)[ordinary], atol=0.15)


def test_the_order_of_values_is_kept_up_to_a_hundred_spreads(rng):
    x = rng.standard_cauchy((4000, 1))
    scaling = SummaryScaling(x)
    points = np.linspace(-100, 100, 4001)[:, np.newaxis]
    assert (np.diff(scaling(points)[:, 0]) > 0).all()


def test_positive_summaries_over_decades_are_taken_by_their_logarithm(rng):
    logarithms = rng.normal(0, 5, (3000, 1))
    for sign in (1, -1):
        scaled = SummaryScaling(sign * np.exp(logarithms))(sign * np.exp(logarithms))
        assert np.corrcoef(np.log(np.exp(logarithms[:, 0])), scaled[:, 0])[0, 1] > 0.9999
    scaling = SummaryScaling(np.exp(logarithms))
    assert scaling(np.array([[-1.0], [0.0]])).tolist() == [[-20], [-20]]


def test_positive_summaries_over_one_decade_are_taken_by_both(rng):
    x = rng.chisquare(3, (3000, 1))
    scaled = SummaryScaling(x)(x)
    assert scaled.shape == (3000, 2)
    assert np.corrcoef(x[:, 0], scaled[:, 0])[0, 1] > 0.99
    assert np.corrcoef(np.log(x[:, 0]), scaled[:, 1])[0, 1] > 0.9999
    assert SummaryScaling(x + 5)(x).shape == (3000, 1)


@pytest.mark.parametrize("unit", [1e-200, 1e9, 1e200])
def test_units_change_nothing(rng, unit):
    x = np.stack([rng.normal(size=1000), rng.standard_cauchy(1000), rng.lognormal(0, 5, 1000)], 1)
    np.testing.assert_allclose(SummaryScaling(unit * x)(unit * x), SummaryScaling(x)(x), atol=1e-9)


def test_constant_summaries_are_dropped_but_not_forgotten(rng):
    x = np.stack([rng.normal(size=500), np.full(500, 0.1), np.zeros(500)], axis=1)
    x[::2, 1] += 1e-17  # rounding
    scaling = SummaryScaling(x)
    assert scaling(x).shape == (500, 1)
    observed = np.array([[0.0, 0.1, 0.0], [0.0, 0.2, 0.0], [0.0, 0.1, 1e-9]])
    assert scaling.differs(observed).tolist() == [False, True, True]
    with pytest.raises(ValueError, match="`get_estimate` must return summaries that vary"):
        SummaryScaling(x[:, 1:])


@pytest.mark.parametrize("kind", ["normal", "cauchy", "repeated", "many"])
def test_false_alarms_are_as_many_as_stated(rng, kind):
    def draw(n):
        if kind == "many":
            return rng.normal(size=(n, 700))
        x = rng.normal(size=(n, 3)) if kind == "normal" else rng.standard_cauchy((n, 3))
        return np.column_stack([x, x[:, 0]]) if kind == "repeated" else x

    n, m = (2000, 2000) if kind == "many" else (20_000, 20_000)
    x, new = draw(n), draw(m)
    scaling = SummaryScaling(x)
    familiarity = Familiarity(scaling(x))
    p = familiarity.p_values(scaling(new))
    for level in (0.02, 0.1, 0.5):
        # The share below a level scatters by the draws and by the halves that they are ranked in.
        error = np.sqrt(level * (1 - level) * (1 / m + 2 / n))
        assert abs((p <= level).mean() - level) < 4 * error + 2 / n
    assert familiarity.level == max(FALSE_ALARMS, 1 / (1 + n // 2))


def test_strangers_are_found(rng):
    x = rng.normal(size=(4000, 2)) @ np.array([[1, 0.99], [0, 0.1]])
    x = np.column_stack([x, x[:, 0]])
    scaling = SummaryScaling(x)
    familiarity = Familiarity(scaling(x))
    against_correlation, unlike_its_copy = [2.0, -2.0, 2.0], [1.0, 1.0, 1.1]
    p = familiarity.p_values(scaling(np.array([x[0], against_correlation, unlike_its_copy])))
    assert p[0] > familiarity.level
    assert (p[1:] <= familiarity.level).all()
