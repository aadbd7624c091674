"""The probability from which a finding counts as present."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from radflow.evaluation.predictions import Predictions


def youden_thresholds(predictions: Predictions) -> NDArray[np.float64]:
    """The threshold of each finding where sensitivity + specificity is largest, float [findings].

    Youden's J (Youden 1950, Cancer 3(1), 32-35), of the films of which the finding is known. A film is above a
    threshold if its probability is at least that. The threshold lies midway between the probabilities of two films, or
    0 and the lowest, so that rounding on another machine moves no film across it. NaN for a finding that all films or
    none have.
    """
    columns = (predictions.of_finding(index) for index in range(len(predictions.findings)))
    return np.array([_youden_threshold(truth, scores.astype(np.float64)) for _, truth, scores in columns])


def _youden_threshold(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    if truth.all() or not truth.any():
        return float("nan")
    false_positives, sensitivity, thresholds = roc_curve(truth, scores, drop_intermediate=False)
    # The first threshold of the curve is infinite: no film is above it.
    best = 1 + int(np.argmax((sensitivity - false_positives)[1:]))
    return float((thresholds[best] + scores[scores < thresholds[best]].max(initial=0.0)) / 2)
