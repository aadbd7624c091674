"""CBIS-DDSM as its mirror on Kaggle has it: csv/ with dicom_info.csv, and JPEG files in folders of series."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tcia_folder import Box, TciaFolder, made_film, made_mask

from radflow.data.config import PreprocessConfig
from radflow.data.crops.lesions import CropConfig
from radflow.data.preprocess import preprocess, recognise
from radflow.data.readers.cbis_ddsm import CbisDdsm

BOX: Box = (60, 20, 30, 20)
FILMS = [f"Mass-{part}_P_{number:05d}_LEFT_CC" for part, numbers in (("Training", range(1, 9)), ("Test", (21, 22)))
         for number in numbers]  # fmt: skip


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """The CSVs of TCIA, a table of series, and JPEGs of which those of a lesion are its crop and its mask."""
    root = tmp_path / "kaggle"
    tables = TciaFolder(root / "csv")
    (root / "csv").mkdir(parents=True)
    rows = []
    for number, name in enumerate(FILMS):
        tables.add_row(name, 1)
        film = (made_film(number, (BOX,)) >> 8).astype(np.uint8)
        top, left, height, width = BOX
        rows.append(add(root, f"1.3.6.{number}", 1, film, name))
        rows.append(add(root, f"1.3.8.{number}", 1, film[top : top + height, left : left + width], f"{name}_1"))
        rows.append(add(root, f"1.3.8.{number}", 2, made_mask(BOX), f"{name}_1"))
    tables.write_csvs()
    with (root / "csv" / "dicom_info.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["file_path", "image_path", "PatientID", "SeriesDescription", "SeriesInstanceUID"], *rows]
        )
    return root


def add(root: Path, series: str, number: int, pixels: np.ndarray, name: str) -> list[str]:
    """Write a JPEG and return its row; as published, some rows do not describe their series."""
    path = root / "jpeg" / series / f"{number}-{number:03}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=75)
    mirrored = f"CBIS-DDSM/{path.relative_to(root).as_posix()}"
    return [mirrored.replace("jpeg", "dicom").replace(".jpg", ".dcm"), mirrored, name, "", series]


def test_the_mirror_gives_the_crops_of_every_lesion(mirror: Path) -> None:
    assert recognise(mirror) is CbisDdsm
    config = PreprocessConfig(
        source=str(mirror), out=str(mirror.parent / "out"), image_size=32, workers=1, crops=CropConfig(crop_size=48)
    )
    dataset = preprocess(config)
    assert dataset.manifest.rejected == 0
    counts = {name: (split.rows, split.positives["Tumour"]) for name, split in dataset.manifest.splits.items()}
    assert counts["test"] == (12, 6)
    assert sum(rows for rows, _ in counts.values()) == 60


def test_a_mask_that_jpeg_has_blurred_is_where_it_was(mirror: Path) -> None:
    film = CbisDdsm.at(mirror).read_films()[0]
    pixels = film.file.read_pixels()
    ((_, outline),) = film.located
    mask = outline.read_mask(pixels.shape)
    assert np.count_nonzero(mask != (made_mask(BOX) == 255)) == 0


def test_what_the_mirror_lacks_is_rejected_with_the_reason(mirror: Path) -> None:
    table = mirror / "csv" / "dicom_info.csv"
    lines = [line for line in table.read_text().splitlines() if f"{FILMS[0]}_1" not in line]
    table.write_text("\n".join(lines))
    (mirror / "jpeg" / "1.3.6.1" / "1-001.jpg").unlink()
    config = PreprocessConfig(
        source=str(mirror), out=str(mirror.parent / "out"), image_size=32, workers=1, max_rejected=0.5,
        crops=CropConfig(crop_size=48),
    )  # fmt: skip
    dataset = preprocess(config)
    with (dataset.path / "rejected.csv").open(newline="") as file:
        reasons = {row["image_id"]: row["reason"] for row in csv.DictReader(file)}
    assert reasons[f"{FILMS[0]}:lesion1:crop0"] == f"dicom_info.csv names no image of {FILMS[0]}_1"
    assert reasons[f"{FILMS[1]}:lesion1:crop0"] == f"no folder {FILMS[1]}"
