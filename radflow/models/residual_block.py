"""Residual blocks (He et al. 2016, arXiv:1512.03385) as training computes them: with little memory traffic.

As separate operations each normalisation reads its maps for their statistics and once more, ReLU and the sum with the
shortcut each make a copy, and all of these are kept for the gradient. Here the maps that convolutions give are kept
alone: statistics are taken once, normalisation and ReLU are one pass, which a 1x1 convolution behind them shares, the
sum with the shortcut is another, and the gradient computes them again.

Biases of convolutions that a normalisation follows cancel. They are not added, but to the means that are kept for
prediction, and their gradients are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import keras
import tensorflow as tf

from radflow.models.batch_norm import move_statistics
from radflow.models.convolution import convolve
from radflow.models.native_body import NativeBody
from radflow.models.normalized import Convolved, Normalized, convolved, is_one_pass, moving_statistics
from radflow.native.normalization import Maps, begin_maps
from radflow.native.pointwise import Gradient, convolve_normalized, convolve_normalized_gradients, take_gradient
from radflow.native.residual import Addend, add_normalized, add_normalized_gradients


class ResidualBlocks(NativeBody):
    """ResNet-50 of keras.applications without its top, by native operations: all variables are those of `model`."""

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> tf.Tensor:  # noqa: ARG002
        """Compute the features [n, h, w, channels] of films [n, size, size, 3].

        They can be differentiated where `training`, by the statistics of these films.
        """
        layers = {layer.name: layer for layer in self.model.layers}
        way = _Pass(layers, bool(training))
        stem = way.convolve("conv1", layers["conv1_pad"](inputs))
        maps = layers["pool1_pool"](layers["pool1_pad"](way.normalize("conv1", stem)))
        for name in layers:
            if name.endswith("_add"):
                maps = way.compute_block(name.removesuffix("_add"), maps)
        if training:
            move_statistics(way.observed)
        return _without_biases(maps, [layer.bias.value for layer in layers.values() if hasattr(layer, "kernel")])


@dataclass
class _Pass:
    """One pass of films through the network; a convolution and the normalisation behind it share a name."""

    layers: dict[str, keras.layers.Layer]
    training: bool
    observed: list[tuple[keras.layers.BatchNormalization, tf.Tensor]] = field(default_factory=list)
    """Normalisations, and the statistics of the maps that they were given."""

    def compute_block(self, name: str, maps: tf.Tensor) -> tf.Tensor:
        """What a block makes of maps."""
        inner, maps = self.branch(f"{name}_1", maps)
        inner = self.convolve_normalized(f"{name}_1", f"{name}_2", inner)
        inner = self.convolve_normalized(f"{name}_2", f"{name}_3", inner)
        if f"{name}_0_conv" not in self.layers:
            return _add([(self._norm(f"{name}_3"), inner)], maps)
        shortcut = self.convolve(f"{name}_0", maps)
        return _add([(self._norm(f"{name}_3"), inner), (self._norm(f"{name}_0"), shortcut)])

    def branch(self, name: str, maps: tf.Tensor) -> tuple[Maps, tf.Tensor]:
        """Convolve maps that are not below 0, and give them too, for others that read them."""
        convolution = self.layers[f"{name}_conv"]
        if not (self.training and is_one_pass(convolution)):
            return self.convolve(name, maps), maps
        outputs, maps = _train_branch(convolution, maps)
        return self._observe(name, outputs), maps

    def convolve(self, name: str, maps: tf.Tensor) -> Maps:
        """Convolve maps as they are."""
        values = convolve(self.layers[f"{name}_conv"], maps)
        return self._observe(name, _take_statistics(values) if self.training else values)

    def convolve_normalized(self, before: str, name: str, maps: Maps) -> Maps:
        """Normalise maps, let pass what is positive, and convolve it."""
        part = convolved(self._norm(before), self.layers[f"{name}_conv"])
        return self._observe(name, _train(part, maps) if self.training else part.compute(maps, *part.values))

    def normalize(self, name: str, maps: Maps) -> tf.Tensor:
        """Normalise maps, and let pass what is positive."""
        part = Normalized(self._norm(name))
        return _train_last(part, maps) if self.training else part.compute(maps, *part.values)

    def _norm(self, name: str) -> keras.layers.BatchNormalization:
        return self.layers[f"{name}_bn"]

    def _observe(self, name: str, maps: Maps | tf.Tensor) -> Maps:
        """What a convolution gives, with the statistics by which it is normalised."""
        norm, bias = self._norm(name), self.layers[f"{name}_conv"].bias.value
        of_bias = tf.stack([bias, tf.zeros_like(bias)])
        if not isinstance(maps, Maps):
            return Maps(maps, moving_statistics(norm) - of_bias)
        self.observed.append((norm, maps.statistics + of_bias))
        return maps


def _take_statistics(values: tf.Tensor) -> Maps:
    """Maps with their statistics, which pass gradients on as they are."""

    @tf.custom_gradient
    def compute(values: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable]:
        maps = begin_maps(values, values.shape[-1])
        return (maps.values, maps.statistics), lambda upstream, _: upstream

    return Maps(*compute(values))


def _train_branch(convolution: keras.layers.Conv2D, values: tf.Tensor) -> tuple[Maps, tf.Tensor]:
    """A differentiable 1x1 convolution, and its inputs, whose gradients are added up in the pass that takes its own.

    It is that of normalised maps, by a normalisation that changes nothing. Nor does ReLU: what is 0 came out of one.
    """
    zeros, ones = tf.zeros(values.shape[-1]), tf.ones(values.shape[-1])
    unchanged = {"gamma": ones, "beta": zeros, "epsilon": 0.0}

    @tf.custom_gradient
    def compute(values: tf.Tensor, kernel: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], Callable]:
        maps, cast = Maps(values, tf.stack([zeros, ones])), tf.cast(kernel, values.dtype)
        outputs = convolve_normalized(maps, kernel=cast, **unchanged)

        def gradients(upstream: tf.Tensor, _: tf.Tensor, others: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_maps, *_, of_kernel = convolve_normalized_gradients(
                upstream, maps, kernel=cast, **unchanged, others=Gradient(others)
            )
            return of_maps.values, of_kernel

        return (outputs.values, outputs.statistics, values), gradients

    values, statistics, inputs = compute(values, convolution.kernel.value)
    return Maps(values, statistics), inputs


def _train(part: Convolved, maps: Maps) -> Maps:
    """A differentiable convolution of normalised maps."""

    @tf.custom_gradient
    def compute(values: tf.Tensor, *parameters: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable]:
        inputs = Maps(values, maps.statistics)
        outputs = part.compute_maps(inputs, *parameters)
        return (outputs.values, outputs.statistics), lambda upstream, _: _gradients(part, upstream, inputs, parameters)

    return Maps(*compute(maps.values, *part.values))


def _train_last(part: Normalized, maps: Maps) -> tf.Tensor:
    """A differentiable normalisation with ReLU."""

    @tf.custom_gradient
    def compute(values: tf.Tensor, *parameters: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        inputs = Maps(values, maps.statistics)
        return part.compute(inputs, *parameters), lambda upstream: _gradients(part, upstream, inputs, parameters)

    return compute(maps.values, *part.values)


def _gradients(
    part: Normalized, upstream: tf.Tensor, maps: Maps, parameters: Sequence[tf.Tensor]
) -> Sequence[tf.Tensor]:
    """Gradients of the values of the maps, and of the parameters."""
    of_maps, of_parameters = part.gradients(upstream, maps, parameters)
    return [take_gradient(of_maps, maps, 0, maps.values.shape[-1]), *of_parameters]


def _add(
    normalized: Sequence[tuple[keras.layers.BatchNormalization, Maps]], shortcut: tf.Tensor | None = None
) -> tf.Tensor:
    """What is positive of the sum of two addends: both normalised, or one, with a shortcut as it is."""
    norms, maps = zip(*normalized, strict=True)
    plain = [] if shortcut is None else [shortcut]

    @tf.custom_gradient
    def compute(*inputs: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        values, gammas, betas = inputs[:2], inputs[2 : 2 + len(norms)], inputs[2 + len(norms) :]
        addends = [
            Addend(Maps(value, each.statistics), gamma, beta)
            for value, each, gamma, beta in zip(values, maps, gammas, betas, strict=False)  # but for the shortcut
        ]
        outputs = add_normalized(addends, norms[0].epsilon, *values[len(norms) :])

        def gradients(upstream: tf.Tensor) -> list[tf.Tensor]:
            of_values, of_gammas, of_betas = add_normalized_gradients(upstream, outputs, addends, norms[0].epsilon)
            return [*of_values, *of_gammas, *of_betas]

        return outputs, gradients

    gammas, betas = [norm.gamma.value for norm in norms], [norm.beta.value for norm in norms]
    return compute(*[each.values for each in maps], *plain, *gammas, *betas)


def _without_biases(outputs: tf.Tensor, biases: Sequence[tf.Tensor]) -> tf.Tensor:
    """The outputs, with gradients of 0 for biases that do not move them."""

    @tf.custom_gradient
    def compute(outputs: tf.Tensor, *biases: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        return tf.identity(outputs), lambda upstream: [upstream, *map(tf.zeros_like, biases)]

    return compute(outputs, *biases)
