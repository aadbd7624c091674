"""How far predictions are from the truth, in nats."""

from __future__ import annotations

import numpy as np

from radflow.evaluation.predictions import Predictions

SMALLEST = 1e-7
"""Probabilities are taken to be at least so far from 0 and 1."""


def mean_cross_entropy(predictions: Predictions) -> float:
    """Mean binary cross-entropy over all labels that are known; NaN where none is."""
    if not predictions.known.any():
        return float("nan")
    probabilities = np.clip(predictions.probabilities.astype(np.float64), SMALLEST, 1 - SMALLEST)
    losses = -np.where(predictions.labels, np.log(probabilities), np.log1p(-probabilities))
    return float(np.mean(losses, where=predictions.known))
