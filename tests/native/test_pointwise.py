"""1x1 convolutions of normalised maps: the values and gradients of the formulas."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from batch_norm_by_hand import EPSILON, by_hand
from hypothesis import given, settings
from hypothesis import strategies as st
from native_operations import native  # noqa: F401 - a fixture

from radflow.native.normalization import Maps, begin_maps
from radflow.native.pointwise import (
    Gradient,
    Normalization,
    convolve_between_normalizations,
    convolve_normalized,
    convolve_normalized_gradients,
    take_gradient,
)

pytestmark = pytest.mark.usefixtures("native")
# What is normalised, and what comes out, is kept as bfloat16, which has 8 bits; sums are float32.
FORMATS = {"float32": 2e-5, "bfloat16": 2.0**-6}


class Convolution:
    """One of the first channels of some maps, with an upstream gradient, and all of it by the formulas in float64."""

    def __init__(self, generator: np.random.Generator, x: np.ndarray, channels: int, filters: int, dtype: str) -> None:
        self.gamma, self.beta = generator.normal(1, 0.3, channels), generator.normal(0, 1, channels)
        self.kernel = as_kept(generator.normal(0, channels**-0.5, (1, 1, channels, filters)), dtype)
        self.upstream = as_kept(generator.normal(size=(*x.shape[:-1], filters)), dtype)
        normalized = by_hand(x[..., :channels], self.gamma, self.beta, np.zeros_like(x[..., :channels]))["y"]
        inputs = np.maximum(normalized, 0)
        self.y = inputs @ self.kernel[0, 0]
        self.of_kernel = np.einsum("nhwc,nhwf->cf", inputs, self.upstream)[None, None]
        passed = np.where(normalized > 0, self.upstream @ self.kernel[0, 0].T, 0)
        self.gradients = by_hand(x[..., :channels], self.gamma, self.beta, passed)
        # What is kept until the gradient is taken, and what rounding is a share of.
        self.largest = np.abs(self.gamma / np.sqrt(self.gradients["variance"] + EPSILON) * passed).max()
        self.given = [tf.constant(self.gamma, tf.float32), tf.constant(self.beta, tf.float32)]
        self.given += [tf.constant(self.kernel, dtype), EPSILON]


def as_kept(values: np.ndarray, dtype: str) -> np.ndarray:
    return np.asarray(tf.cast(values, dtype), np.float64)


def hold(got: tf.Tensor, expected: np.ndarray, share: float, of: float = 1e-3) -> None:
    """To a share of the largest value, or of `of`."""
    largest = max(of, np.abs(expected).max())
    np.testing.assert_allclose(np.asarray(got, np.float64), expected, rtol=0, atol=share * largest)


@settings(max_examples=40, deadline=None)
@given(
    dtype=st.sampled_from(sorted(FORMATS)),
    films=st.integers(1, 5),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    parts=st.lists(st.integers(1, 3), min_size=2, max_size=3),
    filters=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_convolutions_that_read_the_same_maps_have_the_gradients_of_the_formulas(
    dtype, films, height, width, parts, filters, seed
) -> None:
    """The second reads more channels than the first; their gradients are added to one that is there before."""
    generator, rounding = np.random.default_rng(seed), FORMATS[dtype]
    total = 32 * sum(parts)
    centre, spread = generator.normal(0, 3, total), generator.uniform(0.1, 2, total)
    x = as_kept(generator.normal(centre, spread, (films, height, width, total)), dtype)
    maps = begin_maps(tf.constant(x, dtype), total)
    expected = as_kept(generator.normal(size=x.shape), dtype)
    gradient = Gradient(tf.constant(expected, dtype))
    largest = 0.0
    for channels in (32 * parts[0], total):
        one = Convolution(generator, x, channels, 32 * filters, dtype)
        y = convolve_normalized(maps, *one.given)
        hold(y.values, one.y, rounding)
        kept = np.asarray(y.values, np.float64)
        hold(y.statistics[0], kept.mean((0, 1, 2)), 1e-5)
        hold(y.statistics[1], kept.var((0, 1, 2)), 1e-4)
        upstream = tf.constant(one.upstream, dtype)
        gradient, *of_parameters = convolve_normalized_gradients(upstream, maps, *one.given, gradient)
        expected[..., :channels] += one.gradients["x"]
        largest = max(largest, one.largest)
        for got, name in zip(of_parameters, ("gamma", "beta"), strict=False):
            hold(got, one.gradients[name], 10 * rounding)
        hold(of_parameters[2], one.of_kernel, rounding)
    for first, last in ((0, 32), (32, total)):
        hold(take_gradient(gradient, maps, first, last), expected[..., first:last], rounding, largest)


@pytest.mark.parametrize("dtype", sorted(FORMATS))
def test_a_second_normalisation_in_the_same_pass_is_that_of_the_formulas(dtype: str) -> None:
    """As a model predicts: the statistics are those of other maps. 7 x 9 x 2 pixels are no whole tiles."""
    generator = np.random.default_rng(1)
    x = as_kept(generator.normal(1, 2, (2, 7, 9, 96)), dtype)
    one = Convolution(generator, x, 64, 32, dtype)
    mean, variance = generator.normal(size=32), generator.uniform(0.5, 2, 32)
    gamma, beta = generator.normal(1, 0.3, 32), generator.normal(size=32)
    tensors = [tf.constant(values, tf.float32) for values in (np.stack([mean, variance]), gamma, beta)]
    maps = begin_maps(tf.constant(x, dtype), 96)
    got = convolve_between_normalizations(maps, *one.given, Normalization(*tensors, epsilon=1e-5))
    expected = np.maximum((one.y - mean) / np.sqrt(variance + 1e-5) * gamma + beta, 0)
    assert (expected == 0).mean() > 0.2
    hold(got, expected, FORMATS[dtype])


def test_a_gradient_alone_is_not_added_to_anything() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(3, 17, 19, 64))
    one, maps = Convolution(generator, x, 64, 96, "float32"), begin_maps(tf.constant(x, tf.float32), 64)
    gradient, *_ = convolve_normalized_gradients(tf.constant(one.upstream, tf.float32), maps, *one.given)
    hold(take_gradient(gradient, maps, 0, 64), one.gradients["x"], 1e-4)


def test_statistics_of_maps_far_from_zero_do_not_cancel() -> None:
    """A constant input gives each filter one value; beside it noise a ten-thousandth as large."""
    x = np.zeros((4, 32, 32, 32), np.float32)
    noise = np.random.default_rng(0).normal(0, 1.0, x.shape[:3])
    statistics = tf.stack([tf.zeros(32), tf.ones(32) - EPSILON])  # given, so that nothing is normalised
    x[..., 0], x[..., 1] = 1.0, noise + 10.0
    kernel = np.zeros((1, 1, 32, 32), np.float32)
    kernel[0, 0, 0], kernel[0, 0, 1] = 1e4, 1.0
    y = convolve_normalized(Maps(tf.constant(x), statistics), tf.ones(32), tf.zeros(32), tf.constant(kernel), EPSILON)
    kept = np.asarray(y.values, np.float64)
    np.testing.assert_allclose(y.statistics[0], kept.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(y.statistics[1], kept.var((0, 1, 2)), rtol=1e-3)


def test_no_films_give_no_maps_and_no_gradient() -> None:
    maps = begin_maps(tf.zeros([0, 3, 3, 32]), 32)
    given = [tf.ones(32), tf.zeros(32), tf.ones((1, 1, 32, 64)), EPSILON]
    assert convolve_normalized(maps, *given).values.shape == (0, 3, 3, 64)
    gradient, *of_parameters = convolve_normalized_gradients(tf.zeros([0, 3, 3, 64]), maps, *given)
    assert gradient.values.shape == (0, 3, 3, 32)
    assert all(np.all(np.asarray(value) == 0) for value in of_parameters)


def test_a_value_that_is_not_finite_shows() -> None:
    x = np.ones((2, 3, 3, 32))
    x[0, 0, 0, 1] = np.nan
    maps = begin_maps(tf.constant(x, tf.bfloat16), 32)
    y = convolve_normalized(maps, tf.ones(32), tf.zeros(32), tf.ones((1, 1, 32, 32), tf.bfloat16), EPSILON)
    assert np.isnan(np.asarray(y.values, np.float64)).all()


@pytest.mark.parametrize(("channels", "filters"), [(33, 32), (32, 40), (32, 2080)])
def test_kernels_that_do_not_fit_are_refused(channels: int, filters: int) -> None:
    maps = begin_maps(tf.zeros([1, 2, 2, channels]), channels)
    with pytest.raises(tf.errors.InvalidArgumentError, match="multiple of 32 and at most 2048"):
        convolve_normalized(maps, tf.ones(channels), tf.zeros(channels), tf.ones((1, 1, channels, filters)), EPSILON)
