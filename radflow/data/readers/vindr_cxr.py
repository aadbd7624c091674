"""VinDr-CXR: 18,000 films as DICOM, each judged by several radiologists, with boxes around local findings.

Nguyen et al. 2022 (arXiv:2012.15029, doi:10.1038/s41597-022-01498-w). In the training part each of three radiologists
has a row: a finding that two or three see is present, one that none sees is absent, and one that one sees is uncertain.
The test part is the consensus of five. Boxes are kept where their finding is present. The release names no patients, so
that nothing can show that its parts share none: each film is taken for a patient of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from radflow.data.dataset.shards import FilmTable
from radflow.data.readers.base import ReleasePlan, Request
from radflow.data.readers.boxes import FindingBox, corner_box, with_film_sizes
from radflow.data.readers.division import divide_films
from radflow.data.readers.film_files import FilmFiles, find_image
from radflow.data.readers.label_columns import Labels, labels_of_flags
from radflow.data.readers.whole_tables import WholeTable, read_table
from radflow.data.tasks import CHEST, ImageUnit
from radflow.errors import UserError
from radflow.storage import Location, locate

LABEL_FILES = {"train": "image_labels_train.csv", "test": "image_labels_test.csv"}
BOX_FILES = {"train": "annotations_train.csv", "test": "annotations_test.csv"}
PLACES = ("annotations", ".")
"""Folders in which the tables lie."""
IMAGE = "image_id"
READER = ("rad_id", "rad_ID")
NO_FINDING = "No finding"
ENOUGH = 2
"""Radiologists of three who make a finding present."""
_CORNERS = ("x_min", "y_min", "x_max", "y_max")
NO_PATIENTS = "VinDr-CXR names no patients: each film is taken for a patient of its own, which may not be so."


@dataclass(frozen=True)
class VinDrCxr:
    """A folder with the tables in annotations/, and the films in train/ and test/."""

    layout: ClassVar[str] = "vindr_cxr"
    title: ClassVar[str] = "VinDr-CXR"
    looks_for: ClassVar[str] = f"annotations/{LABEL_FILES['train']}"
    findings: ClassVar[tuple[str, ...]] = ()
    task: ClassVar[str] = CHEST
    units: ClassVar[tuple[ImageUnit, ...]] = ("films",)
    fit: ClassVar[Literal["pad", "squash"]] = "pad"
    image_size: ClassVar[int] = 224
    split_rules: ClassVar[tuple[str, ...]] = ("official", "random", "lists")

    folder: Location
    name: str = layout

    @classmethod
    def recognises(cls, folder: Location) -> bool:
        """Whether the training part's labels are in the folder."""
        return _find(folder, LABEL_FILES["train"]) is not None

    @classmethod
    def at(cls, source: str | Location) -> VinDrCxr:
        """Look at a folder; raises `UserError` where the labels of the training part are not in it."""
        folder = locate(source)
        if not cls.recognises(folder):
            raise UserError(
                f"no {cls.looks_for} in {folder}; put the release's tables beside the folders train and test"
            )
        return cls(folder)

    def plan(self, request: Request) -> ReleasePlan:
        """Read labels and boxes of both parts; see `Reader.plan`."""
        tables = {part: read_table(path) for part, name in LABEL_FILES.items() if (path := _find(self.folder, name))}
        findings, lone = _findings(list(tables.values()))
        films = FilmTable.concatenate([_film_table(table, part, findings) for part, table in tables.items()])
        divided = divide_films(films, tables["train"].path, request, films.splits)
        names = divided.table.image_ids.tolist()
        boxes = {part: path for part, name in BOX_FILES.items() if (path := _find(self.folder, name))}
        sources = [table.path for table in tables.values()] + list(boxes.values())
        left_out = (f"In one table only, and so left out: {', '.join(lone)}.",) if lone else ()
        return ReleasePlan(
            table=divided.table,
            findings=findings,
            sources={**{path.name: path for path in sources}, **request.lists.sources()},
            images=lambda _: self._files(names).images(names),
            units=lambda: self._files(names).units(names),
            absent=self._why_absent,
            unlabelled=divided.unlabelled,
            unlisted=divided.unlisted,
            notes=(NO_PATIENTS, *left_out),
            boxes=with_film_sizes(
                [box for path in boxes.values() for box in _boxes(read_table(path), films, findings)], self._find_film
            ),
        )

    def _files(self, names: Sequence[str]) -> FilmFiles:
        return FilmFiles(dict(self._unpacked(names)), (), self._why_absent)

    def _unpacked(self, names: Sequence[str]) -> Iterator[tuple[str, Location]]:
        return ((name, path) for name in names if (path := self._find_film(name)))

    def _find_film(self, name: str) -> Location | None:
        folders = (self.folder / "train", self.folder / "test", self.folder)
        return next((path for folder in folders if (path := find_image(folder, name))), None)

    @property
    def _why_absent(self) -> str:
        return f"no image file in the folders train and test of {self.folder}"


def _find(folder: Location, name: str) -> Location | None:
    places: list[Location] = [folder / place / name for place in PLACES]
    return next((path for path in places if path.is_file()), None)


def _findings(tables: Sequence[WholeTable]) -> tuple[tuple[str, ...], list[str]]:
    """The findings that all tables have, in the order of the first, and those that only one has."""
    columns = [[name for name in table.columns if name not in (IMAGE, NO_FINDING, *READER, "")] for table in tables]
    common = tuple(name for name in columns[0] if all(name in others for others in columns))
    return common, sorted({name for names in columns for name in names} - set(common))


def _film_table(table: WholeTable, part: str, findings: tuple[str, ...]) -> FilmTable:
    """A row a film, of what its radiologists say."""
    table.require((IMAGE,))
    of_readers = labels_of_flags(table, findings)
    films, of_row, readers = np.unique(table.columns[IMAGE], return_inverse=True, return_counts=True)
    votes = np.zeros((len(films), len(findings)), int)
    np.add.at(votes, of_row, of_readers.labels)
    needed = np.minimum(ENOUGH, readers)[:, np.newaxis]
    present, uncertain = votes >= needed, (votes > 0) & (votes < needed)
    labels = Labels(findings, present, ~uncertain, uncertain)
    return FilmTable(
        image_ids=films,
        patient_ids=films,
        views=np.full(len(films), ""),
        splits=np.full(len(films), part),
        **labels.planes,
    )


def _boxes(table: WholeTable, films: FilmTable, findings: tuple[str, ...]) -> Iterator[FindingBox]:
    """The boxes of findings that are present; those of one radiologist alone are of uncertain ones."""
    table.require((IMAGE, "class_name", *_CORNERS))
    present = {
        (film, findings[column])
        for film, row in zip(films.image_ids.tolist(), films.labels, strict=True)
        for column in np.flatnonzero(row).tolist()
    }
    for place, (film, finding) in enumerate(zip(table.columns[IMAGE], table.columns["class_name"], strict=True)):
        if (film, finding) in present and table.columns["x_min"][place]:
            yield corner_box(table, place, film, finding, _CORNERS)
