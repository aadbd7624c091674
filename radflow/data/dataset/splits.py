"""Train, validation and test parts that share no patient."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from radflow.errors import UserError


def random_split(
    patient_ids: NDArray[np.str_], val_fraction: float, test_fraction: float, seed: int
) -> NDArray[np.str_]:
    """Give each film to train, val or test by its patient; fractions are of patients. Returns the split of each film.

    Depends on the set of patients and the seed alone, not on the order of the films.
    """
    in_order = _shuffled(patient_ids, seed)
    test = _share(len(in_order), test_fraction)
    val = _share(len(in_order), val_fraction)
    if len(in_order) <= test + val:
        raise UserError(f"{len(in_order)} patients are too few for train, val and test; give at least 3 patients")
    splits = np.full(len(patient_ids), "train")
    splits[np.isin(patient_ids, in_order[:test])] = "test"
    splits[np.isin(patient_ids, in_order[test : test + val])] = "val"
    return splits


def official_split(
    patient_ids: NDArray[np.str_], in_test: NDArray[np.bool_], val_fraction: float, seed: int
) -> NDArray[np.str_]:
    """Keep the official test films and carve `val_fraction` of the other patients out of train as val.

    Depends on the set of patients and the seed alone, not on the order of the films.
    """
    in_order = _shuffled(patient_ids[~in_test], seed)
    val = _share(len(in_order), val_fraction)
    if len(in_order) <= val:
        raise UserError(
            f"{len(in_order)} patients outside the test part are too few for train and val; give at least 2"
        )
    splits = np.where(in_test, "test", "train").astype("<U5")
    splits[~in_test & np.isin(patient_ids, in_order[:val])] = "val"
    return splits


def prove_no_patient_crosses(patient_ids: NDArray[np.str_], splits: NDArray[np.str_]) -> None:
    """Raise `UserError` that names a patient with films in two splits, if there is one."""
    for patient, first, second in _crossings(patient_ids, splits):
        raise UserError(
            f"patient {patient} has films in both {first} and {second}, which would leak into the "
            "evaluation; fix the split lists, or use split=random"
        )


def prove_no_lesion_crosses(lesions: NDArray[np.str_], splits: NDArray[np.str_]) -> None:
    """Raise ValueError that names a lesion with crops in two splits, if there is one; crops go with their patient.

    Rows without a lesion are passed over.
    """
    shown = lesions != ""
    for lesion, first, second in _crossings(lesions[shown], splits[shown]):
        raise ValueError(f"lesion {lesion} has crops in both {first} and {second}")


def _crossings(owners: NDArray[np.str_], splits: NDArray[np.str_]) -> Iterator[tuple[str, str, str]]:
    """Yield each owner that is found in another split than before, with both splits."""
    home: dict[str, str] = {}
    for owner, split in zip(owners.tolist(), splits.tolist(), strict=True):
        if home.setdefault(owner, split) != split:
            yield owner, home[owner], split


def _shuffled(patient_ids: Iterable[str], seed: int) -> list[str]:
    """Patients in the order of a hash with the seed: the same on every machine and in every version of numpy."""
    patients = {str(patient) for patient in patient_ids}
    return sorted(patients, key=lambda patient: hashlib.sha256(f"{seed}/{patient}".encode()).digest())


def _share(patients: int, fraction: float) -> int:
    """`fraction` of the patients, rounded, but not none."""
    return max(1, round(patients * fraction))
