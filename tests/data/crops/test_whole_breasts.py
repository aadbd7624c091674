"""Whole breasts of CBIS-DDSM and mini-MIAS: one image a view, with what all lesions of the view say."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from tcia_folder import TciaFolder, made_film

from radflow.data.config import PreprocessConfig
from radflow.data.dataset.reading import Dataset
from radflow.data.preprocess import preprocess
from radflow.data.readers.cbis_ddsm import CbisDdsm
from radflow.errors import UserError

BOX = (60, 20, 30, 20)


@pytest.fixture
def tree(tmp_path: Path) -> TciaFolder:
    """Both views of the left breasts of six patients, of whom one has a mass and a calcification on the same view."""
    tree = TciaFolder(tmp_path / "cbis")
    for patient in range(1, 7):
        for view in ("CC", "MLO"):
            tree.add_film(f"Mass-Training_P_{patient:05d}_LEFT_{view}", ())
            tree.add_row(f"Mass-Training_P_{patient:05d}_LEFT_{view}", 1, "BENIGN")
    tree.add_film("Calc-Training_P_00001_LEFT_CC", ())
    tree.add_row("Calc-Training_P_00001_LEFT_CC", 1, "MALIGNANT")
    for patient in (21, 22):
        tree.add_film(f"Mass-Test_P_{patient:05d}_RIGHT_CC", (), film=made_film(patient)[:, ::-1].copy())
        tree.add_row(f"Mass-Test_P_{patient:05d}_RIGHT_CC", 1, "MALIGNANT" if patient == 21 else "BENIGN")
    tree.write_csvs()
    return tree


def run(source: Path, out: Path, **settings: object) -> Dataset:
    given = {"image_size": 32, "workers": 1, "unit": "breasts", **settings}
    return preprocess(PreprocessConfig(source=str(source), out=str(out), **given))


def test_each_view_of_a_breast_is_an_image_once(tree: TciaFolder, tmp_path: Path) -> None:
    dataset = run(tree.folder, tmp_path / "out")
    assert (dataset.manifest.unit, dataset.manifest.fit, dataset.findings) == ("breasts", "breast", ("Malignant",))
    assert dataset.manifest.rows == 14
    with (dataset.path / "rejected.csv").open(newline="") as file:
        left_out = {row["image_id"]: row["reason"] for row in csv.DictReader(file)}
    # The CSVs of masses are read first; the film of the calcification is the same picture.
    assert left_out == {
        "Calc-Training_P_00001_LEFT_CC": "shows the same view as Mass-Training_P_00001_LEFT_CC",
    }


def test_a_view_is_malignant_by_any_lesion_of_either_csv(tree: TciaFolder, tmp_path: Path) -> None:
    dataset = run(tree.folder, tmp_path / "out")
    tables = [dataset.split(name).table for name in ("train", "val", "test")]
    shown = {name: (label, side, view, pathology) for table in tables
             for name, label, side, view, pathology in zip(
                 table.image_ids.tolist(), table.labels[:, 0].tolist(), table.sides.tolist(), table.views.tolist(),
                 table.pathologies.tolist(), strict=True)}  # fmt: skip
    assert shown["Mass-Training_P_00001_LEFT_CC"] == (True, "L", "CC", "malignant")
    assert shown["Mass-Training_P_00001_LEFT_MLO"] == (False, "L", "MLO", "benign")
    assert shown["Mass-Test_P_00021_RIGHT_CC"] == (True, "R", "CC", "malignant")
    assert sorted(dataset.split("test").patient_ids.tolist()) == ["P_00021", "P_00022"]


def test_chest_walls_are_left_on_all_images(tree: TciaFolder, tmp_path: Path) -> None:
    dataset = run(tree.folder, tmp_path / "out")
    for name in ("train", "val", "test"):
        split = dataset.split(name)
        for film in split.gather(np.arange(len(split))):
            heights = (film > 20).sum(axis=0)
            assert heights[0] > 25
            assert heights[-1] == 0


def test_normal_breasts_of_mini_mias_show_no_tumour(tmp_path: Path) -> None:
    source = tmp_path / "mias"
    source.mkdir()
    lines = ["mdb001 G CIRC B 535 425 197", "mdb002 G CIRC M 522 280 69", "mdb003 D NORM ", "mdb004 D NORM ",
             *(f"mdb{number:03} F NORM" for number in range(5, 21))]  # fmt: skip
    (source / "Info.txt").write_text("\n".join(lines))
    film = np.zeros((1024, 1024), np.uint8)
    film[200:800, :500] = 120
    for number in range(1, 21):
        (source / f"mdb{number:03}.pgm").write_bytes(b"P5\n1024 1024\n255\n" + film.tobytes())
    dataset = run(source, tmp_path / "out")
    labels, sides = {}, {}
    for name in ("train", "val", "test"):
        table = dataset.split(name).table
        labels |= dict(zip(table.image_ids.tolist(), table.labels.astype(int).tolist(), strict=True))
        sides |= dict(zip(table.image_ids.tolist(), table.sides.tolist(), strict=True))
    assert dataset.findings == ("Tumour", "Malignant")
    assert [labels[f"mdb00{number}"] for number in (1, 2, 3)] == [[1, 0], [1, 1], [0, 0]]
    assert (sides["mdb001"], sides["mdb002"]) == ("R", "L")


def test_what_does_not_suit_breasts_is_refused(tree: TciaFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fit=pad of breasts, which are square by themselves is out of range"):
        run(tree.folder, tmp_path / "out", fit="pad")
    with pytest.raises(UserError, match="unit=films of cbis_ddsm is out of range: expected crops or breasts"):
        run(tree.folder, tmp_path / "out", unit="films")


def test_the_real_lists_of_cbis_ddsm_have_each_view_once(real_data: Path) -> None:
    films = CbisDdsm.at(real_data / "mammo" / "cbis_ddsm" / "csv").read_films()
    views = {(film.patient_id, film.side, film.view) for film in films}
    assert (len(films), len(views)) == (3103, 3032)
