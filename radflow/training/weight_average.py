"""An exponential moving average of the weights, which is evaluated and saved instead of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import keras
import tensorflow as tf


class WeightAverage:
    """Average of a model's trainable weights over the steps of a training (Polyak & Juditsky 1992).

    After step t the average moves towards the weights by 1 - min(decay, (1 + t) / (10 + t)): the first steps, which
    start from random weights, are forgotten quickly. With decay 0 there is no average, and the weights stand for it.
    """

    def __init__(self, weights: Sequence[keras.Variable], decay: float) -> None:
        self._decay = decay
        self._weights = list(weights) if decay else []
        self._averages = [tf.Variable(weight.value, trainable=False) for weight in self._weights]
        self._is_in_place = tf.Variable(False, trainable=False)

    @property
    def variables(self) -> list[tf.Variable]:
        """What a checkpoint keeps of it."""
        return self._averages

    def update(self, step: tf.Tensor) -> None:
        """Move the average after optimiser step `step`, counted from 1; callable inside a tf.function."""
        steps = tf.cast(step, tf.float32)
        decay = tf.minimum(self._decay, (1 + steps) / (10 + steps))
        for weight, average in zip(self._weights, self._averages, strict=True):
            average.assign(decay * average + (1 - decay) * tf.cast(weight.value, average.dtype))

    @contextmanager
    def in_place_of_weights(self) -> Iterator[None]:
        """Let the model have the averages for the block, and its own weights again afterwards, however it ends."""
        try:
            self._swap()
            yield
        finally:
            if self._is_in_place:
                self._swap()

    @tf.function(autograph=False, jit_compile=False)
    def _swap(self) -> None:
        for weight, average in zip(self._weights, self._averages, strict=True):
            value = tf.identity(weight.value)
            weight.assign(average.value())
            average.assign(value)
        self._is_in_place.assign(tf.logical_not(self._is_in_place))
