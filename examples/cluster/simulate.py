"""Writes the training and validation fields to TFRecord files.

    python simulate.py --folder cluster --scheduler tcp://10.0.0.1:8786

The workers of a cluster simulate.
"""

import fields
from workers import arguments, connected


def write(folder, n_seeds, client):
    """Writes training and validation sets of `n_seeds` fields, and derivatives of half as many."""
    from imnn_tf.utils import TFRecords  # not above: the workers would import TensorFlow too

    writer = TFRecords(record_size=0.2, verbose=False)  # megabytes in a file: small, as the set is
    for validation, first in ((False, 0), (True, fields.VALIDATION)):
        shared = {
            "directory": folder,
            "validation": validation,
            "executor": client,
            "batch_size": 10,  # 0.1 s of work in a task
        }
        writer.write_record(n_seeds, lambda seed, at=first: fields.fiducial(at + seed), **shared)
        writer.write_record(
            n_seeds // 2,
            lambda seed, *label, at=first: fields.derivative(at + seed, *label),
            fiducial=False,
            n_params=2,
            **shared,
        )


if __name__ == "__main__":
    given = arguments(__doc__).parse_args()
    with connected(given.scheduler) as client:
        write(given.folder / "data", 60 if given.short else 200, client)
