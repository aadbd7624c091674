"""Made DICOM films of every kind against pydicom's functions and dcmtk's dcm2pnm: the largest difference per cell.

    python -m benchmarks.dicom_grid [--table]

A film is made for each combination of photometric interpretation and presentation shape, modality transformation,
values of interest, depth, sign, transfer syntax and padding: 14,784 of them. Each is decoded by radflow, by pydicom's
decoder with its apply_modality_lut and apply_voi_lut (scaled and inverted by hand, as pydicom has no function that does
it), and by dcm2pnm where that is installed (`apt-get install dcmtk`) and reads the syntax. Expected: no difference from
pydicom of more than 1 of 255, and none from dcm2pnm of more than 3. Takes seven minutes on two cores; `--table`
prints Markdown.
"""

from __future__ import annotations

import argparse
import io
import itertools
import shutil
import subprocess
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, set_pixel_data
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

from radflow.data.images.dicom import decode_dicom
from radflow.plots.tables import markdown_table

PHOTOMETRIC = {
    "MONOCHROME1": ("MONOCHROME1", None),
    "MONOCHROME1 INVERSE": ("MONOCHROME1", "INVERSE"),
    "MONOCHROME1 IDENTITY": ("MONOCHROME1", "IDENTITY"),
    "MONOCHROME2": ("MONOCHROME2", None),
    "MONOCHROME2 IDENTITY": ("MONOCHROME2", "IDENTITY"),
    "MONOCHROME2 INVERSE": ("MONOCHROME2", "INVERSE"),
}
MODALITIES = ("none", "slope 2", "slope -1.5", "table")
INTERESTS = ("none", "LINEAR", "LINEAR_EXACT", "SIGMOID", "table of 8 bits", "table of 12 bits", "table of 16 bits")
DEPTHS = {"8 of 8": (8, 8), "10 of 16": (10, 16), "12 of 16": (12, 16), "16 of 16": (16, 16)}
SIGNS = ("unsigned", "signed")
SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "RLE": RLELossless,
    "JPEG 2000": JPEG2000Lossless,
}
PADDINGS = ("none", "value", "range")
SHAPE = (40, 64)
EXPECTED = {"pydicom": 1, "dcm2pnm": 3}
"""The largest difference from each reference."""


class Cell(NamedTuple):
    """What one film of the grid is."""

    photometric: str
    modality: str
    interest: str
    depth: str
    sign: str
    syntax: str
    padding: str


def cells() -> Iterator[Cell]:
    """Every combination, save that compressed films are made without a presentation shape, which comes last."""
    for cell in map(
        Cell._make, itertools.product(PHOTOMETRIC, MODALITIES, INTERESTS, DEPTHS, SIGNS, SYNTAXES, PADDINGS)
    ):
        is_native = cell.syntax in ("implicit", "explicit", "big endian")
        if is_native or cell.photometric in ("MONOCHROME1", "MONOCHROME2"):
            yield cell


def stored_ramp(cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Stored values of all sizes of the cell's depth [H, W], and where they are padding."""
    bits, allocated = DEPTHS[cell.depth]
    low = -(1 << (bits - 1)) if cell.sign == "signed" else 0
    ramp = np.rint(np.linspace(low, low + (1 << bits) - 1, SHAPE[0] * SHAPE[1])).reshape(SHAPE)
    padded = np.zeros(SHAPE, bool)
    if cell.padding != "none":
        padded = ramp < low + (1 << bits) / 20 if cell.padding == "range" else ramp == low
    return ramp.astype(f"{'i' if low else 'u'}{allocated // 8}"), padded


def made_film(cell: Cell) -> Dataset:
    """The cell's film, ready to be written."""
    bits, _ = DEPTHS[cell.depth]
    stored, padded = stored_ramp(cell)
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.SOPClassUID = film.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=list(cell))
    syntax = SYNTAXES[cell.syntax]
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    photometric, shape = PHOTOMETRIC[cell.photometric]
    set_pixel_data(film, stored, photometric, bits, generate_instance_uid=False)
    if syntax == ExplicitVRBigEndian and stored.itemsize > 1:
        film.PixelData = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
    if syntax.is_compressed:
        film.compress(syntax, generate_instance_uid=False)
    film.file_meta.TransferSyntaxUID = syntax
    if shape:
        film.PresentationLUTShape = shape
    if cell.padding != "none":
        film.PixelPaddingValue = int(stored[padded].min())
        film["PixelPaddingValue"].VR = "SS" if cell.sign == "signed" else "US"
    if cell.padding == "range":
        film.PixelPaddingRangeLimit = int(stored[padded].max())
        film["PixelPaddingRangeLimit"].VR = film["PixelPaddingValue"].VR
    _add_modality(film, cell, stored)
    _add_interest(film, cell, modality_range(film, stored))
    return film


def _add_modality(film: Dataset, cell: Cell, stored: np.ndarray) -> None:
    if cell.modality.startswith("slope"):
        film.RescaleSlope, film.RescaleIntercept = float(cell.modality.split()[1]), -100.0
    elif cell.modality == "table":
        levels = np.linspace(1, 0, min(1 << film.BitsStored, 4096)) ** 2  # falls, and is no line
        film.ModalityLUTSequence = [_table(levels, int(stored.min()), 16, signed=cell.sign == "signed")]


def _add_interest(film: Dataset, cell: Cell, ends: tuple[float, float]) -> None:
    if cell.interest.startswith("table"):
        bits = int(cell.interest.split()[2])
        low = max(round(min(ends)), -(1 << 15))
        levels = np.linspace(0, 1, 256 if bits == 8 else 1000) ** 1.5
        film.VOILUTSequence = [_table(levels, low + 20, bits, signed=low + 20 < 0)]
    elif cell.interest != "none":
        film.WindowCenter, film.WindowWidth = round(sum(ends) * 0.4, 1), round(abs(ends[1] - ends[0]) * 0.6, 1)
        film.VOILUTFunction = cell.interest


