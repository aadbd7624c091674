"""VinDr-Mammo, in a tree with its published columns: BI-RADS of breasts, marked findings, DICOM by examination."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_films import dicom_film, file_bytes

from radflow.data.config import PreprocessConfig
from radflow.data.dataset.reading import Dataset
from radflow.data.dataset.shards import FilmTable
from radflow.data.preprocess import preprocess, recognise
from radflow.data.readers.boxes import FindingBox, read_boxes
from radflow.data.readers.vindr_mammo import VinDrMammo
from radflow.errors import UserError

HEADER = "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,split"
MARKED = (
    "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,"
    "finding_categories,finding_birads,xmin,ymin,xmax,ymax,split"
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "vindr_mammo"
    folder.mkdir()
    breasts, marks = [], []
    for number in range(10):
        for side, view in (("L", "CC"), ("R", "MLO")):
            image, birads = f"i{number}{side}", 4 if number % 2 and side == "L" else number % 3 + 1
            part = "test" if number >= 7 else "training"
            path = folder / "images" / f"s{number}" / f"{image}.dicom"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file_bytes(dicom_film()))
            start = f"s{number},x,{image},{side},{view},3518,2800,BI-RADS {birads},DENSITY C"
            breasts.append(f"{start},{part}")
            if birads == 4:
                marks.append(f"{start},\"['Mass', 'Nipple Retraction']\",BI-RADS 4,10.5,20,40,70,{part}")
                marks.append(f"{start},['Suspicious Calcification'],BI-RADS 4,1,2,3,4,{part}")
            else:
                marks.append(f"{start},['No Finding'],,,,,,{part}")
    (folder / "breast-level_annotations.csv").write_text("\n".join([HEADER, *breasts, ""]))
    (folder / "finding_annotations.csv").write_text("\n".join([MARKED, *marks, ""]))
    return folder


def run(source: Path, **settings: object) -> Dataset:
    given = {"image_size": 32, "workers": 1, "val_fraction": 0.3, **settings}
    return preprocess(PreprocessConfig(source=str(source), out=str(source.parent / "out"), **given))


def table_of(dataset: Dataset) -> FilmTable:
    table = FilmTable.concatenate([dataset.split(name).table for name in ("train", "val", "test")])
    return table.take(np.argsort(table.image_ids))


def test_breasts_have_their_birads_and_what_is_marked_on_them(source: Path) -> None:
    assert recognise(source) is VinDrMammo
    dataset = run(source)
    manifest = dataset.manifest
    assert (manifest.name, manifest.task, manifest.unit, manifest.fit) == ("vindr_mammo", "breast", "breasts", "breast")
    table = table_of(dataset)
    assert len(table) == 20
    assert dataset.findings[:3] == ("Suspicious", "Mass", "Suspicious Calcification")
    shown = {
        image: {finding for finding, label in zip(dataset.findings, labels, strict=True) if label}
        for image, labels in zip(table.image_ids.tolist(), table.labels.tolist(), strict=True)
    }
    assert shown["i1L"] == {"Suspicious", "Mass", "Nipple Retraction", "Suspicious Calcification"}
    assert shown["i2L"] == shown["i2R"] == set()
    assert table.known.all()
    assert (table.sides[0], table.views[1], table.study_ids[0]) == ("L", "MLO", "s0")
    assert set(table.patient_ids[table.splits == "test"].tolist()) == {"s7", "s8", "s9"}
    assert FindingBox("i1L", "Mass", 10.5, 20.0, 29.5, 50.0, 64, 40) in read_boxes(dataset)


def test_without_marks_only_the_birads_is_a_finding(source: Path) -> None:
    (source / "finding_annotations.csv").unlink()
    dataset = run(source, unit="films")
    assert dataset.findings == ("Suspicious",)
    assert (dataset.manifest.unit, dataset.manifest.fit) == ("films", "pad")


@pytest.mark.parametrize(
    ("file", "given", "wrong", "message"),
    [
        ("breast-level", "BI-RADS 4", "4", "column breast_birads has '4' in row 4"),
        ("breast-level", "training", "train", "column split has 'train' in row 2"),
        ("breast-level", "laterality", "side", "lacks the columns laterality; it has study_id"),
        ("breast-level", "i1L", "i0L", "lists i0L twice, in rows 2 and 4"),
        ("finding", "['No Finding']", "No Finding", "column finding_categories has 'No Finding'"),
        ("finding", "10.5,20,40", "50.5,20,40", "is no box: 50.5, 20, 40, 70; expected xmin, ymin, xmax, ymax"),
    ],
)
def test_a_bad_table_is_one_line(file: str, given: str, wrong: str, message: str, source: Path) -> None:
    (path,) = source.glob(f"{file}*.csv")
    assert given in path.read_text()
    path.write_text(path.read_text().replace(given, wrong))
    with pytest.raises(UserError, match=message) as error:
        run(source)
    assert "\n" not in str(error.value)
