"""Steps of an optimiser on weights of one's own."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

Arrays = list[np.ndarray]


def variables_of(values: Arrays) -> list[keras.Variable]:
    return [keras.Variable(value.astype(np.float32)) for value in values]


def take_steps(
    optimizer: keras.optimizers.Optimizer, weights: list[keras.Variable], gradients: list[Arrays], rates: list[float]
) -> Arrays:
    """Weights after the last step, taken as the training step does: built first, then one graph, rate by rate."""
    optimizer.build(weights)
    sums = [tf.Variable(tf.zeros(weight.shape)) for weight in weights]

    @tf.function(jit_compile=False)
    def update() -> None:
        optimizer.apply(list(sums), weights)

    for of_step, rate in zip(gradients, rates, strict=True):
        for total, gradient in zip(sums, of_step, strict=True):
            total.assign(gradient)
        optimizer.learning_rate.assign(rate)
        update()
    return [weight.numpy() for weight in weights]
