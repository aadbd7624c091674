"""Dense blocks (Huang et al. 2017, arXiv:1608.06993) as training computes them: with little memory traffic.

Each layer of a block reads the maps of all earlier ones. As separate operations they are copied together again for each
layer, their statistics are taken again, and what normalisation and ReLU give is kept for the gradient twice. Here the
maps of a block lie in one buffer to which each layer appends its own; statistics of a channel are taken once;
normalisation and ReLU are one pass; and the gradient computes them again instead of keeping them (Pleiss et al. 2017,
arXiv:1707.06990).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from radflow.models.batch_norm import move_statistics
from radflow.models.convolution import convolution_gradients
from radflow.native.library import operations
from radflow.native.normalization import Maps, append_maps, begin_maps, normalize_relu, normalize_relu_gradients

_STAGES = (2, 3, 4, 5)
"""As keras.applications numbers the blocks."""


@dataclass(frozen=True)
class _Half:
    """Half of a dense layer: normalisation and ReLU, and a convolution of what they give."""

    norm: keras.layers.BatchNormalization
    convolution: keras.layers.Conv2D

    @property
    def values(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Scale, offset and kernel, which are trained."""
        return self.norm.gamma.value, self.norm.beta.value, self.convolution.kernel.value

    def compute(self, maps: Maps, gamma: tf.Tensor, beta: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Maps of the convolution."""
        normalized = normalize_relu(maps, gamma, beta, self.norm.epsilon)
        return tf.nn.conv2d(normalized, tf.cast(kernel, normalized.dtype), strides=1, padding="SAME")

    def gradients(
        self,
        upstream: tf.Tensor,
        maps: Maps,
        parameters: Sequence[tf.Tensor],
        others: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Gradients of the maps, to which those by `others` that read them are added, and of the parameters."""
        gamma, beta, kernel = parameters
        with tf.control_dependencies([upstream]):  # computed again no sooner than it is wanted, so that none is kept
            normalized = normalize_relu(maps, gamma, beta, self.norm.epsilon)
        of_normalized, of_kernel = convolution_gradients(self.convolution, normalized, kernel, upstream)
        of_maps, of_gamma, of_beta = normalize_relu_gradients(
            of_normalized, maps, gamma, beta, self.norm.epsilon, others
        )
        return of_maps, [of_gamma, of_beta, of_kernel]


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
        maps = layers["pool1"](second_pad(compute(maps, [], layers["conv1_bn"])))
        for stage in _STAGES[:-1]:
            maps = compute(maps, _halves(layers, stage), layers[f"pool{stage}_bn"])
            maps = layers[f"pool{stage}_pool"](layers[f"pool{stage}_conv"](maps))
        return compute(maps, _halves(layers, _STAGES[-1]), layers["bn"])


def _halves(layers: dict[str, keras.Layer], stage: int) -> list[_Half]:
    """The halves of all layers of a block, in their order."""
    names = [f"conv{stage}_block{number}" for number in range(1, len(layers))]
    return [
        _Half(layers[f"{name}_{half}_bn"], layers[f"{name}_{half + 1}_conv"])
        for name in names
        if f"{name}_concat" in layers
        for half in (0, 1)
    ]


def _predict_block(maps: tf.Tensor, halves: list[_Half], last: keras.layers.BatchNormalization) -> tf.Tensor:
    """Maps behind a block, normalised by `last` and through ReLU, by the moving statistics."""
    filled = maps.shape[-1]
    block = begin_maps(maps, last.gamma.shape[0])
    for first, second in zip(halves[::2], halves[1::2], strict=True):
        bottleneck = first.compute(Maps(block.values, _moving(first.norm)), *first.values)
        grown = second.compute(Maps(bottleneck, _moving(second.norm)), *second.values)
        block = append_maps(block, grown, filled)
        filled += grown.shape[-1]
    return normalize_relu(Maps(block.values, _moving(last)), last.gamma.value, last.beta.value, last.epsilon)


def _moving(norm: keras.layers.BatchNormalization) -> tf.Tensor:
    """Moving statistics as `Maps` has them."""
    return tf.stack([norm.moving_mean.value, norm.moving_variance.value])


def _train_block(maps: tf.Tensor, halves: list[_Half], last: keras.layers.BatchNormalization) -> tf.Tensor:
    """Maps behind a block, normalised by `last` and through ReLU; moving statistics follow those of these films."""
    parameters = [value for half in halves for value in half.values]
    outputs, of_block, *of_middles = _block(halves, last.epsilon)(maps, *parameters, last.gamma.value, last.beta.value)
    of_buffer = [(norm, of_block[:, : norm.gamma.shape[0]]) for norm in [*(half.norm for half in halves[::2]), last]]
    of_others = [(half.norm, statistics) for half, statistics in zip(halves[1::2], of_middles, strict=True)]
    move_statistics([*of_buffer, *of_others])
    return outputs


def _block(halves: list[_Half], epsilon: float) -> Callable[..., tuple[tf.Tensor, ...]]:
    """A differentiable function of maps and parameters.

    It gives what the last normalisation does, the statistics of the block, and those of the maps between the halves of
    each layer.
    """

    @tf.custom_gradient
    def compute(values: tf.Tensor, *parameters: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], Callable]:
        *of_halves, (gamma, beta) = [parameters[start : start + 3] for start in range(0, len(parameters), 3)]
        layers = list(zip(halves[::2], of_halves[::2], halves[1::2], of_halves[1::2], strict=True))
        filled, channels = values.shape[-1], gamma.shape[0]
        block, middles = begin_maps(values, channels), []
        for first, of_first, second, of_second in layers:
            bottleneck = first.compute(block, *of_first)
            middles.append(begin_maps(bottleneck, bottleneck.shape[-1]))
            grown = second.compute(middles[-1], *of_second)
            block = append_maps(block, grown, filled)
            filled += grown.shape[-1]

        def gradients(upstream: tf.Tensor, *_: tf.Tensor) -> list[tf.Tensor]:
            of_block, *of_parameters = normalize_relu_gradients(upstream, block, gamma, beta, epsilon)
            end = channels
            for (first, of_first, second, of_second), middle in zip(reversed(layers), reversed(middles), strict=True):
                start = end - of_second[-1].shape[-1]
                of_middle, of_later = second.gradients(of_block[..., start:end], middle, of_second)
                of_block, of_earlier = first.gradients(of_middle, block, of_first, others=of_block)
                of_parameters = [*of_earlier, *of_later, *of_parameters]
                end = start
            return [of_block[..., :end], *of_parameters]

        statistics = (block.statistics, *(middle.statistics for middle in middles))
        return (normalize_relu(block, gamma, beta, epsilon), *statistics), gradients

    return compute
