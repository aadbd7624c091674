"""mini-MIAS: 322 mammograms of 1024x1024 pixels with the centre and radius of each lesion (Suckling et al. 1994).

Read as released (`Info.txt` beside `mdb001.pgm` ...), or from a `labels.csv` with films as PNGs. Films are numbered in
pairs, right and left breast of one patient; all are medio-lateral oblique views.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from radflow.data.crops.lesions import disc_mask
from radflow.data.crops.mammograms import BENIGN, MALIGNANT, NORMAL_TISSUE, TUMOUR_FINDINGS, Lesion, Mammogram
from radflow.data.decoding import decode_film_file
from radflow.data.images.film import BadFilm
from radflow.data.readers.base import ReleasePlan, Request
from radflow.data.readers.mammograms import MALIGNANCY, plan_breasts, plan_crops
from radflow.data.tables import read_rows, read_text
from radflow.data.tasks import MAMMO, ImageUnit
from radflow.errors import UserError
from radflow.storage import Location, locate

RELEASED_LIST = "Info.txt"
CSV_LIST = "labels.csv"
FILM_SIDE = 1024
"""Height and width of every film, in whose pixels lesions are located."""

VIEW = "MLO"
NORMAL = "NORM"
_CSV_COLUMNS = ("file", "class", "pathology", "lesion_x", "lesion_y_from_bottom", "radius")
_CLASSES = ("CALC", "CIRC", "SPIC", "MISC", "ARCH", "ASYM", NORMAL)
_PATHOLOGIES = {"B": BENIGN, "M": MALIGNANT, "": NORMAL_TISSUE}
_FILM_NAME = re.compile(r"mdb\d{3}")
_LINE = re.compile(r"(\S+)\s+[FGD]\s+([A-Z]{4})(?:\s+([BM])(?:\s+(?:(\d+)\s+(\d+)\s+(\d+)|\*.*))?)?\s*")
"""Film, tissue, class, severity, and x, y, radius or a note such as `*NOTE 3*` or nothing."""


class MiasRow(NamedTuple):
    """One row of either list: a film, with one of its lesions unless it is normal."""

    film: str
    pathology: str
    """Benign, malignant or normal."""
    circle: Circle | None
    """None where the release does not locate the lesion, or there is none."""


@dataclass(frozen=True)
class Circle:
    """Place of a lesion: x counts from the left of the film, y from its bottom, all in pixels."""

    x: int
    y_from_bottom: int
    radius: int

    def read_mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Draw the circle's mask, bool [H, W]."""
        return disc_mask(shape, FILM_SIDE - self.y_from_bottom, self.x, self.radius)


@dataclass(frozen=True)
class MiasFile:
    """The image file of a film."""

    path: Location | None
    """None where no image of the film's name was found."""

    def read_pixels(self) -> NDArray[np.uint8]:
        """Read the film, grey uint8 [1024, 1024]; raises `BadFilm` for one that is absent, damaged or of other size."""
        if self.path is None:
            raise BadFilm("no image file of this name")
        pixels = decode_film_file(self.path)
        if pixels.shape != (FILM_SIDE, FILM_SIDE):
            given = f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise BadFilm(f"film of {given} pixels, expected {FILM_SIDE}x{FILM_SIDE}, in which lesions are located")
        return pixels


