"""INbreast, in a tree with its published columns and names of files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from dicom_films import dicom_film, file_bytes

from radflow.data.config import PreprocessConfig
from radflow.data.dataset.reading import Dataset
from radflow.data.dataset.shards import FilmTable
from radflow.data.preprocess import preprocess, recognise
from radflow.data.readers.inbreast import INbreast
from radflow.errors import UserError

CATEGORIES = ["1", "2", "3", "4a", "4b", "4c", "5", "6", "0", "2"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Ten patients of two films each."""
    folder = tmp_path / "INbreast"
    (folder / "AllDICOMs").mkdir(parents=True)
    lines = ["Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads"]
    for number, category in enumerate(CATEGORIES):
        for place, (side, view) in enumerate((("R", "CC"), ("L", "MLO"))):
            film = f"2058{number}{place}"
            lines.append(f"removed;removed;{side};{view};201001;{film};3;{category if side == 'R' else 1}")
            name = f"{film}_6c613a14b80a85{number}1_MG_{side}_{view}_ANON.dcm"
            (folder / "AllDICOMs" / name).write_bytes(file_bytes(dicom_film()))
    (folder / "INbreast.csv").write_text("\n".join([*lines, ""]))
    return folder


def run(source: Path, **settings: object) -> Dataset:
    given = {"image_size": 32, "workers": 1, "val_fraction": 0.2, "test_fraction": 0.3, **settings}
    return preprocess(PreprocessConfig(source=str(source), out=str(source.parent / "out"), **given))


def test_films_have_their_category_and_the_patient_of_their_file(source: Path) -> None:
    assert recognise(source) is INbreast
    dataset = run(source)
    table = FilmTable.concatenate([dataset.split(name).table for name in ("train", "val", "test")])
    table = table.take(np.argsort(table.image_ids))
    assert dataset.findings == ("Suspicious",)
    right = table.sides == "R"
    assert table.labels[right, 0].tolist() == [False] * 3 + [True] * 5 + [False]
    assert not table.labels[~right].any()
    assert table.known[right, 0].tolist() == [True] * 9
    assert len(set(table.patient_ids.tolist())) == 10
    assert table.patient_ids[0] == table.patient_ids[1] == "6c613a14b80a8501"
    assert table.study_ids[0] == "6c613a14b80a8501/201001"


def test_an_incomplete_assessment_is_left_out_with_the_reason(source: Path) -> None:
    dataset = run(source)
    with (dataset.path / "rejected.csv").open(newline="") as file:
        reasons = {row["image_id"]: row["reason"] for row in csv.DictReader(file)}
    assert reasons == {"205880": "the release does not say whether it shows any of the findings"}


def test_a_film_without_a_file_is_rejected(source: Path) -> None:
    next((source / "AllDICOMs").glob("205810_*")).unlink()
    dataset = run(source, max_rejected=0.2)
    assert dataset.manifest.rejected == 1
    assert f"205810,no DICOM file of this number in {source}/AllDICOMs" in (dataset.path / "rejected.csv").read_text()


@pytest.mark.parametrize(
    ("given", "wrong", "message"),
    [
        (";4a", ";4d", "column Bi-Rads has '4d' in row 8; expected a BI-RADS category from 0 to 6"),
        (";6\n", ";7\n", "column Bi-Rads has '7' in row 16"),
        ("File Name", "File", "lacks the columns File Name; it has Patient ID"),
        ("205810", "205800", "lists 205800 twice, in rows 2 and 4"),
    ],
)
def test_a_bad_table_is_one_line(given: str, wrong: str, message: str, source: Path) -> None:
    path = source / "INbreast.csv"
    assert given in path.read_text()
    path.write_text(path.read_text().replace(given, wrong))
    with pytest.raises(UserError, match=message):
        run(source)
