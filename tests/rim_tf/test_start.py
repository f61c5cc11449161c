"""An untrained RIM stays where it starts, and trains from the defaults in any unit."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from rim_tf import RIM, GaussianLikelihood, Hourglass, PutzkyWelling, UNet
from rim_tf.problem.links import LINKS
from rim_tf.problem.preprocessing import METHODS

SIZE = 16
NETWORKS = {
    "hourglass": lambda rank: Hourglass(1, rank, nf=2, hidden_units=2),
    "unet": lambda rank: UNet(1, rank, nf=2, hidden_units=2, recurrent_skips=True),
    "putzky welling": lambda rank: PutzkyWelling(1, rank, features=(2, 3, 2)),
}
STARTS = ["zeros", "approximate_inverse", "model"]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", NETWORKS)
def test_an_untrained_rim_returns_its_initialisation(network, method, start):
    """Exactly, for any number of steps, through every link, even if the scores are huge."""
    y = np.random.default_rng(0).uniform(0.1, 0.9, (3, SIZE, 1)).astype("float32")
    for link in LINKS:
        options = {"link_function": link, "initialization_method": start}
        if start == "approximate_inverse":
            options["approximate_inverse_fn"] = lambda y: y
        rim = RIM(
            [SIZE],
            NETWORKS[network](1),
            score_fn=lambda x, y: 1e6 * (y - x),
            score_preprocessing_method=method,
            observation_channels=1,
            **options,
        )
        u = LINKS[link].inverse(tf.constant(y)) if start == "approximate_inverse" else 0 * y
        for steps in (1, 7):
            trajectory = rim(y, T=steps)
            expected = np.broadcast_to(np.asarray(u)[:, None], (3, steps, SIZE, 1))
            np.testing.assert_array_equal(trajectory, expected)


@pytest.mark.parametrize("rank", [0, 2, 3])
def test_an_untrained_rim_stays_in_any_dimension(rank):
    sizes = (4, 3, 5)[:rank]
    y = np.ones((2, *sizes, 1), "float32")
    for name, make in NETWORKS.items():
        if rank or name == "putzky welling":
            rim = RIM(sizes, make(rank), score_fn=lambda x, y: y - x)
            np.testing.assert_array_equal(rim(y), np.zeros((2, 10, *sizes, 1)))


# ---- Twenty problems in all units ----------------------------------------------------------

KERNEL = np.roll(np.pad([0.12, 0.23, 0.3, 0.23, 0.12], (0, SIZE - 5)), -2)
BLUR = np.stack([np.roll(KERNEL, shift) for shift in range(SIZE)])
MASK = np.array([1, 1, 1, 0, 1, 0, 0, 1, 0])
OPERATORS = {
    "denoise": (lambda x: x[..., 0], None),
    "blur": (lambda x: tf.linalg.matvec(tf.constant(BLUR, x.dtype), x[..., 0]), None),
    "fourier": (lambda x: tf.signal.rfft(x[..., 0]) / SIZE**0.5, MASK),
}
UNITS = [(1e-3, 1e-3), (1e-3, 3e-4), (1e3, 1e3), (1e3, 100.0), (1e3, 1e-3)]  # of x, and the noise
PROBLEMS = [
    *[(name, None, *units) for name, units in itertools.product(OPERATORS, UNITS)],
    ("denoise", None, 1.0, 1e-3),
    ("denoise", "softplus", 1e-3, 3e-4),
    ("denoise", "softplus", 1e3, 300.0),
    ("blur", "exp", 1e3, 100.0),
    ("fourier", "exp", 1e-3, 3e-4),
]


def draw_problem(operator, positive, scale, noise, count, seed):
    """Smooth periodic signals and their data, `(y, x)`."""
    random = np.random.default_rng(seed)
    waves = np.fft.rfftfreq(SIZE, 1 / SIZE)
    modes = np.fft.rfft(random.normal(size=(count, SIZE))) / (1 + waves**2)
    x = np.fft.irfft(modes, SIZE)
    x = x / x.std()
    x = (scale * (np.exp(0.7 * x) if positive else x))[..., None].astype("float32")
    y = operator(tf.constant(x)).numpy()
    n = random.normal(size=(2, *y.shape))
    return (y + noise * (n[0] + 1j * n[1] if np.iscomplexobj(y) else n[0])).astype(y.dtype), x


@pytest.mark.slow
def test_twenty_problems_train_from_the_defaults():
    """After 64 updates the error of `u` is below 0.7 of that of the initialisation, in all units.

    Where the noise is as large as the signal, no estimate gets far below that.
    """
    assert len(PROBLEMS) == 20
    ratios = {}
    for problem in PROBLEMS:
        name, link, scale, noise = problem
        operator, mask = OPERATORS[name]
        rim = RIM(
            [SIZE],
            PutzkyWelling(1, 1, features=(12, 12, 12), padding="periodic", seed=0),
            likelihood=GaussianLikelihood(operator, sigma=noise, mask=mask),
            link_function=link,
            T=3,
        )
        rim.compile(jit_compile=False)
        data = draw_problem(operator, link, scale, noise, 256, seed=1)
        y, x = draw_problem(operator, link, scale, noise, 256, seed=2)
        target = rim.parameters.target(x, tf.zeros((256, 1, SIZE, 1)))
        history = rim.fit(data, epochs=8, batch_size=32, seed=0, verbose=0).history
        assert np.isfinite(history["loss"]).all(), problem
        error = np.mean((rim(y)[:, -1] - target) ** 2)
        ratios[problem] = error / np.mean(target**2)
    assert max(ratios.values()) < 0.7, ratios
    # The unit changes nothing: equal ratios of signal to noise give equal errors.
    for name in OPERATORS:
        first, second = (ratios[name, None, unit, unit] for unit in (1e-3, 1e3))
        np.testing.assert_allclose(first, second, rtol=0.02)
