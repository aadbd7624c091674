"""Adam and AdamW as one operation a variable; Keras' own takes a dozen, each of which goes through memory."""

from __future__ import annotations

import keras
import tensorflow as tf


class _FusedUpdate(keras.optimizers.Adam):
    """Updates by TensorFlow's operation: Kingma & Ba 2015 (arXiv:1412.6980), algorithm 1 as section 2 reorders it."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Move one variable."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, variable.dtype),
        )


@keras.saving.register_keras_serializable("radflow")
class Adam(_FusedUpdate):
    """`keras.optimizers.Adam`, with its variables and configuration, without AMSGrad."""


@keras.saving.register_keras_serializable("radflow")
class AdamW(_FusedUpdate, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW`, with its variables and configuration, without AMSGrad."""
