"""What a film costs a network, counted from its layers."""

from __future__ import annotations

import math

import keras


def training_flops(model: keras.Model) -> int:
    """Floating-point operations of one training film: multiplications and additions of convolutions and dense layers.

    Three times the forward pass, since each layer computes as much again for the gradient of its inputs and for that
    of its weights. Normalisations, activations and the optimiser are left out, as is usual: what is compared with the
    peak speed of convolutions is the work that convolutions must do.
    """
    return 3 * sum(_forward_flops(layer) for layer in model._flatten_layers() if layer.weights)


def _forward_flops(layer: keras.Layer) -> int:
    if isinstance(layer, keras.layers.Conv2D):
        positions = math.prod(layer.output.shape[1:3])
    elif isinstance(layer, keras.layers.Dense):
        positions = 1
    else:
        return 0
    return 2 * positions * math.prod(layer.kernel.shape)
