"""The average of weights against the recurrence by hand, and what becomes of the weights meanwhile."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from radflow.training.weight_average import WeightAverage

STEPS = 5


def weights_at(step: int) -> list[np.ndarray]:
    generator = np.random.default_rng(step)
    return [generator.normal(size=(3, 2)).astype(np.float32), generator.normal(size=2).astype(np.float32)]


@pytest.fixture
def weights() -> list[keras.Variable]:
    return [keras.Variable(value) for value in weights_at(0)]


@pytest.mark.parametrize("decay", [0.25, 0.99])
def test_the_average_is_that_of_the_recurrence(weights: list[keras.Variable], decay: float) -> None:
    average, expected = WeightAverage(weights, decay), weights_at(0)
    for step in range(1, STEPS + 1):
        for weight, value in zip(weights, weights_at(step), strict=True):
            weight.assign(value)
        average.update(tf.constant(step, tf.int64))
        kept = min(decay, (1 + step) / (10 + step))
        expected = [kept * old + (1 - kept) * new for old, new in zip(expected, weights_at(step), strict=True)]
    with average.in_place_of_weights():
        for weight, value in zip(weights, expected, strict=True):
            np.testing.assert_allclose(weight.numpy(), value, rtol=1e-6)
    for weight, value in zip(weights, weights_at(STEPS), strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_an_interruption_leaves_the_weights_as_they_were(weights: list[keras.Variable]) -> None:
    average = WeightAverage(weights, 0.9)
    weights[0].assign(np.ones((3, 2)))
    with pytest.raises(KeyboardInterrupt), average.in_place_of_weights():
        np.testing.assert_array_equal(weights[0].numpy(), weights_at(0)[0])
        raise KeyboardInterrupt
    np.testing.assert_array_equal(weights[0].numpy(), np.ones((3, 2)))


def test_without_decay_the_weights_stand_for_themselves(weights: list[keras.Variable]) -> None:
    average = WeightAverage(weights, 0.0)
    average.update(tf.constant(1))
    assert average.variables == []
    with average.in_place_of_weights():
        np.testing.assert_array_equal(weights[0].numpy(), weights_at(0)[0])
