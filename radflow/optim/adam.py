"""Adam and AdamW as one operation a variable; Keras' own takes a dozen, each of which goes through memory."""

from __future__ import annotations

import keras
import tensorflow as tf


def apply_adam(
    optimizer: keras.optimizers.Optimizer,
    variable: tf.Variable,
    momentum: keras.Variable,
    velocity: keras.Variable,
    gradient: tf.Tensor,
    learning_rate: tf.Tensor,
    beta_1: float,
    beta_2: float,
) -> None:
    """Move one variable of an optimiser that has an `epsilon`, in its next step."""
    step = tf.cast(optimizer.iterations.value + 1, variable.dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=momentum.value.handle,
        v=velocity.value.handle,
        beta1_power=beta_1**step,
        beta2_power=beta_2**step,
        lr=tf.cast(learning_rate, variable.dtype),
        beta1=beta_1,
        beta2=beta_2,
        epsilon=optimizer.epsilon,
        grad=tf.cast(gradient, variable.dtype),
    )


class _FusedUpdate(keras.optimizers.Adam):
    """Updates by TensorFlow's operation: Kingma & Ba 2015 (arXiv:1412.6980), algorithm 1 as section 2 reorders it."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Move one variable."""
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        apply_adam(self, variable, m, v, gradient, learning_rate, self.beta_1, self.beta_2)


@keras.saving.register_keras_serializable("radflow")
class Adam(_FusedUpdate):
    """`keras.optimizers.Adam`, with its variables and configuration, without AMSGrad."""


@keras.saving.register_keras_serializable("radflow")
class AdamW(_FusedUpdate, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW`, with its variables and configuration, without AMSGrad."""
