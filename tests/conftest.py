"""What every test shares."""

import matplotlib as mpl

# Before anything imports pyplot: no test may open a window.
mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf

# Before anything touches the devices: one processor stands for two, for distributed training.
_processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(_processor, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture(scope="session")
def mirrored():
    """The two devices in step: one strategy for all tests.

    TensorFlow numbers what replicas exchange by strategy, and takes two strategies of the same
    devices in one process for one another.
    """
    devices = tf.config.list_logical_devices("CPU")
    assert len(devices) == 2
    return tf.distribute.MirroredStrategy([device.name for device in devices])


@pytest.fixture(autouse=True)
def _global_generators_untouched():
    """No code of ours may draw from, or seed, NumPy's global generator."""
    before = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    yield
    after = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    assert before["pos"] == after["pos"]
    np.testing.assert_array_equal(before["key"], after["key"])


@pytest.fixture(autouse=True)
def _figures_closed():
    yield
    plt.close("all")
