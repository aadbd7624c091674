"""How fast this process can convolve: the roof under which training runs."""

from __future__ import annotations

import functools
import time

import tensorflow as tf

SECONDS = 0.3
"""Seconds of measuring, after the first convolution has been set up."""
_FILMS, _SIZE, _CHANNELS, _KERNEL = 8, 28, 256, 3
"""A layer of the middle of VGG-16 and ResNet-50: large enough to be limited by arithmetic, not by memory."""


@functools.cache
def measure_convolution_peak(dtype: str) -> float:
    """Operations a second of the fastest of many convolutions in `dtype`, with the threads of this process.

    Ranks that share a machine should measure at the same time, as they train at the same time. A process measures
    once.
    """
    films = tf.cast(tf.random.normal((_FILMS, _SIZE, _SIZE, _CHANNELS)), dtype)
    kernel = tf.cast(tf.random.normal((_KERNEL, _KERNEL, _CHANNELS, _CHANNELS)), dtype)

    @tf.function(jit_compile=False)
    def convolve() -> tf.Tensor:
        return tf.nn.conv2d(films, kernel, strides=1, padding="SAME")

    convolve()
    fastest, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        started = time.perf_counter()
        convolve()
        fastest = min(fastest, time.perf_counter() - started)
    return 2 * _FILMS * _SIZE**2 * _KERNEL**2 * _CHANNELS**2 / fastest
