from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from radflow.data.dataset.manifest import SplitRule
from radflow.data.dataset.reading import Dataset, open_dataset
from radflow.data.dataset.shards import FilmTable
from radflow.data.dataset.writing import DatasetHeader, write_dataset
from radflow.plots.contact_sheet import COLUMNS, ROWS, contact_sheets

FILMS, SIZE = 120, 32


def dataset_of(path: Path, labels: np.ndarray, findings: tuple[str, ...]) -> Dataset:
    """Films of one grey each, which is 10 + their row: a sheet tells by its greys which films it shows."""
    rows = np.arange(len(labels))
    names = np.array([f"{row:08d}_000.png" for row in rows])
    splits = np.array(["train", "val", "test"])[rows % 3]
    header = DatasetHeader(name="made", image_size=SIZE, findings=findings, split_rule=SplitRule("random", 0, 0.1, 0.1))
    with write_dataset(path, header, FilmTable(names, names, np.full(len(rows), "PA"), splits, labels)) as writer:
        for row in rows:
            writer.put(row, np.full((SIZE, SIZE), 10 + row, np.uint8))
    return open_dataset(path)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    """Many masses, three edemas, no hernia."""
    rows = np.arange(FILMS)
    return np.stack([rows % 4 == 0, np.isin(rows, (5, 7, 9)), np.zeros(FILMS, bool)], axis=1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, labels: np.ndarray) -> Dataset:
    return dataset_of(tmp_path_factory.mktemp("data") / "made", labels, ("Mass", "Edema", "Hernia"))


def rows_on(sheet: np.ndarray) -> set[int]:
    """The films whose grey fills a square on the sheet."""
    greys, counts = np.unique(sheet, return_counts=True)
    return {int(grey) - 10 for grey, count in zip(greys, counts, strict=True) if count >= 180**2 and grey < 255}


def drawn(dataset: Dataset, seed: int = 0) -> dict[str, np.ndarray]:
    return {name: np.asarray(sheet) for name, sheet in contact_sheets(dataset, seed)}


def test_a_sheet_shows_films_with_its_finding_and_no_others(dataset: Dataset, labels: np.ndarray) -> None:
    sheets = drawn(dataset)
    assert list(sheets) == ["Mass", "Edema", "No Finding"]  # nothing to show of hernias
    assert rows_on(sheets["Edema"]) == {5, 7, 9}
    assert len(rows_on(sheets["Mass"])) == len(rows_on(sheets["No Finding"])) == COLUMNS * ROWS
    assert rows_on(sheets["Mass"]) < set(np.flatnonzero(labels[:, 0]))
    assert rows_on(sheets["No Finding"]) < set(np.flatnonzero(~labels.any(axis=1)))
    assert {row % 3 for row in rows_on(sheets["Mass"])} == {0, 1, 2}  # of all splits


def test_the_seed_decides_which_films_are_shown(dataset: Dataset) -> None:
    again, other = drawn(dataset), drawn(dataset, seed=1)
    assert all(np.array_equal(sheet, again[name]) for name, sheet in drawn(dataset).items())
    assert rows_on(other["Mass"]) != rows_on(again["Mass"])


def test_crops_with_one_label_have_a_sheet_of_each_kind(tmp_path: Path) -> None:
    labels = np.arange(12)[:, None] < 4
    sheets = drawn(dataset_of(tmp_path / "crops", labels, ("Tumour",)))
    assert {name: rows_on(sheet) for name, sheet in sheets.items()} == {
        "Tumour": set(range(4)),
        "No Tumour": set(range(4, 12)),
    }
