"""DDSM as crops of 299x299 pixels that others have cut: `training10_0..4/*.tfrecords` and arrays for test, on Kaggle.

https://www.kaggle.com/datasets/skooch/ddsm-mammography: 55,890 training crops in TFRecord files and 15,364 more in
`test10_data.npy` and `cv10_data.npy`, labels beside them. By mistake the first holds masses only and the second
calcifications only, and its author says to join them: here both are the test part. No crop names its patient.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from radflow.data.crops.mammograms import BENIGN, MALIGNANT, NORMAL_TISSUE, TUMOUR_FINDINGS
from radflow.data.dataset.shards import FilmTable
from radflow.data.decoding import in_order
from radflow.data.images.film import BadFilm, resize_film
from radflow.data.readers.base import Image, ReleasePlan, Request
from radflow.data.readers.tfrecord import BadRecord, parse_example, read_record, read_records
from radflow.data.tasks import MAMMO, ImageUnit
from radflow.errors import UserError
from radflow.files import open_regular
from radflow.storage import Location, S3Path, locate

RECORDS_PATTERN = "*.tfrecords"
_RECORDS = (f"*/{RECORDS_PATTERN}", RECORDS_PATTERN)
ARRAYS = ("test10", "cv10")
CROP_SIDE = 299
PATHOLOGIES = (NORMAL_TISSUE, BENIGN, BENIGN, MALIGNANT, MALIGNANT)
"""Pathology by `label`: normal, benign calcification, benign mass, malignant calcification, malignant mass."""

CROPS_PER_TASK = 64
NOTES = (
    "The pre-cut DDSM names no patients: each crop counts as a patient of its own, so intervals are too narrow.",
    "Its validation crops are drawn from the training crops at random, and may show the same lesions.",
)

_CROP_BYTES = CROP_SIDE * CROP_SIDE
_LONGEST_ARRAY_HEADER = 2**16


@dataclass(frozen=True)
class PrecutCrop:
    """A crop: its name, what it shows, and where its pixels begin."""

    name: str
    """File and number, such as training10_0:000012."""
    pathology: str
    in_test: bool
    path: Path
    offset: int
    """Offset of the record in a TFRecord file, of the pixels in an array's file."""

    def read(self) -> NDArray[np.uint8]:
        """Read the pixels, uint8 [299, 299]; raises `BadFilm`."""
        try:
            content = (
                self._read_array() if self.in_test else _image_of(parse_example(read_record(self.path, self.offset)))
            )
        except (BadRecord, OSError) as error:
            raise BadFilm(str(error)) from error
        return np.frombuffer(content, np.uint8).reshape(CROP_SIDE, CROP_SIDE)

    def _read_array(self) -> bytes:
        with open_regular(self.path) as file:
            file.seek(self.offset)
            content = file.read(_CROP_BYTES)
        if len(content) < _CROP_BYTES:
            raise BadRecord(f"truncated: {self.path.name} ends before this crop")
        return content


