from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radflow.data.dataset.manifest import SplitRule
from radflow.data.dataset.reading import Dataset, open_dataset
from radflow.data.dataset.shards import FilmTable
from radflow.data.dataset.writing import DatasetHeader, write_dataset
from radflow.data.seen_patients import SeenPatients, SeenSource, hashes

LABELS = {"Data_Entry_2017.csv": "a" * 64}
OFFICIAL = {"train": "1 2 3 4", "val": "5", "test": "6 7 8"}
RANDOM = {"train": "1 6 7 5", "val": "8", "test": "2 3 4"}


def made(folder: Path, splits: dict[str, str], name: str = "cxr", sources: dict[str, str] | None = None) -> Dataset:
    """A dataset of two films a patient, with these patients in its splits."""
    pairs = [(split, patient) for split, patients in splits.items() for patient in patients.split() for _ in range(2)]
    table = FilmTable(
        image_ids=np.array([f"{row}.png" for row in range(len(pairs))]),
        patient_ids=np.array([patient for _, patient in pairs]),
        views=np.full(len(pairs), "PA"),
        splits=np.array([split for split, _ in pairs]),
        labels=np.zeros((len(pairs), 1), bool),
    )
    header = DatasetHeader(
        name=name,
        image_size=4,
        findings=("Mass",),
        split_rule=SplitRule("random", 0, 0.1, 0.1),
        sources=LABELS if sources is None else sources,
    )
    with write_dataset(folder, header, table) as writer:
        for row in range(len(pairs)):
            writer.put(row, np.zeros((4, 4), np.uint8))
    return open_dataset(folder)


def test_a_model_of_a_random_split_has_seen_patients_of_the_official_test_part(tmp_path: Path) -> None:
    official, random = made(tmp_path / "official", OFFICIAL), made(tmp_path / "random", RANDOM)
    leakage = SeenPatients.of_training(random).leakage(official, "test")
    # Patients, not films: 6 and 7 were trained on, 8 validated on.
    assert (leakage.patients, leakage.trained, leakage.validated, leakage.seen) == (3, 2, 1, 3)
    assert str(leakage) == "3 of 3 test patients were seen in training (2 trained on, 1 validated on)"
    assert leakage.warning == str(leakage)
    of_val = SeenPatients.of_training(random).leakage(official, "val")
    assert (of_val.patients, of_val.trained, of_val.validated) == (1, 1, 0)


def test_a_model_has_not_seen_its_own_test_patients(tmp_path: Path) -> None:
    official = made(tmp_path / "official", OFFICIAL)
    leakage = SeenPatients.of_training(official).leakage(official, "test")
    assert (leakage.patients, leakage.seen, leakage.warning) == (3, 0, "")
    assert str(leakage) == "none of 3 test patients was seen in training"


def test_what_a_model_started_from_has_seen_counts_over_generations(tmp_path: Path) -> None:
    splits = ("6", "7 9", "1")
    ancestors = [
        SeenPatients.of_training(made(tmp_path / str(number), {"train": train, "val": "99", "test": "98"}))
        for number, train in enumerate(splits)
    ]
    official = made(tmp_path / "official", OFFICIAL)
    seen = ancestors[0] | ancestors[1] | ancestors[2] | SeenPatients.of_training(official)
    assert seen.leakage(official, "test").trained == 2
    assert len(seen.sources) == 1


@pytest.mark.parametrize(
    ("name", "sources", "is_same"),
    [
        ("cxr", LABELS, True),
        ("cxr", {"Data_Entry_2017_v2020.csv": "b" * 64}, True),
        ("hospital", LABELS, True),
        ("hospital", {"test_list.txt": "c" * 64, **LABELS}, True),
        ("hospital", {"Data_Entry_2017.csv": "b" * 64}, False),
        ("mini_mias", {}, False),
    ],
)
def test_patients_are_held_apart_by_their_source(
    tmp_path: Path, name: str, sources: dict[str, str], is_same: bool
) -> None:
    other = made(tmp_path / "other", RANDOM, name, sources)
    leakage = SeenPatients.of_training(made(tmp_path / "official", OFFICIAL)).leakage(other, "test")
    assert leakage.trained == (3 if is_same else 0)