@dataclass(frozen=True)
class MiniMias:
    """A folder with one of the lists and the films. Nothing but names is read until the parts are asked for."""

    layout: ClassVar[str] = "mini_mias"
    title: ClassVar[str] = "mini-MIAS"
    looks_for: ClassVar[str] = RELEASED_LIST
    findings: ClassVar[tuple[str, ...]] = TUMOUR_FINDINGS
    task: ClassVar[str] = MAMMO
    units: ClassVar[tuple[ImageUnit, ...]] = ("crops", "breasts")
    fit: ClassVar[Literal["pad", "squash"]] = "squash"
    image_size: ClassVar[int] = 299
    split_rules: ClassVar[tuple[str, ...]] = ("random",)

    folder: Location
    label_paths: tuple[Location, ...]
    name: str = layout

    @classmethod
    def recognises(cls, folder: Location) -> bool:
        """Whether one of the lists is in the folder."""
        return any(cls._is_list(folder / name) for name in (RELEASED_LIST, CSV_LIST))

    @staticmethod
    def _is_list(path: Location) -> bool:
        """Whether a file is one of the lists by its name and, since many tables are called labels.csv, its columns."""
        if path.name != CSV_LIST:
            return path.name == RELEASED_LIST and path.is_file()
        try:
            return path.is_file() and next(read_rows(path, _CSV_COLUMNS), None) is not None
        except UserError:
            return False

    @classmethod
    def at(cls, source: str | Location) -> MiniMias:
        """Find the list in a folder, labels.csv before Info.txt; raises `UserError` where there is neither."""
        folder = locate(source)
        for name in (CSV_LIST, RELEASED_LIST):
            if (folder / name).is_file():
                return cls(folder, (folder / name,))
        raise UserError(f"no {RELEASED_LIST} and no {CSV_LIST} in {folder}; put the release's list beside the films")

    def plan(self, request: Request) -> ReleasePlan:
        """Plan the crops or breasts of all films; see `Reader.plan`."""
        if request.unit == "breasts":
            findings = (*TUMOUR_FINDINGS, MALIGNANCY)
            return plan_breasts(self.read_films(), findings, self.folder, self.label_paths, request)
        return plan_crops(self.read_films(), self.folder, self.label_paths, request)

    def read_films(self) -> list[Mammogram]:
        """Join the rows of the list to films, in the list's order; no image is opened."""
        path = self.label_paths[0]
        by_film: dict[str, list[MiasRow]] = defaultdict(list)
        for row in _read_csv_list(path) if path.name == CSV_LIST else _read_released_list(path):
            by_film[row.film].append(row)
        if not by_film:
            raise UserError(f"{path} lists no film; give the release's list")
        images = self._images()
        return [_join_film(name, rows, images.get(name)) for name, rows in by_film.items()]

    def _images(self) -> dict[str, Location]:
        """Find the films' files by film name: in the folder itself, in images/ or in all-mias/."""
        images: dict[str, Location] = {}
        for place in (self.folder, self.folder / "images", self.folder / "all-mias"):
            found: list[Location] = sorted(place.glob("mdb*"))
            for path in found:
                if path.suffix.lower() in (".pgm", ".png"):
                    images.setdefault(path.stem, path)
        return images


def _read_released_list(path: Location) -> Iterator[MiasRow]:
    """Yield the rows of Info.txt: its lines that begin with a film's number, the rest is prose."""
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not re.match(r"mdb\d", line):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise UserError(f"{path}, row {number} is {line.strip()!r}, expected such as 'mdb001 G CIRC B 535 425 197'")
        film, kind, severity, *circle = (cell or "" for cell in match.groups())
        yield _check_row(path, number, film, kind, _PATHOLOGIES[severity], circle)


def _read_csv_list(path: Location) -> Iterator[MiasRow]:
    for number, (file, kind, pathology, *circle) in read_rows(path, _CSV_COLUMNS):
        yield _check_row(path, number, PurePosixPath(file).stem, kind, pathology, circle)


def _check_row(path: Location, number: int, film: str, kind: str, pathology: str, circle: list[str]) -> MiasRow:
    """Make a row of its texts; a circle without a number is none. Raises `UserError` with the row."""
    if not _FILM_NAME.fullmatch(film):
        raise UserError(f"{path}, row {number} has the film {film!r}, expected a name such as mdb001")
    if kind not in _CLASSES:
        raise UserError(f"{path}, row {number} has the class {kind!r}, expected one of {', '.join(_CLASSES)}")
    expected = (NORMAL_TISSUE,) if kind == NORMAL else (BENIGN, MALIGNANT)
    if pathology not in expected:
        raise UserError(
            f"{path}, row {number} has the pathology {pathology!r} of class {kind}, expected {' or '.join(expected)}"
        )
    if kind == NORMAL or not any(circle):
        return MiasRow(film, pathology, None)
    if not all(text.isdecimal() and len(text) <= 4 for text in circle):
        raise UserError(f"{path}, row {number} has x, y and radius {', '.join(circle)}, expected three whole numbers")
    x, y_from_bottom, radius = (int(text) for text in circle)
    if not (x < FILM_SIDE and 0 < y_from_bottom <= FILM_SIDE):
        raise UserError(f"{path}, row {number} has a lesion at {x}, {y_from_bottom}, outside the film")
    return MiasRow(film, pathology, Circle(x, y_from_bottom, radius))


def _join_film(name: str, rows: list[MiasRow], path: Location | None) -> Mammogram:
    """Make a film of its rows; its lesions are numbered from 1 in the list's order, whether located or not."""
    lesions = [row for row in rows if row.pathology != NORMAL_TISSUE]
    return Mammogram(
        name=name,
        patient_id=f"mias_{(int(name[3:]) + 1) // 2:03d}",  # films 1 and 2 are of patient 1, 3 and 4 of patient 2
        side="R" if int(name[3:]) % 2 else "L",
        view=VIEW,
        in_test=None,
        file=MiasFile(path),
        lesions=tuple(Lesion(str(number), row.pathology, row.circle) for number, row in enumerate(lesions, start=1)),
    )
