"""ChestX-ray14 as a user has it on disk: label file, split lists, and films in folders or in the release's archives."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radflow.data.readers.archives import RefusedMember, StoredFilm, films_in_archive
from radflow.data.readers.findings import FINDINGS, NO_FINDING, RELEASED_COUNTS, RELEASED_FILMS
from radflow.data.tables import MAX_CELL, read_rows, read_text
from radflow.errors import UserError
from radflow.storage import locate

LABEL_FILE_PATTERN = "Data_Entry_2017*.csv"
TRAIN_VAL_LIST = "train_val_list.txt"
TEST_LIST = "test_list.txt"
BOX_LIST_PATTERN = "BBox_List_2017*.csv"
ARCHIVE_PATTERNS = ("images_*.tar.gz", "*.zip", "*/images_*.tar.gz", "*/*.zip")
"""The release's own archives; mirrors offer zips under names of their own. Both may lie one folder down."""
FILM_FOLDERS = ("images", "images*/images*", "images*")
"""Where unpacked films lie besides the folder itself, the first place first."""
PHANTOM_MARK = "PHANTOMS.txt"
"""File beside synthetic films."""
_COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "View Position")
_FILM_NAME = re.compile(r"[^/\\\x00-\x1f\x7f]+\.png", re.IGNORECASE)


@dataclass(frozen=True)
class LabelFile:
    """The label file in columns of equal length, in the file's order."""

    path: Path
    image_ids: NDArray[np.str_]
    patient_ids: NDArray[np.str_]
    views: NDArray[np.str_]
    labels: NDArray[np.bool_]
    """[films, 14] in the order of `FINDINGS`"""

    def __len__(self) -> int:
        return len(self.image_ids)


@dataclass(frozen=True)
class AbsentFilm:
    """A film that is listed and has no image, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ChestXray14:
    """A folder with the release or a part of it. Nothing but names is read until the parts are asked for."""

    folder: Path
    label_path: Path

    @classmethod
    def at(cls, source: str | Path) -> ChestXray14:
        """Find the label file in a folder; raises `UserError` where there is no folder or not one label file."""
        folder = locate(source)
        if not folder.is_dir():
            raise UserError(f"source {folder} is no folder; give the one that holds {LABEL_FILE_PATTERN} and the films")
        label_path = _only_file(folder, LABEL_FILE_PATTERN, "label files")
        if label_path is None:
            raise UserError(f"no label file {LABEL_FILE_PATTERN} in {folder}; put the release's CSV beside the films")
        return cls(folder, label_path)

    @property
    def name(self) -> str:
        """What the films are called: `phantoms` where a file says that they are synthetic, else `chestxray14`."""
        return "phantoms" if (self.folder / PHANTOM_MARK).is_file() else "chestxray14"

    def read_labels(self) -> LabelFile:
        """Read the label file; see `read_label_file`."""
        return read_label_file(self.label_path)

    def list_path(self, name: str) -> Path:
        """Find a split list, plain, gzipped or as Kaggle's mirror names it; raises `UserError` where it is absent."""
        for spelling in (name, f"{name}.gz", name.replace(".txt", "_NIH.txt")):
            if (self.folder / spelling).is_file():
                return self.folder / spelling
        mend = "put the official lists beside the films, or use split=random or split=lists"
        raise UserError(f"no {name} in {self.folder}; {mend}")

    def box_list_path(self) -> Path | None:
        """Find the list of boxes around findings, plain or gzipped; raises `UserError` where there are several."""
        return _only_file(self.folder, BOX_LIST_PATTERN, "lists of boxes")

    def unpacked_films(self) -> dict[str, Path]:
        """Films that lie in `FILM_FOLDERS` or in the folder itself, by name."""
        films: dict[str, Path] = {}
        places = [place for pattern in FILM_FOLDERS for place in sorted(self.folder.glob(pattern))]
        for place in (*places, self.folder):
            if place.is_dir():
                for path in place.glob("*.[pP][nN][gG]"):
                    films.setdefault(path.name, path)
        return films

    def archives(self) -> list[Path]:
        """Find the archives, in the order of their names."""
        return sorted(path for pattern in ARCHIVE_PATTERNS for path in self.folder.glob(pattern))

    def films(self, wanted: list[str]) -> Iterator[StoredFilm | AbsentFilm | RefusedMember]:
        """Yield each wanted film once, stored or absent: unpacked ones first, then those in archives, in their order.

        What is film.png in the label file may be film.PNG where it lies. Archives are streamed, never unpacked to disk,
        and not opened when every film is found unpacked. Absent films are told as soon as they are known to be absent:
        first where there are no archives, else last.
        """
        unpacked, archives = self.unpacked_films(), self.archives()
        places = {name: _spelling_in(unpacked, name) for name in wanted}
        remaining = [name for name, spelling in places.items() if spelling is None]
        if not archives:
            yield from self._absent(remaining)
        yield from (StoredFilm(name, unpacked[spelling]) for name, spelling in places.items() if spelling is not None)
        for archive in archives:
            if not remaining:
                return
            names = {spelling: name for name in reversed(remaining) for spelling in reversed(_spellings(name))}
            found = set()
            for item in films_in_archive(archive, frozenset(names)):
                if not isinstance(item, StoredFilm):
                    yield item
                elif names[item.name] not in found:
                    found.add(names[item.name])
                    yield StoredFilm(names[item.name], item.content)
            remaining = [name for name in remaining if name not in found]
        if archives:
            yield from self._absent(remaining)

    def _absent(self, names: list[str]) -> Iterator[AbsentFilm]:
        return (AbsentFilm(name, f"no image file in {self.folder}, its images* folders or archives") for name in names)


