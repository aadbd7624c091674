"""VinDr-CXR, in a tree with its published columns: DICOM films, three radiologists a film, boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_films import dicom_film, file_bytes

from radflow.data.config import PreprocessConfig
from radflow.data.dataset.reading import Dataset
from radflow.data.dataset.shards import FilmTable
from radflow.data.preprocess import preprocess
from radflow.data.readers.boxes import FindingBox, read_boxes
from radflow.errors import UserError

VOTES = {
    "f1": ["1,0,0,0", "1,0,1,0", "0,0,0,1"],
    "f2": ["0,0,0,1", "0,0,0,1", "0,0,0,1"],
    "f3": ["1,1,1,0", "1,1,1,0", "1,1,0,0"],
}
"""Cardiomegaly, Nodule/Mass, Other diseases, No finding; by three radiologists."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "vindr"
    (folder / "annotations").mkdir(parents=True)
    for name, part in (*((film, "train") for film in VOTES), ("t1", "test"), ("t2", "test")):
        (folder / part).mkdir(exist_ok=True)
        (folder / part / f"{name}.dicom").write_bytes(file_bytes(dicom_film()))
    rows = [f"{film},R{reader},{vote}" for film, votes in VOTES.items() for reader, vote in enumerate(votes, 8)]
    write(folder, "image_labels_train", "image_id,rad_id,Cardiomegaly,Nodule/Mass,Other diseases,No finding", rows)
    # As released: another order of columns, another spelling of one, and no radiologists.
    tested = ["t1,0,1,0,0", "t2,1,0,1,0"]
    write(folder, "image_labels_test", "image_id,Nodule/Mass,Cardiomegaly,Other disease,No finding", tested)
    boxes = [
        "f1,Cardiomegaly,R8,691.4,1375.1,1653.2,1831.7",
        "f1,Other diseases,R9,1,1,2,2",
        "f2,No finding,R8,,,,",
        "f3,Nodule/Mass,R10,10,20,30.5,50",
    ]
    write(folder, "annotations_train", "image_id,class_name,rad_id,x_min,y_min,x_max,y_max", boxes)
    write(folder, "annotations_test", "image_id,class_name,x_min,y_min,x_max,y_max", ["t2,Nodule/Mass,1,2,3,5"])
    return folder


def write(folder: Path, name: str, header: str, rows: list[str]) -> None:
    (folder / "annotations" / f"{name}.csv").write_text("\n".join([header, *rows, ""]))


def run(source: Path) -> Dataset:
    out = str(source.parent / "out")
    return preprocess(PreprocessConfig(source=str(source), out=out, image_size=32, workers=1, val_fraction=0.3))


def test_what_the_radiologists_say_becomes_labels(source: Path) -> None:
    dataset = run(source)
    assert (dataset.name, dataset.manifest.task) == ("vindr_cxr", "chest")
    assert dataset.findings == ("Cardiomegaly", "Nodule/Mass")
    table = FilmTable.concatenate([dataset.split(name).table for name in ("train", "val", "test")])
    table = table.take(np.argsort(table.image_ids))
    assert table.image_ids.tolist() == ["f1", "f2", "f3", "t1", "t2"]
    assert table.labels.tolist() == [[1, 0], [0, 0], [1, 1], [1, 0], [0, 1]]
    assert table.known.all()
    assert table.splits.tolist()[3:] == ["test", "test"]
    assert "In one table only, and so left out: Other disease, Other diseases." in dataset.manifest.notes


def test_what_one_of_three_sees_is_uncertain(source: Path) -> None:
    labels = source / "annotations" / "image_labels_train.csv"
    labels.write_text(labels.read_text().replace("f3,R8,1,1", "f3,R8,1,0").replace("f3,R9,1,1", "f3,R9,1,0"))
    dataset = run(source)
    split = next(split for name in ("train", "val") if "f3" in (split := dataset.split(name)).image_ids)
    row = split.image_ids.tolist().index("f3")
    assert split.table.uncertain[row].tolist() == [False, True]
    assert split.table.known[row].tolist() == [True, False]
    assert [box.image_id for box in read_boxes(dataset)] == ["f1", "t2"]


def test_boxes_of_present_findings_are_kept(source: Path) -> None:
    assert read_boxes(run(source)) == [
        FindingBox("f1", "Cardiomegaly", 691.4, 1375.1, pytest.approx(961.8), pytest.approx(456.6), 64, 40),
        FindingBox("f3", "Nodule/Mass", 10, 20, 20.5, 30, 64, 40),
        FindingBox("t2", "Nodule/Mass", 1, 2, 2, 3, 64, 40),
    ]


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("annotations_train", ("1653.2", "1.2"), "annotations_train.csv, row 2 is no box: 691.4, 1375.1, 1.2, 1831.7"),
        ("annotations_train", ("x_min", "left"), "lacks the columns x_min"),
        ("image_labels_train", ("image_id", "image"), "lacks the columns image_id"),
        ("image_labels_train", ("f2,R9,0", "f2,R9,maybe"), "column Cardiomegaly has 'maybe' in row 6"),
    ],
)
def test_a_mistake_in_a_table_is_one_line(source: Path, name: str, change: tuple[str, str], told: str) -> None:
    table = source / "annotations" / f"{name}.csv"
    table.write_text(table.read_text().replace(*change))
    with pytest.raises(UserError) as error:
        run(source)
    assert told in str(error.value)
