"""Bias, ReLU and 2x2 max pooling in one pass, and their gradients; needs the native operations."""

from __future__ import annotations

import tensorflow as tf

from radflow.native.library import operations


def bias_relu_gradients(upstream: tf.Tensor, outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of maps [n, h, w, channels] and of their bias, float32 [channels], by what ReLU made of both."""
    return operations().radflow_bias_relu_grad(dy=upstream, y=outputs)


def pool_bias_relu(maps: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """What ReLU and a 2x2 max pooling, one behind the other, make of maps [n, h, w, channels] with a bias.

    That is [n, h // 2, w // 2, channels], and with it, for the gradient, which of four pixels was taken: uint8, 4 where
    none is above 0.
    """
    return operations().radflow_bias_relu_pool(maps=maps, bias=bias)


def pool_bias_relu_gradients(
    upstream: tf.Tensor, choices: tf.Tensor, height: int, width: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of such maps, of so many pixels, and of their bias, float32 [channels]."""
    return operations().radflow_bias_relu_pool_grad(dy=upstream, choices=choices, height=height, width=width)
