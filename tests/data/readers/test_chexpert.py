"""CheXpert and MIMIC-CXR-JPG, in trees with their published columns and folders."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nih_folder import png_bytes
from PIL import Image

from radflow.data.config import PreprocessConfig
from radflow.data.dataset.reading import Dataset
from radflow.data.dataset.shards import FilmTable
from radflow.data.preprocess import preprocess
from radflow.data.readers.chexpert import FINDINGS
from radflow.data.readers.table_config import TableConfig
from radflow.errors import UserError

OBSERVATIONS = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,"
    "Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
CHEXPERT_HEADER = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{OBSERVATIONS}"
SICK = ",,1.0,,,-1.0,,0.0,,,,,,"
"""Cardiomegaly, perhaps an edema, no pneumonia, and nothing said of all else."""
HEALTHY = "1.0,,,,,,,,,0.0,,,,1.0"


def write_film(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.add.outer(np.arange(40), np.arange(40)).astype(np.uint8)
    if path.suffix == ".png":
        path.write_bytes(png_bytes(pixels))
    else:
        Image.fromarray(pixels).save(path, "JPEG")


@pytest.fixture
def chexpert(tmp_path: Path) -> Path:
    """Five patients in train with a lateral film of the first, and one in valid."""
    home = tmp_path / "CheXpert-v1.0-small"
    rows = {"train": [], "valid": []}
    for number in range(1, 6):
        path = f"train/patient{number:05d}/study1/view1_frontal.jpg"
        rows["train"].append(f"CheXpert-v1.0-small/{path},Female,68,Frontal,AP,{SICK if number % 2 else HEALTHY}")
        write_film(home / path)
    lateral = "train/patient00001/study1/view2_lateral.jpg"
    rows["train"].append(f"CheXpert-v1.0-small/{lateral},Unknown,90,Lateral,,{SICK}")
    write_film(home / lateral)
    valid = "valid/patient64541/study1/view1_frontal.jpg"
    rows["valid"].append(f"CheXpert-v1.0-small/{valid},Male,73,Frontal,PA,{'0.0,' * 13}1.0")
    write_film(home / valid)
    for part, lines in rows.items():
        (home / f"{part}.csv").write_text("\n".join([CHEXPERT_HEADER, *lines, ""]))
    return home


def run(source: Path, blank: str = "auto", **settings: object) -> Dataset:
    own_table = TableConfig(blank=blank, table=str(settings.pop("table", "")))
    out = source.parent / "out"
    return preprocess(
        PreprocessConfig(source=str(source), out=str(out), image_size=32, workers=1, own_table=own_table, **settings)
    )


def rows_of(dataset: Dataset) -> pd.DataFrame:
    """A row a film: labels as 1, 0, -1 for uncertain and None for unknown, and what else is told."""
    parts = [dataset.split(name).table for name, counts in dataset.manifest.splits.items() if counts.rows]
    table = FilmTable.concatenate(parts)
    labels = np.where(table.known, table.labels.astype(object), np.where(table.uncertain, -1, None))
    told = {"patient": table.patient_ids, "study": table.study_ids, "view": table.views, "sex": table.sexes,
            "age": table.ages, "split": table.splits}  # fmt: skip
    return pd.DataFrame({**told, **dict(zip(dataset.findings, labels.T, strict=True))}, index=table.image_ids)


@pytest.mark.parametrize("place", ["the folder", "one above", "batches"])
def test_chexpert_is_read_as_released(chexpert: Path, place: str) -> None:
    if place == "batches":
        (chexpert / "train").rename(chexpert / "CheXpert-v1.0 batch 2 (train 1)")
    dataset = run(chexpert.parent if place == "one above" else chexpert)
    assert (dataset.name, dataset.findings, dataset.manifest.task) == ("chexpert", FINDINGS, "chest")
    assert set(dataset.manifest.sources) == {"train.csv", "valid.csv"}
    rows = rows_of(dataset)
    assert len(rows) == 7
    test = rows[rows["split"] == "test"]
    assert test.index.tolist() == ["valid/patient64541/study1/view1_frontal.jpg"]
    first = rows.loc["train/patient00001/study1/view1_frontal.jpg"]
    assert (first["patient"], first["study"], first["view"]) == ("patient00001", "patient00001_study1", "AP")
    assert (first["sex"], first["age"]) == ("F", 68)
    lateral = rows.loc["train/patient00001/study1/view2_lateral.jpg"]
    assert (lateral["view"], lateral["sex"], lateral["age"]) == ("LATERAL", "", 90)


@pytest.mark.parametrize(("blank", "unmentioned"), [("auto", False), ("absent", False), ("unknown", None)])
def test_blank_labels_are_absent_unless_told_otherwise(chexpert: Path, blank: str, unmentioned: bool | None) -> None:
    rows = rows_of(run(chexpert, blank))
    sick = rows.loc["train/patient00001/study1/view1_frontal.jpg"]
    assert (sick["Cardiomegaly"], sick["Edema"], sick["Pneumonia"]) == (True, -1, False)
    assert sick["Fracture"] is unmentioned
    healthy = rows.loc["train/patient00002/study1/view1_frontal.jpg"]
    assert [healthy[finding] for finding in FINDINGS] == [False] * 12 + [True]


def test_of_a_healthy_film_support_devices_are_not_known_where_blanks_are_not(chexpert: Path) -> None:
    table = chexpert / "train.csv"
    table.write_text(table.read_text().replace(HEALTHY, "1.0,,,,,,,,,0.0,,,,"))
    healthy = rows_of(run(chexpert, "unknown")).loc["train/patient00002/study1/view1_frontal.jpg"]
    assert [healthy[finding] for finding in FINDINGS] == [False] * 12 + [None]


def test_films_of_other_views_are_left_out_and_named(chexpert: Path) -> None:
    dataset = run(chexpert, views="pa, AP")
    assert set(rows_of(dataset)["view"]) == {"AP", "PA"}
    rejected = pd.read_csv(dataset.path / "rejected.csv")
    assert rejected.to_numpy().tolist() == [["train/patient00001/study1/view2_lateral.jpg", "view LATERAL"]]
    assert (dataset.manifest.rejected, dataset.manifest.unlisted) == (0, 1)
    with pytest.raises(UserError, match=r"views=LL: no film has such a view; they have AP \(5\)"):
        run(chexpert, views="LL")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            ("CheXpert-v1.0-small/train/patient00002", "patient00002"),
            "column Path has 'patient00002/study1/",
        ),
        ((",AP/PA", ",Direction"), "lacks the columns AP/PA"),
        (("Edema", "Oedema"), "has no column Edema"),
        (("-1.0", "maybe"), "column Edema has 'maybe' in row 2, 'maybe' in row 4, 'maybe' in row 6; expected 1, 0, -1"),
    ],
)
def test_a_mistake_in_chexpert_s_table_is_one_line(chexpert: Path, change: tuple[str, str], told: str) -> None:
    table = chexpert / "train.csv"
    table.write_text(table.read_text().replace(*change))
    with pytest.raises(UserError) as error:
        run(chexpert)
    assert told in str(error.value)


@pytest.fixture
def mimic(tmp_path: Path) -> Path:
    """Six patients with a study each, of which the first has two films; nothing is labelled of the last one's."""
    home = tmp_path / "mimic"
    metadata, split, labels = [], [], []
    parts = ["train", "train", "train", "validate", "test", "test"]
    for number, part in enumerate(parts):
        subject, study = 10000032 + number, 50414267 + number
        for film, view in (("a", "PA"), ("b", "LATERAL"))[: 2 if number == 0 else 1]:
            name = f"{film}{number}-0f4c"
            metadata.append(f"{name},{subject},{study},CHEST (PA AND LAT),{view},3056,2544,21800506,213014.531")
            split.append(f"{name},{study},{subject},{part}")
            write_film(home / "files" / "p10" / f"p{subject}" / f"s{study}" / f"{name}.jpg")
        if number < 5:
            labels.append(
                f"{subject},{study},{',' * 12},1.0" if number == 1 else f"{subject},{study},,,,1.0{',' * 9},-1.0"
            )
    tables = {
        "metadata": "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,"
        "StudyDate,StudyTime",
        "split": "dicom_id,study_id,subject_id,split",
        "chexpert": "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,"
        "Fracture,Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,"
        "Support Devices",
    }
    for (kind, header), lines in zip(tables.items(), (metadata, split, labels), strict=True):
        text = "\n".join([header, *lines, ""])
        (home / f"mimic-cxr-2.0.0-{kind}.csv.gz").write_bytes(gzip.compress(text.encode()))
    return home


