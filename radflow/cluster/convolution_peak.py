"""How fast this process can convolve: the roof under which training runs."""

from __future__ import annotations

import time

import tensorflow as tf

SECONDS = 0.5
"""Of measuring, after the first convolution has been set up."""
_FILMS, _SIZE, _CHANNELS, _KERNEL = 8, 28, 256, 3
"""A layer of the middle of VGG-16 and ResNet-50: large enough to be limited by arithmetic, not by memory."""


def measure_convolution_peak(precision: str) -> float:
    """Operations a second of the fastest of many convolutions with the threads of this process.

    `precision` is the Keras dtype policy that training has: mixed_bfloat16 convolves in bfloat16. Ranks that share a
    machine should measure at the same time, as they train at the same time.
    """
    dtype = tf.bfloat16 if precision == "mixed_bfloat16" else tf.float32
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
