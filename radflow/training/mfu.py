"""How fast training could be at most: the roof to which `throughput/mfu`, model FLOPs utilisation, compares it.

The roof is what convolutions alone reach on these ranks; the work is what the layers of the network are by definition.
Where 3x3 convolutions take fewer products (radflow/models/convolution.py), training may go through the roof.
"""

from __future__ import annotations

import functools
import math
import time

import keras
import numpy as np
import tensorflow as tf

from radflow.cluster.communicator import Communicator

SECONDS = 0.3
"""Seconds of measuring, after the first convolution has been set up."""
_FILMS, _SIZE, _CHANNELS, _KERNEL = 8, 28, 256, 3
"""A layer of the middle of VGG-16 and ResNet-50: large enough to be limited by arithmetic, not by memory."""


def peak_images_per_second(classifier: keras.Model, communicator: Communicator) -> float:
    """Films that all ranks together would train in a second, were convolutions at their peak all they did."""
    convolutions = (layer for layer in classifier._flatten_layers() if isinstance(layer, keras.layers.Conv2D))
    peaks = communicator.allgather(np.array([measure_convolution_peak(next(convolutions).compute_dtype)]))
    return float(peaks.sum()) / training_flops(classifier)


def training_flops(model: keras.Model) -> int:
    """Floating-point operations of one training film: multiplications and additions of convolutions and dense layers.

    Three times the forward pass, since each layer computes as much again for the gradient of its inputs and for that
    of its weights. Normalisations, activations and the optimiser are left out, as is usual: what is compared with the
    peak speed of convolutions is the work that convolutions must do.
    """
    return 3 * sum(_forward_flops(layer) for layer in model._flatten_layers() if layer.weights)


def _forward_flops(layer: keras.Layer) -> int:
    if isinstance(layer, keras.layers.Conv2D):
        positions = math.prod(layer.output.shape[1:3])
    elif isinstance(layer, keras.layers.Dense):
        positions = 1
    else:
        return 0
    return 2 * positions * math.prod(layer.kernel.shape)


@functools.cache
def measure_convolution_peak(dtype: str) -> float:
    """Operations a second of the fastest of many convolutions in `dtype`, with the threads of this process.

    Ranks that share a machine should measure at the same time, as they train at the same time. A process measures
    once.
    """
    films = tf.cast(tf.random.normal((_FILMS, _SIZE, _SIZE, _CHANNELS)), dtype)
    kernel = tf.cast(tf.random.normal((_KERNEL, _KERNEL, _CHANNELS, _CHANNELS)), dtype)

    @tf.function(autograph=False, jit_compile=False)
    def convolve() -> tf.Tensor:
        return tf.nn.conv2d(films, kernel, strides=1, padding="SAME")

    convolve()
    fastest, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        started = time.perf_counter()
        convolve()
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * _FILMS * _SIZE**2 * _KERNEL**2 * _CHANNELS**2 / fastest
