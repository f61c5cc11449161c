"""Whether the simulator and the estimator are those that a store was written with."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imnn_tf.running.store import Store

logger = logging.getLogger(__name__)

Reduce = Callable[[np.ndarray], ArrayLike] | None


def keep_probe(
    store: Store, alone: Callable[[], np.ndarray | None], reduce: Reduce, *, seeded: bool
) -> None:
    """Keeps one simulation, and its estimate, in a new store.

    Args:
        store: The store.
        alone: Simulates one of the parameters on its own: `(1,) + shape`, or `None` if that
            fails.
        reduce: Takes simulations, `(n,) + shape`, and returns what the run keeps of them,
            `(n, ...)`. `None` to keep them as they are.
        seeded: Whether the simulator gets its randomness as an argument. If it does not, it is
            called twice, to see whether it answers the same.
    """
    x = alone()
    if x is not None:
        repeatable = seeded or _alike(alone(), x)
        found = x if reduce is None else np.asarray(reduce(x))
        store.set_probe(x=x, reduced=found, repeatable=np.array(repeatable))


def check_probe(store: Store, alone: Callable[[], np.ndarray | None], reduce: Reduce) -> None:
    """Compares simulator and estimator with those that a store was written with.

    Args:
        store: The store.
        alone: Simulates the parameters that `keep_probe` simulated, on their own:
            `(1,) + shape`, or `None` if that fails.
        reduce: Takes simulations, `(n,) + shape`, and returns what the run keeps of them,
            `(n, ...)`. `None` to keep them as they are.

    Raises:
        ValueError: If one of them has changed.
    """
    probe = store.probe
    if probe is None:
        logger.warning(
            "%s holds no simulation by which to tell whether the simulator or the estimator has "
            "changed. What it holds is used as it is.",
            store.directory,
        )
        return
    if reduce is not None:
        _refuse_other("get_estimate", store, np.asarray(reduce(probe["x"])), probe["reduced"])
    if probe["repeatable"]:
        _compare(store, alone(), probe["x"], "simulator")


def check_row(
    store: Store, alone: Callable[[], np.ndarray | None], reduce: Reduce, expected: np.ndarray
) -> None:
    """Compares what simulator and estimator answer for one row with what a store holds.

    Args:
        store: The store.
        alone: Simulates the row: `(1,) + shape`, or `None` if that fails.
        reduce: Takes simulations, `(n,) + shape`, and returns what the run keeps of them,
            `(n, ...)`. `None` to keep them as they are.
        expected: What the store holds for the row, `(1,) + shape`.

    Raises:
        ValueError: If they differ.
    """
    x = alone()
    found = x if x is None or reduce is None else np.asarray(reduce(x))
    if found is not None and not np.isfinite(found).all():
        found = None  # the row was stored after it had been repeated with another seed
    name = "simulator" if reduce is None else "simulator` or `get_estimate"
    _compare(store, found, expected, name)


def _compare(store: Store, now: np.ndarray | None, before: np.ndarray, name: str) -> None:
    """Refuses another answer; without an answer there is only a warning."""
    if now is None:
        logger.warning(
            "A simulation in %s could not be run again, so a change of the simulator would not be "
            "noticed. What the store holds is used as it is.",
            store.directory,
        )
    else:
        _refuse_other(name, store, now, before)


def _refuse_other(name: str, store: Store, now: np.ndarray, before: np.ndarray) -> None:
    if not _alike(now, before):
        raise ValueError(
            f"`{name}` must be the one that `store` was written with, got another answer for a "
            f"simulation in {store.directory}: {_short(now)}, not {_short(before)}. Pass a new "
            "folder, or delete this one, to simulate anew."
        )


def _alike(a: np.ndarray | None, b: np.ndarray) -> bool:
    """Whether two arrays are equal, up to what another batch or processor does to rounding."""
    if a is None or a.shape != b.shape:
        return False
    scale = float(np.abs(b[np.isfinite(b)]).max(initial=0.0))
    return np.allclose(a, b, rtol=1e-4, atol=1e-5 * scale, equal_nan=True)


def _short(values: Any) -> str:
    return np.array2string(np.ravel(values)[:4], precision=6)