def _table(levels: np.ndarray, first: int, bits: int, *, signed: bool) -> Dataset:
    table = Dataset()
    table.add_new("LUTDescriptor", "SS" if signed else "US", [len(levels), first, bits])
    table.add_new("LUTData", "US", np.rint(levels * ((1 << bits) - 1)).astype(int).tolist())
    return table


def modality_range(film: Dataset, stored: np.ndarray) -> tuple[float, float]:
    """What the modality transformation makes of the smallest and the largest stored value there can be."""
    if "ModalityLUTSequence" in film:
        return 0.0, float((1 << film.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    ends = np.array([stored.min(), stored.max()], float)  # the ramp has them
    low, high = ends * float(film.get("RescaleSlope", 1)) + float(film.get("RescaleIntercept", 0))
    return float(low), float(high)


def by_pydicom(content: bytes) -> np.ndarray:
    """Grey by pydicom's functions.

    They look tables up with indices of few bits, which overflow: so they get values of more, none beyond the table.
    And where no VR is written, they take a table's first input for unsigned whenever stored values are.
    """
    film = pydicom.dcmread(io.BytesIO(content))
    stored = film.pixel_array.astype(np.int32)
    values = apply_modality_lut(stored, film)
    ends = modality_range(film, stored)
    if "VOILUTSequence" in film:
        entries, first, bits = film.VOILUTSequence[0].LUTDescriptor
        first -= (1 << 16) if first >= 1 << 15 else 0
        film.VOILUTSequence[0].LUTDescriptor = [entries, first, bits]
        values = np.clip(np.rint(values).astype(np.int32), first, first + entries - 1)
        ends = 0.0, float((1 << bits) - 1)
    elif "WindowCenter" not in film:
        ends = min(ends), max(ends)
    levels = (apply_voi_lut(values, film).astype(float) - ends[0]) / (ends[1] - ends[0])
    shape = film.get("PresentationLUTShape")
    if shape == "INVERSE" or (shape is None and film.PhotometricInterpretation == "MONOCHROME1"):
        levels = 1 - levels
    return np.rint(np.clip(levels, 0, 1) * 255)


def by_dcm2pnm(path: Path, cell: Cell) -> np.ndarray | None:
    """Grey by dcm2pnm, or None where it cannot read the film."""
    options = {"none": [], "table": ["+Wl", "1"]}.get(cell.interest.split()[0], ["+Wi", "1"])
    made = subprocess.run(["dcm2pnm", "-q", *options, path], capture_output=True, check=False)
    return np.asarray(Image.open(io.BytesIO(made.stdout)), int) if made.returncode == 0 and made.stdout else None


def differences(cell: Cell, content: bytes, folder: Path) -> dict[str, int | None]:
    """The largest difference of a film from each reference outside of its padding, which must be black."""
    grey = decode_dicom(content)
    _, padded = stored_ramp(cell)
    if grey[padded].any():
        raise AssertionError(f"{cell} has padding that is not black")
    shown: dict[str, np.ndarray | None] = {"pydicom": by_pydicom(content), "dcm2pnm": None}
    if shutil.which("dcm2pnm"):
        path = folder / f"{abs(hash(cell))}.dcm"
        path.write_bytes(content)
        shown["dcm2pnm"] = by_dcm2pnm(path, cell)
        path.unlink()
    return {
        name: None if other is None else int(np.abs(grey.astype(int) - other)[~padded].max())
        for name, other in shown.items()
    }


def measure(wanted: Sequence[Cell], workers: int = 2) -> dict[Cell, dict[str, int | None]]:
    """The differences of many films."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")
        contents = [_file_bytes(cell) for cell in wanted]  # in one thread: OpenJPEG's encoder crashes in several
        return dict(zip(wanted, pool.map(differences, wanted, contents, itertools.repeat(Path(folder))), strict=False))


def _file_bytes(cell: Cell) -> bytes:
    buffer = io.BytesIO()
    made_film(cell).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def summary(measured: dict[Cell, dict[str, int | None]]) -> list[list[str]]:
    """A row for each value of each axis: films, and the largest difference from each reference."""
    rows = [["all", "", *_largest(list(measured.values()))]]
    for axis, name in enumerate(Cell._fields):
        groups: dict[str, list[dict[str, int | None]]] = defaultdict(list)
        for cell, found in measured.items():
            groups[cell[axis]].append(found)
        rows += [[name, value, *_largest(found)] for value, found in groups.items()]
    return rows


def _largest(found: list[dict[str, int | None]]) -> list[str]:
    texts = [f"{len(found):,}"]
    for name in EXPECTED:
        read = [largest for each in found if (largest := each[name]) is not None]
        texts.append(str(max(read)) if read else "not read")
    return texts


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--table", action="store_true", help="as Markdown")
    options.add_argument("--every", type=int, default=1, help="take one cell of so many")
    given = options.parse_args()
    measured = measure(list(cells())[:: given.every])
    headings, rows = ["axis", "value", "films", *EXPECTED], summary(measured)
    if given.table:
        print(markdown_table(headings, rows))
    else:
        print("\n".join("".join(f"{text:<22}" for text in row) for row in [headings, *rows]))
    for cell, found in measured.items():
        if any((found[name] or 0) > most for name, most in EXPECTED.items()):
            print("unexpected:", ", ".join(cell), found)


if __name__ == "__main__":
    main()
