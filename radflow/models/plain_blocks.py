"""Plain stacks of 3x3 convolutions (VGG: Simonyan & Zisserman 2015, arXiv:1409.1556) with little memory traffic.

As separate operations bias, ReLU and pooling read and write maps once each, as do their gradients, and the largest
maps, those before each pooling, are kept for the gradient. Here a convolution adds bias and ReLU where it can; where a
pooling follows, one pass does all three, and what is kept is a byte for each pooled value.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import keras
import tensorflow as tf

from radflow.models.convolution import convolution_gradients, convolve_maps, convolve_rectified
from radflow.models.native_body import NativeBody
from radflow.models.weight_gradient import is_plain
from radflow.native.bias_relu import bias_relu_gradients, pool_bias_relu, pool_bias_relu_gradients


class PlainBlocks(NativeBody):
    """VGG-16 of keras.applications without its top, by native operations: all variables are those of `model`."""

    @classmethod
    def takes(cls, model: keras.Model) -> bool:
        """Whether its layers are convolutions with ReLU that keep the size of maps, each with a pooling or without."""
        return all(
            _is_convolution(layer) or (_is_pooling(layer) and _is_convolution(before))
            for before, layer in pairwise(model.layers)  # the first is the input
        )

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> tf.Tensor:  # noqa: ARG002
        """Compute the features [n, h, w, channels] of films [n, size, size, 3]."""
        maps = inputs
        for layer, following in pairwise([*self.model.layers, None]):
            if _is_convolution(layer):  # and the pooling behind it with it
                convolve = _convolve_and_pool if _is_pooling(following) else _convolve
                maps = convolve(layer)(tf.cast(maps, layer.compute_dtype), layer.kernel.value, layer.bias.value)
        return maps


def _is_convolution(layer: keras.layers.Layer | None) -> bool:
    if not isinstance(layer, keras.layers.Conv2D):
        return False
    is_rectified = layer.use_bias and layer.activation is keras.activations.relu
    return is_rectified and is_plain(layer) and layer.kernel_size == (3, 3)


def _is_pooling(layer: keras.layers.Layer | None) -> bool:
    if not isinstance(layer, keras.layers.MaxPooling2D):
        return False
    return layer.pool_size == layer.strides == (2, 2) and layer.padding == "valid"


def _convolve(layer: keras.layers.Conv2D) -> Callable[..., tf.Tensor]:
    """A differentiable function of inputs, kernel and bias: a convolution with ReLU."""

    @tf.custom_gradient
    def compute(inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        outputs = convolve_rectified(inputs, kernel, bias)

        def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            of_maps, of_bias = bias_relu_gradients(upstream, outputs)
            return *convolution_gradients(layer, inputs, kernel, of_maps), of_bias

        return outputs, gradients

    return compute


def _convolve_and_pool(layer: keras.layers.Conv2D) -> Callable[..., tf.Tensor]:
    """The same with a pooling behind it."""

    @tf.custom_gradient
    def compute(inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        maps = convolve_maps(inputs, kernel)
        outputs, choices = pool_bias_relu(maps, bias)

        def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            of_maps, of_bias = pool_bias_relu_gradients(upstream, choices, *maps.shape[1:3])
            return *convolution_gradients(layer, inputs, kernel, of_maps), of_bias

        return outputs, gradients

    return compute
