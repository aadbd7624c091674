"""Normalisation with ReLU of maps that share a buffer: the values and gradients of the formulas."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from batch_norm_by_hand import EPSILON, by_hand
from hypothesis import given, settings
from hypothesis import strategies as st
from native_operations import native  # noqa: F401 - a fixture

from radflow.native.normalization import append_maps, begin_maps, normalize_relu, normalize_relu_gradients

pytestmark = pytest.mark.usefixtures("native")
# What is kept as bfloat16 has 8 bits; statistics and sums are float32.
FORMATS = {"float32": 2e-5, "bfloat16": 2.0**-7}


def numbers(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """As the format has them, around a mean that differs by channel."""
    values = generator.normal(generator.normal(0, 3, shape[-1]), generator.uniform(0.1, 2, shape[-1]), shape)
    return np.asarray(tf.cast(values, dtype), np.float64)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(FORMATS)),
    st.integers(1, 5),
    st.integers(1, 12),
    st.integers(1, 12),
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_maps_that_are_appended_are_normalised_with_those_before_them(dtype, films, height, width, parts, seed) -> None:
    generator, rounding = np.random.default_rng(seed), FORMATS[dtype]
    values = [numbers(generator, (films, height, width, channels), dtype) for channels in parts]
    maps, filled = begin_maps(tf.constant(values[0], dtype), sum(parts)), parts[0]
    for more in values[1:]:
        maps = append_maps(maps, tf.constant(more, dtype), filled)
        filled += more.shape[-1]
    x = np.concatenate(values, axis=-1)
    np.testing.assert_array_equal(np.asarray(maps.values, np.float64), x)
    np.testing.assert_allclose(maps.statistics, [x.mean((0, 1, 2)), x.var((0, 1, 2))], rtol=1e-4, atol=1e-4)
    channels = generator.integers(1, filled + 1)  # of the whole, as an earlier layer reads them
    gamma, beta = generator.normal(1, 0.3, channels), generator.normal(0, 1, channels)
    upstream = np.asarray(tf.cast(generator.normal(size=(*x.shape[:-1], channels)), dtype), np.float64)
    expected = by_hand(x[..., :channels], gamma, beta, upstream)
    parameters = [tf.constant(each, tf.float32) for each in (gamma, beta)]
    y = np.asarray(normalize_relu(maps, *parameters, EPSILON), np.float64)
    np.testing.assert_allclose(y, np.maximum(expected["y"], 0), rtol=rounding, atol=1e-4)
    passed = np.where(y > 0, upstream, 0)
    expected = by_hand(x[..., :channels], gamma, beta, passed)
    others = np.asarray(tf.cast(generator.normal(size=x.shape), dtype), np.float64)
    of_maps, of_gamma, of_beta = normalize_relu_gradients(
        tf.constant(upstream, dtype), maps, *parameters, EPSILON, tf.constant(others, dtype)
    )
    others[..., :channels] += expected["x"]
    np.testing.assert_allclose(np.asarray(of_maps, np.float64), others, rtol=rounding, atol=5 * rounding)
    scale = np.abs(upstream).sum((0, 1, 2)).max()
    np.testing.assert_allclose(of_gamma, expected["gamma"], atol=1e-4 * scale)
    np.testing.assert_allclose(of_beta, expected["beta"], atol=1e-5 * scale)


def test_a_mean_far_from_zero_does_not_cancel_the_variance() -> None:
    x = np.random.default_rng(0).normal(1e4, 1.0, (16, 32, 32, 3)).astype(np.float32)
    mean, variance = begin_maps(tf.constant(x), 3).statistics.numpy()
    np.testing.assert_allclose(mean, x.mean((0, 1, 2), np.float64), rtol=1e-6)
    np.testing.assert_allclose(variance, x.astype(np.float64).var((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("dtype", sorted(FORMATS))
@pytest.mark.parametrize("spoilt", [np.nan, np.inf])
def test_what_is_not_finite_shows(dtype: str, spoilt: float) -> None:
    x = np.ones((2, 3, 3, 2))
    x[0, 0, 0, 1] = spoilt
    y = normalize_relu(begin_maps(tf.constant(x, dtype), 2), tf.ones(2), tf.zeros(2), EPSILON)
    assert np.isnan(np.asarray(y, np.float64)[..., 1]).all()
    assert np.isfinite(np.asarray(y, np.float64)[..., 0]).all()


def test_no_films_give_no_maps() -> None:
    maps = append_maps(begin_maps(tf.zeros([0, 3, 3, 2]), 3), tf.zeros([0, 3, 3, 1]), 2)
    assert normalize_relu(maps, tf.ones(3), tf.zeros(3), EPSILON).shape == (0, 3, 3, 3)
    assert np.isfinite(maps.statistics[:, :2]).all()


def test_maps_that_are_read_again_are_not_written_over() -> None:
    first = begin_maps(tf.fill([1, 2, 2, 1], 1.0), 2)
    one, other = (append_maps(first, tf.fill([1, 2, 2, 1], value), 1) for value in (2.0, 3.0))
    assert np.unique(one.values[..., 1]).tolist() == [2.0]
    assert np.unique(other.values[..., 1]).tolist() == [3.0]


def test_maps_that_have_no_room_are_refused() -> None:
    maps = begin_maps(tf.zeros([1, 2, 2, 2]), 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="no room"):
        append_maps(maps, tf.zeros([1, 2, 2, 2]), 2)
