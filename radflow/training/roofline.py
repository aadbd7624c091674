"""The speed that training could have at most."""

from __future__ import annotations

import keras
import numpy as np

from radflow.cluster.communicator import Communicator
from radflow.cluster.convolution_peak import measure_convolution_peak
from radflow.models.flops import training_flops


def peak_images_per_second(classifier: keras.Model, communicator: Communicator) -> float:
    """Films that all ranks together would train in a second, were convolutions at their peak all they did."""
    convolutions = (layer for layer in classifier._flatten_layers() if isinstance(layer, keras.layers.Conv2D))
    peaks = communicator.allgather(np.array([measure_convolution_peak(next(convolutions).compute_dtype)]))
    return float(peaks.sum()) / training_flops(classifier)
