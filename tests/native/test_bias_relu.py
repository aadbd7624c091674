"""Bias, ReLU and pooling in one pass: the values and gradients of the definitions."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from native_operations import native  # noqa: F401 - a fixture

from radflow.native.bias_relu import bias_relu_gradients, pool_bias_relu, pool_bias_relu_gradients

pytestmark = pytest.mark.usefixtures("native")
FORMATS = ["float32", "bfloat16"]


def whole_numbers(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Small ones, of which sums are exact and several are the largest."""
    return generator.integers(-4, 5, shape).astype(np.float64)


def windows(maps: np.ndarray) -> np.ndarray:
    """The four pixels of each square of 2x2, [n, h // 2, w // 2, 4, channels], without a last odd row or column."""
    films, height, width, channels = maps.shape
    even = maps[:, : height // 2 * 2, : width // 2 * 2]
    squares = even.reshape(films, height // 2, 2, width // 2, 2, channels)
    return squares.transpose(0, 1, 3, 2, 4, 5).reshape(films, height // 2, width // 2, 4, channels)


def gradient_by_definition(maps: np.ndarray, upstream: np.ndarray) -> np.ndarray:
    """The largest pixel of a square, the first of several, has its gradient, unless it is 0 or less."""
    gradient = np.zeros_like(maps)
    for film, y, x, channel in np.ndindex(upstream.shape):
        square = maps[film, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2, channel]
        if square.max() > 0:
            row, column = np.unravel_index(square.argmax(), (2, 2))
            gradient[film, 2 * y + row, 2 * x + column, channel] = upstream[film, y, x, channel]
    return gradient


@settings(max_examples=30, deadline=None)
@given(
    dtype=st.sampled_from(FORMATS),
    shape=st.tuples(st.integers(0, 3), st.integers(1, 7), st.integers(1, 7), st.integers(1, 40)),
    seed=st.integers(0, 2**32 - 1),
)
@example(dtype="float32", shape=(2, 5, 7, 64), seed=0)
def test_pooling_gives_the_values_and_gradients_of_the_definition(dtype, shape, seed) -> None:
    generator = np.random.default_rng(seed)
    maps, bias = whole_numbers(generator, shape), whole_numbers(generator, shape[-1:])
    pooled, choices = pool_bias_relu(tf.constant(maps, dtype), tf.constant(bias, tf.float32))
    np.testing.assert_array_equal(np.asarray(pooled, np.float64), np.maximum(windows(maps + bias).max(3), 0))
    upstream = whole_numbers(generator, pooled.shape)
    of_maps, of_bias = pool_bias_relu_gradients(tf.constant(upstream, dtype), choices, *shape[1:3])
    expected = gradient_by_definition(maps + bias, upstream)
    np.testing.assert_array_equal(np.asarray(of_maps, np.float64), expected)
    np.testing.assert_array_equal(of_bias, expected.sum((0, 1, 2)))


@settings(max_examples=30, deadline=None)
@given(
    dtype=st.sampled_from(FORMATS),
    shape=st.tuples(st.integers(0, 3), st.integers(1, 20), st.integers(1, 20), st.integers(1, 40)),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_passes_relu_is_the_gradient_of_maps_and_its_sum_that_of_the_bias(dtype, shape, seed) -> None:
    generator = np.random.default_rng(seed)
    outputs, upstream = np.maximum(whole_numbers(generator, shape), 0), whole_numbers(generator, shape)
    of_maps, of_bias = bias_relu_gradients(tf.constant(upstream, dtype), tf.constant(outputs, dtype))
    expected = np.where(outputs > 0, upstream, 0)
    np.testing.assert_array_equal(np.asarray(of_maps, np.float64), expected)
    np.testing.assert_array_equal(of_bias, expected.sum((0, 1, 2)))


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_what_is_not_finite_shows(dtype, place) -> None:
    maps = np.ones((1, 4, 4, 3), np.float32)
    maps[0, *place, 1] = np.nan
    pooled, _ = pool_bias_relu(tf.constant(maps, dtype), tf.ones(3))
    assert np.isnan(np.asarray(pooled, np.float32)).nonzero() == ([0], [0], [0], [1])


@pytest.mark.parametrize("read", [(), ("upstream",), ("outputs",), ("upstream", "outputs")])
def test_only_what_nothing_else_reads_is_written_over(read: tuple[str, ...]) -> None:
    generator = np.random.default_rng(0)
    given = {"upstream": generator.normal(size=(2, 5, 7, 12)), "outputs": generator.normal(size=(2, 5, 7, 12))}

    @tf.function(autograph=False)
    def compute(upstream: tf.Tensor, outputs: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], list[tf.Tensor]]:
        made = {"upstream": 2 * upstream, "outputs": 2 * outputs}  # tensors of this graph, which it may write over
        return bias_relu_gradients(made["upstream"], made["outputs"]), [made[name] for name in read]

    values = {name: np.float32(value) for name, value in given.items()}
    (of_maps, _), kept = compute(**{name: tf.constant(value) for name, value in values.items()})
    np.testing.assert_array_equal(of_maps, np.where(values["outputs"] > 0, 2 * values["upstream"], 0))
    for name, value in zip(read, kept, strict=True):
        np.testing.assert_array_equal(value, 2 * values[name])


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"the bias \[channels\]"):
        pool_bias_relu(tf.zeros((1, 4, 4, 3)), tf.zeros(4))
    with pytest.raises(tf.errors.InvalidArgumentError, match="of one shape"):
        bias_relu_gradients(tf.zeros((1, 4, 4, 3)), tf.zeros((1, 4, 4, 2)))
    pooled, choices = pool_bias_relu(tf.zeros((1, 4, 4, 3)), tf.zeros(3))
    with pytest.raises(tf.errors.InvalidArgumentError, match="height / 2"):
        pool_bias_relu_gradients(pooled, choices, 4, 6)
