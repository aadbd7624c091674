"""How a model does in parts of the films: by sex, age, view and any column given, each part held against the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radflow.cpu import available_cores
from radflow.errors import UserError
from radflow.evaluation.auc import auc, mean_of_present, weighted_aucs
from radflow.evaluation.estimates import Estimate
from radflow.evaluation.patients import CONFIDENCE, count_patients, draw_patients, patient_numbers, sums_by_patient
from radflow.evaluation.predictions import Predictions

REPLICATES = 500
FEWEST_FILMS = 10
"""Films with and without a finding, in a subgroup and in the rest, below which the finding does not count there."""
AGE_BANDS = (18, 40, 60, 80)
"""Years of age from which on the next band begins."""
DEFAULT_COLUMNS = ("sex", "age", "view")

_ATTRIBUTES = {"sex": "sexes", "view": "views", "side": "sides", "pathology": "pathologies", "dataset": "datasets"}
"""Columns of predictions by which films can be divided, beside age."""

Columns = Mapping[str, NDArray[np.str_]]
"""Columns by name: what each film is, [N]; an empty text where it is not known."""


@dataclass(frozen=True)
class Subgroup:
    """A part of the films, and what it differs in from the rest; each number with its interval between patients.

    The numbers are means over the findings that count there; NaN where none does.
    """

    column: str
    value: str
    films: int
    patients: int
    findings: int
    """How many findings count."""
    auc: Estimate
    auc_difference: Estimate
    """Mean AUC here minus that of the other films; below 0 the model does worse here."""
    sensitivity: Estimate
    sensitivity_difference: Estimate
    calibration: Estimate
    """Calibration in the large: mean probability minus share of films with the finding; above 0 is too much."""
    calibration_difference: Estimate


def known_columns(predictions: Predictions, names: Sequence[str] = DEFAULT_COLUMNS) -> dict[str, NDArray[np.str_]]:
    """The columns of predictions with these names; raises UserError for an unknown one."""
    columns = {}
    for name in names:
        if name == "age":
            columns[name] = _age_bands(predictions.ages)
        elif name in _ATTRIBUTES:
            columns[name] = getattr(predictions, _ATTRIBUTES[name])
        else:
            known = ", ".join([*_ATTRIBUTES, "age"])
            raise UserError(f"subgroups={name} is no column of films; expected {known}, or subgroup_table=FILE.csv")
    return columns


def evaluate_subgroups(
    predictions: Predictions, calibrated: Predictions, thresholds: NDArray[np.float64] | None, columns: Columns
) -> list[Subgroup]:
    """Evaluate every part of the films that a column makes; films of which it is not known are in none.

    A column that puts all films in one part makes none. Intervals are percentiles of a bootstrap that draws patients,
    which judges a part and the rest on the same draws. `thresholds` [F] are of `predictions`; without them, and for
    findings without one, there is no sensitivity.
    """
    limits = np.full(len(predictions.findings), np.nan) if thresholds is None else thresholds
    parts = [
        _Part(predictions, calibrated, limits, column, value, values)
        for column, values in columns.items()
        for value in _values(values)
    ]
    if not parts:
        return []
    patients = count_patients(predictions.patient_ids)

    def draw(draws: NDArray[np.float32]) -> list[NDArray[np.float64]]:
        return [part.replicates(draws) for part in parts]

    with ThreadPoolExecutor(available_cores()) as pool:
        chunks = list(pool.map(draw, draw_patients(patients, REPLICATES, seed=0)))
    return [
        part.subgroup(np.concatenate(drawn, axis=2))
        for part, drawn in zip(parts, zip(*chunks, strict=True), strict=True)
    ]


def largest_deficit(subgroups: Sequence[Subgroup]) -> Subgroup | None:
    """The subgroup whose mean AUC is most below that of the rest, beyond chance; None where there is none."""
    below = [each for each in subgroups if each.auc_difference.high < 0]
    return min(below, key=lambda each: each.auc_difference.value, default=None)


def _values(column: NDArray[np.str_]) -> list[str]:
    values = sorted(set(column.tolist()) - {""})
    return values if len(values) > 1 else []


def _age_bands(ages: NDArray[np.int16]) -> NDArray[np.str_]:
    starts = (0, *AGE_BANDS)
    names = [f"{start} to {end - 1}" for start, end in zip(starts, AGE_BANDS, strict=False)] + [f"{AGE_BANDS[-1]}+"]
    bands = np.array(names)[np.searchsorted(AGE_BANDS, np.maximum(ages, 0), side="right")]
    return np.where(ages < 0, "", bands)


class _Part:
    """A part of the films and the rest of those of which the column is known."""

    def __init__(
        self,
        predictions: Predictions,
        calibrated: Predictions,
        limits: NDArray[np.float64],
        column: str,
        value: str,
        values: NDArray[np.str_],
    ) -> None:
        self.column, self.value = column, value
        self._numbers = patient_numbers(predictions.patient_ids, len(predictions))
        self._predictions, self._limits, self._calibrated = predictions, limits, calibrated
        self._sides = [values == value, (values != value) & (values != "")]
        self._counted = [index for index in range(len(predictions.findings)) if self._counts(index)]
        self._sums = [self._sums_of(side) for side in self._sides]

    def _counts(self, index: int) -> bool:
        """Whether a finding has enough films of each class here and in the rest."""
        labels, known = self._predictions.labels[:, index], self._predictions.known[:, index]
        classes = [side & known & each for side in self._sides for each in (labels, ~labels)]
        return min(int(each.sum()) for each in classes) >= FEWEST_FILMS

    def _sums_of(self, side: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Sums of each patient: hits, films with the finding, excess of probability, films, [patients, 4 F]."""
        model, counted = self._predictions, self._counted
        known = model.known[:, counted] & side[:, np.newaxis]
        labels = model.labels[:, counted] & known & ~np.isnan(self._limits[counted])
        hits = labels & (model.probabilities[:, counted] >= self._limits[counted])
        excess = np.where(known, self._calibrated.probabilities[:, counted] - model.labels[:, counted], 0.0)
        values = np.concatenate([hits, labels, excess, known], axis=1).astype(np.float64)
        return sums_by_patient(values, self._numbers, int(self._numbers.max()) + 1)

    def replicates(self, draws: NDArray[np.float32]) -> NDArray[np.float64]:
        """AUC, sensitivity and calibration of this part and of the rest in draws [patients, R], [3, 2, R]."""
        weights = draws[self._numbers]
        aucs = np.stack([self._mean_aucs(side, weights) for side in self._sides])
        return np.stack([aucs, *self._mean_shares(draws)])

    def _mean_aucs(self, side: NDArray[np.bool_], weights: NDArray[np.float32]) -> NDArray[np.float64]:
        aucs = [weighted_aucs(labels, scores, weights[rows]) for rows, labels, scores in self._films(side)]
        return mean_of_present(np.stack(aucs)) if aucs else np.full(weights.shape[1], np.nan)

    def _mean_shares(self, draws: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sensitivity and calibration of this part and of the rest, each [2, R]."""
        hits, labels, excess, films = np.split(np.stack([sums.T @ draws for sums in self._sums]), 4, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return mean_of_present(hits / labels, axis=1), mean_of_present(excess / films, axis=1)

    def subgroup(self, drawn: NDArray[np.float64]) -> Subgroup:
        """The part's numbers, with intervals from replicates [3, 2, R]."""
        once = np.ones((int(self._numbers.max()) + 1, 1))
        observed = np.stack([self._observed_aucs(), *(each[:, 0] for each in self._mean_shares(once))])
        here = [_estimate(value, replicates) for value, replicates in zip(observed[:, 0], drawn[:, 0], strict=True)]
        differences = [
            _estimate(own - rest, of_own - of_rest)
            for (own, rest), (of_own, of_rest) in zip(observed, drawn, strict=True)
        ]
        films = self._sides[0]
        return Subgroup(
            self.column,
            self.value,
            films=int(films.sum()),
            patients=len(np.unique(self._numbers[films])),
            findings=len(self._counted),
            auc=here[0],
            auc_difference=differences[0],
            sensitivity=here[1],
            sensitivity_difference=differences[1],
            calibration=here[2],
            calibration_difference=differences[2],
        )

    def _observed_aucs(self) -> NDArray[np.float64]:
        aucs = [[auc(labels, scores) for _, labels, scores in self._films(side)] for side in self._sides]
        return np.array([np.mean(of_side) if of_side else np.nan for of_side in aucs])

    def _films(
        self, side: NDArray[np.bool_]
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.float32]]]:
        """Rows, labels and probabilities of each finding that counts, of the films on one side."""
        for index in self._counted:
            rows = np.flatnonzero(side & self._predictions.known[:, index])
            yield rows, self._predictions.labels[rows, index], self._predictions.probabilities[rows, index]


def _estimate(value: float, replicates: NDArray[np.float64]) -> Estimate:
    if np.isnan(value) or np.isnan(replicates).all():
        return Estimate(float(value), float("nan"), float("nan"))
    low, high = np.nanquantile(replicates, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(value), float(low), float(high))
