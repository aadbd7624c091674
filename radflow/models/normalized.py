"""Normalisation with ReLU, and a convolution behind it, by the native operations; gradients compute it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from radflow.models.convolution import convolution_gradients, convolve_maps
from radflow.models.weight_gradient import has_fast_products
from radflow.native.normalization import Maps, begin_maps, normalize_relu, normalize_relu_gradients
from radflow.native.pointwise import (
    Gradient,
    Normalization,
    convolve_between_normalizations,
    convolve_normalized,
    convolve_normalized_gradients,
)


@dataclass(frozen=True)
class Normalized:
    """Normalisation and ReLU."""

    norm: keras.layers.BatchNormalization

    @property
    def values(self) -> tuple[tf.Tensor, ...]:
        """Scale and offset, which are trained, and what else is."""
        return self.norm.gamma.value, self.norm.beta.value

    def compute(self, maps: Maps, *parameters: tf.Tensor) -> tf.Tensor:
        """What comes out."""
        gamma, beta = parameters
        return normalize_relu(maps, gamma, beta, self.norm.epsilon)

    def predict(self, values: tf.Tensor) -> tf.Tensor:
        """What comes out by the moving statistics."""
        return self.compute(Maps(values, moving_statistics(self.norm)), *self.values)

    def gradients(
        self, upstream: tf.Tensor, maps: Maps, parameters: Sequence[tf.Tensor], others: Gradient | None = None
    ) -> tuple[Gradient, list[tf.Tensor]]:
        """Gradients of the maps, to which those by `others` that read them are added, and of the parameters."""
        gamma, beta = parameters
        added, linear = (None, None) if others is None else (others.values, others.linear)
        of_maps, *of_parameters = normalize_relu_gradients(upstream, maps, gamma, beta, self.norm.epsilon, added)
        return Gradient(of_maps, linear), of_parameters


@dataclass(frozen=True)
class Convolved(Normalized):
    """Normalisation and ReLU, and a convolution of what they give."""

    convolution: keras.layers.Conv2D

    @property
    def values(self) -> tuple[tf.Tensor, ...]:
        """Scale, offset and kernel."""
        return *super().values, self.convolution.kernel.value

    def compute(self, maps: Maps, *parameters: tf.Tensor) -> tf.Tensor:
        """What comes out."""
        *of_norm, kernel = parameters
        return convolve_maps(super().compute(maps, *of_norm), kernel)

    def predict_between(self, values: tf.Tensor, following: Normalized) -> tf.Tensor:
        """What a normalisation makes of what comes out, both by their moving statistics."""
        return Normalized(following.norm).predict(self.predict(values))

    def convolve(self, normalized: tf.Tensor) -> tf.Tensor:
        """What comes out of maps that are normalised."""
        return convolve_maps(normalized, self.convolution.kernel.value)

    def compute_maps(self, maps: Maps, *parameters: tf.Tensor) -> Maps:
        """What comes out, with its statistics."""
        values = self.compute(maps, *parameters)
        return begin_maps(values, values.shape[-1])

    def gradients(
        self, upstream: tf.Tensor, maps: Maps, parameters: Sequence[tf.Tensor], others: Gradient | None = None
    ) -> tuple[Gradient, list[tf.Tensor]]:
        """Gradients of the maps, with those by `others`, and of the parameters."""
        *of_norm, kernel = parameters
        with tf.control_dependencies([upstream]):  # computed again no sooner than it is wanted, so that none is kept
            normalized = super().compute(maps, *of_norm)
        of_normalized, of_kernel = convolution_gradients(self.convolution, normalized, kernel, upstream)
        of_maps, of_parameters = super().gradients(of_normalized, maps, of_norm, others)
        return of_maps, [*of_parameters, of_kernel]


class Pointwise(Convolved):
    """The same with a 1x1 convolution, in one pass over the maps."""

    def compute(self, maps: Maps, *parameters: tf.Tensor) -> tf.Tensor:
        """What comes out."""
        return self.compute_maps(maps, *parameters).values

    def predict_between(self, values: tf.Tensor, following: Normalized) -> tf.Tensor:
        """What a normalisation makes of what comes out, in the same pass."""
        gamma, beta, kernel = self.values
        maps, norm = Maps(values, moving_statistics(self.norm)), following.norm
        behind = Normalization(moving_statistics(norm), norm.gamma.value, norm.beta.value, norm.epsilon)
        kernel = tf.cast(kernel, values.dtype)
        return convolve_between_normalizations(maps, gamma, beta, kernel, self.norm.epsilon, behind)

    def compute_maps(self, maps: Maps, *parameters: tf.Tensor) -> Maps:
        """What comes out, with its statistics."""
        gamma, beta, kernel = parameters
        return convolve_normalized(maps, gamma, beta, tf.cast(kernel, maps.values.dtype), self.norm.epsilon)

    def gradients(
        self, upstream: tf.Tensor, maps: Maps, parameters: Sequence[tf.Tensor], others: Gradient | None = None
    ) -> tuple[Gradient, list[tf.Tensor]]:
        """Gradients of the maps, with those by `others`, and of the parameters."""
        gamma, beta, kernel = parameters
        of_maps, *of_parameters = convolve_normalized_gradients(
            upstream, maps, gamma, beta, tf.cast(kernel, maps.values.dtype), self.norm.epsilon, others
        )
        return of_maps, of_parameters


def convolved(norm: keras.layers.BatchNormalization, convolution: keras.layers.Conv2D) -> Convolved:
    """Normalisation and convolution, fused into one pass over the maps where this CPU computes that faster."""
    return (Pointwise if is_one_pass(convolution) else Convolved)(norm, convolution)


def is_one_pass(convolution: keras.layers.Conv2D) -> bool:
    """Whether normalised maps are convolved in the pass that normalises them: 1x1, and faster so on this CPU."""
    *size, channels, filters = convolution.kernel.shape
    fits = size == [1, 1] and channels % 32 == filters % 32 == 0 and max(channels, filters) <= 2048
    return fits and convolution.strides == (1, 1) and has_fast_products(convolution.compute_dtype)


def moving_statistics(norm: keras.layers.BatchNormalization) -> tf.Tensor:
    """Moving statistics as `Maps` has them."""
    return tf.stack([norm.moving_mean.value, norm.moving_variance.value])
