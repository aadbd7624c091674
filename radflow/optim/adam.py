"""Adam and AdamW as one operation a variable; Keras' own takes a dozen, each of which goes through memory."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf


class AdamStep:
    """The numbers that all variables share in one step by Adam, each once in a graph.

    Parameters
    ----------
    optimizer
        Has an `epsilon`; the step is its next.
    beta_1, beta_2
        Decay of momentum and velocity, in [0, 1).
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, beta_1: float, beta_2: float) -> None:
        step = tf.cast(optimizer.iterations.value + 1, tf.float32)
        betas = [tf.constant(beta) for beta in (beta_1, beta_2)]
        self._shared = {
            **dict(zip(("beta1", "beta2"), betas, strict=True)),
            **{f"beta{number}_power": beta**step for number, beta in enumerate(betas, start=1)},
            "epsilon": tf.constant(optimizer.epsilon),
        }

    def move(
        self,
        variable: tf.Variable,
        momentum: keras.Variable,
        velocity: keras.Variable,
        gradient: tf.Tensor,
        learning_rate: tf.Tensor,
    ) -> None:
        """Update one variable, float32, and its momentum and velocity."""
        handles = {"var": variable.handle, "m": momentum.value.handle, "v": velocity.value.handle}
        tf.raw_ops.ResourceApplyAdam(**handles, **self._shared, lr=learning_rate, grad=gradient)


class _FusedUpdate(keras.optimizers.Adam):
    """Updates by TensorFlow's operation: Kingma & Ba 2015 (arXiv:1412.6980), algorithm 1 as section 2 reorders it."""

    def apply(self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """Update the variables, those of the constructor unless given, by their gradients."""
        self._step = AdamStep(self, self.beta_1, self.beta_2)
        super().apply(grads, trainable_variables)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Move one variable."""
        index = self._get_variable_index(variable)
        self._step.move(variable, self._momentums[index], self._velocities[index], gradient, learning_rate)


@keras.saving.register_keras_serializable("radflow")
class Adam(_FusedUpdate):
    """`keras.optimizers.Adam`, with its variables and configuration, without AMSGrad."""


@keras.saving.register_keras_serializable("radflow")
class AdamW(_FusedUpdate, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW`, with its variables and configuration, without AMSGrad."""
