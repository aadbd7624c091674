"""Boxes around findings, as radiologists marked them: for scoring where a model looks, never for training.

A dataset keeps those of its films as `boxes.csv`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from radflow.data.dataset.reading import Dataset
from radflow.data.dataset.verified import verify_once
from radflow.data.images.film import is_dicom
from radflow.data.readers.whole_tables import WholeTable
from radflow.data.tables import read_rows
from radflow.errors import UserError
from radflow.storage import Location

BOXES_NAME = "boxes.csv"


class FindingBox(NamedTuple):
    """A box on a film, in pixels of the released film, whatever size the dataset stores."""

    image_id: str
    finding: str
    x: float
    """Left edge."""
    y: float
    """Top edge."""
    width: float
    height: float
    film_width: int = 0
    """Width of the released film, in whose pixels the box is; 0 where it is not known."""
    film_height: int = 0


def count_boxes(boxes: Sequence[FindingBox], image_ids: NDArray[np.str_]) -> list[str]:
    """Say how many boxes are on these films; nothing where there are no boxes."""
    known = set(image_ids.tolist())
    kept = sum(box.image_id in known for box in boxes)
    return [f"{kept:,} of the {len(boxes):,} boxes around findings are on films that have a split."] if boxes else []


def read_boxes(dataset: Dataset) -> list[FindingBox]:
    """Read the boxes that a dataset keeps, in the release's order; none where the release has no list of them."""
    if all(table.file != BOXES_NAME for table in dataset.manifest.tables):
        return []
    verify_once(dataset.path, dataset.manifest.tables)
    path = dataset.path / BOXES_NAME
    columns, sizes = FindingBox._fields[:6], FindingBox._fields[6:]
    boxes = read_box_table(path, columns, dataset.findings)
    sizes_of = [_film_size(path, row, cells[len(columns) :]) for row, cells in read_rows(path, columns, sizes)]
    return [
        box._replace(film_width=width, film_height=height) for box, (width, height) in zip(boxes, sizes_of, strict=True)
    ]


def with_film_sizes(boxes: Sequence[FindingBox], find: Callable[[str], Location | None]) -> list[FindingBox]:
    """The same boxes with the sizes of their films, whose headers are read; films that are not found have none."""
    sizes = {name: _stored_size(path) for name in {box.image_id for box in boxes} if (path := find(name))}
    given = [(box, *sizes.get(box.image_id, (0, 0))) for box in boxes]
    return [box._replace(film_width=width, film_height=height) for box, width, height in given]


def _stored_size(path: Location) -> tuple[int, int]:
    """Width and height of a stored film, by its header; 0 and 0 where it cannot be read, which preprocessing tells."""
    try:
        with path.open("rb") as file:
            is_dicom_file = is_dicom(file.read(132))
            file.seek(0)
            if not is_dicom_file:
                with Image.open(file, formats=("PNG", "JPEG")) as picture:
                    return picture.size
            import pydicom  # which takes longer to import than all else here

            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
            return int(header.Columns), int(header.Rows)
    except (OSError, ValueError, AttributeError, TypeError, EOFError, KeyError):
        return 0, 0


def _film_size(path: Location, row: int, cells: list[str]) -> tuple[int, int]:
    try:
        width, height = (int(cell or 0) for cell in cells)
    except ValueError:
        width = height = -1
    if min(width, height) < 0:
        raise UserError(f"{path}, row {row} has film size {', '.join(cells)}; make the dataset again with preprocess")
    return width, height


def read_box_table(
    path: Location,
    columns: tuple[str, ...],
    findings: tuple[str, ...],
    film_side: float = math.inf,
    other_names: Mapping[str, str] = MappingProxyType({}),
) -> list[FindingBox]:
    """Read a table of boxes, of which `columns` are film, finding, x, y, width and height.

    `other_names` are spellings of findings that the table has of its own. Raises `UserError` with the row for an
    unknown finding and for a box that leaves a square film of this side.
    """
    boxes = []
    for row, (name, finding, *numbers) in read_rows(path, columns):
        finding = other_names.get(finding, finding)
        try:
            boxes.append(_check_box(name, finding, [float(number) for number in numbers], findings, film_side))
        except ValueError as error:
            raise UserError(f"{path}, row {row} ({name!r}) is not a box on a film: {error}") from error
    return boxes


def corner_box(
    table: WholeTable, place: int, image_id: str, finding: str, corners: tuple[str, str, str, str]
) -> FindingBox:
    """The box of a row whose columns have left, top, right and bottom; raises `UserError` with the row."""
    cells = [table.columns[name][place] for name in corners]
    try:
        left, top, right, bottom = map(float, cells)
    except ValueError:
        left = right = top = bottom = 0.0
    if not (0 <= left < right < math.inf and 0 <= top < bottom < math.inf):
        given, expected = ", ".join(cells), ", ".join(corners)
        raise UserError(f"{table.path}, row {table.rows[place]} is no box: {given}; expected {expected}")
    return FindingBox(image_id, finding, left, top, right - left, bottom - top)


def _check_box(name: str, finding: str, numbers: list[float], findings: tuple[str, ...], side: float) -> FindingBox:
    if finding not in findings:
        raise ValueError(f"unknown finding {finding!r}, expected one of {', '.join(findings)}")
    x, y, width, height = numbers
    if not (0 <= x < x + width <= side and 0 <= y < y + height <= side):
        raise ValueError(f"x, y, width and height {x:g}, {y:g}, {width:g}, {height:g} leave {side:g}x{side:g}")
    return FindingBox(name, finding, x, y, width, height)
