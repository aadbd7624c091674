"""Patients as the units of a test: numbered, counted, and drawn again with all their films."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
"""Share of tests whose interval holds the truth."""
_REPLICATES_AT_ONCE = 100  # keeps the bootstrap's largest array under 50 MB for all films of ChestX-ray14


def patient_numbers(patient_ids: ArrayLike | None, films: int) -> NDArray[np.intp]:
    """Return each film's patient as a number from 0; a film without a patient id gets a number of its own.

    Raises ValueError where there is not one id per film.
    """
    if patient_ids is None:
        return np.arange(films)
    ids = np.asarray(patient_ids)
    if ids.shape != (films,):
        raise ValueError(f"patient_ids has shape {ids.shape}; expected ({films},), one per film")
    _, numbers = np.unique(ids, return_inverse=True)
    if ids.dtype.kind == "U" and (unknown := ids == "").any():
        numbers[unknown] = numbers.max() + 1 + np.arange(int(unknown.sum()))
        _, numbers = np.unique(numbers, return_inverse=True)
    return numbers


def count_patients(patient_ids: NDArray[np.str_]) -> int:
    """Number of patients; films without a patient id count as a patient each."""
    return int(patient_numbers(patient_ids, len(patient_ids)).max(initial=-1)) + 1


def draw_patients(patients: int, replicates: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """Yield bootstrap draws of patients: how often each is drawn in some of the replicates, [patients, R].

    The chunks have `replicates` columns together; the same seed gives the same draws.
    """
    generator = np.random.default_rng(seed)
    for start in range(0, replicates, _REPLICATES_AT_ONCE):
        count = min(_REPLICATES_AT_ONCE, replicates - start)
        draws = generator.multinomial(patients, np.full(patients, 1 / patients), size=count)
        yield np.ascontiguousarray(draws.T, dtype=np.float32)


def sums_by_patient(values: NDArray[np.floating], numbers: NDArray[np.intp], patients: int) -> NDArray[np.float64]:
    """Sum of each patient's films, [films, K] -> [patients, K]."""
    sums = np.zeros((patients, values.shape[1]))
    np.add.at(sums, numbers, values)
    return sums
