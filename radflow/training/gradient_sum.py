"""The sum of a step's gradients, and of its loss, over all ranks."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from radflow.cluster.communicator import Communicator

Gradients = list[tf.Tensor]
SumGradients = Callable[[Communicator, Gradients, tf.Tensor], tuple[Gradients, tf.Tensor]]
"""(communicator, gradients of this rank, loss of this rank) -> sums over all ranks; callable inside a tf.function."""

LARGEST_POWER = 15
"""2^15 and the rounding of every rank stay below 65,504, the largest number of float16."""
_LARGEST_SHIFT = 100
"""Of the exponent; float32 goes to 2^127."""
_SMALLEST_BOUND = 1e-38
"""Has a logarithm, which 0 has not."""


def sum_as_float32(communicator: Communicator, gradients: Gradients, loss: tf.Tensor) -> tuple[Gradients, tf.Tensor]:
    """All in one operation, as they are."""
    *totals, loss_total = communicator.allreduce_sum([*gradients, loss])
    return totals, loss_total


def sum_as_float16(communicator: Communicator, gradients: Gradients, loss: tf.Tensor) -> tuple[Gradients, tf.Tensor]:
    """Half the bytes: gradients travel as float16, scaled to its range by a power of two.

    The sum of the ranks' largest elements bounds every sum, so that none overflows. Elements have 11 bits down to a
    2^29th of that bound, fewer below, and none from a 2^40th on. The loss keeps its precision.
    """
    own_bound = tf.reduce_max([tf.reduce_max(tf.abs(gradient)) for gradient in gradients])
    bound, loss_total = communicator.allreduce_sum([own_bound, loss])
    shift = LARGEST_POWER - tf.math.ceil(tf.math.log(tf.maximum(bound, _SMALLEST_BOUND)) / tf.math.log(2.0))
    scale = tf.pow(2.0, tf.minimum(shift, _LARGEST_SHIFT))
    totals = communicator.allreduce_sum([tf.cast(gradient * scale, tf.float16) for gradient in gradients])
    return [tf.cast(total, tf.float32) / scale for total in totals], loss_total
