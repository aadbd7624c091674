"""The contestant that a user has today: a network of keras.applications and `fit` in float32, with all defaults."""

from __future__ import annotations

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from benchmarks.measurement import FINDINGS, WARM_UP_STEPS, parser, result, wait_for_others
from radflow.models.backbones import ARCHITECTURES


class StepTimes(keras.callbacks.Callback):
    """When each batch ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:  # noqa: ARG002
        if batch + 1 == WARM_UP_STEPS:
            wait_for_others()
        self.ends.append(time.perf_counter())


def main() -> None:
    options = parser().parse_args()
    size, films = options.image_size, (WARM_UP_STEPS + options.steps) * options.batch
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (films, size, size, 3), np.uint8)
    labels = (generator.random((films, FINDINGS)) < 0.1).astype(np.float32)
    inputs = keras.Input((size, size, 3))
    application = getattr(keras.applications, ARCHITECTURES[options.arch].application)
    body = application(include_top=False, weights=None, input_shape=(size, size, 3), pooling="avg")
    probabilities = keras.layers.Dense(FINDINGS, activation="sigmoid")(body(keras.layers.Rescaling(1 / 255)(inputs)))
    model = keras.Model(inputs, probabilities)
    model.compile("adam", "binary_crossentropy")
    times = StepTimes()
    model.fit(pixels, labels, batch_size=options.batch, verbose=0, callbacks=[times])
    print(result(options.batch, np.diff(times.ends[WARM_UP_STEPS - 1 :])))


if __name__ == "__main__":
    main()
