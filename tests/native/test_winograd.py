"""Convolutions of 3x3 with fewer products: the values and gradients of the definition."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from native_operations import native  # noqa: F401 - a fixture

from radflow.native.winograd import convolve_by_winograd, input_gradient_by_winograd, weight_gradient_by_winograd

pytestmark = pytest.mark.usefixtures("native")
TOLERANCE = 2e-6
"""Relative to the largest value: float32 has 24 bits, and up to 2,592 products are summed."""


def met_by_taps(inputs: np.ndarray) -> np.ndarray:
    """The inputs that each tap of a kernel meets, [9, n, h, w, channels]."""
    height, width = inputs.shape[1:3]
    padded = np.pad(inputs, [(0, 0), (1, 1), (1, 1), (0, 0)])
    return np.stack([padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)])


def by_definition(inputs: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Each tap's product with the inputs that it meets, summed, in float64."""
    return sum(met @ tap for met, tap in zip(met_by_taps(inputs), kernel.reshape(9, *kernel.shape[2:]), strict=True))


@settings(max_examples=25, deadline=None)
@given(
    films=st.integers(0, 5),
    height=st.integers(1, 17),
    width=st.integers(1, 17),
    channels=st.sampled_from([32, 64, 128]),
    filters=st.sampled_from([32, 96]),
)
@example(films=2, height=28, width=28, channels=32, filters=32)  # more tiles than are computed at a time
@example(films=1, height=3, width=5, channels=288, filters=64)  # planes that do not lie in one row
@example(films=3, height=27, width=29, channels=512, filters=32)  # several chunks of the weight gradient
def test_values_and_gradients_are_those_of_the_definition(films, height, width, channels, filters):
    generator = np.random.default_rng(height * width)
    inputs = generator.normal(size=(films, height, width, channels)).astype(np.float32)
    upstream = generator.normal(size=(films, height, width, filters)).astype(np.float32)
    kernel = generator.normal(size=(3, 3, channels, filters)).astype(np.float32)
    turned = np.float64(kernel[::-1, ::-1].transpose(0, 1, 3, 2))
    convolved = by_definition(np.float64(inputs), np.float64(kernel))
    assert_close(convolve_by_winograd(inputs, kernel), convolved)
    bias = generator.normal(0, 10, filters).astype(np.float32)
    assert_close(convolve_by_winograd(inputs, kernel, bias), np.maximum(convolved + bias, 0))
    assert_close(input_gradient_by_winograd(upstream, kernel), by_definition(np.float64(upstream), turned))
    of_kernel = np.einsum("tnhwc,nhwf->tcf", met_by_taps(np.float64(inputs)), np.float64(upstream), optimize=True)
    assert_close(weight_gradient_by_winograd(inputs, upstream), of_kernel.reshape(kernel.shape))


def assert_close(values: tf.Tensor, expected: np.ndarray) -> None:
    assert values.shape == expected.shape
    np.testing.assert_allclose(values, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max(initial=1))


@pytest.mark.parametrize("shape", [(3, 3, 32, 48), (3, 3, 48, 32), (1, 1, 32, 32), (3, 3, 2080, 32)])
def test_other_kernels_are_refused(shape):
    with pytest.raises(tf.errors.InvalidArgumentError):
        convolve_by_winograd(np.ones((1, 4, 4, shape[2]), np.float32), np.ones(shape, np.float32))


def test_another_bias_is_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match="the bias must be"):
        convolve_by_winograd(
            np.ones((1, 4, 4, 32), np.float32), np.ones((3, 3, 32, 32), np.float32), np.ones(31, np.float32)
        )


@pytest.mark.parametrize(
    ("inputs", "upstream"),
    [((1, 4, 4, 32), (1, 4, 4, 48)), ((1, 4, 4, 48), (1, 4, 4, 32)), ((1, 4, 4, 32), (1, 4, 5, 32))],
)
def test_other_maps_have_no_weight_gradient(inputs, upstream):
    with pytest.raises(tf.errors.InvalidArgumentError):
        weight_gradient_by_winograd(np.ones(inputs, np.float32), np.ones(upstream, np.float32))


def test_what_is_not_finite_shows():
    inputs = np.ones((1, 6, 6, 32), np.float32)
    inputs[0, 2, 2, 0] = np.nan
    assert np.isnan(convolve_by_winograd(inputs, np.ones((3, 3, 32, 32), np.float32))[0, 1:4, 1:4]).all()
    rectified = convolve_by_winograd(inputs, np.ones((3, 3, 32, 32), np.float32), np.zeros(32, np.float32))
    assert np.isnan(rectified[0, 1:4, 1:4]).all()
    assert np.isnan(weight_gradient_by_winograd(inputs, np.ones((1, 6, 6, 32), np.float32))[:, :, 0]).all()
