"""Convolutions and their gradients, by whatever is fastest on this CPU."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from radflow.models.weight_gradient import WeightGradient, faster_weight_gradient, winograd_is_faster
from radflow.native.winograd import convolve_by_winograd, input_gradient_by_winograd


class FastConvolution(keras.layers.Conv2D):
    """A convolution with the variables of another, forward and backward as fast as it is on this CPU."""

    def __init__(self, original: keras.layers.Conv2D, weight_gradient: WeightGradient) -> None:
        # Variables as they are, not cast, for which Keras wants a layer of their own format: the gradient of a float32
        # kernel need not be rounded to bfloat16.
        super().__init__(**{**original.get_config(), "dtype": original.variable_dtype}, autocast=False)
        self._kernel, self.bias = original.kernel, original.bias
        self._number = original.compute_dtype
        self.weight_gradient = weight_gradient
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps [n, h, w, filters] of [n, h, w, channels], with bias and activation."""
        inputs = tf.cast(inputs, self._number)
        outputs = _differentiable(self.weight_gradient)(inputs, self.kernel.value)
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.cast(self.bias.value, self._number))
        return self.activation(outputs)


def convolve(layer: keras.layers.Conv2D, inputs: tf.Tensor) -> tf.Tensor:
    """What a convolution gives before bias and activation; its gradients are as fast as they are on this CPU."""
    inputs, kernel = tf.cast(inputs, layer.compute_dtype), layer.kernel.value
    if weight_gradient := faster_weight_gradient(layer):
        return _differentiable(weight_gradient)(inputs, kernel)
    return tf.nn.conv2d(inputs, tf.cast(kernel, inputs.dtype), strides=layer.strides, padding=layer.padding.upper())


def _differentiable(weight_gradient: WeightGradient) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """The convolution of inputs with a kernel, stride 1 and padding SAME."""

    @tf.custom_gradient
    def compute(inputs: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        outputs = convolve_maps(inputs, kernel)
        return outputs, lambda upstream: _gradients(weight_gradient, inputs, kernel, upstream)

    return compute


def convolve_maps(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """A convolution with stride 1 and padding SAME, in the format of the inputs; its gradient may be unknown."""
    kernel = tf.cast(kernel, inputs.dtype)
    if winograd_is_faster(kernel):
        return convolve_by_winograd(inputs, kernel)
    return tf.nn.conv2d(inputs, kernel, strides=1, padding="SAME")


def convolve_rectified(inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """ReLU of such a convolution plus bias; its gradient may be unknown."""
    if winograd_is_faster(tf.cast(kernel, inputs.dtype)):
        return convolve_by_winograd(inputs, kernel, bias)
    return tf.nn.relu(tf.nn.bias_add(convolve_maps(inputs, kernel), tf.cast(bias, inputs.dtype)))


def convolution_gradients(
    layer: keras.layers.Conv2D, inputs: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of inputs and kernel of a convolution with stride 1 and padding SAME, as fast as they are on this CPU.

    The kernel may be of another format than what is convolved; its gradient is of its own.
    """
    return _gradients(faster_weight_gradient(layer) or gradient_by_tensorflow, inputs, kernel, upstream)


def gradient_by_tensorflow(inputs: tf.Tensor, upstream: tf.Tensor, size: int) -> tf.Tensor:
    """A `WeightGradient`."""
    shape = [size, size, inputs.shape[-1], upstream.shape[-1]]
    return tf.raw_ops.Conv2DBackpropFilter(
        input=inputs, filter_sizes=shape, out_backprop=upstream, strides=[1, 1, 1, 1], padding="SAME"
    )


def _gradients(
    weight_gradient: WeightGradient, inputs: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of the inputs and the kernel of a convolution with stride 1 and padding SAME."""
    of_inputs = _input_gradient(inputs, tf.cast(kernel, inputs.dtype), upstream)
    of_kernel = weight_gradient(inputs, upstream, kernel.shape[0])
    return of_inputs, tf.cast(of_kernel, kernel.dtype)


def _input_gradient(inputs: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    if winograd_is_faster(kernel):
        return input_gradient_by_winograd(upstream, kernel)
    return tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, strides=[1, 1, 1, 1], padding="SAME"
    )
