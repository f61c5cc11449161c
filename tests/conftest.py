"""Fixtures and settings of all tests."""

import matplotlib as mpl

# No test may open a window. This must come before pyplot is imported.
mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf

# One processor acts as two devices, for distributed training. This must come before any device is
# used.
_processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(_processor, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture(scope="session")
def mirrored():
    """A strategy that trains on both devices, one for all tests.

    If one process has two strategies on the same devices, TensorFlow confuses the tensors that
    their replicas exchange.
    """
    devices = tf.config.list_logical_devices("CPU")
    assert len(devices) == 2
    return tf.distribute.MirroredStrategy([device.name for device in devices])


@pytest.fixture(autouse=True)
def _global_generators_untouched():
    """Checks that a test neither draws from nor seeds NumPy's global generator."""
    before = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    yield
    after = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    assert before["pos"] == after["pos"]
    np.testing.assert_array_equal(before["key"], after["key"])


@pytest.fixture(autouse=True)
def _figures_closed():
    yield
    plt.close("all")
