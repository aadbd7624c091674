"""ChestX-ray14 as a user has it on disk: label file, split lists, and films in folders or in the release's archives."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from radflow.data.dataset.shards import UNKNOWN_AGE, FilmTable
from radflow.data.readers.base import PHANTOM_MARK, ReleasePlan, Request
from radflow.data.readers.boxes import FindingBox, read_box_table
from radflow.data.readers.division import divide_films
from radflow.data.readers.film_files import FilmFiles
from radflow.data.tables import read_rows
from radflow.data.tasks import CHEST, ImageUnit
from radflow.errors import UserError
from radflow.storage import Location, locate

FINDINGS: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
"""The fourteen findings in the order of Table 1 of CheXNet (arXiv:1711.05225), which is the order of the labels."""

NO_FINDING = "No Finding"
"""What the release writes where none of the fourteen is present; all labels are false then."""

RELEASED_FILMS = 112_120

RELEASED_COUNTS: dict[str, int] = {
    "Atelectasis": 11_559,
    "Cardiomegaly": 2_776,
    "Effusion": 13_317,
    "Infiltration": 19_894,
    "Mass": 5_782,
    "Nodule": 6_331,
    "Pneumonia": 1_431,
    "Pneumothorax": 5_302,
    "Consolidation": 4_667,
    "Edema": 2_303,
    "Emphysema": 2_516,
    "Fibrosis": 1_686,
    "Pleural_Thickening": 3_385,
    "Hernia": 227,
    NO_FINDING: 60_361,
}
"""Films per finding in the released Data_Entry_2017_v2020.csv.

Table I of the paper differs: it repeats Emphysema's count for Effusion and follows the 2017 file for others.
"""

LABEL_FILE_PATTERN = "Data_Entry_2017*.csv"
TRAIN_VAL_LIST = "train_val_list.txt"
TEST_LIST = "test_list.txt"
BOX_LIST_PATTERN = "BBox_List_2017*.csv"
ARCHIVE_PATTERNS = ("images_*.tar.gz", "*.zip", "*/images_*.tar.gz", "*/*.zip")
"""The release's own archives; mirrors offer zips under names of their own. Both may lie one folder down."""
FILM_FOLDERS = ("images", "images*/images*", "images*")
"""Folders in which unpacked films lie besides the folder itself, the first place first."""
FILM_SIDE = 1024
"""Height and width of the released films, in whose pixels the boxes are given."""
OLDEST = 120
"""Years; the file of 2017 makes some patients over 400 years old."""

_COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "View Position")
_OPTIONAL_COLUMNS = ("Follow-up #", "Patient Gender", "Patient Age")
_BOX_COLUMNS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
"""The header says `Bbox [x,y,w,h]` without quotes, and so four columns."""
_AGE = re.compile(r"(\d{1,3})([YMWD]?)")
_FILM_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]+\.png", re.IGNORECASE)


@dataclass(frozen=True)
class LabelFile:
    """The label file in columns of equal length, in the file's order."""

    path: Location
    image_ids: NDArray[np.str_]
    patient_ids: NDArray[np.str_]
    views: NDArray[np.str_]
    labels: NDArray[np.bool_]
    """[films, 14] in the order of `FINDINGS`"""
    study_ids: NDArray[np.str_]
    """Patient and follow-up number, such as 13_5; empty in a file without such numbers."""
    sexes: NDArray[np.str_]
    """F, M, or empty where the file does not say."""
    ages: NDArray[np.int16]
    """Age in years, or `UNKNOWN_AGE`."""

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def films(self) -> FilmTable:
        """The rows of a dataset, not yet in splits."""
        columns = {name: column for name, column in vars(self).items() if name != "path"}
        return FilmTable(splits=np.full(len(self), ""), **columns)


