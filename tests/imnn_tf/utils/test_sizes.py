import numpy as np
import pytest

from imnn_tf.utils import checks


def test_sizes_come_as_a_tuple():
    assert checks.sizes("n", [3, np.int64(4)]) == (3, 4)
    assert checks.sizes("n", np.array([2, 5])) == (2, 5)
    assert checks.sizes("n", ()) == ()
    assert checks.sizes("n", [None, 2], unknown=True) == (None, 2)


@pytest.mark.parametrize(
    ("value", "options", "error", "words"),
    [
        (3, {}, TypeError, "`n` must be a tuple of integers, got 3"),
        ([1.5], {}, TypeError, "`n` must be an integer, got 1.5"),
        ([None], {}, TypeError, "`n` must be an integer, got None"),
        ([0], {}, ValueError, "`n` must be at least 1, got 0"),
        ([2], {"length": 3}, ValueError, "`n` must have 3 entries, got 1"),
    ],
)
def test_anything_else_is_named(value, options, error, words):
    with pytest.raises(error, match=words):
        checks.sizes("n", value, **options)
