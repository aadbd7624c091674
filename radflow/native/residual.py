"""The sum at the end of a residual block, through ReLU; needs the native operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from radflow.native.library import operations
from radflow.native.normalization import Maps


@dataclass(frozen=True)
class Addend:
    """Maps that are normalised before they are added."""

    maps: Maps
    gamma: tf.Tensor
    """Scale: float32 [channels]."""
    beta: tf.Tensor
    """Offset: float32 [channels]."""


def add_normalized(addends: Sequence[Addend], epsilon: float, shortcut: tf.Tensor | None = None) -> tf.Tensor:
    """What is positive of the sum of two addends, [n, h, w, channels]; one of them may be a shortcut as it is."""
    return operations().radflow_residual(
        **_lists(addends), shortcut=[] if shortcut is None else [shortcut], epsilon=epsilon
    )


def add_normalized_gradients(
    upstream: tf.Tensor, outputs: tf.Tensor, addends: Sequence[Addend], epsilon: float
) -> tuple[list[tf.Tensor], list[tf.Tensor], list[tf.Tensor]]:
    """Gradients of both addends' values, and of the gammas and the betas of those that are normalised."""
    first, second, of_gammas, of_betas = operations().radflow_residual_grad(
        dy=upstream, y=outputs, **_lists(addends), epsilon=epsilon
    )
    return [first, second], of_gammas, of_betas


def _lists(addends: Sequence[Addend]) -> dict[str, list[tf.Tensor]]:
    return {
        "maps": [addend.maps.values for addend in addends],
        "statistics": [addend.maps.statistics for addend in addends],
        "gamma": [addend.gamma for addend in addends],
        "beta": [addend.beta for addend in addends],
    }
