"""Batch normalisation with ReLU in one pass, of maps that share a buffer; needs the native operations."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from radflow.native.library import operations


@dataclass(frozen=True)
class Maps:
    """Maps of which the first channels are there, with the statistics of those."""

    values: tf.Tensor
    """float32 or bfloat16 [n, h, w, channels]."""
    statistics: tf.Tensor
    """Means and biased variances, of these or of others: float32 [2, channels]."""


def begin_maps(values: tf.Tensor, channels: int) -> Maps:
    """Take the statistics of [n, h, w, fewer], and make room for so many channels in all."""
    return Maps(*operations().radflow_begin_block(maps=values, total=channels))


def append_maps(maps: Maps, values: tf.Tensor, filled: int) -> Maps:
    """Put values [n, h, w, more] behind the first `filled` channels: in place, where nothing else is to read `maps`."""
    return Maps(*operations().radflow_append(block=maps.values, statistics=maps.statistics, maps=values, filled=filled))


def normalize_relu(maps: Maps, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Normalise as many channels as there are in gamma and beta, float32 [channels], and let pass what is positive."""
    return operations().radflow_normalize_relu(
        maps=maps.values, statistics=maps.statistics, gamma=gamma, beta=beta, epsilon=epsilon
    )


def normalize_relu_gradients(
    upstream: tf.Tensor, maps: Maps, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float, others: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gradients of values, gamma and beta.

    `others` is the gradient of the values [n, h, w, channels] by all else that reads them, to which this one is added:
    in place, where nothing else is to read it. It may be absent only where all channels are normalised.
    """
    return operations().radflow_normalize_relu_grad(
        dy=upstream,
        maps=maps.values,
        statistics=maps.statistics,
        gamma=gamma,
        beta=beta,
        added=[] if others is None else [others],
        epsilon=epsilon,
    )
