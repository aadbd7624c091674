"""The gradient of a convolution's weights, by matrix products and by a native operation: that of the definition."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from native_operations import native  # noqa: F401 - a fixture

from radflow.models import weight_gradient
from radflow.models.weight_gradient import gradient_by_own_operation, gradient_by_products


def by_definition(inputs: np.ndarray, upstream: np.ndarray, size: int) -> np.ndarray:
    """Sum over films and pixels of what a weight was multiplied with, tap by tap, in float64."""
    edge = size // 2
    padded = np.pad(np.float64(inputs), [(0, 0), (edge, edge), (edge, edge), (0, 0)])
    height, width = upstream.shape[1:3]
    taps = [[padded[:, y : y + height, x : x + width] for x in range(size)] for y in range(size)]
    return np.array([[np.einsum("nhwc,nhwf->cf", tap, upstream) for tap in row] for row in taps])


@settings(max_examples=40, deadline=None)
@given(
    size=st.sampled_from([1, 3]),
    films=st.integers(1, 7),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.integers(1, 5),
    filters=st.integers(1, 5),
    pixels=st.integers(1, 200),
)
def test_products_are_the_gradient(size, films, height, width, channels, filters, pixels):
    """Whatever the shape, and however many films a product takes at a time."""
    generator = np.random.default_rng(films * height * width)
    inputs = generator.normal(size=(films, height, width, channels)).astype(np.float32)
    upstream = generator.normal(size=(films, height, width, filters)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weight_gradient, "_PIXELS_AT_A_TIME", pixels)
        got = gradient_by_products(tf.constant(inputs), tf.constant(upstream), size)
    assert got.shape == (size, size, channels, filters)
    np.testing.assert_allclose(got, by_definition(inputs, upstream, size), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("native")
@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["float32", "bfloat16"]),
    size=st.sampled_from([1, 3, 5]),
    films=st.integers(0, 9),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    channels=st.integers(1, 40),
    filters=st.integers(1, 70),
)
def test_the_native_operation_is_the_gradient(dtype, size, films, height, width, channels, filters):
    """Whatever the shape, an odd number of films and none too; sums are float32."""
    generator = np.random.default_rng(films * height * width)
    inputs = tf.cast(generator.normal(size=(films, height, width, channels)), dtype)
    upstream = tf.cast(generator.normal(size=(films, height, width, filters)), dtype)
    got = gradient_by_own_operation(inputs, upstream, size)
    expected = by_definition(np.asarray(inputs, np.float64), np.asarray(upstream, np.float64), size)
    assert got.dtype == tf.float32
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=3e-4)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_maps_that_are_packed_in_several_chunks_lose_no_row(dtype):
    """Large maps: each output is a count of the positions that a tap meets, which float32 has exactly."""
    ones = tf.ones((3, 150, 130, 40), dtype)
    got = gradient_by_own_operation(ones, ones, 3)
    rows, columns = np.array([149, 150, 149]), np.array([129, 130, 129])
    np.testing.assert_array_equal(got, np.broadcast_to((3 * np.outer(rows, columns))[..., None, None], (3, 3, 40, 40)))


@pytest.mark.usefixtures("native")
def test_a_loss_that_is_not_finite_shows_in_the_gradient():
    inputs, upstream = np.ones((2, 4, 4, 16)), np.ones((2, 4, 4, 16))
    upstream[1, 2, 2, 3] = np.nan
    got = gradient_by_own_operation(tf.constant(inputs, tf.bfloat16), tf.constant(upstream, tf.bfloat16), 3).numpy()
    assert np.isnan(got[..., 3]).all()
    assert np.isfinite(np.delete(got, 3, axis=-1)).all()


@pytest.mark.usefixtures("native")
def test_maps_of_two_sizes_are_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match="of one size"):
        gradient_by_own_operation(tf.ones((2, 4, 4, 8)), tf.ones((2, 4, 5, 8)), 3)
