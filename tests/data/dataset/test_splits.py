from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radflow.data.dataset.splits import (
    official_split,
    prove_no_lesion_crosses,
    prove_no_patient_crosses,
    random_split,
)
from radflow.errors import UserError

patient_lists = st.lists(st.integers(1, 30).map(str), min_size=1, max_size=80).filter(lambda ids: len(set(ids)) >= 5)


@given(patients=patient_lists, seed=st.integers(0, 5), order=st.randoms(use_true_random=False))
def test_random_split_keeps_patients_whole_whatever_the_order(patients: list[str], seed: int, order) -> None:
    splits = random_split(np.array(patients), 0.2, 0.2, seed)
    prove_no_patient_crosses(np.array(patients), splits)
    assert set(splits.tolist()) == {"train", "val", "test"}
    shuffled = list(patients)
    order.shuffle(shuffled)
    again = random_split(np.array(shuffled), 0.2, 0.2, seed)
    assert dict(zip(shuffled, again.tolist(), strict=True)) == dict(zip(patients, splits.tolist(), strict=True))


@given(patients=patient_lists, seed=st.integers(0, 5))
def test_official_split_keeps_the_test_list_and_whole_patients(patients: list[str], seed: int) -> None:
    ids = np.array(patients)
    in_test = ids == max(patients)
    splits = official_split(ids, in_test, 0.25, seed)
    prove_no_patient_crosses(ids, splits)
    assert np.array_equal(splits == "test", in_test)
    assert {"train", "val"} <= set(splits.tolist())


def test_fractions_are_of_patients() -> None:
    patients = np.repeat([str(patient) for patient in range(1000)], 3)
    splits = random_split(patients, 0.1, 0.2, seed=0)
    counts = {name: len(set(patients[splits == name])) for name in ("train", "val", "test")}
    assert counts == {"train": 700, "val": 100, "test": 200}


def test_another_seed_gives_another_split() -> None:
    patients = np.array([str(patient) for patient in range(100)])
    assert (random_split(patients, 0.2, 0.2, 0) != random_split(patients, 0.2, 0.2, 1)).any()


def test_a_patient_on_both_sides_is_named() -> None:
    with pytest.raises(UserError, match="patient 13 has films in both train and test"):
        prove_no_patient_crosses(np.array(["1", "13", "13"]), np.array(["train", "train", "test"]))


def test_a_lesion_on_both_sides_is_named() -> None:
    lesions = np.array(["a:lesion1", "a:lesion2", "a:lesion2"])
    prove_no_lesion_crosses(lesions, np.array(["train", "test", "test"]))
    with pytest.raises(ValueError, match="lesion a:lesion2 has crops in both train and val"):
        prove_no_lesion_crosses(lesions, np.array(["train", "train", "val"]))


def test_too_few_patients_is_an_error() -> None:
    with pytest.raises(UserError, match="2 patients are too few"):
        random_split(np.array(["1", "2", "2"]), 0.1, 0.2, 0)
    with pytest.raises(UserError, match="1 patients outside the test part are too few"):
        official_split(np.array(["1", "2"]), np.array([False, True]), 0.1, 0)
