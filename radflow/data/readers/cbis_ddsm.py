"""CBIS-DDSM as TCIA publishes it: four CSVs that describe the lesions, and DICOM folders with films and masks.

Sawyer-Lee et al. 2016, doi 10.7937/K9/TCIA.2016.7O02S9CY. What the CSVs say of files is not reliable: the paths of
mask and crop are swapped in many rows, some hold line breaks, and the file names are not those that TCIA's downloader
gives. Right are their first folders: one for each film (`Mass-Training_P_00001_LEFT_CC`), and one for each lesion
(`..._CC_1`) with its mask and its crop, of which the mask is the one with the film's size.

The mirror on Kaggle has the CSVs and `dicom_info.csv` in csv/, and JPEG files in jpeg/, in folders called by series, of
which that table says which film or lesion they are of.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from radflow.data.crops.mammograms import (
    BENIGN,
    BENIGN_WITHOUT_CALLBACK,
    MALIGNANT,
    TUMOUR_FINDINGS,
    Lesion,
    Mammogram,
)
from radflow.data.decoding import decode_film_file
from radflow.data.images.film import BadFilm
from radflow.data.readers.base import PHANTOM_MARK, ReleasePlan, Request
from radflow.data.readers.mammograms import MALIGNANCY, plan_breasts, plan_crops
from radflow.data.tables import read_rows
from radflow.data.tasks import MAMMO, ImageUnit
from radflow.errors import UserError
from radflow.storage import Location, locate

LABEL_FILES = tuple(
    f"{kind}_case_description_{part}_set.csv" for kind in ("mass", "calc") for part in ("train", "test")
)
PATHOLOGIES = {name.upper(): name for name in (BENIGN, BENIGN_WITHOUT_CALLBACK, MALIGNANT)}

MAX_ASPECT_DIFFERENCE = 0.01
"""How far the ratio of a mask's sides may be from the film's: less than the padding of a crop makes good."""

LEVEL_WIDTH = 24
"""Grey levels next to black and to white that JPEG makes of them in a mask."""
LEAST_AT_LEVELS = 0.99
"""Least share of a mask's pixels that are there."""

SERIES_FILE = "dicom_info.csv"
_SERIES_COLUMNS = ("image_path", "PatientID")
_COLUMNS = (
    "patient_id",
    "left or right breast",
    "image view",
    "abnormality id",
    "pathology",
    "image file path",
    "ROI mask file path",
)
_FILM_FOLDER = re.compile(r"(Mass|Calc)-(Training|Test)_(P_\d+)_(LEFT|RIGHT)_(CC|MLO)")

Places = Callable[[str], tuple[Location, ...]]
"""Where the images of a film or lesion may be, by its name."""


@dataclass(frozen=True)
class CsvRow:
    """One row of a CSV: a lesion as one film shows it."""

    film: str
    """Folder of the film, such as Mass-Training_P_00001_LEFT_CC."""
    folder: str
    """Folder of the lesion's mask and crop, such as Mass-Training_P_00001_LEFT_CC_1."""
    patient_id: str
    side: str
    view: str
    abnormality: str
    """Number of the lesion on its film."""
    pathology: str
    in_test: bool
    """Whether the CSV is one of the test part."""


