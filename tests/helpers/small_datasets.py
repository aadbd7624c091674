"""Small datasets of random films, written in an instant."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from radflow.data.dataset.manifest import SplitRule
from radflow.data.dataset.reading import Dataset, open_dataset
from radflow.data.dataset.shards import FilmTable
from radflow.data.dataset.writing import DatasetHeader, write_dataset

SIZE = 8
FINDINGS = ("Mass", "Nodule", "Hernia")
HEADER = DatasetHeader(
    name="made",
    image_size=SIZE,
    findings=FINDINGS,
    split_rule=SplitRule("random", 0, 0.2, 0.2),
    sources={"a.csv": "0" * 64},
)


def made_table(films: int) -> FilmTable:
    rows = np.arange(films)
    return FilmTable(
        image_ids=np.array([f"{row:04d}.png" for row in rows]),
        patient_ids=np.array([str(row // 2) for row in rows]),
        views=np.where(rows % 2, "PA", "AP"),
        splits=np.array(["train", "train", "val", "train", "train", "test"])[rows // 2 % 6],
        labels=np.stack([rows % 2 == 0, rows % 3 == 0, rows % 7 == 0], axis=1),
    )


def made_film(row: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 256, (size, size), dtype=np.uint8)


def write(
    path: Path, films: int = 40, rejected: tuple[int, ...] = (), order: list[int] | None = None, size: int = SIZE
) -> Dataset:
    with write_dataset(path, replace(HEADER, image_size=size), made_table(films)) as writer:
        for row in order or range(films):
            if row in rejected:
                writer.reject(row, "torn")
            else:
                writer.put(row, made_film(row, size))
    return open_dataset(path)
