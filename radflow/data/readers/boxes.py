"""Boxes around findings, as radiologists marked them: for scoring where a model looks, never for training.

A dataset keeps those of its films as `boxes.csv`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from radflow.data.dataset.reading import Dataset
from radflow.data.dataset.verified import verify_once
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
    return read_box_table(dataset.path / BOXES_NAME, FindingBox._fields, dataset.findings)


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
