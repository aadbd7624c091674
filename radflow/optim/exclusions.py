"""Which variables weight decay and layer-wise adaptation pass over."""

from __future__ import annotations

import keras


def is_bias_or_norm(variable: keras.Variable) -> bool:
    """Whether a variable is a bias, or the gamma or beta of a normalisation.

    Decided by rank: these are vectors, one number a channel, and every kernel has two dimensions or more. A rule on
    names would have to know those of each layer class, and would let a misspelt one decay in silence.

    You et al. 2020 (arXiv:1904.00962) and MLPerf's ResNet-50 leave them out of decay and adaptation: their norms start
    at zero or at the square root of the number of channels and say nothing about the scale of a layer's function.
    """
    return len(variable.shape) < 2
