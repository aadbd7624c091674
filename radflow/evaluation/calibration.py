"""Probabilities made true: Platt scaling of each finding, fitted on validation films."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from radflow.evaluation.cross_entropy import SMALLEST
from radflow.evaluation.predictions import Predictions

FEWEST_FILMS = 10
"""Films with a finding, and films without it, below which nothing is fitted."""
LEAST_SLOPE = 0.05
"""Slope where probabilities say nothing on validation films, or the wrong thing: all get about one level."""


def fit_platt(predictions: Predictions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slope and offset of each finding, so that logistic(slope * log-odds + offset) is its calibrated probability.

    Maximum likelihood on the films of which the finding is known, with Platt's targets, which keep few films from
    being believed too much: (n+1)/(n+2) for n positive ones, 1/(m+2) for m negative ones (Platt 1999, Advances in Large
    Margin Classifiers, 61-74). Slopes are positive, so that no order of films changes. 1 and 0, which change nothing,
    for a finding with fewer than `FEWEST_FILMS` films of a class.
    """
    fitted = [_fit(*predictions.of_finding(index)[1:]) for index in range(len(predictions.findings))]
    slopes, offsets = np.array(fitted, np.float64).reshape(-1, 2).T
    return slopes, offsets


def _fit(truth: NDArray[np.bool_], scores: NDArray[np.float32]) -> tuple[float, float]:
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if min(positives, negatives) < FEWEST_FILMS:
        return 1.0, 0.0
    odds = log_odds(scores)
    target = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    slope, offset = _logistic_regression(odds, target)
    if slope >= LEAST_SLOPE:
        return slope, offset
    level = np.log(target.mean() / (1 - target.mean())) - LEAST_SLOPE * odds.mean()
    return LEAST_SLOPE, float(level)


def _logistic_regression(odds: NDArray[np.float64], target: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept; each film counts as its target's share of a positive and the rest of a negative one."""
    films = np.concatenate([odds, odds])[:, np.newaxis]
    classes = np.repeat([1, 0], len(odds))
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    model.fit(films, classes, sample_weight=np.concatenate([target, 1 - target]))
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def log_odds(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log-odds of probabilities, those beyond `SMALLEST` taken as that."""
    clipped = np.clip(probabilities.astype(np.float64), SMALLEST, 1 - SMALLEST)
    return np.log(clipped / (1 - clipped))
