"""LAMB as its paper has it, where Keras' own leaves the weight decay out of the trust ratio."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from radflow.optim.exclusions import is_bias_or_norm


@keras.saving.register_keras_serializable("radflow")
class LAMB(keras.optimizers.Lamb):
    """Layer-wise adaptive moments: Adam whose update of each kernel has the kernel's own norm.

    You et al. 2020, arXiv:1904.00962, algorithm 2. For a kernel w with gradient g at step t = 1, 2, ...:

        m      = beta_1 * m + (1 - beta_1) * g
        v      = beta_2 * v + (1 - beta_2) * g^2
        update = (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon) + weight_decay * w
        w      = w - learning_rate * |w| / |update| * update, with ratio 1 where |w| or |update| is 0

    Two things differ from `keras.optimizers.Lamb`, of which the variables and the configuration are kept. Keras takes
    the weight decay as AdamW does, by shrinking the weights before the step, so that it misses the ratio; and it
    adapts biases, which start at zero and then can only crawl. Here biases, gammas and betas (`is_bias_or_norm`) have
    ratio 1 and no decay, as in the authors' code.

    Parameters
    ----------
    learning_rate : float
    beta_1, beta_2 : float
        Decay rates of the two moments, in [0, 1).
    epsilon : float
        Added to the root of the second moment; the authors' code has 1e-6.
    weight_decay : float
        Decoupled penalty of kernels, 0 or positive; the paper's lambda.
    **settings
        As in `keras.optimizers.Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float = 0.0,
        name: str = "lamb",
        **settings: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay, name=name, **settings)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Move one variable."""
        update = self._adam_update(ops.cast(gradient, variable.dtype), variable)
        if not is_bias_or_norm(variable):
            update = update + self.weight_decay * variable
            update = update * _trust_ratio(update, variable)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * update)

    def _adam_update(self, gradient: tf.Tensor, variable: tf.Variable) -> tf.Tensor:
        """Take the gradient into the moments; return their ratio, corrected for having started at zero."""
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index], self._velocities[index]
        self.assign_add(momentum, (1 - self.beta_1) * (gradient - momentum))
        self.assign_add(velocity, (1 - self.beta_2) * (ops.square(gradient) - velocity))
        step = ops.cast(self.iterations + 1, variable.dtype)
        mean = momentum / (1 - ops.power(self.beta_1, step))
        square = velocity / (1 - ops.power(self.beta_2, step))
        return mean / (ops.sqrt(square) + self.epsilon)

    def _apply_weight_decay(self, variables: list[keras.Variable]) -> None:
        """Nothing: Keras would shrink the weights before the step; here the decay is part of the update."""


def _trust_ratio(update: tf.Tensor, variable: tf.Variable) -> tf.Tensor:
    weight_norm, update_norm = tf.norm(variable), tf.norm(update)
    both = ops.logical_and(weight_norm > 0, update_norm > 0)
    return ops.where(both, weight_norm / update_norm, 1.0)
