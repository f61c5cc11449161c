"""Fits a network to the files, in one process or in several.

    python -m imnn_tf.launch --workers 2 train.py --folder cluster

After a worker has died, the same command goes on from the last checkpoint.
"""

import os
from contextlib import nullcontext

import fields
import keras
import numpy as np
import tensorflow as tf
from workers import arguments

from imnn_tf import IMNN
from imnn_tf.networks import field_network


def train(folder, updates):
    """Fits until there have been so many updates, and saves the fit in `folder / "fits"`."""
    # The strategy comes first: TensorFlow starts its connections before anything else.
    spread = "TF_CONFIG" in os.environ
    strategy = tf.distribute.MultiWorkerMirroredStrategy() if spread else None
    with strategy.scope() if spread else nullcontext():
        model = field_network((fields.SIZE, fields.SIZE), 2, filters=(8, 8), seed=0)
        schedule = keras.optimizers.schedules.CosineDecay(1e-2, updates)
        optimiser = keras.optimizers.Adam(schedule)
    files = {
        name: sorted(str(path) for path in (folder / "data").glob(f"{name}_[0-9]*.tfrecords"))
        for name in ("fiducial", "derivative", "validation_fiducial", "validation_derivative")
    }
    imnn = IMNN(
        θ_fid=fields.THETA_FID,
        δθ=fields.DELTA_THETA,
        model=model,
        optimiser=optimiser,
        strategy=strategy,
        verbose=False,
        at_once=50,
        augment="shift, flip, rotate",
        cache=False,  # the files may be larger than the memory
        save=True,
        directory=folder,
        filename="fits",
        load=(folder / "fits" / "fit.npz").exists(),
        **files,
    )
    if imnn.unfinished or not imnn.history["loss"]:
        imnn.fit(updates - imnn.unfinished, λ=0.1, checkpoint=10)
    return imnn


if __name__ == "__main__":
    given = arguments(__doc__).parse_args()
    imnn = train(given.folder, 30 if given.short else 100)
    kept, exact = (np.linalg.det(each) for each in (imnn.F, fields.exact_fisher()))
    print(f"det F = {kept:.0f} on the validation fields, of {exact:.0f}")
