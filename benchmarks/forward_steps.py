"""radflow's contestants of benchmarks/forward.py: a classifier's forward pass over films in memory, all cores."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.measurement import FINDINGS, WARM_UP_STEPS, parser, result, wait_for_others
from radflow.cluster.threads import set_threads
from radflow.models.precision import choose_precision
from radflow.terminal import import_tensorflow

set_threads(0)
import_tensorflow()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from radflow.inference.graph import inference_graph  # noqa: E402
from radflow.models.classifier import build_classifier  # noqa: E402
from radflow.models.config import ModelConfig  # noqa: E402
from radflow.models.twin import twin_of  # noqa: E402


def training_pass(model: keras.Model) -> Callable[[np.ndarray], Any]:
    """What a training step computes before its gradients."""
    twin = twin_of(model)
    return tf.function(lambda films: twin(films, training=True), autograph=False, jit_compile=False)


WAYS: dict[str, Callable[[keras.Model], Callable[[np.ndarray], Any]]] = {
    "keras": inference_graph,
    "predict": lambda model: inference_graph(twin_of(model)),
    "training": training_pass,
}
"""The layers of the saved model, what `predict` computes in their place, and the forward pass of a training step."""


def main() -> None:
    options = parser()
    options.add_argument("--way", choices=WAYS, required=True)
    given = options.parse_args()
    size = given.image_size
    model = build_classifier(
        ModelConfig(arch=given.arch), choose_precision("auto"), size, np.full(FINDINGS, 0.1), seed=0
    )
    films = np.random.default_rng(0).integers(0, 256, (given.batch, size, size), np.uint8)
    compute = WAYS[given.way](model)
    ends = []
    for number in range(WARM_UP_STEPS + given.steps):
        compute(films).numpy()
        if number + 1 == WARM_UP_STEPS:
            wait_for_others()
        ends.append(time.perf_counter())
    print(result(given.batch, np.diff(ends)[WARM_UP_STEPS - 1 :]))


if __name__ == "__main__":
    main()
