"""Several datasets as one: findings joined by name, films and patients told apart, nothing absent that is not said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_datasets import HEADER, SIZE, made_film, made_table, write

from radflow.data.dataset.joined import join_datasets
from radflow.data.dataset.reading import Dataset, open_dataset
from radflow.data.dataset.writing import write_dataset
from radflow.data.findings import join_findings
from radflow.data.seen_patients import SeenPatients
from radflow.errors import UserError
from radflow.evaluation.predictions import Predictions, read_predictions, write_predictions

OTHER_FINDINGS = ("pulmonary mass", "Edema")


def write_other(path: Path, **header: object) -> Dataset:
    """A second dataset of twenty films, with two findings of which one is the first's by another name."""
    table = made_table(20)
    labels = np.stack([np.arange(20) % 5 == 0, np.arange(20) % 4 == 0], axis=1)
    table = replace(table, labels=labels, known=np.ones_like(labels), uncertain=np.zeros_like(labels))
    size = int(header.get("image_size", SIZE))
    own = {"name": "other", "findings": OTHER_FINDINGS, "sources": {"b.csv": "1" * 64}}
    with write_dataset(path, replace(HEADER, **(own | header)), table) as writer:
        for row in range(20):
            writer.put(row, np.resize(made_film(100 + row), (size, size)))
    return open_dataset(path)


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Dataset, Dataset]:
    return write(tmp_path / "made"), write_other(tmp_path / "other")


def test_findings_are_joined_by_name_and_synonym() -> None:
    chestxray14, padchest = ("Effusion", "Pleural_Thickening", "Mass"), ("pleural effusion", "nodule", "pulmonary mass")
    assert join_findings([chestxray14, padchest]) == ("Effusion", "Pleural_Thickening", "Mass", "nodule")
    assert join_findings([padchest, chestxray14]) == (
        "pleural effusion",
        "nodule",
        "pulmonary mass",
        "Pleural_Thickening",
    )


def test_what_a_dataset_does_not_label_is_not_known_there(parts: tuple[Dataset, Dataset]) -> None:
    joined = join_datasets(parts)
    assert (joined.name, joined.findings) == ("made+other", ("Mass", "Nodule", "Hernia", "Edema"))
    for name in ("train", "val", "test"):
        first, second = (part.split(name) for part in parts)
        split, table = joined.split(name), joined.split(name).table
        assert len(split) == len(first) + len(second)
        assert table.datasets.tolist() == ["made"] * len(first) + ["other"] * len(second)
        assert table.image_ids[0] == f"made/{first.image_ids[0]}"
        assert not set(table.patient_ids[: len(first)]) & set(table.patient_ids[len(first) :])
        of_first, of_second = table.take(np.arange(len(first))), table.take(np.arange(len(first), len(split)))
        assert of_first.known.tolist() == [[True, True, True, False]] * len(first)
        assert of_second.known.tolist() == [[True, False, False, True]] * len(second)
        assert np.array_equal(of_first.labels[:, :3], first.labels)
        assert np.array_equal(of_second.labels[:, [0, 3]], second.labels)
        films = split.gather(np.arange(len(split)))
        assert np.array_equal(films, np.concatenate([each.gather(np.arange(len(each))) for each in (first, second)]))
        counts = joined.manifest.splits[name]
        assert (counts.rows, counts.patients) == (len(split), len(set(table.patient_ids)))
        assert counts.unknown == {"Mass": 0, "Nodule": len(second), "Hernia": len(second), "Edema": len(first)}


def test_datasets_that_cannot_be_joined_are_told_why(parts: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two datasets are called made"):
        join_datasets([parts[0], parts[0]])
    large = write_other(tmp_path / "large", image_size=16)
    with pytest.raises(UserError, match="images of one size: made has 8 px, other has 16 px"):
        join_datasets([parts[0], large])
    crops = write_other(tmp_path / "crops", unit="crops")
    with pytest.raises(UserError, match="one kind of image: made has films, other has crops"):
        join_datasets([parts[0], crops])


def test_films_made_square_in_two_ways_are_told_of(parts: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    """And a model of them is given new films as the release of most hospitals is: padded."""
    padded = write_other(tmp_path / "padded", fit="pad")
    manifest = join_datasets([parts[0], padded]).manifest
    assert (parts[0].manifest.fit, manifest.fit) == ("squash", "pad")
    assert any("some padded" in note for note in manifest.notes)
    alike = join_datasets(parts).manifest
    assert (alike.fit, alike.notes) == ("squash", ())


def test_the_order_and_the_parts_make_the_digest(parts: tuple[Dataset, Dataset]) -> None:
    digests = {join_datasets(parts).digest, join_datasets(parts[::-1]).digest, *(part.digest for part in parts)}
    assert len(digests) == 4


def test_patients_are_known_again_in_the_dataset_that_they_came_from(parts: tuple[Dataset, Dataset]) -> None:
    """A model of the joined datasets has seen the patients of each, and one of a part those of the joined."""
    joined = join_datasets(parts)
    seen = SeenPatients.of_training(joined)
    assert seen.leakage(parts[0], "train").trained == parts[0].manifest.splits["train"].patients
    assert seen.leakage(parts[0], "test").seen == 0
    of_first = SeenPatients.of_training(parts[0])
    assert of_first.leakage(joined, "train").trained == parts[0].manifest.splits["train"].patients
    assert of_first.leakage(joined, "train").patients == joined.manifest.splits["train"].patients


def test_predictions_keep_the_dataset(parts: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    split = join_datasets(parts).split("test")
    probabilities = np.full(split.labels.shape, 0.5, np.float32)
    columns = vars(split.table)
    predictions = Predictions(("Mass", "Nodule", "Hernia", "Edema"), probabilities=probabilities, **columns)
    write_predictions(tmp_path / "predictions.parquet", predictions)
    read = read_predictions(tmp_path / "predictions.parquet")
    assert read.datasets.tolist() == split.table.datasets.tolist()
    by_dataset = read.by_dataset()
    assert {name: len(films) for name, films in by_dataset.items()} == {
        part.name: len(part.split("test")) for part in parts
    }
