"""Probabilities from which findings count as present, chosen on validation films, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from radflow.evaluation.estimates import Estimate, proportion
from radflow.evaluation.patients import patient_numbers
from radflow.evaluation.predictions import Predictions

YOUDEN, SENSITIVE, SPECIFIC = "youden", "sensitive", "specific"
FIXED_SHARE = 0.9
"""Sensitivity that the sensitive threshold reaches on validation films, and specificity that the specific one does."""
RULES_IN_WORDS = {
    YOUDEN: "sensitivity + specificity largest",
    SENSITIVE: f"sensitivity of {FIXED_SHARE:.0%}",
    SPECIFIC: f"specificity of {FIXED_SHARE:.0%}",
}
"""How a threshold is chosen, by its name."""

Thresholds = Mapping[str, NDArray[np.float64]]
"""Thresholds of the findings by rule, float [findings], NaN for a finding without one."""


@dataclass(frozen=True)
class OperatingPoint:
    """What calling films positive from a threshold on comes to, each share with its interval between patients."""

    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    """Share of the films called positive that have the finding."""
    npv: Estimate
    """Share of the films called negative that do not have it."""


def choose_thresholds(predictions: Predictions) -> dict[str, NDArray[np.float64]]:
    """Choose the thresholds of each finding by every rule, on the films of which it is known.

    youden is where sensitivity + specificity is largest (Youden 1950, Cancer 3(1), 32-35); sensitive is the highest
    threshold with a sensitivity of `FIXED_SHARE`, and specific the lowest with such a specificity, or the strictest if
    none has. A film is called positive if its probability is at least the threshold. Thresholds lie midway between the
    probabilities of two films, or 0 and the lowest, so that rounding on another machine moves no film across them. NaN
    for a finding that all films or none have.
    """
    columns = [predictions.of_finding(index)[1:] for index in range(len(predictions.findings))]
    return {
        rule: np.array([_threshold(truth, scores.astype(np.float64), place) for truth, scores in columns])
        for rule, place in _PLACES.items()
    }


def operating_points(predictions: Predictions, thresholds: NDArray[np.float64]) -> dict[str, OperatingPoint | None]:
    """What the threshold of each finding comes to on these films; None for a finding without one."""
    numbers = patient_numbers(predictions.patient_ids, len(predictions))
    return {
        finding: None
        if np.isnan(thresholds[index])
        else _operating_point(*predictions.of_finding(index), numbers, float(thresholds[index]))
        for index, finding in enumerate(predictions.findings)
    }


def _operating_point(
    rows: NDArray[np.intp],
    truth: NDArray[np.bool_],
    scores: NDArray[np.float32],
    numbers: NDArray[np.intp],
    threshold: float,
) -> OperatingPoint:
    called, patients = scores >= threshold, numbers[rows]
    return OperatingPoint(
        sensitivity=proportion(truth, called, patients),
        specificity=proportion(~truth, ~called, patients),
        ppv=proportion(called, truth, patients),
        npv=proportion(~called, ~truth, patients),
    )


def _threshold(truth: NDArray[np.bool_], scores: NDArray[np.float64], place: _Place) -> float:
    if truth.all() or not truth.any():
        return float("nan")
    false_positives, sensitivity, thresholds = roc_curve(truth, scores, drop_intermediate=False)
    # The first threshold of the curve is infinite: no film is above it.
    best = 1 + place(sensitivity[1:], 1 - false_positives[1:])
    return float((thresholds[best] + scores[scores < thresholds[best]].max(initial=0.0)) / 2)


_Place = Callable[[NDArray[np.float64], NDArray[np.float64]], int]
"""Choice among falling thresholds, by their sensitivities and specificities."""


def _largest_sum(sensitivity: NDArray[np.float64], specificity: NDArray[np.float64]) -> int:
    return int(np.argmax(sensitivity + specificity))


def _first_sensitive(sensitivity: NDArray[np.float64], specificity: NDArray[np.float64]) -> int:  # noqa: ARG001
    return int(np.argmax(sensitivity >= FIXED_SHARE))


def _last_specific(sensitivity: NDArray[np.float64], specificity: NDArray[np.float64]) -> int:  # noqa: ARG001
    reaching = np.flatnonzero(specificity >= FIXED_SHARE)
    return int(reaching[-1]) if len(reaching) else 0


_PLACES: dict[str, _Place] = {YOUDEN: _largest_sum, SENSITIVE: _first_sensitive, SPECIFIC: _last_specific}
