"""Gradients that travel as float16: nothing overflows, and what is lost is small beside the largest."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from radflow.cluster.communicator import SerialCommunicator
from radflow.training.gradient_sum import sum_as_float16, sum_as_float32


class AlikeRanks(SerialCommunicator):
    """So many ranks with the same tensors, which are summed as pairs in the tensors' own format, as MPI does."""

    def __init__(self, doublings: int) -> None:
        self.doublings = doublings
        self.sent: list[tf.DType] = []

    def allreduce_sum(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        self.sent += [tensor.dtype for tensor in tensors]
        for _ in range(self.doublings):
            tensors = [tensor + tensor for tensor in tensors]
        return tensors


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 12), st.floats(-30, 30), st.integers(0, 2**32 - 1))
def test_sums_of_float16_are_right_to_a_thousandth_whatever_the_scale(
    doublings: int, magnitude: float, seed: int
) -> None:
    """Elements over four orders of magnitude and more, on 1 to 4,096 ranks."""
    generator = np.random.default_rng(seed)
    gradients = generator.choice([-1, 1], 22) * 10 ** (magnitude - generator.uniform(0, 4.5, 22))
    ranks = AlikeRanks(doublings)
    *sums, loss = sum_as_float16(ranks, tf.constant([*gradients, 0.1], tf.float32)).numpy()
    np.testing.assert_allclose(sums, gradients.astype(np.float32).astype(np.float64) * 2**doublings, rtol=1e-3)
    assert loss == pytest.approx(0.1 * 2**doublings)
    assert ranks.sent[-1] == tf.float16


@pytest.mark.parametrize("value", [0.0, 1e-38, 1e-45])
def test_vanishing_gradients_stay_finite(value: float) -> None:
    totals = sum_as_float16(AlikeRanks(3), tf.constant([value, 0.0, 1.0]))
    np.testing.assert_allclose(totals, [8 * value, 0, 8], atol=1e-37)


def test_a_gradient_that_is_not_finite_stays_so() -> None:
    assert np.isnan(sum_as_float16(AlikeRanks(1), tf.constant([np.nan, 1.0, 1.0])).numpy()[:2]).any()


def test_float32_sends_all_at_once_as_it_is() -> None:
    ranks = AlikeRanks(1)
    assert sum_as_float32(ranks, tf.constant([1.5, 2.0, 3.0])).numpy().tolist() == [3.0, 4.0, 6.0]
    assert ranks.sent == [tf.float32]
