"""Average precision, Brier score and expected calibration error, each with its 95 % interval between patients.

The intervals come from one bootstrap for all findings and measures, which draws patients with all their films again.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from radflow.cpu import available_cores
from radflow.evaluation.estimates import NORMAL_QUANTILE, UNKNOWN, Estimate
from radflow.evaluation.patients import CONFIDENCE, draw_patients, patient_numbers, sums_by_patient
from radflow.evaluation.predictions import Predictions

REPLICATES = 1000
BINS = 10
"""Groups of films of equal size, by probability, in which probabilities are held against what came true."""


@dataclass(frozen=True)
class FindingMeasures:
    """What probabilities of one finding are worth beyond their order; NaN where no film is known or a class absent."""

    average_precision: Estimate
    """Area under the precision-recall curve as a sum over its steps; that of chance is the prevalence."""
    brier: Estimate
    """Mean squared difference of probability and truth (Brier 1950)."""
    calibration_error: Estimate
    """Mean difference of probability and share of positives in `BINS` groups of equal size."""


def measure(predictions: Predictions, replicates: int = REPLICATES, seed: int = 0) -> dict[str, FindingMeasures]:
    """Measure every finding on the films of which it is known.

    The interval of the average precision is normal on the logit scale, with the bootstrap's standard error there, as
    Boyd, Eng and Page 2013 have it (doi:10.1007/978-3-642-40994-3_29), and that of the Brier score normal with the
    bootstrap's standard error. The calibration error is a sum of absolute values, which chance alone makes larger than
    the truth, and a draw of a draw more so: of its percentiles the lower is moved down by twice the bootstrap's bias,
    the upper by once, which in simulations covers the truth in 93 to 97 % of tests, and the interval begins at 0 where
    the differences of all groups together are within chance (chi-square at 5 %).
    """
    numbers = patient_numbers(predictions.patient_ids, len(predictions))
    columns = [_Column.of(predictions, index, numbers) for index in range(len(predictions.findings))]
    patients = int(numbers.max(initial=-1)) + 1

    def measure_draws(draws: NDArray[np.float32]) -> list[NDArray[np.float64]]:
        return [column.replicates(draws) for column in columns]

    if patients > 1:
        with ThreadPoolExecutor(available_cores()) as pool:
            chunks = list(pool.map(measure_draws, draw_patients(patients, replicates, seed)))
        drawn = [np.concatenate(of_column, axis=1) for of_column in zip(*chunks, strict=True)]
    else:
        drawn = [np.full((3, replicates), np.nan)] * len(columns)
    return {
        finding: column.measures(replicates_of_column)
        for finding, column, replicates_of_column in zip(predictions.findings, columns, drawn, strict=True)
    }


def mean_measures(measures: Mapping[str, FindingMeasures]) -> dict[str, float]:
    """Mean of each measure over the findings that have it, by the measure's name; NaN where none has."""
    means = {}
    for name in FindingMeasures.__dataclass_fields__:
        values = [estimate.value for found in measures.values() if (estimate := getattr(found, name)).is_known]
        means[name] = float(np.mean(values)) if values else float("nan")
    return means


