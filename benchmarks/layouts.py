"""What a layout costs: the same films as ChestX-ray14, with a table of one's own, and as DICOM; and a long table.

    python -m benchmarks.layouts --folder=data/benchmark --films=512

draws 512 phantom films of 1024x1024 once (3 minutes), lays them out thrice, and preprocesses each in turn. Expected:
at least 90 % of the films a second that ChestX-ray14's layout reaches. Then a process of its own reads a table of
300,000 rows, as `layout=csv` does, and divides its films: expected in under 20 s and 1 GB. The films are not there.
"""

from __future__ import annotations

import csv
import io
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from radflow.config import run_command
from radflow.cpu import available_cores
from radflow.data.config import PreprocessConfig
from radflow.data.phantom.chest.folder import write_phantom_films
from radflow.data.preprocess import plan_dataset, preprocess, resolve

LABELS = "Data_Entry_2017.csv"
LONG = 300_000
FINDINGS = 14


@dataclass(frozen=True, kw_only=True)
class LayoutBenchmark:
    """Measure layouts."""

    folder: str = "data/benchmark"
    """Folder for the films, which are kept, and the datasets."""
    films: int = 512
    """Films of each layout."""
    rounds: int = 3
    """How often each is preprocessed; the median counts."""
    rows: int = LONG
    """Rows of the long table."""


def main(config: LayoutBenchmark) -> None:
    """Print films a second of each layout, and the time and memory of a long table."""
    folder = Path(config.folder)
    released = folder / f"phantoms-{config.films}"
    if not released.exists():
        write_phantom_films(released, config.films, 1024, seed=0)
    layouts = {"chestxray14": released, "csv": with_own_table(released), "vindr_cxr": as_dicom_tree(released)}
    speeds: dict[str, list[float]] = {layout: [] for layout in layouts}
    for _ in range(config.rounds):
        for layout, source in layouts.items():
            speeds[layout].append(films_a_second(layout, source, folder / "dataset", config.films))
    for layout, of_layout in speeds.items():
        share = median(ours / theirs for ours, theirs in zip(of_layout, speeds["chestxray14"], strict=True))
        print(f"{layout:12}{median(of_layout):7.1f} films/s, {share:.2f} of chestxray14", flush=True)
    measure_table(folder / "long", config.rows)


def films_a_second(layout: str, source: Path, out: Path, films: int) -> float:
    """Preprocess a source."""
    start = time.perf_counter()
    preprocess(PreprocessConfig(source=str(source), out=str(out), layout=layout, split="random"))
    return films / (time.perf_counter() - start)


def with_own_table(released: Path) -> Path:
    """The same PNG files beside a table with a column a finding."""
    source = fresh(released, "table")
    (source / "images").symlink_to((released / "images").resolve())
    findings, rows = label_rows(released)
    with (source / "films.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file", "patient", *findings], *rows])
    return source


def as_dicom_tree(released: Path) -> Path:
    """The same pixels as DICOM films of VinDr-CXR's layout, all in its training part."""
    source = fresh(released, "dicom")
    (source / "annotations").mkdir()
    (source / "train").mkdir()
    findings, rows = label_rows(released)
    with (source / "annotations" / "image_labels_train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image_id", "rad_id", *findings])
        writer.writerows([Path(name).stem, "R1", *labels] for name, _, *labels in rows)
    for name, *_ in rows:
        with Image.open(released / "images" / name) as film:
            dicom(np.asarray(film.convert("L"))).save_as(source / "train" / f"{Path(name).stem}.dicom")
    return source


def fresh(released: Path, kind: str) -> Path:
    """An empty folder beside the released films."""
    folder = released.with_name(f"{released.name}-{kind}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def label_rows(released: Path) -> tuple[list[str], list[list[object]]]:
    """The findings of the released label file, and a row a film: file, patient, and 1 or 0 a finding."""
    with (released / LABELS).open(newline="", encoding="utf-8") as file:
        films = [
            (row["Image Index"], row["Patient ID"], row["Finding Labels"].split("|")) for row in csv.DictReader(file)
        ]
    findings = sorted({name for _, _, names in films for name in names} - {"No Finding"})
    return findings, [[name, patient, *(int(each in names) for each in findings)] for name, patient, names in films]


def dicom(pixels: np.ndarray) -> Dataset:
    """A film of 8 bits, as it is."""
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = DigitalXRayImageStorageForPresentation
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = generate_uid()
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation, film.PixelRepresentation = 1, "MONOCHROME2", 0
    film.BitsAllocated, film.BitsStored, film.HighBit = 8, 8, 7
    film.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    film.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return pydicom.dcmread(buffer)


def measure_table(folder: Path, rows: int) -> None:
    """Let a process read the table and divide its films; print its time and memory."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    labels = generator.choice(["0", "1", "-1", ""], (rows, FINDINGS), p=[0.6, 0.1, 0.1, 0.2])
    with (folder / "films.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "patient", "study", "view", "sex", "age", *(f"Finding {n}" for n in range(FINDINGS))])
        for row in range(rows):
            film = f"files/p{row % 100}/p{row // 4}/s{row}/view{row % 3}_frontal.jpg"
            writer.writerow([film, row // 4, row, "PA" if row % 2 else "AP", "FM"[row % 2], row % 90, *labels[row]])
    subprocess.run([sys.executable, "-m", __spec__.name, f"--folder={folder}", "--rows=-1"], check=True)


def plan_alone(folder: str) -> None:
    """Plan a dataset of the table in a folder, and print what it took beside starting Python."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    _, plan = plan_dataset(resolve(PreprocessConfig(source=folder, layout="csv", split="random")))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{len(plan.table):,} rows of a table of {FINDINGS} findings: {seconds:.1f} s, {peak / 2**10:.0f} MiB "
          f"({before / 2**10:.0f} MiB before)", flush=True)  # fmt: skip


def run(config: LayoutBenchmark) -> None:
    """Measure all, or in the process that `measure_table` starts the table alone."""
    if config.rows < 0:
        plan_alone(config.folder)
    else:
        print(f"{available_cores()} cores", flush=True)
        main(config)


if __name__ == "__main__":
    sys.exit(run_command(LayoutBenchmark, run, sys.argv[1:]))
