"""Batch normalisation as training computes it: fused into one operation, or over all ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

AllreduceSum = Callable[[list[tf.Tensor]], list[tf.Tensor]]
"""Element-wise sums over all ranks; callable inside a tf.function."""


def move_statistics(observed: Sequence[tuple[keras.layers.BatchNormalization, tf.Tensor]]) -> None:
    """Let moving statistics follow those of a batch, of all layers together: they share their momentum.

    For each layer float32 [2, channels]: means and biased variances, as Keras has them.
    """
    moving = [variable.value for layer, _ in observed for variable in (layer.moving_mean, layer.moving_variance)]
    batch = tf.concat([tf.reshape(statistics, [-1]) for _, statistics in observed], 0)
    changes = (batch - tf.concat(moving, 0)) * (1 - observed[0][0].momentum)
    for variable, change in zip(moving, tf.split(changes, [each.shape[0] for each in moving]), strict=True):
        variable.assign_add(change, read_value=False)


class _SharedBatchNormalization(keras.layers.BatchNormalization):
    """A batch normalisation whose variables are those of another."""

    def __init__(self, original: keras.layers.BatchNormalization) -> None:
        settings = {"axis": original.axis, "momentum": original.momentum, "epsilon": original.epsilon}
        super().__init__(**settings, name=original.name, dtype=original.dtype_policy, trainable=original.trainable)
        self.gamma, self.beta = original.gamma, original.beta
        self.moving_mean, self.moving_variance = original.moving_mean, original.moving_variance
        self._reduction_axes = original._reduction_axes
        self.built = True


class SynchronizedBatchNormalization(_SharedBatchNormalization):
    """Normalises with the statistics of a micro-step's films of all ranks together.

    Mean and variance of ranks are joined by one sum (Chan, Golub & LeVeque 1983, doi:10.1080/00031305.1983.10483115),
    relative to the moving mean, which all ranks share: so nothing cancels where a channel's mean is large beside its
    deviation.
    """

    def __init__(self, original: keras.layers.BatchNormalization, allreduce_sum: AllreduceSum) -> None:
        super().__init__(original)
        self._sum = _differentiable(allreduce_sum)

    def _moments(self, inputs: tf.Tensor, mask: None) -> tuple[tf.Tensor, tf.Tensor]:  # noqa: ARG002
        """Mean and variance, float32 [channels]; Keras asks for them in training."""
        mean, variance = tf.nn.moments(inputs, self._reduction_axes)
        values = tf.cast(tf.size(inputs) // tf.size(mean), tf.float32)
        shift = mean - self.moving_mean.value
        sums = self._sum(values * tf.stack([shift, variance + shift**2, tf.ones_like(mean)]))
        shift, square = sums[0] / sums[2], sums[1] / sums[2]
        return self.moving_mean.value + shift, tf.maximum(square - shift**2, 0)


def _differentiable(allreduce_sum: AllreduceSum) -> Callable[[tf.Tensor], tf.Tensor]:
    """The sum with its gradient, again a sum: a film's activation moves the loss of the films of all ranks."""

    @tf.custom_gradient
    def total(tensor: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return allreduce_sum([tensor])[0], lambda gradient: allreduce_sum([gradient])[0]

    return total


class FusedBatchNormalization(_SharedBatchNormalization):
    """One operation, of oneDNN on CPUs, that reads and writes bfloat16 or float32 and computes in float32.

    Keras' layer casts bfloat16 to float32 and runs as separate elementwise operations, which on CPUs with bfloat16
    costs DenseNet-121 more than half of a step, and in float32 a sixth.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> tf.Tensor:  # noqa: ARG002
        """Normalise [n, h, w, channels]."""
        if not (training and self.trainable):
            return self._normalize(inputs, self.moving_mean.value, self.moving_variance.value, is_training=False)[0]
        empty = tf.zeros([0])
        outputs, mean, variance, *_ = self._normalize(inputs, empty, empty, is_training=True)
        values = (
            tf.cast(tf.size(inputs) // tf.size(mean), tf.float32)
            if None in inputs.shape
            else float(math.prod(inputs.shape[:-1]))
        )
        # The operation gives the unbiased variance; Keras' moving variance is of the biased one.
        move_statistics([(self, tf.stack([mean, variance * (values - 1) / values]))])
        return outputs

    def _normalize(self, inputs: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, is_training: bool) -> tuple:
        return tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma.value,
            offset=self.beta.value,
            mean=mean,
            variance=variance,
            epsilon=self.epsilon,
            is_training=is_training,
        )