def test_drawn_patients_are_those_of_one_drawing(tmp_path: Path) -> None:
    """All phantoms have one name, and patients 1, 2, 3 in each drawing."""
    one, other = ({"Data_Entry_2017.csv": letter * 64} for letter in "ab")
    seen = SeenPatients.of_training(made(tmp_path / "one", OFFICIAL, "phantoms", one))
    assert seen.leakage(made(tmp_path / "again", RANDOM, "phantoms", one), "test").trained == 3
    assert seen.leakage(made(tmp_path / "other", RANDOM, "phantoms", other), "test").trained == 0


def test_a_source_is_known_by_way_of_another_data_set_of_it(tmp_path: Path) -> None:
    """`first` and `second` share the label file, `second` and `third` the name."""
    first = made(tmp_path / "first", {"train": "6", "val": "99", "test": "98"}, "a", LABELS)
    second = made(tmp_path / "second", {"train": "7", "val": "99", "test": "98"}, "b", LABELS)
    third = made(tmp_path / "third", OFFICIAL, "b", {"Data_Entry_2017.csv": "b" * 64})
    assert SeenPatients.of_training(first).leakage(third, "test").trained == 0
    both = SeenPatients.of_training(first) | SeenPatients.of_training(second)
    assert both.leakage(third, "test").trained == 2


def test_models_that_do_not_say_whom_they_have_seen_are_named(tmp_path: Path) -> None:
    official = made(tmp_path / "official", OFFICIAL)
    seen = SeenPatients(unknown=("body.weights.h5",)) | SeenPatients.of_training(official)
    leakage = (seen | SeenPatients(unknown=("body.weights.h5",))).leakage(official, "test")
    expected = "none of 3 test patients was seen in training; which patients body.weights.h5 has seen is not known"
    assert (leakage.seen, leakage.warning) == (0, expected)


def test_the_list_holds_hashes_and_no_ids(tmp_path: Path) -> None:
    seen = SeenPatients.of_training(made(tmp_path / "set", {"train": "MRN-4711", "val": "MRN-4712", "test": "x"}))
    seen.write(tmp_path)
    text = (tmp_path / "patients.json").read_text()
    assert "471" not in text.replace("a" * 64, "")
    (source,) = json.loads(text)["sources"]
    expected = hashlib.blake2b(b"MRN-4711", digest_size=8, person=b"radflow-patient").hexdigest()
    assert source["trained"] == [expected]
    assert SeenPatients.from_json(text) == seen


def test_the_list_of_a_large_data_set_is_small() -> None:
    everyone = SeenSource(frozenset({"cxr"}), hashes(map(str, range(30_000))), frozenset())
    assert len(everyone.trained) == 30_000
    assert len(SeenPatients((everyone,)).to_json()) < 600_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "radflow-patients", "version": 2, "sources": [], "unknown": []}',
        '{"format": "radflow-patients", "version": 1, "sources": [{"marks": ["a"]}], "unknown": []}',
        '{"format": "radflow-patients", "version": 1, "sources": [7], "unknown": []}',
        '{"format": "radflow-patients", "version": 1, "sources": []}',
    ],
)
def test_a_damaged_list_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        SeenPatients.from_json(text)


PATIENTS = st.frozensets(st.integers(0, 30).map(str), max_size=12)


@given(generations=st.lists(st.tuples(st.sampled_from("ab"), PATIENTS, PATIENTS), max_size=5), judged=PATIENTS)
def test_counts_are_those_of_plain_sets(
    generations: list[tuple[str, frozenset[str], frozenset[str]]], judged: frozenset[str]
) -> None:
    """Whatever the order and number of generations, through the file each time."""
    seen, trained, validated = SeenPatients(), set(), set()
    for source, train, val in generations:
        own = SeenPatients((SeenSource(frozenset(source), hashes(train), hashes(val)),))
        seen = SeenPatients.from_json((seen | own).to_json())
        if source == "a":
            trained |= train
            validated |= val
    leakage = seen.count(frozenset("a"), judged, "test")
    assert leakage.patients == len(judged)
    assert leakage.trained == len(judged & trained)
    assert leakage.validated == len((judged & validated) - trained)
