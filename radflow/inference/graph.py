"""A classifier as one graph; models carry this module for serving."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    import keras
    import numpy as np


def inference_graph(model: keras.Model, batch: int | None = None) -> Callable[[np.ndarray], Any]:
    """Compile films uint8 [n, size, size] -> the model's output, or outputs, as tensors.

    Called layer by layer, DenseNet-121 would spend its time between the layers. The graph is traced once: for any n, or
    for `batch` films alone.
    """
    films = tf.TensorSpec((batch, *model.input_shape[1:]), tf.uint8)
    predict = tf.function(input_signature=[films], autograph=False, jit_compile=False)
    return predict(lambda films: model(films, training=False))
