"""CheXpert and its kin: the fourteen observations of its labeller (Irvin et al. 2019, arXiv:1901.07031).

A label is 1 (present), 0 (said to be absent), -1 (uncertain) or blank. Blank is what the report does not mention, which
is taken to be absent, as the authors and most users have it; `blank=unknown` leaves it out of training and of every
figure. Where a row says `No Finding`, its blanks are absent whatever the setting is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from radflow.data.dataset.shards import FilmTable
from radflow.data.readers.base import ReleasePlan, Request
from radflow.data.readers.cells import ABSENT, NOTHING, sex, years
from radflow.data.readers.division import divide_films
from radflow.data.readers.film_files import FilmFiles
from radflow.data.readers.label_columns import Labels, labels_of_flags
from radflow.data.readers.whole_tables import WholeTable, read_header, read_table
from radflow.data.tasks import CHEST, ImageUnit
from radflow.errors import UserError
from radflow.storage import Location, locate

FINDINGS = (
    *("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation"),
    *("Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"),
)
"""The observations in the order of the release, without `No Finding`, which says that none of the others is there."""
NO_FINDING = "No Finding"
SUPPORT_DEVICES = "Support Devices"
"""The one observation that a row with `No Finding` may have."""

PARTS = {"train.csv": "train", "valid.csv": "test"}
"""The 234 films of valid.csv, which radiologists have labelled, are the test part: the release's own is not public."""
LATERAL = "LATERAL"
_COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", NO_FINDING)
_PATH = re.compile(r"(?:[^/]+/)?((?:train|valid)/(patient\d+)/(study\d+)/[^/]+\.(?:jpg|png))")
"""Path of a film: the release's folder, which users rename; the part; patient, study and view."""


def observations(table: WholeTable, blank: str) -> Labels:
    """The labels of a table with the fourteen columns; `blank` is what an empty cell means, absent or unknown."""
    unmentioned = ABSENT if blank in ("auto", "absent") else NOTHING
    found = labels_of_flags(table, FINDINGS, unmentioned)
    (healthy,) = labels_of_flags(table, [NO_FINDING]).labels.T
    others = np.array([finding != SUPPORT_DEVICES for finding in FINDINGS])
    absent = healthy[:, np.newaxis] & others & ~found.labels & ~found.uncertain
    return Labels(FINDINGS, found.labels, found.known | absent, found.uncertain)


@dataclass(frozen=True)
class CheXpert:
    """A folder with train.csv, valid.csv and the films in train/ and valid/, of the full size or small.

    The full release comes in batches (`CheXpert-v1.0 batch 2 (train 1)/patient00001/...`), which may stay as they are.
    An age of 90 is 90 or more; the sex of one patient is Unknown.
    """

    layout: ClassVar[str] = "chexpert"
    title: ClassVar[str] = "CheXpert"
    looks_for: ClassVar[str] = "train.csv with a column Frontal/Lateral"
    findings: ClassVar[tuple[str, ...]] = FINDINGS
    task: ClassVar[str] = CHEST
    units: ClassVar[tuple[ImageUnit, ...]] = ("films",)
    fit: ClassVar[Literal["pad", "squash"]] = "pad"
    image_size: ClassVar[int] = 224
    split_rules: ClassVar[tuple[str, ...]] = ("official", "random", "lists")

    folder: Location
    name: str = layout

    @classmethod
    def recognises(cls, folder: Location) -> bool:
        """Whether the folder, or its only folder of the release's name, has the training table."""
        return cls._home(folder) is not None

    @classmethod
    def at(cls, source: str | Location) -> CheXpert:
        """Find the tables in a folder, or one folder down; raises `UserError` where they are not."""
        folder = locate(source)
        if not folder.is_dir():
            raise UserError(f"source {folder} is not a folder; give the one with train.csv and valid.csv")
        home = cls._home(folder)
        if home is None:
            raise UserError(
                f"no {cls.looks_for} in {folder}; put the release's tables beside the folders train and valid"
            )
        return cls(home)

    @classmethod
    def _home(cls, folder: Location) -> Location | None:
        below: list[Location] = sorted(folder.glob("CheXpert-v1.0*"))
        return next(
            (place for place in (folder, *below) if "Frontal/Lateral" in read_header(place / "train.csv")), None
        )

    def plan(self, request: Request) -> ReleasePlan:
        """Read both tables; see `Reader.plan`."""
        tables = {name: path for name in PARTS if (path := self.folder / name).is_file()}
        films = [self._films(read_table(path), PARTS[name], request) for name, path in tables.items()]
        table = FilmTable.concatenate(films)
        divided = divide_films(table, tables["train.csv"], request, table.splits)
        names = divided.table.image_ids.tolist()
        return ReleasePlan(
            table=divided.table,
            sources={**tables, **request.lists.sources()},
            images=lambda _: self._files(names).images(names),
            units=lambda: self._files(names).units(names),
            absent=self._why_absent,
            unlabelled=divided.unlabelled,
            unlisted=divided.unlisted,
        )

    def _films(self, table: WholeTable, part: str, request: Request) -> FilmTable:
        table.require(_COLUMNS)
        matches = [_PATH.fullmatch(path) for path in table.columns["Path"]]
        if None in matches:
            told = table.examples("Path", (place for place, match in enumerate(matches) if match is None))
            raise UserError(
                f"{table.path}, column Path has {told}; expected such as "
                "CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg"
            )
        parts = [match.groups() for match in matches if match is not None]
        views = [
            (direction or "FRONTAL") if side == "Frontal" else LATERAL
            for side, direction in zip(table.columns["Frontal/Lateral"], table.columns["AP/PA"], strict=True)
        ]
        return FilmTable(
            image_ids=np.array([name for name, _, _ in parts]),
            patient_ids=np.array([patient for _, patient, _ in parts]),
            study_ids=np.array([f"{patient}_{study}" for _, patient, study in parts]),
            views=np.array(views),
            sexes=np.array([sex(cell) for cell in table.columns["Sex"]]),
            ages=np.array([years(cell) for cell in table.columns["Age"]], np.int16),
            splits=np.full(len(table), part),
            **observations(table, request.own_table.blank).planes,
        )

    def _files(self, names: Sequence[str]) -> FilmFiles:
        return FilmFiles(dict(self._unpacked(names)), (), self._why_absent)

    def _unpacked(self, names: Sequence[str]) -> Iterator[tuple[str, Location]]:
        batches: list[Location] = sorted(self.folder.glob("CheXpert-v1.0 batch *"))
        for name in names:
            _, _, below = name.partition("/")
            for place in (self.folder / name, *(batch / below for batch in batches)):
                if place.is_file():
                    yield name, place
                    break

    @property
    def _why_absent(self) -> str:
        return f"no image file in the folders train and valid of {self.folder}, or in its batches"
