"""Probabilities made true: Platt scaling of each finding on validation films, with a prior against few of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from radflow.evaluation.cross_entropy import SMALLEST
from radflow.evaluation.predictions import Predictions

PRIOR_DEVIATION = 0.5
"""Standard deviation of the normal prior of slopes around 1 and of offsets around 0."""
LEAST_SLOPE = 0.05
"""Smallest slope: the order of films stays even where probabilities say the wrong thing on validation films."""


def fit_platt(predictions: Predictions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slope and offset of each finding, so that logistic(slope * log-odds + offset) is its calibrated probability.

    Platt scaling (Platt 1999, Advances in Large Margin Classifiers, 61-74) as the maximum of likelihood times a normal
    prior around 1 and 0, which change nothing: a dozen positive films move them little, some hundred as far as the
    films say. 1 and 0 for a finding that all films or none have, of those of which it is known.
    """
    fitted = [_fit(*predictions.of_finding(index)[1:]) for index in range(len(predictions.findings))]
    slopes, offsets = np.array(fitted, np.float64).reshape(-1, 2).T
    return slopes, offsets


def _fit(truth: NDArray[np.bool_], scores: NDArray[np.float32]) -> tuple[float, float]:
    if truth.all() or not truth.any():
        return 1.0, 0.0
    sign, odds = np.where(truth, 1.0, -1.0), log_odds(scores)

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Minus the logarithm of the posterior, and its gradient."""
        margin = sign * (values[0] * odds + values[1])
        distance = (values - [1.0, 0.0]) / PRIOR_DEVIATION**2
        pull = -sign * special.expit(-margin)
        value = -special.log_expit(margin).sum() + PRIOR_DEVIATION**2 * (distance**2).sum() / 2
        return float(value), np.array([pull @ odds, pull.sum()]) + distance

    bounds = [(LEAST_SLOPE, None), (None, None)]
    slope, offset = optimize.minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(slope), float(offset)


def log_odds(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Log-odds of probabilities, those beyond `SMALLEST` taken as that."""
    clipped = np.clip(probabilities.astype(np.float64), SMALLEST, 1 - SMALLEST)
    return np.log(clipped / (1 - clipped))
