"""The workers that simulate: those of a scheduler of Dask, or some of this machine."""

import argparse
from contextlib import contextmanager
from pathlib import Path

import cloudpickle
import dask
import fields
from distributed import Client, LocalCluster

# The workers get the functions of `fields` themselves, so they do not need the file.
cloudpickle.register_pickle_by_value(fields)


def arguments(description):
    """The arguments that all stages take."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("cluster"), help="for all results")
    parser.add_argument(
        "--scheduler", help="address of a scheduler of Dask; by default two workers"
    )
    parser.add_argument("--short", action="store_true", help="fewer simulations and updates")
    return parser


@contextmanager
def connected(scheduler):
    """A client of the scheduler at an address, or of two workers of this machine."""
    if scheduler is not None:
        with Client(scheduler) as client:
            yield client
    else:
        with (
            # The cluster gives up a worker whose successor is not there after 15 s, by default.
            dask.config.set({"distributed.deploy.lost-worker-timeout": "10 minutes"}),
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as workers,
            Client(workers) as client,
        ):
            yield client
