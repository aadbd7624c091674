"""PadChest, in a tree with its published columns, lists written as Python text, and numbered zips."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from radflow.data.config import PreprocessConfig
from radflow.data.dataset.reading import Dataset
from radflow.data.dataset.shards import UNKNOWN_AGE, FilmTable
from radflow.data.preprocess import preprocess
from radflow.data.readers.film_lists import ListConfig
from radflow.data.readers.padchest import FINDINGS
from radflow.data.readers.table_config import TableConfig
from radflow.errors import UserError

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
HEADER = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,Projection,"
    "MethodProjection,Pediatric,Report,MethodLabel,Labels,Localizations"
)
LABELS = [
    "['pneumonia', ' nodule']",
    "['normal']",
    "['multiple nodules', 'scoliosis']",
    "['exclude']",
    "",
    "['cardiomegaly', 'Pleural effusion', 'pleural effusion']",
    *(f"['{name}']" for name in FINDINGS[:-1]),  # a part of the release need not show all
    "['normal']",
]


def film_name(number: int) -> str:
    return f"2168401113669640120{number:04d}_00-074-{number:03d}.png"


def png_of_16_bits(number: int) -> bytes:
    pixels = (np.add.outer(np.arange(40), np.arange(40)) * 40 + number).astype(np.uint16)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twenty films of as many patients, half of them in 0.zip and the rest in the folder 1."""
    folder = tmp_path / "padchest"
    (folder / "1").mkdir(parents=True)
    rows = []
    with zipfile.ZipFile(folder / "0.zip", "w") as archive:
        for number, labels in enumerate(LABELS):
            rows.append(
                f"{number},{film_name(number)},{number % 2},20140915,study{number},839860{number:04d},"
                f"193{number % 10}.0,"
                f'F,POSTEROANTERIOR,PA,Manual review of DICOM fields,No,"sin hallazgos, nada",Physician,"{labels}",'
                "\"['loc right']\""
            )
            if number % 2:
                (folder / "1" / film_name(number)).write_bytes(png_of_16_bits(number))
            else:
                archive.writestr(film_name(number), png_of_16_bits(number))
    (folder / TABLE).write_text("\n".join([HEADER, *rows, ""]))
    return folder


def run(source: Path, findings: str = "", **settings: object) -> Dataset:
    own_table, out = TableConfig(findings=findings), str(source.parent / "out")
    return preprocess(
        PreprocessConfig(source=str(source), out=out, image_size=32, workers=1, own_table=own_table, **settings)
    )


def table_of(dataset: Dataset) -> FilmTable:
    table = FilmTable.concatenate([dataset.split(name).table for name in ("train", "val", "test")])
    return table.take(np.argsort(table.image_ids))


def test_padchest_is_read_as_released(source: Path) -> None:
    dataset = run(source)
    assert (dataset.name, dataset.findings, dataset.manifest.task) == ("padchest", FINDINGS, "chest")
    assert dataset.manifest.split_rule.rule == "random"
    table = table_of(dataset)
    assert len(table) == len(LABELS) - 2
    shown = [{FINDINGS[place] for place in np.flatnonzero(row)} for row in table.labels]
    assert shown[:4] == [{"pneumonia", "nodule"}, set(), set(), {"cardiomegaly", "pleural effusion"}]
    assert table.known.all()
    first = table.take(np.array([0]))
    assert (first.patient_ids[0], first.study_ids[0], first.views[0]) == ("8398600000", "study0", "PA")
    assert (first.sexes[0], first.ages[0]) == ("F", 84)
    rejected = pd.read_csv(dataset.path / "rejected.csv")
    assert rejected["image_id"].tolist() == [film_name(3), film_name(4)]


def test_other_findings_may_be_named_and_several_names_be_one(source: Path) -> None:
    dataset = run(source, "nodule+multiple nodules,scoliosis")
    assert dataset.findings == ("nodule", "scoliosis")
    assert table_of(dataset).labels[:4].tolist() == [[1, 0], [0, 0], [1, 1], [0, 0]]
    with pytest.raises(UserError, match="no cell of column Labels names lung tumour; they name "):
        run(source, "lung tumour")


def test_lists_divide_a_release_that_is_not_divided(source: Path, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("\n".join(map(film_name, (0, 1, 2, 6, 7))))
    (tmp_path / "test.txt").write_text(film_name(5))
    lists = ListConfig(train_list=str(tmp_path / "train.txt"), test_list=str(tmp_path / "test.txt"))
    dataset = run(source, split="lists", lists=lists)
    assert dataset.split("test").image_ids.tolist() == [film_name(5)]
    assert dataset.manifest.rows == 6


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("['normal']", "[normal]"), r"column Labels has '\[normal\]' in row 3; expected a list"),
        (("['normal']", "[" * 500), "column Labels has"),
        (("['normal']", "['normal', 3]"), "column Labels has"),
        (("PatientID", "Patient"), "lacks the columns PatientID"),
        (("8398600001", ""), "row 3 has no PatientID"),
        ((film_name(1), film_name(0)), "remove one"),
    ],
)
def test_a_mistake_in_the_table_is_one_line(source: Path, change: tuple[str, str], told: str) -> None:
    table = source / TABLE
    table.write_text(table.read_text().replace(*change))
    with pytest.raises(UserError, match=told) as error:
        run(source)
    assert "\n" not in str(error.value)


def test_a_birth_year_that_makes_no_age_is_none(source: Path) -> None:
    table = source / TABLE
    table.write_text(table.read_text().replace(",1930.0,", ",2930.0,").replace(",1931.0,", ",,"))
    assert set(table_of(run(source)).ages[:2].tolist()) == {UNKNOWN_AGE}
