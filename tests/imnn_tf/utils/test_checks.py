"""Checks of arguments and their messages."""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from imnn_tf.utils import checks


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3)])
def test_integers_of_any_type(value):
    assert checks.integer("n", value, minimum=3) == 3


@pytest.mark.parametrize("value", [3.0, "3", None, True, np.bool_(True), [3]])
def test_what_is_no_integer(value):
    with pytest.raises(TypeError, match="`n` must be an integer, got"):
        checks.integer("n", value)


def test_an_integer_below_its_minimum():
    with pytest.raises(ValueError, match="`n` must be at least 4, got 3"):
        checks.integer("n", 3, minimum=4)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), tf.constant(0.5), np.array(0.5)])
def test_reals_of_any_type(value):
    assert checks.real("x", value, above=0, below=1, minimum=0.5, maximum=0.5) == 0.5


@pytest.mark.parametrize("value", ["1", None, True, 1j, [1.0]])
def test_what_is_no_real(value):
    with pytest.raises(TypeError, match="`x` must be a real number, got"):
        checks.real("x", value)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"above": 1}, "greater than 1"),
        ({"minimum": 2}, "at least 2"),
        ({"below": 1}, "less than 1"),
        ({"maximum": 0}, "at most 0"),
    ],
)
def test_a_real_out_of_bounds(bounds, words):
    with pytest.raises(ValueError, match=f"`x` must be {words}, got 1.0"):
        checks.real("x", 1, **bounds)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_real_that_is_not_finite(value):
    with pytest.raises(ValueError, match="`x` must be finite"):
        checks.real("x", value)


def test_flags_choices_and_functions():
    assert checks.flag("f", np.bool_(True)) is True
    assert checks.choice("c", "a", ["a", "b"]) == "a"
    assert checks.function("g", len) is len
    with pytest.raises(TypeError, match="`f` must be True or False, got 1"):
        checks.flag("f", 1)
    with pytest.raises(ValueError, match="`c` must be one of 'a', 'b', got 'z'"):
        checks.choice("c", "z", ["a", "b"])
    with pytest.raises(TypeError, match="`g` must be callable, got int"):
        checks.function("g", 1)


def test_arrays_of_anything_that_holds_numbers():
    for value in ([[1, 2]], np.ones((1, 2)), tf.ones((1, 2)), tf.ones((1, 2), tf.bfloat16)):
        got = checks.array("a", value, shape=(None, 2), dtype=np.float32)
        assert got.shape == (1, 2)
        assert got.dtype == np.float32


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.ones(3), ValueError, r"`a` must have shape \(any, 2\), got \(3,\)"),
        (np.ones((3, 3)), ValueError, r"`a` must have shape \(any, 2\), got \(3, 3\)"),
        ([["x", "y"]], TypeError, "`a` must hold real numbers, got list of <U1"),
        ([[1, 2], [3]], ValueError, "`a` must be an array, got rows of unequal lengths"),
        ([[1, np.nan]], ValueError, "`a` must be finite, got 1 infinite or NaN values of 2"),
    ],
)
def test_bad_arrays(value, error, message):
    with pytest.raises(error, match=message):
        checks.array("a", value, shape=(None, 2))


def test_masked_arrays_need_nothing_masked():
    values = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(checks.array("a", np.ma.masked_array(values)), values)
    for check in (checks.array, checks.unmasked):
        with pytest.raises(ValueError, match="`a` must not have masked values, got 2 of 6"):
            check("a", np.ma.masked_greater(values, 3))


def test_lists_of_strings():
    assert checks.strings("names", ("a", "b"), 2) == ["a", "b"]
    assert checks.strings("names", None, 2) is None
    for bad in ("ab", ["a", 1], 3):
        with pytest.raises(TypeError, match="`names` must be a list of strings, got"):
            checks.strings("names", bad, 2)
    with pytest.raises(ValueError, match="`names` must have 3 entries, got 2"):
        checks.strings("names", ["a", "b"], 3)


def test_sizes_of_axes():
    assert checks.sizes("sizes", [np.int64(3), 4], length=2) == (3, 4)
    assert checks.sizes("sizes", (3, None), unknown=True) == (3, None)
    with pytest.raises(TypeError, match="`sizes` must be a tuple of integers, got 3"):
        checks.sizes("sizes", 3)
    with pytest.raises(TypeError, match="`sizes` must be an integer, got None"):
        checks.sizes("sizes", (3, None))
    with pytest.raises(ValueError, match="`sizes` must have 1 entries, got 2"):
        checks.sizes("sizes", (3, 4), length=1)


class Greek:
    def __init__(self, θ_fid=None, *, δθ=None):
        self.given = θ_fid, δθ

    def fit(self, λ=1, ε=2, **others):
        return λ, ε, others


def test_greek_keywords_have_ascii_names():
    named = checks.ascii_keywords(Greek)
    assert named(theta_fid=1, delta_theta=2).given == named(1, δθ=2).given == (1, 2)
    fit = named().fit
    assert fit(lambda_=3, epsilon=4, other=5) == fit(λ=3, ε=4, other=5) == (3, 4, {"other": 5})
    # The two letters that Unicode has for epsilon, as keys, which Python leaves as they are.
    assert fit(**{"\u03f5": 6}) == fit(**{"\u03b5": 6}) == (1, 6, {})
    with pytest.raises(TypeError, match="`λ` must be given once"):
        fit(λ=1, lambda_=2)
    with pytest.raises(TypeError, match="θ_fid"):
        named(1, theta_fid=1)
    assert "λ" in str(inspect.signature(fit))
