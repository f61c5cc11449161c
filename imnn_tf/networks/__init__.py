"""Networks that people start from: plain Keras models from simulations to summaries.

Each is one function that returns a model, to pass to `IMNN(model=...)`. The model can be saved,
changed and used like any other.
"""

from imnn_tf.networks.dense import dense_network
from imnn_tf.networks.fields import field_network, series_network
from imnn_tf.networks.sets import set_network

__all__ = ["dense_network", "field_network", "series_network", "set_network"]
