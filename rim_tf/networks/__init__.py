"""Networks that propose a RIM's next step.

A network of one's own is any `keras.layers.Layer` or `keras.Model` with two methods and one
attribute:

    channels                                 of the parameters, and so of the step
    initial_state(batch_size, sizes)         -> state, any nest of tensors
    call(inputs, state)                      -> step, new state

`inputs` is `(batch, *sizes, 2 * channels)`: the current iterate, then its score, then, if the
RIM was told to show it, the observation. `step` is `(batch, *sizes, channels)`, and is added
to the iterate. The new state must have the structure and shapes of the old. A network that has
an integer `dimensions` must have the RIM's number of them.
"""

from rim_tf.networks.hourglass import Hourglass
from rim_tf.networks.putzky_welling import PutzkyWelling
from rim_tf.networks.unet import UNet

__all__ = ["Hourglass", "PutzkyWelling", "UNet"]
