"""Dense blocks (Huang et al. 2017, arXiv:1608.06993) as training computes them: with little memory traffic.

Each layer of a block reads the maps of all earlier ones. As separate operations they are copied together again for each
layer, their statistics are taken again, and what normalisation and ReLU give is kept for the gradient twice. Here the
maps of a block lie in one buffer to which each layer appends its own; statistics of a channel are taken once;
normalisation and ReLU are one pass, which a 1x1 convolution behind them shares; and the gradient computes them again
instead of keeping them (Pleiss et al. 2017, arXiv:1707.06990).
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from radflow.models.batch_norm import move_statistics
from radflow.models.native_body import NativeBody
from radflow.models.normalized import Convolved, Normalized, convolved
from radflow.native.normalization import append_maps, begin_maps
from radflow.native.pointwise import take_gradient

_STAGES = (2, 3, 4, 5)
"""As keras.applications numbers the blocks."""


class DenseBlocks(NativeBody):
    """A DenseNet of keras.applications without its top, by native operations: all variables are those of `model`."""

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> tf.Tensor:  # noqa: ARG002
        """Compute the features [n, h, w, channels] of films [n, size, size, 3].

        They can be differentiated where `training`, by the statistics of these films.
        """
        compute = _train_block if training else _predict_block
        layers = {layer.name: layer for layer in self.model.layers}
        # Their names count those of all models of the process.
        first_pad, second_pad = (layer for layer in self.model.layers if isinstance(layer, keras.layers.ZeroPadding2D))
        maps = layers["conv1_conv"](first_pad(inputs))
        maps = layers["pool1"](second_pad(compute(maps, [], Normalized(layers["conv1_bn"]))))
        for stage in _STAGES[:-1]:
            transition = convolved(layers[f"pool{stage}_bn"], layers[f"pool{stage}_conv"])
            maps = layers[f"pool{stage}_pool"](compute(maps, _halves(layers, stage), transition))
        return compute(maps, _halves(layers, _STAGES[-1]), Normalized(layers["bn"]))


def _halves(layers: dict[str, keras.Layer], stage: int) -> list[Convolved]:
    """The halves of all layers of a block, in their order: a 1x1 convolution, and a 3x3 one."""
    names = [f"conv{stage}_block{number}" for number in range(1, len(layers))]
    return [
        convolved(layers[f"{name}_{half}_bn"], layers[f"{name}_{half + 1}_conv"])
        for name in names
        if f"{name}_concat" in layers
        for half in (0, 1)
    ]


def _predict_block(maps: tf.Tensor, halves: list[Convolved], last: Normalized) -> tf.Tensor:
    """What `last` makes of the maps behind a block, by the moving statistics."""
    filled = maps.shape[-1]
    block = begin_maps(maps, last.norm.gamma.shape[0])
    for first, second in zip(halves[::2], halves[1::2], strict=True):
        grown = second.convolve(first.predict_between(block.values, second))
        block = append_maps(block, grown, filled)
        filled += grown.shape[-1]
    return last.predict(block.values)


def _train_block(maps: tf.Tensor, halves: list[Convolved], last: Normalized) -> tf.Tensor:
    """What `last` makes of the maps behind a block; moving statistics follow those of these films."""
    parameters = [value for part in (*halves, last) for value in part.values]
    outputs, of_block, *of_middles = _block(halves, last)(maps, *parameters)
    of_buffer = [(part.norm, of_block[:, : part.norm.gamma.shape[0]]) for part in (*halves[::2], last)]
    of_others = [(half.norm, statistics) for half, statistics in zip(halves[1::2], of_middles, strict=True)]
    move_statistics([*of_buffer, *of_others])
    return outputs


def _block(halves: list[Convolved], last: Normalized) -> Callable[..., tuple[tf.Tensor, ...]]:
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