def probability_groups(probabilities: NDArray[np.floating]) -> NDArray[np.intp]:
    """Number of the group of equal size that each film falls into by its probability, 0 to `BINS` - 1.

    Films of one probability are in one group, so that groups may be of unequal size or empty.
    """
    edges = np.quantile(probabilities, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.searchsorted(edges, probabilities, side="left")


@dataclass(frozen=True)
class _Column:
    """One finding on the films of which it is known, with what a replicate is made of."""

    truth: NDArray[np.bool_]
    probabilities: NDArray[np.float64]
    patients: NDArray[np.intp]
    """Each film's patient, among all of the test."""
    sums: NDArray[np.float64]
    """Films, squared errors, and by group the sum of probability - truth, of each patient, [patients, 2 + BINS]."""
    scatter: NDArray[np.float64]
    """Variance of each group's sum of probability - truth, were the probabilities right, [BINS]."""

    @classmethod
    def of(cls, predictions: Predictions, index: int, numbers: NDArray[np.intp]) -> _Column:
        rows, truth, scores = predictions.of_finding(index)
        probabilities, patients = scores.astype(np.float64), numbers[rows]
        errors = probabilities - truth
        groups = np.zeros((len(rows), BINS))
        if len(rows):
            groups[np.arange(len(rows)), probability_groups(probabilities)] = 1
        values = np.column_stack([np.ones(len(rows)), errors**2, groups * errors[:, np.newaxis]])
        count = int(numbers.max(initial=-1)) + 1
        scatter = groups.T @ (probabilities * (1 - probabilities))
        return cls(truth, probabilities, patients, sums_by_patient(values, patients, count), scatter)

    def replicates(self, draws: NDArray[np.float32]) -> NDArray[np.float64]:
        """Average precision, Brier score and calibration error in each draw of patients, [3, R]."""
        precisions = weighted_average_precisions(self.truth, self.probabilities, draws[self.patients])
        return np.stack([precisions, *_errors(self.sums.T @ draws)])

    def measures(self, drawn: NDArray[np.float64]) -> FindingMeasures:
        """The finding's measures, with intervals from replicates [3, R]."""
        if not len(self.truth):
            return FindingMeasures(UNKNOWN, UNKNOWN, UNKNOWN)
        precision = weighted_average_precisions(
            self.truth, self.probabilities, np.ones((len(self.truth), 1), np.float32)
        )
        totals = self.sums.sum(axis=0)[:, np.newaxis]
        brier, error = (float(value[0]) for value in _errors(totals))
        return FindingMeasures(
            average_precision=_on_logit_scale(float(precision[0]), drawn[0]),
            brier=_normal(brier, drawn[1]),
            calibration_error=self._calibration_error(error, drawn[2]),
        )

    def _calibration_error(self, error: float, drawn: NDArray[np.float64]) -> Estimate:
        if np.isnan(drawn).all():
            return Estimate(error, 0.0, 1.0)
        low, high = np.nanquantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        bias = float(np.nanmean(drawn)) - error
        low = 0.0 if self._is_within_chance() else min(max(float(low) - 2 * bias, 0.0), error)
        return Estimate(error, low, max(float(high) - bias, error))

    def _is_within_chance(self) -> bool:
        """Whether the groups' differences of probability and truth are what chance makes of right probabilities.

        Their variance is that of independent films, times the design effect of patients whose films err together.
        """
        by_patient, squares = self.sums[:, 2:].sum(axis=1), self.sums[:, 1].sum()
        design_effect = max(float(np.sum(by_patient**2) / squares), 1.0) if squares else 1.0
        filled = self.scatter > 0
        differences = self.sums[:, 2:].sum(axis=0)[filled]
        chi_square = float(np.sum(differences**2 / (design_effect * self.scatter[filled])))
        return bool(stats.chi2.sf(chi_square, max(int(filled.sum()), 1)) > 1 - CONFIDENCE)


def weighted_average_precisions(
    truth: NDArray[np.bool_], scores: NDArray[np.floating], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Average precision in R replicates, [R], where film i counts weights[i, r] times; NaN where no film is positive.

    The mean precision at the positive films, each at its score: films of one score are called positive together.
    """
    if not truth.any():
        return np.full(weights.shape[1], np.nan)
    order = np.argsort(-scores, kind="stable")
    falling = -scores[order]
    levels = np.unique(falling[truth[order]])
    ends = np.searchsorted(falling, levels, side="right")  # films called positive at each level
    starts = np.concatenate([[0], ends[:-1]])
    films = np.add.reduceat(weights[order[: ends[-1]]], starts, axis=0)
    positive = order[truth[order]]
    first = np.searchsorted(-scores[positive], levels)
    positives = np.add.reduceat(weights[positive], first, axis=0)
    called, found = np.cumsum(films, axis=0), np.cumsum(positives, axis=0)
    precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
    totals = found[-1].astype(np.float64)
    hits = np.einsum("kr,kr->r", positives, precision, dtype=np.float64)
    return np.divide(hits, totals, out=np.full(len(totals), np.nan), where=totals > 0)


def _errors(sums: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Brier score and calibration error of R replicates, from sums [2 + BINS, R] as those of `_Column`."""
    films = np.where(sums[0] > 0, sums[0], np.nan)
    return sums[1] / films, np.abs(sums[2:]).sum(axis=0) / films


def _normal(value: float, drawn: NDArray[np.float64]) -> Estimate:
    """Normal interval within 0 and 1; all of it where there are no draws, of a single patient."""
    if np.isnan(drawn).all():
        return Estimate(value, 0.0, 1.0)
    reach = NORMAL_QUANTILE * float(np.nanstd(drawn))
    return Estimate(value, max(value - reach, 0.0), min(value + reach, 1.0))


def _on_logit_scale(value: float, drawn: NDArray[np.float64]) -> Estimate:
    """Normal interval on the logit scale; replicates of 0 or 1 count as the nearest that n draws could tell."""
    if np.isnan(value):
        return UNKNOWN
    if np.isnan(drawn).all():
        return Estimate(value, 0.0, 1.0)
    least = 1 / (2 * len(drawn))
    logits = stats.logistic.ppf(np.clip(drawn[~np.isnan(drawn)], least, 1 - least))
    centre = stats.logistic.ppf(np.clip(value, least, 1 - least))
    reach = NORMAL_QUANTILE * float(logits.std(ddof=1)) if len(logits) > 1 else np.inf
    low, high = stats.logistic.cdf([centre - reach, centre + reach])
    return Estimate(value, min(float(low), value), max(float(high), value))