@dataclass(frozen=True)
class DamagedCrop:
    """What should be a crop and cannot be told to be one, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class PrecutDdsm:
    """A folder with TFRecord files and arrays. Nothing but names is read until the parts are asked for."""

    layout: ClassVar[str] = "ddsm_precut"
    title: ClassVar[str] = "pre-cut DDSM"
    looks_for: ClassVar[str] = RECORDS_PATTERN
    findings: ClassVar[tuple[str, ...]] = TUMOUR_FINDINGS
    task: ClassVar[str] = MAMMO
    units: ClassVar[tuple[ImageUnit, ...]] = ("crops",)
    fit: ClassVar[Literal["pad", "squash"]] = "squash"
    image_size: ClassVar[int] = CROP_SIDE
    split_rules: ClassVar[tuple[str, ...]] = ("official",)  # by patient is out of reach where no patients are named

    folder: Path
    record_paths: tuple[Path, ...]
    name: str = layout

    @classmethod
    def recognises(cls, folder: Location) -> bool:
        """Whether there are TFRecord files in the folder or the folders in it."""
        return any(any(folder.glob(pattern)) for pattern in _RECORDS)

    @classmethod
    def at(cls, source: str | Location) -> PrecutDdsm:
        """Find the TFRecord files in a folder and the folders in it; raises `UserError` where there is none."""
        folder = locate(source)
        if isinstance(folder, S3Path):
            raise UserError(f"source={source}: the pre-cut DDSM is read from disk only; copy its ten files there")
        found = _find_records(folder)
        if not found:
            raise UserError(f"no {RECORDS_PATTERN} in {folder}; give the folder that holds training10_0 and the others")
        return cls(folder, found)

    def plan(self, request: Request) -> ReleasePlan:
        """Read the label of every crop: the arrays are test, and val is drawn from the other crops."""
        listed = list(self.crops())
        crops = [crop for crop in listed if isinstance(crop, PrecutCrop)]

        def read(is_awaited: Callable[[str], bool]) -> Iterator[Image]:
            return read_crops([crop for crop in crops if is_awaited(crop.name)], request.image_size, request.workers)

        return ReleasePlan(
            table=_table_of(crops, request),
            sources={path.name: path for path in self.label_paths},
            images=read,
            unlabelled={crop.name: crop.reason for crop in listed if isinstance(crop, DamagedCrop)},
            notes=NOTES,
        )

    @property
    def array_paths(self) -> tuple[tuple[Path, Path], ...]:
        """Crops and labels of the test part; raises `UserError` where either file of a pair is absent."""
        return tuple((self._find(f"{part}_data.npy", part), self._find(f"{part}_labels.npy", part)) for part in ARRAYS)

    @property
    def label_paths(self) -> tuple[Path, ...]:
        """The files that say what the crops show."""
        return (*self.record_paths, *(labels for _, labels in self.array_paths))

    def crops(self) -> Iterator[PrecutCrop | DamagedCrop]:
        """Read the label of every crop, in the files' order; raises `UserError` for arrays that do not fit together.

        A truncated or damaged record is told, and those that can still be found are read on.
        """
        for path in self.record_paths:
            yield from _crops_of_records(path)
        for pixels, labels in self.array_paths:
            yield from _crops_of_arrays(pixels, labels)

    def _find(self, name: str, part: str) -> Path:
        for path in (self.folder / name, self.folder / f"{part}_data" / name):
            if path.is_file():
                return path
        raise UserError(f"no {name} in {self.folder} or its folder {part}_data; put the arrays of the test part there")


def _find_records(folder: Path) -> tuple[Path, ...]:
    """The TFRecord files in a folder and the folders in it, by name."""
    found = {path.name: path for pattern in _RECORDS for path in folder.glob(pattern)}
    return tuple(found[name] for name in sorted(found))


def _table_of(crops: list[PrecutCrop], request: Request) -> FilmTable:
    names = np.array([crop.name for crop in crops], dtype=np.str_)
    in_test = np.array([crop.in_test for crop in crops], dtype=bool)
    pathologies = np.array([crop.pathology for crop in crops], dtype=np.str_)
    return FilmTable(
        image_ids=names,
        patient_ids=names,
        views=np.full(len(names), ""),
        splits=request.divide(names, in_test),
        labels=(pathologies != NORMAL_TISSUE)[:, np.newaxis],
        pathologies=pathologies,
    )


def read_crops(
    crops: list[PrecutCrop], image_size: int, workers: int
) -> Iterator[tuple[str, NDArray[np.uint8] | BadFilm]]:
    """Read all crops by several processes: name and pixels, uint8 [image_size, image_size], in order."""
    tasks = (crops[start : start + CROPS_PER_TASK] for start in range(0, len(crops), CROPS_PER_TASK))
    for outcomes in in_order(partial(_read_task, image_size=image_size), tasks, workers, lambda task: task[0].name):
        yield from outcomes


def _read_task(crops: list[PrecutCrop], image_size: int) -> list[tuple[str, NDArray[np.uint8] | BadFilm]]:
    return [(crop.name, _read_one(crop, image_size)) for crop in crops]


def _read_one(crop: PrecutCrop, image_size: int) -> NDArray[np.uint8] | BadFilm:
    try:
        return resize_film(crop.read(), image_size)
    except BadFilm as error:
        return error


def _crops_of_records(path: Path) -> Iterator[PrecutCrop | DamagedCrop]:
    try:
        if not path.stat().st_size:
            raise UserError(f"{path} is empty; download it again")
        for record in read_records(path):
            name = f"{path.stem}:{record.number:06d}"
            try:
                if isinstance(record.content, BadRecord):
                    raise record.content
                features = parse_example(record.content)
                _image_of(features)
                yield PrecutCrop(name, _pathology_of(features), False, path, record.offset)
            except BadRecord as error:
                yield DamagedCrop(name, str(error))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _image_of(features: dict[str, list[Any]]) -> bytes:
    match features.get("image"):
        case [bytes(content)] if len(content) == _CROP_BYTES:
            return content
        case [bytes(content)]:
            raise BadRecord(f"image of {len(content):,} bytes, expected {_CROP_BYTES:,} ({CROP_SIDE}x{CROP_SIDE})")
    raise BadRecord("no feature image that holds bytes")


def _pathology_of(features: dict[str, list[Any]]) -> str:
    match features.get("label"), features.get("label_normal"):
        case [int(label)], [int(positive)] if 0 <= label < len(PATHOLOGIES) and positive == (label > 0):
            return PATHOLOGIES[label]
        case label, positive:
            raise BadRecord(f"label {label} with label_normal {positive}, expected [0] with [0] or [1] to [4] with [1]")


def _crops_of_arrays(pixels: Path, labels: Path) -> Iterator[PrecutCrop | DamagedCrop]:
    try:
        numbers = _read_labels(labels)
        shape, dtype, begin = _read_array_header(pixels)
    except (OSError, ValueError, EOFError, SyntaxError, TokenError) as error:
        told = " ".join(str(error).split())[:300]
        raise UserError(f"{pixels.name} or {labels.name} in {labels.parent} is not a whole array: {told}") from error
    if dtype != np.uint8 or shape not in (
        (len(numbers), CROP_SIDE, CROP_SIDE),
        (len(numbers), CROP_SIDE, CROP_SIDE, 1),
    ):
        expected = f"uint8 ({len(numbers)}, {CROP_SIDE}, {CROP_SIDE}, 1), as {labels.name} has {len(numbers)} labels"
        raise UserError(f"{pixels} holds {dtype} {shape}, expected {expected}")
    for number, label in enumerate(numbers.tolist()):
        name = f"{pixels.stem}:{number:06d}"
        if label in range(len(PATHOLOGIES)):
            yield PrecutCrop(name, PATHOLOGIES[int(label)], True, pixels, begin + number * _CROP_BYTES)
        else:
            yield DamagedCrop(name, f"label {label}, expected 0 to {len(PATHOLOGIES) - 1}")


def _read_labels(path: Path) -> NDArray:
    """Numbers of an array's file; raises what `_read_array_header` raises."""
    shape, dtype, begin = _read_array_header(path)
    there = path.stat().st_size - begin
    if dtype.kind not in "iuf" or math.prod(shape) * dtype.itemsize != there:
        raise ValueError(f"{path.name} announces labels {shape} of type {dtype} and has {there:,} bytes")
    return np.frombuffer(path.read_bytes(), dtype, offset=begin)


def _read_array_header(path: Path) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape and type of an array, and where its values begin: the file may be truncated after that."""
    with open_regular(path) as file:
        begin = io.BytesIO(file.read(_LONGEST_ARRAY_HEADER))  # of which numpy reads as much as the header announces
    read = npy.read_array_header_1_0 if npy.read_magic(begin) == (1, 0) else npy.read_array_header_2_0
    shape, in_columns, dtype = read(begin)
    if in_columns:
        raise ValueError("stored by columns")
    return shape, dtype, begin.tell()
