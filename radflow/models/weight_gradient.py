"""The gradient of a convolution's weights, by whatever computes it fastest on this CPU."""

from __future__ import annotations

import os
from collections.abc import Callable

import keras
import tensorflow as tf

from radflow.cpu import instruction_sets
from radflow.native.library import operations
from radflow.native.winograd import fits_winograd, weight_gradient_by_winograd

_PIXELS_AT_A_TIME = 112 * 112
"""Films of one product of shifted films: few enough to stay in the cache and to cost little memory."""
_FEW_CHANNELS = 8
"""Below these, as in a first layer, our own operation has too little to multiply at a time in bfloat16."""
_SMALL_MAP = 4
"""Pixels of a side."""
_MANY_FILTERS = 64
"""Layers with fewer spend so much on transforming maps that Winograd needs larger ones to win."""

WeightGradient = Callable[[tf.Tensor, tf.Tensor, int], tf.Tensor]
"""Of inputs [n, h, w, channels], the gradient of the outputs [n, h, w, filters], and the kernel's height and width in
pixels: the gradient of the weights, [size, size, channels, filters]."""


def faster_weight_gradient(layer: keras.layers.Conv2D) -> WeightGradient | None:
    """What computes the weight gradient of a layer faster than TensorFlow does on this CPU; None where nothing does.

    `benchmarks/weight_gradients.py` measures what does.
    """
    if not is_plain(layer) or not computes_by_onednn():
        return None
    if _winograd_gradient_is_faster(layer):
        return gradient_by_winograd
    if _own_is_faster(layer) and operations() is not None:
        return gradient_by_own_operation
    return gradient_by_products if _products_are_faster(layer) else None


def is_plain(layer: keras.layers.Conv2D) -> bool:
    """Whether a convolution is one of those whose weight gradient is known here: 1x1 or 3x3, with stride 1."""
    size, padding = layer.kernel_size, layer.padding
    has_no_gaps = layer.strides == layer.dilation_rate == (1, 1) and layer.groups == 1
    return has_no_gaps and (size == (1, 1) or (size == (3, 3) and padding == "same"))


def has_fast_products(number: str) -> bool:
    """Whether the products of native operations are as fast as oneDNN's on this CPU, of float32 or bfloat16.

    They are by AVX2 and AVX-512, with and without its bfloat16, but not where there is AMX, which they do not use.
    """
    sets = instruction_sets()
    return "avx2" in sets and not (number == "bfloat16" and "amx_bf16" in sets)


def winograd_is_faster(kernel: tf.Tensor) -> bool:
    """Whether a convolution and the gradient of its inputs are faster by Winograd, for whatever maps.

    They are on CPUs with AVX2 alone. With AVX-512 it has not been measured.
    """
    sets = instruction_sets()
    has_avx2_alone = "avx2" in sets and "avx512f" not in sets
    return fits_winograd(kernel) and has_avx2_alone and computes_by_onednn() and operations() is not None


def _winograd_gradient_is_faster(layer: keras.layers.Conv2D) -> bool:
    """Whether the weight gradient is, too: on small maps tiles beyond the edge outweigh the products saved."""
    side, filters = min(layer.output.shape[1:3]), layer.kernel.shape[3]
    has_large_maps = side >= (_SMALL_MAP if filters >= _MANY_FILTERS else 2 * _SMALL_MAP)
    return layer.compute_dtype == "float32" and has_large_maps and winograd_is_faster(layer.kernel.value)


def _own_is_faster(layer: keras.layers.Conv2D) -> bool:
    """Whether the native operation is faster than oneDNN's, and than matrix products.

    In float32 it is for 3x3 kernels, on CPUs with AVX-512 on small maps only.
    """
    number = layer.compute_dtype
    if not has_fast_products(number):
        return False
    if number == "bfloat16":
        return min(layer.kernel.shape[2:]) >= _FEW_CHANNELS
    has_small_maps = min(layer.output.shape[1:3]) <= _SMALL_MAP
    is_fast_here = has_small_maps or "avx512f" not in instruction_sets()
    return number == "float32" and layer.kernel_size == (3, 3) and is_fast_here


def _products_are_faster(layer: keras.layers.Conv2D) -> bool:
    """Whether matrix products are faster than oneDNN's own weight gradient.

    That falls far behind the forward pass in float32 on CPUs that have AVX2 but not AVX-512, where maps are large; in
    bfloat16 on those with AMX, where kernels are 1x1 or maps are small, and on others, where maps are very small.
    """
    sets, side, channels = instruction_sets(), min(layer.output.shape[1:3]), min(layer.kernel.shape[2:])
    if layer.compute_dtype == "bfloat16" and "amx_bf16" in sets:
        return layer.kernel_size == (1, 1) or side <= 4 or (side <= 8 and channels >= 256)
    if layer.compute_dtype == "bfloat16" and "avx512_bf16" in sets:
        return side == 1 or (side <= 4 and layer.kernel_size == (1, 1))
    if layer.compute_dtype == "float32" and "avx2" in sets and "avx512f" not in sets:
        return (side >= 28 and channels >= 16) or (side >= 7 and channels >= 512)
    return False


def computes_by_onednn() -> bool:
    """Whether TensorFlow computes on this CPU, by oneDNN."""
    return os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "1" and not tf.config.list_physical_devices("GPU")


def gradient_by_own_operation(inputs: tf.Tensor, upstream: tf.Tensor, size: int) -> tf.Tensor:
    """A `WeightGradient` by a native operation, in float32 whatever is multiplied; the kernel's size is odd."""
    return operations().radflow_weight_gradient(inputs=inputs, upstream=upstream, size=size)


def gradient_by_winograd(inputs: tf.Tensor, upstream: tf.Tensor, _size: int) -> tf.Tensor:
    """A `WeightGradient` of a kernel that `fits_winograd`."""
    return weight_gradient_by_winograd(inputs, upstream)


def gradient_by_products(inputs: tf.Tensor, upstream: tf.Tensor, size: int) -> tf.Tensor:
    """A `WeightGradient` by matrix products; the kernel's size is 1 or 3."""
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
