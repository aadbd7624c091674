"""Numbers with their 95 % intervals between patients, whose films are alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from radflow.evaluation.patients import CONFIDENCE

NORMAL_QUANTILE = float(stats.norm.ppf((1 + CONFIDENCE) / 2))


@dataclass(frozen=True)
class Estimate:
    """A number with the ends of its 95 % interval; all three are NaN where nothing is known."""

    value: float
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        """Whether there is a number at all."""
        return not math.isnan(self.value)

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the interval."""
        return self.low, self.high

    def __str__(self) -> str:
        """The number and its interval to three decimals; '-' where nothing is known."""
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})" if self.is_known else "-"


UNKNOWN = Estimate(math.nan, math.nan, math.nan)


def proportion(counted: NDArray[np.bool_], hits: NDArray[np.bool_], numbers: NDArray[np.intp]) -> Estimate:
    """Share of hits among the films that count, such as sensitivity among films with a finding.

    Wilson's interval (1927, doi:10.1080/01621459.1927.10502953) for as many independent films as carry the same
    variance: that between patients (Korn and Graubard 1998, Survey Methodology 24, 193-201). At a share of exactly 0 or
    1, which has no variance, each patient counts as one film.

    Parameters
    ----------
    counted, hits : bool [N]
    numbers : int [N]
        Each film's patient, see `patient_numbers`.
    """
    films = int(counted.sum())
    if not films:
        return UNKNOWN
    _, patient_of = np.unique(numbers[counted], return_inverse=True)
    sizes = np.bincount(patient_of).astype(np.float64)
    patients = len(sizes)
    share = float(hits[counted].mean())
    excess = np.bincount(patient_of, weights=hits[counted] - share)
    independent = float(patients)
    if patients > 1 and 0 < share < 1:
        variance = patients / (patients - 1) * float(np.sum(excess**2)) / films**2
        independent = min(share * (1 - share) / variance, films) if variance else float(patients)
    return Estimate(share, *_wilson(share, independent))


def mean_of_films(values: NDArray[np.floating], numbers: NDArray[np.intp]) -> Estimate:
    """Mean of a number between 0 and 1 over films, at least one, with Student's interval between their patients.

    0 to 1 with a single patient.
    """
    _, patient_of = np.unique(numbers, return_inverse=True)
    patients, mean = int(patient_of.max()) + 1, float(values.mean())
    if patients < 2:
        return Estimate(mean, 0.0, 1.0)
    excess = np.bincount(patient_of, weights=values - mean)
    error = math.sqrt(patients / (patients - 1) * float(np.sum(excess**2))) / len(values)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, patients - 1)) * error
    return Estimate(mean, max(mean - reach, 0.0), min(mean + reach, 1.0))


def _wilson(share: float, films: float) -> tuple[float, float]:
    """Wilson's score interval of a share of so many independent films."""
    square = NORMAL_QUANTILE**2 / films
    centre = (share + square / 2) / (1 + square)
    reach = NORMAL_QUANTILE / (1 + square) * math.sqrt(share * (1 - share) / films + square / (4 * films))
    return max(centre - reach, 0.0), min(centre + reach, 1.0)
