"""Dense blocks (Huang et al. 2017, arXiv:1608.06993) as training computes them: with little memory traffic.

Each layer of a block reads the maps of all earlier ones. As separate operations they are copied together again for each
layer, their statistics are taken again, and what normalisation and ReLU give is kept for the gradient twice. Here the
maps of a block lie in one buffer to which each layer appends its own; statistics of a channel are taken once;
normalisation and ReLU are one pass, which a 1x1 convolution behind them shares; and the gradient computes them again
instead of keeping them (Pleiss et al. 2017, arXiv:1707.06990).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from radflow.models.batch_norm import move_statistics
from radflow.models.convolution import convolution_gradients
from radflow.models.weight_gradient import has_fast_products
from radflow.native.library import operations
from radflow.native.normalization import Maps, append_maps, begin_maps, normalize_relu, normalize_relu_gradients
from radflow.native.pointwise import Gradient, convolve_normalized, convolve_normalized_gradients, take_gradient

_STAGES = (2, 3, 4, 5)
"""As keras.applications numbers the blocks."""


@dataclass(frozen=True)
class _Normalized:
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

    def gradients(
        self, upstream: tf.Tensor, maps: Maps, parameters: Sequence[tf.Tensor], others: Gradient | None = None
    ) -> tuple[Gradient, list[tf.Tensor]]:
        """Gradients of the maps, to which those by `others` that read them are added, and of the parameters."""
        gamma, beta = parameters
        added, linear = (None, None) if others is None else (others.values, others.linear)
        of_maps, *of_parameters = normalize_relu_gradients(upstream, maps, gamma, beta, self.norm.epsilon, added)
        return Gradient(of_maps, linear), of_parameters


@dataclass(frozen=True)
class _Convolved(_Normalized):
    """Normalisation and ReLU, and a convolution of what they give."""

    convolution: keras.layers.Conv2D

    @property
    def values(self) -> tuple[tf.Tensor, ...]:
        return *super().values, self.convolution.kernel.value

    def compute(self, maps: Maps, *parameters: tf.Tensor) -> tf.Tensor:
        *of_norm, kernel = parameters
        normalized = super().compute(maps, *of_norm)
        return tf.nn.conv2d(normalized, tf.cast(kernel, normalized.dtype), strides=1, padding="SAME")

    def compute_maps(self, maps: Maps, *parameters: tf.Tensor) -> Maps:
        """What comes out, with its statistics."""
        values = self.compute(maps, *parameters)
        return begin_maps(values, values.shape[-1])

    def gradients(
        self, upstream: tf.Tensor, maps: Maps, parameters: Sequence[tf.Tensor], others: Gradient | None = None
    ) -> tuple[Gradient, list[tf.Tensor]]:
        *of_norm, kernel = parameters
        with tf.control_dependencies([upstream]):  # computed again no sooner than it is wanted, so that none is kept
            normalized = super().compute(maps, *of_norm)
        of_normalized, of_kernel = convolution_gradients(self.convolution, normalized, kernel, upstream)
        of_maps, of_parameters = super().gradients(of_normalized, maps, of_norm, others)
        return of_maps, [*of_parameters, of_kernel]


class _Pointwise(_Convolved):
    """The same with a 1x1 convolution, in one pass over the maps."""

    def compute(self, maps: Maps, *parameters: tf.Tensor) -> tf.Tensor:
        return self.compute_maps(maps, *parameters).values

    def compute_maps(self, maps: Maps, *parameters: tf.Tensor) -> Maps:
        gamma, beta, kernel = parameters
        return convolve_normalized(maps, gamma, beta, tf.cast(kernel, maps.values.dtype), self.norm.epsilon)

    def gradients(
        self, upstream: tf.Tensor, maps: Maps, parameters: Sequence[tf.Tensor], others: Gradient | None = None
    ) -> tuple[Gradient, list[tf.Tensor]]:
        gamma, beta, kernel = parameters
        of_maps, *of_parameters = convolve_normalized_gradients(
            upstream, maps, gamma, beta, tf.cast(kernel, maps.values.dtype), self.norm.epsilon, others
        )
        return of_maps, of_parameters


def _convolved(norm: keras.layers.BatchNormalization, convolution: keras.layers.Conv2D) -> _Convolved:
    """In one pass where that is possible, and faster on this CPU."""
    *size, channels, filters = convolution.kernel.shape
    fits = size == [1, 1] and channels % 32 == filters % 32 == 0 and max(channels, filters) <= 2048
    return (_Pointwise if fits and has_fast_products(convolution.compute_dtype) else _Convolved)(norm, convolution)


def computes_dense_blocks(model: keras.Model) -> bool:
    """Whether a DenseNet of keras.applications, with batch normalisation, can be computed by the native operations."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not model.name.startswith("densenet") or not norms or tf.config.list_physical_devices("GPU"):
        return False
    is_usual = all(norm.trainable and not norm.synchronized for norm in norms)
    return is_usual and len({norm.momentum for norm in norms}) == 1 and operations() is not None


