"""The gradient of a convolution's weights as matrix products."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from radflow.models import convolution
from radflow.models.convolution import weight_gradient


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
        patch.setattr(convolution, "_PIXELS_AT_A_TIME", pixels)
        got = weight_gradient(tf.constant(inputs), tf.constant(upstream), size)
    assert got.shape == (size, size, channels, filters)
    np.testing.assert_allclose(got, by_definition(inputs, upstream, size), rtol=1e-4, atol=1e-4)
