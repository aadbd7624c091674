"""The sum at the end of a residual block: the values and gradients of the formulas."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from batch_norm_by_hand import EPSILON, by_hand
from hypothesis import given, settings
from hypothesis import strategies as st
from native_operations import native  # noqa: F401 - a fixture

from radflow.native.normalization import begin_maps
from radflow.native.residual import Addend, add_normalized, add_normalized_gradients

pytestmark = pytest.mark.usefixtures("native")
FORMATS = {"float32": 2e-5, "bfloat16": 2.0**-7}


def as_kept(values: np.ndarray, dtype: str) -> np.ndarray:
    return np.asarray(tf.cast(values, dtype), np.float64)


@settings(max_examples=40, deadline=None)
@given(
    dtype=st.sampled_from(sorted(FORMATS)),
    projects=st.booleans(),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 12), st.integers(1, 12), st.integers(1, 70)),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_adds_what_is_normalised_and_has_the_gradients_of_the_formulas(dtype, projects, shape, seed) -> None:
    generator, rounding = np.random.default_rng(seed), FORMATS[dtype]
    x, z, upstream = (as_kept(generator.normal(size=shape), dtype) for _ in range(3))
    gammas, betas = generator.normal(1, 0.3, (2, shape[-1])), generator.normal(0, 1, (2, shape[-1]))
    normalized = [x, z] if projects else [x]
    addends = [
        Addend(begin_maps(tf.constant(values, dtype), shape[-1]), *(tf.constant(each, tf.float32) for each in given))
        for values, *given in zip(normalized, gammas, betas, strict=False)
    ]
    nothing = np.zeros(shape)
    added = [by_hand(values, gammas[n], betas[n], nothing)["y"] for n, values in enumerate(normalized)]
    shortcut = None if projects else tf.constant(z, dtype)
    outputs = add_normalized(addends, EPSILON, shortcut)
    y = np.asarray(outputs, np.float64)
    total = sum(added) if projects else added[0] + z
    np.testing.assert_allclose(y, np.maximum(total, 0), rtol=rounding, atol=1e-4)
    passed = np.where(y > 0, upstream, 0)
    of_values, of_gammas, of_betas = add_normalized_gradients(tf.constant(upstream, dtype), outputs, addends, EPSILON)
    scale = np.abs(upstream).sum((0, 1, 2)).max()
    for n, values in enumerate(normalized):
        expected = by_hand(values, gammas[n], betas[n], passed)
        largest = max(1e-3, np.abs(gammas[n] / np.sqrt(expected["variance"] + EPSILON) * passed).max())
        np.testing.assert_allclose(np.asarray(of_values[n], np.float64), expected["x"], atol=rounding * largest)
        np.testing.assert_allclose(of_gammas[n], expected["gamma"], atol=1e-4 * scale)
        np.testing.assert_allclose(of_betas[n], expected["beta"], atol=1e-5 * scale)
    if not projects:
        np.testing.assert_array_equal(np.asarray(of_values[1], np.float64), passed)


def test_what_is_not_finite_shows() -> None:
    x = np.ones((2, 3, 3, 2), np.float32)
    x[0, 0, 0, 1] = np.nan
    addend = Addend(begin_maps(tf.constant(x), 2), tf.ones(2), tf.zeros(2))
    y = add_normalized([addend], EPSILON, tf.ones((2, 3, 3, 2))).numpy()
    assert np.isnan(y[..., 1]).all()
    assert np.isfinite(y[..., 0]).all()


def test_what_others_read_is_not_written_over() -> None:
    x, z = (tf.random.stateless_normal((2, 3, 3, 4), (seed, 0)) for seed in range(2))
    addend = Addend(begin_maps(x, 4), tf.ones(4), tf.zeros(4))
    y = add_normalized([addend], EPSILON, z)
    upstream = tf.ones_like(x)
    kept = [each.numpy() for each in (x, y, upstream)]
    add_normalized_gradients(upstream, y, [addend], EPSILON)
    for values, before in zip((x, y, upstream), kept, strict=True):
        np.testing.assert_array_equal(values, before)


def test_addends_that_do_not_fit_are_refused() -> None:
    addend = Addend(begin_maps(tf.zeros((1, 2, 2, 2)), 2), tf.ones(2), tf.zeros(2))
    with pytest.raises(tf.errors.InvalidArgumentError, match="two addends of one shape"):
        add_normalized([addend], EPSILON, tf.zeros((1, 2, 2, 3)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="two addends of one shape"):
        add_normalized([addend], EPSILON)