@dataclass(frozen=True)
class LesionFolder:
    """The files of a lesion's mask and crop."""

    name: str
    places: tuple[Location, ...]
    """Folders and files that may hold them."""

    def read_mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Read the mask for a film of this shape, bool [H, W]; raises `BadFilm` where the folder has no usable one.

        Of the folder's files it is the one with the film's size, or else of the film's aspect, and it has two grey
        levels; one of another size is resized to the nearest pixel. Pixels are decoded only of files that may be it.
        """
        shapes = _shapes_of(self.name, self.places)
        alike = [path for path in shapes if _same_aspect(shapes[path], shape)]
        alike.sort(key=lambda path: (shapes[path] != shape, path.name))
        for path in alike:
            pixels = decode_film_file(path)
            if _has_two_levels(pixels):
                return _resize_nearest(pixels > pixels.max() // 2, shape)
        if alike:
            raise BadFilm(f"no mask in {self.name}: {alike[0].name} does not have the two grey levels of one")
        found = ", ".join(f"{columns}x{rows}" for rows, columns in shapes.values())
        raise BadFilm(f"no mask in {self.name} for a film of {shape[1]}x{shape[0]} pixels: it holds {found}")


@dataclass(frozen=True)
class FilmFolder:
    """The file of a film."""

    name: str
    places: tuple[Location, ...]
    """Folders and files that may hold it."""

    def read_pixels(self) -> NDArray[np.uint8]:
        """Read the film, grey uint8 [H, W]; raises `BadFilm` where its folder does not hold one readable film."""
        files = _image_files(self.name, self.places)
        if len(files) > 1:
            raise BadFilm(f"{len(files)} images in {self.name}, expected the film alone")
        return decode_film_file(files[0])


@dataclass(frozen=True)
class CbisDdsm:
    """A folder with CSVs and folders of images. Nothing but names is read until the parts are asked for.

    The release names patients, breasts, views and lesions, and neither examinations nor ages.
    """

    layout: ClassVar[str] = "cbis_ddsm"
    title: ClassVar[str] = "CBIS-DDSM"
    looks_for: ClassVar[str] = LABEL_FILES[0]
    findings: ClassVar[tuple[str, ...]] = TUMOUR_FINDINGS
    task: ClassVar[str] = MAMMO
    units: ClassVar[tuple[ImageUnit, ...]] = ("crops", "breasts")
    fit: ClassVar[Literal["pad", "squash"]] = "squash"
    image_size: ClassVar[int] = 299
    split_rules: ClassVar[tuple[str, ...]] = ("official", "random")

    folder: Location
    label_paths: tuple[Location, ...]
    name: str = layout

    @classmethod
    def recognises(cls, folder: Location) -> bool:
        """Whether one of the four CSVs is in the folder."""
        return bool(_find_tables(folder))

    @classmethod
    def at(cls, source: str | Location) -> CbisDdsm:
        """Find the CSVs in a folder, one of the four at least; raises `UserError` where there is none."""
        folder = locate(source)
        found = _find_tables(folder)
        if not found:
            raise UserError(f"none of {', '.join(LABEL_FILES)} in {folder}; put TCIA's CSVs beside the DICOM folders")
        return cls(folder, found, "phantom_mammograms" if (folder / PHANTOM_MARK).is_file() else cls.name)

    def plan(self, request: Request) -> ReleasePlan:
        """Plan the crops or breasts of all films; see `Reader.plan`.

        Of breasts only malignancy is a finding: every film of the release shows a tumour.
        """
        if request.unit == "breasts":
            return plan_breasts(self.read_films(), (MALIGNANCY,), self.folder, self.label_paths, request)
        return plan_crops(self.read_films(), self.folder, self.label_paths, request)

    def read_films(self) -> list[Mammogram]:
        """Join the rows of the CSVs to films, in the order in which they first name them; no image is opened."""
        rows = [row for path in self.label_paths for row in read_lesion_rows(path)]
        places = self._places()
        by_film: dict[str, list[CsvRow]] = defaultdict(list)
        by_view: dict[tuple[str, str, str], list[CsvRow]] = defaultdict(list)
        for row in rows:
            by_film[row.film].append(row)
            by_view[row.patient_id, row.side, row.view].append(row)
        return [_join_film(own, by_view[own[0].patient_id, own[0].side, own[0].view], places)
                for own in by_film.values()]  # fmt: skip

    def _places(self) -> Places:
        """Function that tells where the images of a film or lesion may be, by its name."""
        series = _read_series(self.folder)
        if series:
            return lambda name: series.get(name, ())
        elsewhere: list[Location] = sorted(self.folder.glob("*/CBIS-DDSM"))
        roots = [self.folder, self.folder / "CBIS-DDSM", *elsewhere]
        return lambda name: (_find_folder(name, roots),)


def _find_tables(folder: Location) -> tuple[Location, ...]:
    """The case descriptions in a folder, or in csv/ where the mirror on Kaggle has them."""
    places = [[place / name for name in LABEL_FILES] for place in (folder, folder / "csv")]
    return next((found for paths in places if (found := tuple(path for path in paths if path.is_file()))), ())


def _read_series(folder: Location) -> dict[str, tuple[Location, ...]]:
    """Files of each film and lesion as the mirror on Kaggle has them; nothing without its table."""
    path = folder / "csv" / SERIES_FILE
    if not path.is_file():
        return {}
    files: dict[str, tuple[Location, ...]] = defaultdict(tuple)
    for _, (image, name) in read_rows(path, _SERIES_COLUMNS):
        # The table's paths begin with a folder above jpeg/, which is not there.
        files[name] = (*files[name], folder / image[max(0, image.find("jpeg/")) :])
    return dict(files)


def read_lesion_rows(path: Location) -> list[CsvRow]:
    """Read one of the four CSVs; raises `UserError` with the row for an unknown pathology, film or repeated lesion."""
    rows: dict[str, CsvRow] = {}
    for number, cells in read_rows(path, _COLUMNS):
        try:
            row = _parse_row(cells)
        except ValueError as error:
            raise UserError(f"{path}, row {number} {error}") from error
        if row.folder in rows:
            raise UserError(f"{path}, row {number} lists lesion {row.folder} a second time; remove one")
        rows[row.folder] = row
    if not rows:
        raise UserError(f"{path} has no rows; give the CSV as TCIA publishes it")
    return list(rows.values())


def _parse_row(cells: list[str]) -> CsvRow:
    """Make a lesion of a row's cells; raises ValueError with what is wrong."""
    patient, side, view, abnormality, pathology, film_path, mask_path = cells
    film, folder = (path.partition("/")[0] for path in (film_path, mask_path))
    match = _FILM_FOLDER.fullmatch(film)
    if match is None or match.groups()[2:] != (patient, side, view):
        raise ValueError(f"has the film {film!r}, expected {patient} {side} {view} as in Mass-Test_P_00001_LEFT_CC")
    if not abnormality.isdigit() or folder != f"{film}_{abnormality}":
        raise ValueError(f"has the mask folder {folder!r} of abnormality {abnormality!r}, expected {film}_1 of 1")
    if pathology not in PATHOLOGIES:
        raise ValueError(f"has the pathology {pathology!r}, expected one of {', '.join(PATHOLOGIES)}")
    return CsvRow(film, folder, patient, side, view, abnormality, PATHOLOGIES[pathology], match[2] == "Test")


