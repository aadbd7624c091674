"""Bias, ReLU and 2x2 max pooling in one pass, and gradients of these; needs the native operations."""

from __future__ import annotations

import tensorflow as tf

from radflow.native.library import operations


def bias_relu_gradients(upstream: tf.Tensor, outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of maps [n, h, w, channels] and of a bias, float32 [channels], whose sum gave the outputs by ReLU."""
    return operations().radflow_bias_relu_grad(dy=upstream, y=outputs)


def pool_bias_relu(maps: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """2x2 max pooling of ReLU(maps + bias), maps [n, h, w, channels]: [n, h // 2, w // 2, channels].

    And for the gradient which of the four pixels was taken, of the same shape: uint8, 4 where none is above 0.
    """
    return operations().radflow_bias_relu_pool(maps=maps, bias=bias)


def pool_bias_relu_gradients(
    upstream: tf.Tensor, choices: tf.Tensor, height: int, width: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of such maps, which are of `height` x `width` pixels, and of the bias, float32 [channels]."""
    return operations().radflow_bias_relu_pool_grad(dy=upstream, choices=choices, height=height, width=width)