def _spellings(name: str) -> tuple[str, ...]:
    """A film's name, and the same with its suffix in lower and in upper case."""
    stem, dot, suffix = name.rpartition(".")
    return name, f"{stem}{dot}{suffix.lower()}", f"{stem}{dot}{suffix.upper()}"


def _spelling_in(films: Mapping[str, Path], name: str) -> str | None:
    return next((spelling for spelling in _spellings(name) if spelling in films), None)


def read_label_file(path: Path) -> LabelFile:
    """Read Data_Entry_2017 of either generation, plain or gzipped: ages `57` or `058Y`, lines that end in a comma.

    Raises `UserError`, with the row, for an empty file, missing columns, an unknown finding, a bad name, a missing
    value or a film that is listed twice.
    """
    rows: dict[str, int] = {}
    patients, views, labels = [], [], []
    for row, cells in read_rows(path, _COLUMNS):
        try:
            name, findings, patient, view = _check_cells(cells)
            labels.append(_labels_of(findings))
        except ValueError as error:
            raise UserError(f"{path}, row {row} {error}") from error
        if name in rows:
            raise UserError(f"{path} lists {name} twice, in rows {rows[name]} and {row}; remove one")
        rows[name] = row
        patients.append(patient)
        views.append(view)
    if not rows:
        raise UserError(f"{path} has no rows; give the release's label file")
    return LabelFile(path, np.array(list(rows)), np.array(patients), np.array(views), np.array(labels))


def read_film_list(path: Path) -> list[str]:
    """Read a split list: one film name a line, blank lines ignored, repeats dropped. Raises `UserError` if empty."""
    names = list(dict.fromkeys(line.strip() for line in read_text(path).splitlines() if line.strip()))
    if not names or max(map(len, names)) > MAX_CELL:
        raise UserError(f"{path} names no film; give the release's list with one file name a line")
    return names


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


def _only_file(folder: Path, pattern: str, what: str) -> Path | None:
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
        raise ValueError(f"says both {NO_FINDING} and a finding: {findings!r}; mend the row")
    return np.array([finding in names for finding in FINDINGS])
