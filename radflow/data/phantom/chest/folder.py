"""Phantom chest films: a dataset in the layout of ChestX-ray14 that anybody can make in a minute.

Every patient has his own anatomy, which he keeps over his films; every finding is drawn with its own radiographic
signs. What occurs together, how often, and how many films a patient has follow the release (`phantom_labels`,
`phantom_patients`), with the rare findings raised. Phantoms exercise the whole way of the data and tell a model that
learns from one that does not; they say nothing about performance on real films.
"""

from __future__ import annotations

import csv
import gzip
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from radflow.data.phantom.chest.films import check_image_size, render_films
from radflow.data.phantom.chest.hospitals import HOSPITALS, Hospital, HospitalName
from radflow.data.phantom.chest.patients import PhantomFilm, draw_patients, split_patients
from radflow.data.phantom.folder import phantom_folder, write_films
from radflow.errors import UserError

LABEL_FILE_COLUMNS = (
    "Image Index",
    "Finding Labels",
    "Follow-up #",
    "Patient ID",
    "Patient Age",
    "Patient Gender",
    "View Position",
    "OriginalImage[Width",
    "Height]",
    "OriginalImagePixelSpacing[x",
    "y]",
)
"""Columns of Data_Entry_2017_v2020.csv; the commas within the last two names are the release's own."""

_FILMS_PER_TASK = 128
_DETECTOR = {True: (2500, 2048, 0.168), False: (2992, 2991, 0.143)}
"""The release's usual width, height and pixel spacing (mm) of AP (true) and PA films."""


def write_phantom_films(
    folder: Path,
    films: int,
    image_size: int,
    seed: int,
    archive: bool = False,
    hospital: HospitalName = "first",
    workers: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Write a phantom dataset in the layout of the ChestX-ray14 release; the folder appears when it is whole.

    It holds `Data_Entry_2017.csv`, `train_val_list.txt`, `test_list.txt` (no patient is in both) and `images/*.png`,
    8-bit grey, or `images_001.tar.gz` with the same files; and `PHANTOMS.txt`, so that nobody takes them for patients.

    Parameters
    ----------
    folder
        Must be absent or empty.
    films
        Number of films, at least 2.
    image_size
        Pixels along a side, 64 to 1024.
    seed
        At least 0; the same seed gives the same bytes, whatever the number of workers.
    archive
        Whether the films are packed, as the release's are.
    hospital
        Whose patients and technique the films have.
    workers
        Processes that draw; one per available core unless given.
    on_progress
        Called with the number of films written so far.

    Raises
    ------
    UserError
        When a number is out of range, or the folder has content.
    """
    if films < 2:
        raise UserError(f"films is {films}; give at least 2, so that there are films to train on and to test on")
    check_image_size(image_size)
    with phantom_folder(folder, seed, workers) as unfinished:
        images = unfinished / "images"
        images.mkdir()
        rows = draw_patients(films, seed, HOSPITALS[hospital])
        write = partial(_write_images, images=images, image_size=image_size, seed=seed, hospital=HOSPITALS[hospital])
        write_films(write, rows, _FILMS_PER_TASK, workers, on_progress)
        _write_label_file(rows, unfinished / "Data_Entry_2017.csv")
        _write_lists(rows, split_patients(rows, seed), unfinished)
        if archive:
            _pack(images, unfinished / "images_001.tar.gz")


def _write_images(rows: Sequence[PhantomFilm], images: Path, image_size: int, seed: int, hospital: Hospital) -> None:
    films = render_films(
        [row.labels for row in rows],
        image_size,
        seed,
        patients=[row.patient for row in rows],
        follow_ups=[row.follow_up for row in rows],
        female=[row.female for row in rows],
        portable=[row.portable for row in rows],
        hospital=hospital,
    )
    for row, film in zip(rows, films, strict=True):
        Image.fromarray(film).save(images / row.name, compress_level=4)


def _write_label_file(rows: list[PhantomFilm], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LABEL_FILE_COLUMNS)
        for row in rows:
            width, height, spacing = _DETECTOR[row.portable]
            sex, view = "F" if row.female else "M", "AP" if row.portable else "PA"
            writer.writerow(
                (
                    row.name,
                    row.combination,
                    row.follow_up,
                    row.patient,
                    row.age,
                    sex,
                    view,
                    width,
                    height,
                    spacing,
                    spacing,
                )
            )


def _write_lists(rows: list[PhantomFilm], test_patients: set[int], folder: Path) -> None:
    for name, of_test in (("train_val_list.txt", False), ("test_list.txt", True)):
        names = [row.name for row in rows if (row.patient in test_patients) == of_test]
        (folder / name).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _pack(images: Path, archive: Path) -> None:
    """Move the films into an archive, with no time stamps or owners, so that its bytes depend on the films alone."""
    with (
        archive.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as members,
    ):
        for image in sorted(images.iterdir()):
            member = tarfile.TarInfo(f"images/{image.name}")
            member.size = image.stat().st_size
            with image.open("rb") as content:
                members.addfile(member, content)
            image.unlink()
    images.rmdir()