@dataclass(frozen=True)
class ChestXray14:
    """A folder with the release or a part of it. Nothing but names is read until the parts are asked for."""

    layout: ClassVar[str] = "chestxray14"
    title: ClassVar[str] = "ChestX-ray14"
    looks_for: ClassVar[str] = LABEL_FILE_PATTERN
    findings: ClassVar[tuple[str, ...]] = FINDINGS
    task: ClassVar[str] = CHEST
    units: ClassVar[tuple[ImageUnit, ...]] = ("films",)
    fit: ClassVar[Literal["pad", "squash"]] = "squash"
    image_size: ClassVar[int] = 224
    split_rules: ClassVar[tuple[str, ...]] = ("official", "random", "lists")

    folder: Location
    label_path: Location

    @classmethod
    def recognises(cls, folder: Location) -> bool:
        """Whether there is a label file in the folder, plain or gzipped."""
        return any(folder.glob(f"{LABEL_FILE_PATTERN}*"))

    @classmethod
    def at(cls, source: str | Location) -> ChestXray14:
        """Find the label file in a folder; raises `UserError` where there is no folder or not one label file."""
        folder = locate(source)
        if not folder.is_dir():
            raise UserError(f"source {folder} is not a folder; give the one with {LABEL_FILE_PATTERN} and the films")
        label_path = _only_file(folder, LABEL_FILE_PATTERN, "label files")
        if label_path is None:
            raise UserError(f"no label file {LABEL_FILE_PATTERN} in {folder}; put the release's CSV beside the films")
        return cls(folder, label_path)

    @property
    def name(self) -> str:
        """What the films are called: `phantoms` where a file says that they are synthetic, else `chestxray14`."""
        return "phantoms" if (self.folder / PHANTOM_MARK).is_file() else self.layout

    def plan(self, request: Request) -> ReleasePlan:
        """Read label file, lists and boxes; see `Reader.plan`."""
        labels, box_list = self.read_labels(), self.box_list_path()
        official = self._official_lists() if request.split == "official" else {}
        films = divide_films(labels.films, self.label_path, request, official)
        sources = {path.name: path for path in (self.label_path, *official.values())} | request.lists.sources()
        names = films.table.image_ids.tolist()
        return ReleasePlan(
            table=films.table,
            sources=sources if box_list is None else {**sources, box_list.name: box_list},
            images=lambda _: self.files().images(names),
            units=lambda: self.files().units(names),
            absent=self._why_absent,
            unlabelled=films.unlabelled,
            unlisted=films.unlisted,
            notes=tuple(compare_with_release(labels)),
            boxes=read_box_list(box_list) if box_list is not None else [],
        )

    def _official_lists(self) -> dict[str, Location]:
        """The release's two lists: of train, which val is carved from, and of test."""
        return {"train": self.list_path(TRAIN_VAL_LIST), "test": self.list_path(TEST_LIST)}

    def read_labels(self) -> LabelFile:
        """Read the label file; see `read_label_file`."""
        return read_label_file(self.label_path)

    def list_path(self, name: str) -> Location:
        """Find a split list, plain, gzipped or as Kaggle's mirror names it; raises `UserError` where it is absent."""
        for spelling in (name, f"{name}.gz", name.replace(".txt", "_NIH.txt")):
            if (self.folder / spelling).is_file():
                return self.folder / spelling
        fix = "put the official lists beside the films, or use split=random or split=lists"
        raise UserError(f"no {name} in {self.folder}; {fix}")

    def box_list_path(self) -> Location | None:
        """Find the list of boxes around findings, plain or gzipped; raises `UserError` where there are several."""
        return _only_file(self.folder, BOX_LIST_PATTERN, "lists of boxes")

    def unpacked_films(self) -> dict[str, Location]:
        """Films that lie in `FILM_FOLDERS` or in the folder itself, by name."""
        films: dict[str, Location] = {}
        places: list[Location] = []
        for pattern in FILM_FOLDERS:
            places += sorted(self.folder.glob(pattern))
        for place in (*places, self.folder):
            if place.is_dir():
                for path in place.glob("*.[pP][nN][gG]"):
                    films.setdefault(path.name, path)
        return films

    def archives(self) -> list[Location]:
        """Find the archives, in the order of their names."""
        return sorted(path for pattern in ARCHIVE_PATTERNS for path in self.folder.glob(pattern))

    def files(self) -> FilmFiles:
        """Look where the films lie."""
        return FilmFiles(self.unpacked_films(), self.archives(), self._why_absent)

    @property
    def _why_absent(self) -> str:
        return f"no image file in {self.folder}, its images* folders or archives"


