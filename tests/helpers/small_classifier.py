"""A classifier of 32-pixel films that costs nothing, with the head of those that radflow trains."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from radflow.inference.description import Calibration, Outputs
from radflow.inference.saved_model import save_classifier

SIZE = 32
FINDINGS = ("Mass", "Nodule", "Edema")
OUTPUTS = Outputs(findings=FINDINGS, thresholds={"youden": np.array([0.5, 0.0, np.nan])})
CALIBRATED = replace(OUTPUTS, calibration=Calibration(np.array([2.0, 1.0, 0.5]), np.array([0.0, 1.0, -1.0])))


def small_classifier(seed: int = 0) -> keras.Model:
    """uint8 [n, 32, 32] -> probabilities of three findings."""
    keras.utils.set_random_seed(seed)
    films = keras.Input((SIZE, SIZE), dtype="uint8", name="films")
    grey = keras.layers.Rescaling(1 / 255)(keras.layers.Reshape((SIZE, SIZE, 1))(films))
    features = keras.layers.Conv2D(4, 8, strides=8, activation="relu")(grey)
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    logits = keras.layers.Dense(len(FINDINGS), name="logits")(pooled)
    return keras.Model(films, keras.layers.Activation("sigmoid")(logits))


def save_small_classifier(folder: Path, files: Sequence[Path] = (), outputs: Outputs = OUTPUTS) -> keras.Model:
    """Save one as `train` does; returns the Keras model."""
    model = small_classifier()
    save_classifier(model, outputs, random_films(1), folder, files=files)
    return model


def random_films(count: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, size, size), np.uint8)


def encoded(film: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(film).save(file, format=kind)
    return file.getvalue()


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
