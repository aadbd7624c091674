"""LARS, which Keras does not have."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from radflow.optim.exclusions import is_bias_or_norm


@keras.saving.register_keras_serializable("radflow")
class LARS(keras.optimizers.Optimizer):
    """Layer-wise adaptive rate scaling: SGD with momentum whose rate follows the scale of each kernel.

    You, Gitman & Ginsburg 2017, arXiv:1708.03888, in the formulation of MLPerf's reference for ResNet-50. For a kernel
    w with gradient g:

        ratio    = trust_coefficient * |w| / (|g| + weight_decay * |w| + epsilon), or 1 where |w| or |g| is 0
        velocity = momentum * velocity + learning_rate * ratio * (g + weight_decay * w)
        w        = w - velocity

    The rate stands inside the velocity, as in algorithm 1 of the paper: a step keeps the rate that it was taken with
    when the schedule or the ratio moves on. Biases, gammas and betas (`is_bias_or_norm`) have ratio 1 and no decay.

    Without decay and epsilon a kernel's update depends on the direction of its gradient alone, and is
    learning_rate * trust_coefficient of the kernel's own norm: learning rates are far above those of SGD. Biases,
    gammas and betas take them in full, and so does a kernel in the step that leaves zero; warm-up tames both.

    Parameters
    ----------
    learning_rate : float
    momentum : float
        In [0, 1).
    weight_decay : float
        L2 penalty of kernels, 0 or positive.
    trust_coefficient : float
        Share of its own norm that a kernel may move in a step at learning rate 1; the paper's eta.
    epsilon : float
        Added to the ratio's denominator; the cases that would divide by zero have ratio 1 anyway.
    **settings
        As in `keras.optimizers.Optimizer`.
    """

    def __init__(
        self,
        learning_rate: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        epsilon: float = 0.0,
        name: str = "lars",
        **settings: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, name=name, **settings)
        self.momentum = momentum
        self.trust_coefficient = trust_coefficient
        self.epsilon = epsilon

    def build(self, variables: list[keras.Variable]) -> None:
        """Make a velocity for each variable."""
        if self.built:
            return
        super().build(variables)
        self._velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Move one variable."""
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        if not is_bias_or_norm(variable):
            rate = rate * self._trust_ratio(gradient, variable)
            gradient = gradient + self.weight_decay * variable
        velocity = self._velocities[self._get_variable_index(variable)]
        self.assign(velocity, self.momentum * velocity + rate * gradient)
        self.assign_sub(variable, velocity)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor, as JSON values."""
        own = {"momentum": self.momentum, "trust_coefficient": self.trust_coefficient, "epsilon": self.epsilon}
        return {**super().get_config(), **own}

    def _trust_ratio(self, gradient: tf.Tensor, variable: tf.Variable) -> tf.Tensor:
        weight_norm, gradient_norm = tf.norm(variable), tf.norm(gradient)
        denominator = gradient_norm + self.weight_decay * weight_norm + self.epsilon
        both = ops.logical_and(weight_norm > 0, gradient_norm > 0)
        return ops.where(both, self.trust_coefficient * weight_norm / denominator, 1.0)

    def _apply_weight_decay(self, variables: list[keras.Variable]) -> None:
        """Nothing: Keras would shrink the weights before the step; here the decay is part of the gradient."""
