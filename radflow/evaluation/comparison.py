"""Two models on the same films: the difference in mean AUC with its interval and p-value, paired between patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radflow.errors import UserError
from radflow.evaluation.auc import auc_per_finding, mean_auc, resampled_mean_aucs
from radflow.evaluation.patients import count_patients
from radflow.evaluation.predictions import Predictions


@dataclass(frozen=True)
class PairedComparison:
    """How much higher the mean AUC of one model is than that of another on the same films."""

    difference: float
    """Difference of mean AUCs, -1 to 1; above 0 the first model is better."""
    low: float
    high: float
    """Ends of the interval of the asked confidence."""
    p_value: float
    """Two-sided, of no difference."""
    confidence: float
    films: int
    patients: int
    """Films without a patient id count as a patient each."""


def compare_paired(
    first: Predictions, second: Predictions, confidence: float = 0.95, replicates: int = 2000, seed: int = 0
) -> PairedComparison:
    """Compare two models' mean AUCs by a bootstrap that draws patients, with all their films, again.

    Both models are judged on each draw, so that what makes films easy or hard for both cancels out, and a patient's
    films and findings stay together. Interval: percentiles (Efron and Tibshirani 1993, chapter 13). P-value: twice the
    smaller share of draws on either side of 0, the observed one counted in (Davison and Hinkley 1997, section 4.4), so
    that it is never below 2 / (replicates + 1).

    Parameters
    ----------
    first, second : Predictions
        Of the same films in any order.
    confidence : between 0 and 1

    Raises
    ------
    UserError
        Where the two differ in films, patients, labels or findings, or no finding has both classes, or there are
        fewer than two patients: the reason, in one line.
    """
    first, second = _in_order(first), _in_order(second)
    if reason := _difference_of_films(first, second):
        raise UserError(f"the two models cannot be compared: {reason}")
    means = resampled_mean_aucs([first, second], replicates, seed)
    differences = means[0] - means[1]
    differences = differences[~np.isnan(differences)]
    if not len(differences):
        raise UserError("the two models cannot be compared: no finding has positive and negative films of two patients")
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    return PairedComparison(
        difference=mean_auc(auc_per_finding(first)) - mean_auc(auc_per_finding(second)),
        low=float(low),
        high=float(high),
        p_value=_p_value(differences),
        confidence=confidence,
        films=len(first),
        patients=count_patients(first.patient_ids),
    )


def adjust_by_holm(p_values: Sequence[float]) -> list[float]:
    """P-values of several tests, adjusted so that the chance of any false one is kept (Holm 1979, doi:10.2307/4615733).

    The smallest of n is multiplied by n, the next by n - 1 and so on; none gets smaller than one before it, or above 1.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable").tolist()):
        largest = max(largest, min((len(p_values) - rank) * p_values[index], 1.0))
        adjusted[index] = largest
    return adjusted


def _in_order(predictions: Predictions) -> Predictions:
    return predictions.take(np.argsort(predictions.image_ids))


def _difference_of_films(first: Predictions, second: Predictions) -> str:
    """What forbids a paired comparison; '' where nothing does."""
    if first.findings != second.findings:
        return f"their findings differ ({_some(first.findings)} and {_some(second.findings)})"
    unpaired = np.setxor1d(first.image_ids, second.image_ids)
    if len(unpaired):
        return (
            f"they were tested on different films ({len(first)} and {len(second)}, of which {len(unpaired)} are in "
            f"one only, such as {unpaired[0]})"
        )
    for what, differs in (
        ("labels", ((first.labels != second.labels) | (first.known != second.known)).any(axis=1)),
        ("patients", first.patient_ids != second.patient_ids),
    ):
        if differs.any():
            return f"the {what} of {differs.sum()} films differ, such as {first.image_ids[differs][0]}"
    return ""


def _some(findings: tuple[str, ...]) -> str:
    return ", ".join(findings[:3]) + (f", ... {len(findings)} in all" if len(findings) > 3 else "")


def _p_value(differences: NDArray[np.float64]) -> float:
    draws = len(differences)
    below, above = (differences <= 0).sum(), (differences >= 0).sum()
    return float(min(1.0, 2 * (1 + min(below, above)) / (draws + 1)))