def _join_film(own: list[CsvRow], of_view: list[CsvRow], places: Places) -> Mammogram:
    """Make a film of its rows; `of_view` are all rows of the same breast and view.

    A view with masses and calcifications is published twice, and either film shows both.
    """

    def lesion(row: CsvRow) -> Lesion:
        return Lesion(row.abnormality, row.pathology, LesionFolder(row.folder, places(row.folder)))

    first = own[0]
    return Mammogram(
        name=first.film,
        patient_id=first.patient_id,
        side=first.side[0],
        view=first.view,
        in_test=first.in_test,
        file=FilmFolder(first.film, places(first.film)),
        lesions=tuple(lesion(row) for row in own),
        other_lesions=tuple(lesion(row) for row in of_view if row.film != first.film),
    )


def _find_folder(name: str, roots: list[Location]) -> Location:
    """Find a folder in the first place that has it, or where it would be in the first place."""
    return next((root / name for root in roots if (root / name).is_dir()), roots[0] / name)


def _image_files(name: str, places: Sequence[Location]) -> list[Location]:
    """List the images of a film or lesion; raises `BadFilm` where there is none."""
    files: list[Location] = []
    for place in places:  # no pipe of such a name, which would never end
        files += [place] if place.is_file() else sorted(path for path in place.rglob("*.dcm") if path.is_file())
    if not places:
        raise BadFilm(f"{SERIES_FILE} names no image of {name}")
    if not files:
        raise BadFilm(f"no image in {name}" if any(place.is_dir() for place in places) else f"no folder {name}")
    return files


def _shapes_of(name: str, places: Sequence[Location]) -> dict[Location, tuple[int, int]]:
    """Rows and columns of the readable images of a lesion, from their headers; raises `BadFilm` where none is."""
    from radflow.data.images.dicom import read_dicom_shape  # pydicom takes longer to import than the CSVs take to read

    shapes: dict[Location, tuple[int, int]] = {}
    reason: BadFilm | None = None
    for path in _image_files(name, places):
        try:
            if path.suffix == ".dcm":
                with path.open("rb") as file:
                    shapes[path] = read_dicom_shape(file)
            else:
                shapes[path] = decode_film_file(path).shape[:2]
        except OSError as error:
            reason = BadFilm(f"cannot be read: {error.strerror}")
        except BadFilm as error:
            reason = error
    if not shapes and reason is not None:
        raise reason
    return shapes


def _has_two_levels(pixels: NDArray[np.uint8]) -> bool:
    """Whether nearly all pixels are about as dark or as bright as the extremes: JPEG blurs the edges of a mask."""
    counts = np.array(Image.fromarray(pixels).histogram())
    present = np.flatnonzero(counts)
    darkest, brightest = int(present[0]), int(present[-1])
    if brightest - darkest <= 2 * LEVEL_WIDTH:
        return False
    extremes = counts[: darkest + LEVEL_WIDTH].sum() + counts[brightest - LEVEL_WIDTH + 1 :].sum()
    return bool(extremes >= LEAST_AT_LEVELS * counts.sum())


def _same_aspect(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs((one[0] * other[1]) / (one[1] * other[0]) - 1) <= MAX_ASPECT_DIFFERENCE


def _resize_nearest(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    rows, columns = (np.arange(wanted) * given // wanted for wanted, given in zip(shape, mask.shape, strict=True))
    return mask[rows][:, columns]
