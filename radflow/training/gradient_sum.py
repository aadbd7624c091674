"""The sum of a step's gradients, and of its loss, over all ranks."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from radflow.cluster.communicator import Communicator

SumGradients = Callable[[Communicator, tf.Tensor], tf.Tensor]
"""(communicator, gradients of this rank as one vector whose last element is the loss) -> the sums over all ranks.

Callable inside a tf.function.
"""

LARGEST_POWER = 15
"""2^15 and the rounding of every rank stay below 65,504, the largest number of float16."""
_LARGEST_SHIFT = 100
"""Of the exponent; float32 goes to 2^127."""
_SMALLEST_BOUND = 1e-38
"""Has a logarithm, which 0 has not."""


def sum_as_float32(communicator: Communicator, gradients: tf.Tensor) -> tf.Tensor:
    """As they are: one tensor alone is summed without a copy into a buffer that several would share."""
    (totals,) = communicator.allreduce_sum([gradients])
    return totals


def sum_as_float16(communicator: Communicator, gradients: tf.Tensor) -> tf.Tensor:
    """Half the bytes: gradients travel as float16, scaled to its range by a power of two.

    The sum of the ranks' largest elements bounds every sum, so that none overflows. Elements have 11 bits down to a
    2^29th of that bound, fewer below, and none from a 2^40th on. The loss keeps its precision.
    """
    gradients, loss = gradients[:-1], gradients[-1:]
    bound, loss_total = communicator.allreduce_sum([tf.reduce_max(tf.abs(gradients)), loss])
    shift = LARGEST_POWER - tf.math.ceil(tf.math.log(tf.maximum(bound, _SMALLEST_BOUND)) / tf.math.log(2.0))
    scale = tf.pow(2.0, tf.minimum(shift, _LARGEST_SHIFT))
    (totals,) = communicator.allreduce_sum([tf.cast(gradients * scale, tf.float16)])
    return tf.concat([tf.cast(totals, tf.float32) / scale, loss_total], 0)