class DenseBlocks(keras.layers.Layer):
    """A DenseNet of keras.applications without its top, by native operations: all variables are those of `model`."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__(name=model.name, dtype=model.layers[-1].dtype_policy, autocast=False)  # as convolutions are
        self.model = model  # a tracked attribute: its variables are those of this layer, in its order
        self.built = True

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """As of the model."""
        return self.model.compute_output_shape(input_shape)

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> tf.Tensor:  # noqa: ARG002
        """Compute the features [n, h, w, channels] of films [n, size, size, 3].

        They can be differentiated where `training`, by the statistics of these films.
        """
        compute = _train_block if training else _predict_block
        layers = {layer.name: layer for layer in self.model.layers}
        # Their names count those of all models of the process.
        first_pad, second_pad = (layer for layer in self.model.layers if isinstance(layer, keras.layers.ZeroPadding2D))
        maps = layers["conv1_conv"](first_pad(inputs))
        maps = layers["pool1"](second_pad(compute(maps, [], _Normalized(layers["conv1_bn"]))))
        for stage in _STAGES[:-1]:
            transition = _convolved(layers[f"pool{stage}_bn"], layers[f"pool{stage}_conv"])
            maps = layers[f"pool{stage}_pool"](compute(maps, _halves(layers, stage), transition))
        return compute(maps, _halves(layers, _STAGES[-1]), _Normalized(layers["bn"]))


def _halves(layers: dict[str, keras.Layer], stage: int) -> list[_Convolved]:
    """The halves of all layers of a block, in their order: a 1x1 convolution, and a 3x3 one."""
    names = [f"conv{stage}_block{number}" for number in range(1, len(layers))]
    return [
        _convolved(layers[f"{name}_{half}_bn"], layers[f"{name}_{half + 1}_conv"])
        for name in names
        if f"{name}_concat" in layers
        for half in (0, 1)
    ]


def _predict_block(maps: tf.Tensor, halves: list[_Convolved], last: _Normalized) -> tf.Tensor:
    """What `last` makes of the maps behind a block, by the moving statistics."""
    filled = maps.shape[-1]
    block = begin_maps(maps, last.norm.gamma.shape[0])
    for first, second in zip(halves[::2], halves[1::2], strict=True):
        bottleneck = first.compute(Maps(block.values, _moving(first.norm)), *first.values)
        grown = second.compute(Maps(bottleneck, _moving(second.norm)), *second.values)
        block = append_maps(block, grown, filled)
        filled += grown.shape[-1]
    return last.compute(Maps(block.values, _moving(last.norm)), *last.values)


def _moving(norm: keras.layers.BatchNormalization) -> tf.Tensor:
    """Moving statistics as `Maps` has them."""
    return tf.stack([norm.moving_mean.value, norm.moving_variance.value])


def _train_block(maps: tf.Tensor, halves: list[_Convolved], last: _Normalized) -> tf.Tensor:
    """What `last` makes of the maps behind a block; moving statistics follow those of these films."""
    parameters = [value for part in (*halves, last) for value in part.values]
    outputs, of_block, *of_middles = _block(halves, last)(maps, *parameters)
    of_buffer = [(part.norm, of_block[:, : part.norm.gamma.shape[0]]) for part in (*halves[::2], last)]
    of_others = [(half.norm, statistics) for half, statistics in zip(halves[1::2], of_middles, strict=True)]
    move_statistics([*of_buffer, *of_others])
    return outputs


def _block(halves: list[_Convolved], last: _Normalized) -> Callable[..., tuple[tf.Tensor, ...]]:
    """A differentiable function of maps and parameters.

    It gives what `last` does, the statistics of the block, and those of the maps between the halves of each layer.
    """

    @tf.custom_gradient
    def compute(values: tf.Tensor, *parameters: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], Callable]:
        of_halves = [parameters[start : start + 3] for start in range(0, 3 * len(halves), 3)]
        of_last = parameters[3 * len(halves) :]
        layers = list(zip(halves[::2], of_halves[::2], halves[1::2], of_halves[1::2], strict=True))
        filled, middles = values.shape[-1], []
        block = begin_maps(values, last.norm.gamma.shape[0])
        for first, of_first, second, of_second in layers:
            middles.append(first.compute_maps(block, *of_first))
            grown = second.compute(middles[-1], *of_second)
            block = append_maps(block, grown, filled)
            filled += grown.shape[-1]

        def gradients(upstream: tf.Tensor, *_: tf.Tensor) -> list[tf.Tensor]:
            of_block, of_parameters = last.gradients(upstream, block, of_last)
            end = filled
            for (first, of_first, second, of_second), middle in zip(reversed(layers), reversed(middles), strict=True):
                start = end - of_second[-1].shape[-1]
                of_grown = take_gradient(of_block, block, start, end)
                of_middle, of_later = second.gradients(of_grown, middle, of_second)
                of_block, of_earlier = first.gradients(of_middle.values, block, of_first, others=of_block)
                of_parameters = [*of_earlier, *of_later, *of_parameters]
                end = start
            return [take_gradient(of_block, block, 0, end), *of_parameters]

        statistics = (block.statistics, *(middle.statistics for middle in middles))
        return (last.compute(block, *of_last), *statistics), gradients

    return compute
