"""radflow: MLflow-tracked, Horovod-distributed training of radiology classifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from radflow.inference.predictor import FilmPredictor


def load(model: str) -> FilmPredictor:
    """Load a classifier from MLflow, to predict films with: see `radflow.inference.predictor`.

    `model` is `models:/NAME@champion`, `runs:/ID/model`, any other MLflow model URI, or a model's folder.
    """
    from radflow.inference.predictor import load  # TensorFlow and MLflow take seconds, which nobody else shall wait for

    return load(model)
