"""Small made films and masks in TCIA's layout of CBIS-DDSM, with the faults of the real CSVs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

HEIGHT, WIDTH = 160, 120
COLUMNS = (
    "patient_id",
    "breast_density",
    "left or right breast",
    "image view",
    "abnormality id",
    "abnormality type",
    "pathology",
    "image file path",
    "cropped image file path",
    "ROI mask file path",
)
Box = tuple[int, int, int, int]
"""Top, left, height and width of a lesion."""


def write_dicom(path: Path, pixels: np.ndarray) -> None:
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = SecondaryCaptureImageStorage
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = generate_uid()
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation, film.PixelRepresentation = 1, "MONOCHROME2", 0
    film.BitsAllocated = film.BitsStored = 8 * pixels.itemsize
    film.HighBit = film.BitsStored - 1
    film.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    film.save_as(path, enforce_file_format=True)


def made_film(seed: int = 0, lesions: tuple[Box, ...] = ()) -> np.ndarray:
    """A breast at the left edge on a black film, uint16; lesions are its brightest pixels."""
    random = np.random.default_rng(seed)
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    breast = ((rows - HEIGHT / 2) / (0.47 * HEIGHT)) ** 2 + (columns / (0.9 * WIDTH)) ** 2 < 1
    film = np.where(breast, random.integers(20_000, 40_000, (HEIGHT, WIDTH)), 0).astype(np.uint16)
    for top, left, height, width in lesions:
        film[top : top + height, left : left + width] = 65_535
    return film


def made_mask(box: Box, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    top, left, height, width = box
    mask[top : top + height, left : left + width] = 255
    return mask


class TciaFolder:
    """Writes films and lesions into a folder, and their rows into the four CSVs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: dict[str, list[list[str]]] = {}

    def add_film(self, name: str, boxes: tuple[Box, ...], *, film: np.ndarray | None = None) -> None:
        """Write a film with its lesions; `name` is such as Mass-Training_P_00001_LEFT_CC."""
        pixels = made_film(len(name) + int(name.split("_")[2]), boxes) if film is None else film
        write_dicom(self.folder / name / "1.3.6" / "1.3.7" / "1-1.dcm", pixels)
        for number, box in enumerate(boxes, start=1):
            self.add_lesion(name, number, made_mask(box), pixels)

    def add_lesion(self, film: str, number: int, mask: np.ndarray, pixels: np.ndarray, swapped: bool = False) -> None:
        """Write a lesion's mask and crop, the mask last unless `swapped`, and its row."""
        self.write_lesion(film, number, mask, pixels, swapped)
        self.add_row(film, number)

    def write_lesion(self, film: str, number: int, mask: np.ndarray, pixels: np.ndarray, swapped: bool = False) -> None:
        where = np.argwhere(mask)
        (top, left), (bottom, right) = where.min(axis=0), where.max(axis=0) + 1
        files = [pixels[top:bottom, left:right], mask]
        for place, content in enumerate(reversed(files) if swapped else files, start=1):
            write_dicom(self.folder / f"{film}_{number}" / "1.3.8" / "1.3.9" / f"1-{place}.dcm", content)

    def add_row(self, film: str, number: int, pathology: str = "MALIGNANT") -> None:
        """Add a lesion's row, with the line break in the mask's path that the mass CSVs have."""
        kind, part = film.split("_")[0].split("-")
        patient, side, view = film.split("_", maxsplit=1)[1].rsplit("_", maxsplit=2)
        paths = [f"{film}/1.3.6/1.3.7/000000.dcm"]
        paths += [f"{film}_{number}/1.3.8/1.3.9/{file}" for file in ("000000.dcm", "000001.dcm\n")]
        csv_name = f"{kind.lower()}_case_description_{'train' if part == 'Training' else 'test'}_set.csv"
        self._rows.setdefault(csv_name, []).append(
            [patient, "3", side, view, str(number), "mass", pathology, *paths],
        )

    def write_csvs(self) -> Path:
        for name, rows in self._rows.items():
            with (self.folder / name).open("w", newline="") as file:
                csv.writer(file).writerows([COLUMNS, *rows])
        return self.folder
