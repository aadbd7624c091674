"""Convolutions as training computes them: with weight gradients by matrix products where those are faster."""

from __future__ import annotations

import os
from collections.abc import Callable

import keras
import tensorflow as tf

from radflow.cpu import instruction_sets

_PIXELS_AT_A_TIME = 112 * 112
"""Films of one product of shifted films: few enough to stay in the cache and to cost little memory."""


def products_are_faster(layer: keras.layers.Conv2D) -> bool:
    """Whether the weight gradient of a layer takes less time as matrix products, on this CPU.

    oneDNN's own falls far behind the forward pass in float32 on CPUs that have AVX2 but not AVX-512, where maps are
    large, in bfloat16 on those with AMX, where kernels are 1x1 or maps are small, and on those without, where maps are
    very small. `benchmarks/weight_gradients.py` measures where products win.
    """
    if not can_take_products(layer) or not _computes_by_onednn():
        return False
    sets, side, channels = instruction_sets(), min(layer.output.shape[1:3]), min(layer.kernel.shape[2:])
    if layer.compute_dtype == "bfloat16" and "amx_bf16" in sets:
        return layer.kernel_size == (1, 1) or side <= 4 or (side <= 8 and channels >= 256)
    if layer.compute_dtype == "bfloat16" and "avx512_bf16" in sets:
        return side == 1 or (side <= 4 and layer.kernel_size == (1, 1))
    if layer.compute_dtype == "float32" and "avx2" in sets and "avx512f" not in sets:
        return (side >= 28 and channels >= 16) or (side >= 7 and channels >= 512)
    return False


def can_take_products(layer: keras.layers.Conv2D) -> bool:
    """Whether the layer is one of those whose weight gradient `weight_gradient` knows."""
    size, padding = layer.kernel_size, layer.padding
    is_plain = layer.strides == layer.dilation_rate == (1, 1) and layer.groups == 1
    return is_plain and (size == (1, 1) or (size == (3, 3) and padding == "same"))


def _computes_by_onednn() -> bool:
    return os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "1" and not tf.config.list_physical_devices("GPU")


class ProductGradientConvolution(keras.layers.Conv2D):
    """A convolution with the variables of another, whose weight gradient is a sum of matrix products."""

    def __init__(self, original: keras.layers.Conv2D) -> None:
        super().__init__(**original.get_config())
        self._kernel, self.bias = original.kernel, original.bias
        self.built = True

    def convolution_op(self, inputs: tf.Tensor, kernel: keras.Variable) -> tf.Tensor:
        """Convolve [n, h, w, channels] with [size, size, channels, filters]; Keras adds bias and activation."""
        return _convolve(inputs, tf.convert_to_tensor(kernel))


@tf.custom_gradient
def _convolve(inputs: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _input_gradient(inputs, kernel, upstream), weight_gradient(inputs, upstream, kernel.shape[0])

    return tf.nn.conv2d(inputs, kernel, strides=1, padding="SAME"), gradients


def convolution_gradients(
    layer: keras.layers.Conv2D, inputs: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of inputs and kernel of a convolution with stride 1 and padding SAME, as fast as they are on this CPU.

    The kernel may be of another format than what is convolved; its gradient is of its own.
    """
    if products_are_faster(layer):
        of_kernel = weight_gradient(inputs, upstream, kernel.shape[0])
    else:
        of_kernel = tf.raw_ops.Conv2DBackpropFilter(
            input=inputs, filter_sizes=kernel.shape, out_backprop=upstream, strides=[1, 1, 1, 1], padding="SAME"
        )
    return _input_gradient(inputs, kernel, upstream), tf.cast(of_kernel, kernel.dtype)


def _input_gradient(inputs: tf.Tensor, kernel: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    """Gradient of the inputs of a convolution with stride 1 and padding SAME."""
    return tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.shape(inputs),
        filter=tf.cast(kernel, inputs.dtype),
        out_backprop=upstream,
        strides=[1, 1, 1, 1],
        padding="SAME",
    )


def weight_gradient(inputs: tf.Tensor, upstream: tf.Tensor, size: int) -> tf.Tensor:
    """Gradient of the weights of a convolution with stride 1 and padding SAME: [size, size, channels, filters].

    Parameters
    ----------
    inputs
        Of the convolution: [n, h, w, channels].
    upstream
        Gradient of what it gave: [n, h, w, filters].
    size
        Height and width of its kernel in pixels: 1 or 3.
    """
    if size == 1:
        return _product(inputs, upstream)[tf.newaxis, tf.newaxis]
    (batch, height, width, channels), filters = inputs.shape, upstream.shape[-1]
    if height == width == 1:  # all but the middle of the kernel meets the padding
        return tf.pad(_product(inputs, upstream)[tf.newaxis, tf.newaxis], [[1, 1], [1, 1], [0, 0], [0, 0]])
    at_a_time = max(1, _PIXELS_AT_A_TIME // (height * width))
    films = tf.shape(inputs)[0]

    def add_films(first: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        some = slice(first, first + at_a_time)
        return first + at_a_time, total + tf.cast(_products_of_shifts(inputs[some], upstream[some]), total.dtype)

    if batch is not None and batch <= at_a_time:
        total = _products_of_shifts(inputs, upstream)
    else:
        nothing = tf.zeros([3, channels, 3 * filters])  # float32, whatever is multiplied: sums of bfloat16 lose films
        _, total = tf.while_loop(lambda first, _: first < films, add_films, (0, nothing), parallel_iterations=1)
    by_tap = tf.transpose(tf.reshape(total, [3, channels, 3, filters]), [0, 2, 1, 3])
    return tf.cast(by_tap, inputs.dtype)


def _products_of_shifts(inputs: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    """[3, channels, 3 x filters]: for each row of a 3x3 kernel one product, for its columns side by side.

    All rows of all films lie behind each other, with one row of zeros above and one below each film: what is a row
    further up or down is then a slice of the same memory.
    """
    width = inputs.shape[2]
    rows_around = [[0, 0], [1, 1], [0, 0], [0, 0]]
    columns = [
        tf.pad(upstream[:, :, 1:], [[0, 0], [0, 2], [0, 1], [0, 0]]),
        tf.pad(upstream, [[0, 0], [0, 2], [0, 0], [0, 0]]),
        tf.pad(upstream[:, :, :-1], [[0, 0], [0, 2], [1, 0], [0, 0]]),
    ]
    pixels = _pixels(tf.pad(inputs, rows_around))
    beside = _pixels(tf.concat(columns, axis=-1))
    shared = tf.shape(pixels)[0] - 2 * width
    return tf.stack([_product(pixels[row * width :][:shared], beside[:shared]) for row in range(3)])


def _product(inputs: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    return tf.matmul(_pixels(inputs), _pixels(upstream), transpose_a=True)


def _pixels(maps: tf.Tensor) -> tf.Tensor:
    """[n, h, w, channels] as [n x h x w, channels]."""
    return tf.reshape(maps, [-1, maps.shape[-1]])
