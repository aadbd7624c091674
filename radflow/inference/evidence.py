"""Where a classifier sees its evidence, for many films: its activation maps as a function of arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from radflow.inference.graph import inference_graph
from radflow.models.activation_maps import with_activation_maps

Maps = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Films uint8 [n, size, size] -> class activation maps [n, h, w, findings]."""


def maps_of(model: keras.Model, columns: Sequence[int]) -> Maps | None:
    """The activation maps of these outputs; None for a model whose head has none."""
    try:
        graph = inference_graph(with_activation_maps(model))
    except ValueError:
        return None
    return lambda films: graph(films)[1].numpy()[..., list(columns)]
