"""Networks that propose the next step of a RIM.

Your own network can be any `keras.layers.Layer` or `keras.Model` with one attribute and two
methods:

    channels                                 the number of channels of the parameters
    initial_state(batch_size, sizes)         -> state, any nest of tensors
    call(inputs, state)                      -> step, new state

`inputs` is `[batch, *sizes, 2 * channels]`: the current iterate, then its score. If the RIM was
told to show the observation to the network, its channels follow. `step` is
`[batch, *sizes, channels]` and is added to the iterate. The new state must have the structure and
the shapes of the old one. If the network has an integer attribute `dimensions`, it must be the
number of the RIM's dimensions.

Let the last layer start at zero (`kernel_initializer="zeros"`), as the networks here do. An
untrained RIM then returns its initialisation, whatever the scores, the link and the number of
steps.

Each network of this package has a file of its own here, built from `cells` and `layers`. Keras
finds the weights in a file by the names of the attributes that hold the layers, so these names
must never change.
"""

from rim_tf.networks.hourglass import Hourglass
from rim_tf.networks.putzky_welling import PutzkyWelling
from rim_tf.networks.unet import UNet

__all__ = ["Hourglass", "PutzkyWelling", "UNet"]
