"""Convolutions of 3x3 in float32 with fewer products than by the definition; needs the native operations.

Winograd's F(2x2, 3x3): Lavin & Gray 2016, arXiv:1509.09308, section 4.1.
"""

from __future__ import annotations

import tensorflow as tf

from radflow.native.library import operations

_WHOLE, _MOST_CHANNELS = 32, 2048


def fits_winograd(kernel: tf.Tensor) -> bool:
    """Whether a kernel [height, width, channels, filters] is one that the operation takes, forward and backward."""
    size, sides = kernel.shape[:2], kernel.shape[2:]
    return (
        kernel.dtype == tf.float32
        and size == (3, 3)
        and all(side % _WHOLE == 0 and side <= _MOST_CHANNELS for side in sides)
    )


def convolve_by_winograd(inputs: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None = None) -> tf.Tensor:
    """Maps [n, h, w, filters] of [n, h, w, channels], with stride 1 and padding SAME.

    With `bias`, float32 [filters], it is added and ReLU follows.
    """
    added = [] if bias is None else [bias]
    return operations().radflow_winograd(inputs=inputs, kernel=kernel, bias=added, of_gradient=False)


def input_gradient_by_winograd(upstream: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """The gradient of the inputs of that convolution, [n, h, w, channels], by that of its outputs."""
    return operations().radflow_winograd(inputs=upstream, kernel=kernel, bias=[], of_gradient=True)


def weight_gradient_by_winograd(inputs: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    """The gradient of the kernel of that convolution, [3, 3, channels, filters], by that of its outputs."""
    return operations().radflow_winograd_gradient(inputs=inputs, upstream=upstream)
