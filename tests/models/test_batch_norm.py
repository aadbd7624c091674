"""Batch normalisation in training: exact values and gradients, statistics of all ranks."""

from __future__ import annotations

import threading
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from batch_norm_by_hand import EPSILON, by_hand
from number_formats import needs_bfloat16

from radflow.models.batch_norm import FusedBatchNormalization, SynchronizedBatchNormalization

GENERATOR = np.random.default_rng(0)
MOMENTUM = 0.9


def built(channels: int, dtype: str = "float32", **settings: bool) -> keras.layers.BatchNormalization:
    layer = keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, dtype=dtype, **settings)
    layer.build((None, 4, 4, channels))
    layer.set_weights(
        [GENERATOR.normal(1, 0.3, channels), *GENERATOR.normal(0, 1, (2, channels)), np.full(channels, 2.0)]
    )
    return layer


def forward_and_gradients(
    layer: keras.Layer, x: np.ndarray, upstream: np.ndarray, dtype: str = "float32"
) -> dict[str, np.ndarray]:
    films = tf.constant(x, dtype)
    with tf.GradientTape() as tape:
        tape.watch(films)
        y = layer(films, training=True)
        loss = tf.reduce_sum(tf.cast(y, tf.float32) * upstream)
    gradients = tape.gradient(loss, {"x": films, "gamma": layer.gamma.value, "beta": layer.beta.value})
    return {name: np.asarray(value, np.float64) for name, value in {"y": y, **gradients}.items()}


class Ranks:
    """Ranks as threads of this process: a sum waits for the others."""

    def __init__(self, size: int) -> None:
        self._meeting = threading.Barrier(size, timeout=60)
        self._given: dict[int, np.ndarray] = {}

    def sum_of(self, rank: int) -> Callable[[list[tf.Tensor]], list[tf.Tensor]]:
        def allreduce_sum(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
            (tensor,) = tensors
            self._given[rank] = tensor.numpy()
            self._meeting.wait()
            total = sum(self._given.values())
            self._meeting.wait()
            return [tf.constant(total)]

        return allreduce_sum


def on_ranks(layers: list[keras.Layer], shares: list[np.ndarray], upstreams: list[np.ndarray]) -> list[dict]:
    results: list[dict] = [{} for _ in shares]

    def compute(rank: int) -> None:
        results[rank] = forward_and_gradients(layers[rank], shares[rank], upstreams[rank])

    threads = [threading.Thread(target=compute, args=(rank,)) for rank in range(len(shares))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_ranks_that_share_statistics_compute_what_one_does_with_all_films(offset):
    """Unequal shares, and a mean a thousand times the deviation: values and gradients are those of the whole batch."""
    x, upstream = GENERATOR.normal(offset, 1, (6, 3, 3, 5)), GENERATOR.normal(0, 1, (6, 3, 3, 5))
    weights = [*GENERATOR.normal(1, 0.3, (1, 5)), *GENERATOR.normal(0, 1, (1, 5)), np.full(5, offset), np.ones(5)]
    ranks, layers = Ranks(2), []
    for rank in range(2):
        original = built(5, synchronized=True)
        original.set_weights(weights)
        layers.append(SynchronizedBatchNormalization(original, ranks.sum_of(rank)))
    first, second = on_ranks(layers, [x[:2], x[2:]], [upstream[:2], upstream[2:]])
    expected = by_hand(x, weights[0], weights[1], upstream)
    for name in ("y", "x"):
        both = np.concatenate([first[name], second[name]])
        np.testing.assert_allclose(both, expected[name], rtol=1e-3, atol=1e-3 if offset else 1e-5, err_msg=name)
    for name in ("gamma", "beta"):
        np.testing.assert_allclose(first[name] + second[name], expected[name], rtol=1e-3, atol=1e-2 if offset else 1e-4)
    for layer in layers:
        moved = MOMENTUM * offset + (1 - MOMENTUM) * expected["mean"]
        np.testing.assert_allclose(layer.moving_mean, moved, rtol=1e-5, atol=1e-6)
        moved = MOMENTUM + (1 - MOMENTUM) * expected["variance"]
        np.testing.assert_allclose(layer.moving_variance, moved, rtol=1e-3)


@pytest.mark.parametrize(
    ("policy", "dtype", "bits"),
    [pytest.param("mixed_bfloat16", "bfloat16", 8, marks=needs_bfloat16), ("float32", "float32", 18)],
)
def test_fused_it_has_the_values_and_gradients_of_the_formula(policy, dtype, bits):
    x = np.asarray(tf.cast(GENERATOR.normal(1, 2, (8, 4, 4, 6)), dtype), np.float64)
    upstream = np.asarray(tf.cast(GENERATOR.normal(0, 1, x.shape), dtype), np.float64)
    original = built(6, policy)
    gamma, beta, mean, variance = original.get_weights()
    got = forward_and_gradients(FusedBatchNormalization(original), x, upstream, dtype)
    expected = by_hand(x, gamma, beta, upstream)
    # What is stored in bfloat16 is right to 2^-8; sums and statistics are float32.
    np.testing.assert_allclose(got["y"], expected["y"], rtol=2.0**-bits, atol=2.0**-bits)
    np.testing.assert_allclose(got["x"], expected["x"], rtol=2.0 ** (1 - bits), atol=2.0**-bits)
    np.testing.assert_allclose(got["gamma"], expected["gamma"], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(got["beta"], expected["beta"], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(original.moving_mean, 0.9 * mean + 0.1 * expected["mean"], rtol=1e-5)
    np.testing.assert_allclose(original.moving_variance, 0.9 * variance + 0.1 * expected["variance"], rtol=1e-5)


@pytest.mark.parametrize(("policy", "bits"), [pytest.param("mixed_bfloat16", 7, marks=needs_bfloat16), ("float32", 18)])
def test_fused_it_predicts_as_keras_does(policy, bits):
    original, x = built(6, policy), GENERATOR.normal(0, 2, (2, 4, 4, 6)).astype(np.float32)
    fused, plain = (np.asarray(layer(x), np.float32) for layer in (FusedBatchNormalization(original), original))
    np.testing.assert_allclose(fused, plain, rtol=2.0**-bits, atol=2.0**-bits if policy == "float32" else 0)


@needs_bfloat16
def test_a_frozen_layer_keeps_its_statistics_in_training():
    original, x = built(6, "mixed_bfloat16"), GENERATOR.normal(0, 2, (2, 4, 4, 6)).astype(np.float32)
    original.trainable = False
    before = original.get_weights()
    twin = FusedBatchNormalization(original)
    np.testing.assert_array_equal(twin(x, training=True), twin(x, training=False))
    for after, value in zip(original.get_weights(), before, strict=True):
        np.testing.assert_array_equal(after, value)
