"""1x1 convolutions of normalised maps through ReLU, in one pass over the maps; needs the native operations."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from radflow.native.library import operations
from radflow.native.normalization import Maps


@dataclass(frozen=True)
class Gradient:
    """The gradient of maps, but for a part that is linear in them."""

    values: tf.Tensor
    """Of the maps' format and shape."""
    linear: tf.Tensor | None = None
    """Constants and slopes: float32 [2, channels]; None where nothing is missing."""


@dataclass(frozen=True)
class Normalization:
    """A normalisation by statistics that are known."""

    statistics: tf.Tensor
    """Means and variances: float32 [2, channels]."""
    gamma: tf.Tensor
    beta: tf.Tensor
    epsilon: float


def convolve_normalized(maps: Maps, gamma: tf.Tensor, beta: tf.Tensor, kernel: tf.Tensor, epsilon: float) -> Maps:
    """Maps of a 1x1 convolution of what `normalize_relu` gives, [n, h, w, filters].

    The kernel is [1, 1, channels, filters], each a multiple of 32 and at most 2,048, of the maps' format.
    """
    of = {"maps": maps.values, "statistics": maps.statistics, "gamma": gamma, "beta": beta}
    return Maps(*operations().radflow_pointwise(**of, kernel=kernel, epsilon=epsilon))


def convolve_between_normalizations(
    maps: Maps,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    kernel: tf.Tensor,
    epsilon: float,
    following: Normalization,
) -> tf.Tensor:
    """What `normalize_relu` makes, by `following`, of the maps that `convolve_normalized` gives."""
    return operations().radflow_pointwise_normalized(
        maps=maps.values,
        statistics=maps.statistics,
        gamma=gamma,
        beta=beta,
        kernel=kernel,
        y_statistics=following.statistics,
        y_gamma=following.gamma,
        y_beta=following.beta,
        epsilon=epsilon,
        y_epsilon=following.epsilon,
    )


def convolve_normalized_gradients(
    upstream: tf.Tensor,
    maps: Maps,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    kernel: tf.Tensor,
    epsilon: float,
    others: Gradient | None = None,
) -> tuple[Gradient, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Gradients of the maps, to which those by `others` that read them are added, and of gamma, beta and kernel."""
    values, linear, *of_parameters = operations().radflow_pointwise_grad(
        dy=upstream,
        maps=maps.values,
        statistics=maps.statistics,
        gamma=gamma,
        beta=beta,
        kernel=kernel,
        linear=tf.zeros((2, maps.values.shape[-1])) if others is None or others.linear is None else others.linear,
        added=[] if others is None else [others.values],
        epsilon=epsilon,
    )
    return (Gradient(values, linear), *of_parameters)


def take_gradient(gradient: Gradient, maps: Maps, first: int, last: int) -> tf.Tensor:
    """The whole gradient of the channels [first, last) of maps."""
    if gradient.linear is None:
        return gradient.values[..., first:last]
    return operations().radflow_take_gradient(
        gradient=gradient.values, linear=gradient.linear, maps=maps.values, first=first, count=last - first
    )