def test_mimic_cxr_is_joined_by_study_and_film(mimic: Path) -> None:
    dataset = run(mimic)
    assert (dataset.name, dataset.findings) == ("mimic_cxr", FINDINGS)
    assert len(dataset.manifest.sources) == 3
    rows = rows_of(dataset)
    assert rows.index.tolist() == [
        "p10/p10000032/s50414267/a0-0f4c.jpg",
        "p10/p10000032/s50414267/b0-0f4c.jpg",
        "p10/p10000033/s50414268/a1-0f4c.jpg",
        "p10/p10000034/s50414269/a2-0f4c.jpg",
        "p10/p10000035/s50414270/a3-0f4c.jpg",
        "p10/p10000036/s50414271/a4-0f4c.jpg",
    ]
    assert rows["split"].tolist() == ["train"] * 4 + ["val", "test"]
    assert rows["view"].tolist()[:2] == ["PA", "LATERAL"]
    assert rows.iloc[1][["patient", "study"]].tolist() == ["10000032", "50414267"]
    assert rows.iloc[1]["Edema"] is True
    assert rows.iloc[1]["Support Devices"] == -1
    assert rows.iloc[2]["Support Devices"] is True
    assert rows.iloc[2]["Edema"] is False
    rejected = pd.read_csv(dataset.path / "rejected.csv")
    assert rejected["image_id"].tolist() == ["p10/p10000037/s50414272/a5-0f4c.jpg"]
    assert "does not say" in rejected["reason"][0]


def test_another_labeller_may_be_named(mimic: Path) -> None:
    (mimic / "mimic-cxr-2.0.0-chexpert.csv.gz").rename(mimic / "mimic-cxr-2.0.0-negbio.csv.gz")
    assert "mimic-cxr-2.0.0-negbio.csv.gz" in run(mimic).manifest.sources
    with pytest.raises(UserError, match="is no file"):
        run(mimic, table="other.csv")


def test_a_table_of_mimic_cxr_that_lacks_is_named(mimic: Path) -> None:
    (mimic / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    with pytest.raises(UserError, match=r"has not one mimic-cxr-2\.\*-split\.csv\* \(none\)"):
        run(mimic)
