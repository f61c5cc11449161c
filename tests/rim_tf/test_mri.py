"""The example of magnetic resonance images: its parts against each other, and a short run."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

FOLDER = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def imported():
    """The script and the scanner that it imports from its own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield importlib.import_module("rim_mri"), importlib.import_module("mri_scanner")


@pytest.fixture(scope="module")
def scanner(imported):
    """The scanner."""
    return imported[1]


@pytest.fixture(scope="module")
def scanned(scanner):
    """A constant photograph, seen by four coils."""
    masks = np.stack([scanner.mask("radial", 16, seed) for seed in range(2)])
    sigma = np.full(2, 0.01, "float32")
    return scanner.scan(np.full((2, 16, 16), 0.5, "float32"), masks, 4, sigma, (0, 0))


@pytest.mark.parametrize("kind", ["cartesian", "radial", "equidistant", "points", "spiral"])
@pytest.mark.parametrize("size", [64, 192])
def test_a_mask_keeps_a_quarter_of_the_modes_and_the_lowest(scanner, kind, size):
    kept = scanner.mask(kind, size, 0)
    assert set(np.unique(kept)) == {0, 1}
    assert kept.mean() == pytest.approx(0.25, abs=0.02)
    assert kept[:2, :2].all()
    assert np.any(kept != scanner.mask(kind, size, 1))


def test_the_squares_of_the_sensitivities_sum_to_one(scanner):
    for coils in (1, 4):
        maps = scanner.sensitivities(3, coils, 16, (0, 1)).numpy()
        assert maps.shape == (3, coils, 16, 16)
        np.testing.assert_allclose(np.sum(np.abs(maps) ** 2, 1), 1, rtol=1e-5)


def test_the_zero_filled_image_is_the_adjoint(scanner, scanned):
    (y, maps, kept, _), x = scanned
    forward = scanner.sense(x, maps, kept)
    left = np.vdot(forward, y).real
    np.testing.assert_allclose(left, np.sum(x * scanner.zero_filled(y, maps, kept)), rtol=1e-5)


def test_wavelets_keep_every_image(scanner):
    """The squares of their transfer functions sum to one, and constants are in the last alone."""
    bands, factors = scanner.wavelet_bands(32)
    np.testing.assert_allclose(np.sum(np.abs(bands) ** 2, 0), 1, atol=1e-5)
    np.testing.assert_allclose(np.abs(bands[:, 0, 0]), factors == 0, atol=1e-6)


def test_total_variation_is_at_its_minimum(scanner, scanned):
    """No other image in its neighbourhood has a lower energy, and a flat one stays almost flat."""
    (y, maps, kept, _), x = scanned
    weight = tf.constant(0.01)
    best = scanner.total_variation(y, maps, kept, weight, tf.constant(600)).numpy()

    def energy(image):
        residual = y - scanner.sense(tf.constant(image), maps, kept)
        slopes = [np.roll(image, -1, axis) - image for axis in (1, 2)]
        edges = np.sqrt(np.sum(np.square(slopes), (0, -1)))
        return 0.5 * np.sum(np.abs(residual) ** 2) + 0.01 * edges.sum()

    random = np.random.default_rng(0)
    noise = [random.normal(size=x.shape).astype("float32") for _ in range(20)]
    others = [best + 0.01 * each for each in noise] + [x.numpy(), best * 1.01, best * 0.99]
    assert energy(best) < min(energy(other) for other in others)


@pytest.mark.slow
def test_a_short_run(imported, tmp_path, capsys):
    results = imported[0].main(["--quick", "--folder", str(tmp_path)])
    assert "training took" in capsys.readouterr().out
    assert (tmp_path / "rim_mri.png").exists()
    for result in results.values():
        quality = result["psnr"]
        assert all(np.isfinite(list(quality.values())))
        # It starts from total variation that is not tuned, and is not worse after a few updates.
        assert quality["RIM"] > quality["zero-filled"] + 1
