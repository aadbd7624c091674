"""Phantom mammograms in TCIA's layout of CBIS-DDSM: DICOM films, masks and crops of lesions, and the four CSVs.

`preprocess` reads them as it reads the real set. They exercise the whole way of the data and tell a model that learns
from one that does not; they say nothing about performance on real films.
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radflow.data.phantom.folder import phantom_folder, write_films
from radflow.data.phantom.mammogram.breast import CONTRASTS, EXTENTS, Kind, PhantomLesion, draw_mammogram
from radflow.errors import UserError

SMALLEST_HEIGHT, LARGEST_HEIGHT = 400, 2048
TEST_SHARE = 0.2
"""Share of the patients in the test CSVs, as in CBIS-DDSM."""

_FOLDER_NAME: dict[Kind, str] = {"mass": "Mass", "calcification": "Calc"}
_SHARED = ("left or right breast", "image view", "abnormality id", "abnormality type")
_PATHS = ("image file path", "cropped image file path", "ROI mask file path")
_COLUMNS: dict[Kind, tuple[str, ...]] = {
    "mass": ("patient_id", "breast_density", *_SHARED, "mass shape", "mass margins", "assessment", "pathology",
             "subtlety", *_PATHS),
    "calcification": ("patient_id", "breast density", *_SHARED, "calc type", "calc distribution", "assessment",
                      "pathology", "subtlety", *_PATHS),
}  # fmt: skip
_LOOKS: dict[tuple[Kind, bool], tuple[str, str]] = {
    ("mass", True): ("IRREGULAR", "SPICULATED"),
    ("mass", False): ("OVAL", "CIRCUMSCRIBED"),
    ("calcification", True): ("PLEOMORPHIC", "CLUSTERED"),
    ("calcification", False): ("PUNCTATE", "CLUSTERED"),
}


@dataclass(frozen=True)
class PhantomMammogram:
    """A film to draw, with its place in the release."""

    patient: int
    side: str
    view: str
    kind: Kind
    in_test: bool
    lesions: tuple[PhantomLesion, ...]
    pathologies: tuple[str, ...]
    """Pathology of the lesions, as the CSVs spell them."""

    @property
    def name(self) -> str:
        """The film's folder, such as Mass-Training_P_00001_LEFT_CC."""
        part = "Test" if self.in_test else "Training"
        return f"{_FOLDER_NAME[self.kind]}-{part}_P_{self.patient:05d}_{self.side}_{self.view}"

    @property
    def csv_name(self) -> str:
        """The CSV that describes its lesions."""
        return f"{_FOLDER_NAME[self.kind].lower()}_case_description_{'test' if self.in_test else 'train'}_set.csv"