def read_label_file(path: Location) -> LabelFile:
    """Read Data_Entry_2017 of either generation, plain or gzipped: ages `57` or `058Y`, lines that end in a comma.

    Each follow-up number of a patient is a study. Sex, age and follow-up number may be absent.

    Raises `UserError`, with the row, for an empty file, missing columns, an unknown finding, a bad name, a missing
    value or a film that is listed twice.
    """
    rows: dict[str, int] = {}
    patients, views, labels, studies, sexes, ages = [], [], [], [], [], []
    for row, cells in read_rows(path, _COLUMNS, _OPTIONAL_COLUMNS):
        *required, follow_up, sex, age = cells
        try:
            name, findings, patient, view = _check_cells(required)
            labels.append(_labels_of(findings))
        except ValueError as error:
            raise UserError(f"{path}, row {row} {error}") from error
        if name in rows:
            raise UserError(f"{path} lists {name} twice, in rows {rows[name]} and {row}; remove one")
        rows[name] = row
        patients.append(patient)
        views.append(view)
        studies.append(f"{patient}_{int(follow_up)}" if follow_up.isdecimal() else "")
        sexes.append(sex if sex in ("F", "M") else "")
        ages.append(_age_in_years(age))
    if not rows:
        raise UserError(f"{path} has no rows; give the release's label file")
    return LabelFile(
        path=path,
        image_ids=np.array(list(rows)),
        patient_ids=np.array(patients),
        views=np.array(views),
        labels=np.array(labels),
        study_ids=np.array(studies),
        sexes=np.array(sexes),
        ages=np.array(ages, np.int16),
    )


def read_box_list(path: Location) -> list[FindingBox]:
    """Read the list in which a radiologist marked 984 findings on 880 films, plain or gzipped.

    Raises `UserError` with the row for what is not a box on a film.
    """
    boxes = read_box_table(path, _BOX_COLUMNS, FINDINGS, FILM_SIDE, {"Infiltrate": "Infiltration"})
    return [box._replace(film_width=FILM_SIDE, film_height=FILM_SIDE) for box in boxes]


def compare_with_release(labels: LabelFile) -> list[str]:
    """Say, and warn, where the label file of the whole release differs from its known counts, or that it does not.

    Nothing of a file that has not the release's 112,120 rows: it is a part, and cannot be held to them.
    """
    if len(labels) != RELEASED_FILMS:
        return []
    differences = differences_from_release(labels)
    for difference in differences:
        logging.getLogger(__name__).warning("%s", difference)
    return differences or [
        f"{labels.path.name} has the release's {len(labels):,} films, and its count of every finding."
    ]


def differences_from_release(labels: LabelFile) -> list[str]:
    """Compare the label file of the whole release with its known counts: one sentence a finding that differs."""
    counts = dict(zip(FINDINGS, labels.labels.sum(axis=0).tolist(), strict=True))
    counts[NO_FINDING] = int((~labels.labels.any(axis=1)).sum())
    return [
        f"{finding}: {counts[finding]:,} films in {labels.path.name}, {released:,} in the release of 2020"
        for finding, released in RELEASED_COUNTS.items()
        if counts[finding] != released
    ]


def _only_file(folder: Location, pattern: str, what: str) -> Location | None:
    found = sorted([*folder.glob(pattern), *folder.glob(f"{pattern}.gz")])
    if len(found) > 1:
        raise UserError(f"several {what} in {folder} ({', '.join(path.name for path in found)}); keep the one to use")
    return found[0] if found else None


def _check_cells(cells: list[str]) -> tuple[str, str, str, str]:
    """Name, findings, patient and view of a row; raises ValueError with what is wrong."""
    name, findings, patient, view = cells
    if not _FILM_NAME.fullmatch(name):
        raise ValueError(f"has Image Index {name!r}, expected a file name such as 00000001_000.png")
    if not patient or patient.lower() == "nan":
        raise ValueError(f"({name}) has Patient ID {patient!r}, expected the patient's number")
    if patient.isdecimal():
        patient = str(int(patient))  # so that 00013 and 13 are one patient
    return name, findings, patient, view


def _age_in_years(age: str) -> int:
    """Years of `57` or `058Y`, 0 of `011M`; `UNKNOWN_AGE` of what is no age of a person."""
    match = _AGE.fullmatch(age)
    if match is None or int(match[1]) > OLDEST:
        return UNKNOWN_AGE
    return int(match[1]) if match[2] in ("", "Y") else 0


@cache
def _labels_of(findings: str) -> NDArray[np.bool_]:
    """`Mass|Nodule` as a vector over `FINDINGS`, `No Finding` as all false; raises ValueError with what is wrong.

    Cached, as the release's 112,120 rows hold 836 combinations.
    """
    names = [name.strip() for name in findings.split("|")]
    unknown = [name for name in names if name not in FINDINGS and name != NO_FINDING]
    if unknown:
        expected = f"{NO_FINDING} or some of {', '.join(FINDINGS)}, joined by |"
        raise ValueError(f"has the unknown finding {unknown[0]!r}; expected {expected}")
    if NO_FINDING in names and len(set(names)) > 1:
        raise ValueError(f"says both {NO_FINDING} and a finding: {findings!r}; fix the row")
    return np.array([finding in names for finding in FINDINGS])