def write_phantom_mammograms(
    folder: Path,
    films: int,
    height: int,
    seed: int,
    workers: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Write phantom mammograms in the layout of CBIS-DDSM; the folder appears when it is whole.

    Parameters
    ----------
    folder
        Must be absent or empty.
    films
        Number of films, at least 10. Most patients have two of one breast, which show the same lesions.
    height
        Rows of a film, 400 to 2048; there are 3/4 as many columns.
    seed
        At least 0; the same seed gives the same bytes, whatever the number of workers.
    workers
        Processes that draw; one per available core unless given.
    on_progress
        Called with the number of films written so far.

    Raises
    ------
    UserError
        When a number is out of range, or the folder has content.
    """
    if films < 10:
        raise UserError(f"films={films} is too few mammograms; give at least 10, so that every part has patients")
    if not SMALLEST_HEIGHT <= height <= LARGEST_HEIGHT:
        raise UserError(
            f"image_size={height} is out of range for mammograms: expected {SMALLEST_HEIGHT} to {LARGEST_HEIGHT} rows"
        )
    with phantom_folder(folder, seed, workers) as unfinished:
        cases = draw_cases(films, seed)
        write = partial(_write_images, folder=unfinished, height=height, seed=seed)
        write_films(write, cases, 1, workers, on_progress)
        _write_csvs(cases, unfinished)


def draw_cases(films: int, seed: int) -> list[PhantomMammogram]:
    """Patients with one breast each, by view; each fifth patient is in the test part."""
    cases: list[PhantomMammogram] = []
    patient = 0
    while len(cases) < films:
        patient += 1
        cases += _films_of_patient(patient, seed)
    return cases[:films]


def _films_of_patient(patient: int, seed: int) -> Iterator[PhantomMammogram]:
    random = np.random.default_rng((seed, patient))
    kind: Kind = "mass" if random.random() < 0.55 else "calcification"
    side = "LEFT" if random.random() < 0.5 else "RIGHT"
    views = ("CC", "MLO") if random.random() < 0.85 else (("CC",) if random.random() < 0.5 else ("MLO",))
    lesions, pathologies = [], []
    for number in range(2 if random.random() < 0.12 else 1):
        is_malignant = bool(random.random() < 0.45)
        extent, contrast = (random.uniform(*bounds[kind]) for bounds in (EXTENTS, CONTRASTS))
        lesions.append(PhantomLesion(kind, is_malignant, extent, contrast, number))
        benign = "BENIGN" if random.random() < 0.8 else "BENIGN_WITHOUT_CALLBACK"
        pathologies.append("MALIGNANT" if is_malignant else benign)
    in_test = patient % round(1 / TEST_SHARE) == 0
    for view in views:
        yield PhantomMammogram(patient, side, view, kind, in_test, tuple(lesions), tuple(pathologies))


def _write_images(cases: Sequence[PhantomMammogram], folder: Path, height: int, seed: int) -> None:
    for case in cases:
        _write_film(case, folder, height, seed)


def _write_film(case: PhantomMammogram, folder: Path, height: int, seed: int) -> None:
    key = (seed, case.patient, int(case.view == "MLO"))
    film, masks = draw_mammogram(case.lesions, height, key, case.view, case.side == "RIGHT")
    pixels = np.rint(film * 65535).astype(np.uint16)
    _write_dicom(folder / _file_of(case.name, 1), pixels)
    for number, mask in enumerate(masks, start=1):
        name = f"{case.name}_{number}"
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        _write_dicom(folder / _file_of(name, 1), pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        _write_dicom(folder / _file_of(name, 2), mask.astype(np.uint8) * np.uint8(255))


def _file_of(name: str, number: int) -> Path:
    """Path at which TCIA's downloader puts a file: folder, study, series, and its number in it."""
    return Path(name, _uid(name, "study"), _uid(name, "series"), f"1-{number}.dcm")


def _uid(*parts: str) -> str:
    """An identifier made of what it names, under the root for numbers without an owner (PS3.5 B.2)."""
    return f"2.25.{int.from_bytes(hashlib.sha256('/'.join(parts).encode()).digest()[:15], 'big')}"


def _write_dicom(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    study, series = path.parent.parent.name, path.parent.name
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = SecondaryCaptureImageStorage
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = UID(_uid(series, path.name))
    film.StudyInstanceUID, film.SeriesInstanceUID = UID(study), UID(series)
    film.PatientID, film.Modality = path.parts[-4], "MG"
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation, film.PixelRepresentation = 1, "MONOCHROME2", 0
    film.BitsAllocated = film.BitsStored = 8 * pixels.itemsize
    film.HighBit = film.BitsStored - 1
    content = pixels.tobytes()
    film.PixelData = content + b"\0" * (len(content) % 2)  # values have an even length (PS3.5 7.1.1)
    film["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    film.save_as(path, enforce_file_format=True)


def _write_csvs(cases: list[PhantomMammogram], folder: Path) -> None:
    rows: dict[tuple[str, Kind], list[tuple[object, ...]]] = defaultdict(list)
    for case in cases:
        for number, (lesion, pathology) in enumerate(zip(case.lesions, case.pathologies, strict=True), start=1):
            own = f"{case.name}_{number}"
            paths = (_file_of(case.name, 1), _file_of(own, 1), _file_of(own, 2))
            assessment = {"MALIGNANT": 5, "BENIGN": 4}.get(pathology, 2)
            rows[case.csv_name, case.kind].append(
                (f"P_{case.patient:05d}", 1 + case.patient % 4, case.side, case.view, number, lesion.kind,
                 *_LOOKS[lesion.kind, lesion.is_malignant], assessment, pathology, lesion.subtlety,
                 *(path.as_posix() for path in paths))
            )  # fmt: skip
    for (name, kind), lines in rows.items():
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([_COLUMNS[kind], *lines])
