"""Boxes around findings: BBox_List_2017.csv, in which a radiologist marked 984 findings on 880 films of ChestX-ray14.

They are for scoring where a model looks, never for training. A dataset keeps those of its films as `boxes.csv`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from radflow.data.dataset.reading import Dataset
from radflow.data.dataset.verified import verify_once
from radflow.data.readers.findings import FINDINGS
from radflow.data.tables import read_rows
from radflow.errors import UserError

BOXES_NAME = "boxes.csv"
FILM_SIDE = 1024
"""Height and width of the released films, in whose pixels the boxes are given."""

_LIST_COLUMNS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
"""The header says `Bbox [x,y,w,h]` without quotes, and so four columns."""
_OTHER_NAMES = {"Infiltrate": "Infiltration"}


class FindingBox(NamedTuple):
    """A box on a film, in pixels of the released film of 1024x1024, whatever size the dataset stores."""

    image_id: str
    finding: str
    x: float
    """left edge"""
    y: float
    """top edge"""
    width: float
    height: float


def read_box_list(path: Path) -> list[FindingBox]:
    """Read the release's list, plain or gzipped; raises `UserError` with the row for what is no box on a film."""
    return _read(path, _LIST_COLUMNS)


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
    return _read(dataset.path / BOXES_NAME, FindingBox._fields)


def _read(path: Path, columns: tuple[str, ...]) -> list[FindingBox]:
    boxes = []
    for row, (name, finding, *numbers) in read_rows(path, columns):
        try:
            boxes.append(_check_box(name, _OTHER_NAMES.get(finding, finding), [float(number) for number in numbers]))
        except ValueError as error:
            raise UserError(f"{path}, row {row} ({name!r}) is no box on a film: {error}") from error
    return boxes


def _check_box(name: str, finding: str, numbers: list[float]) -> FindingBox:
    if finding not in FINDINGS:
        raise ValueError(f"unknown finding {finding!r}, expected one of {', '.join(FINDINGS)}")
    x, y, width, height = numbers
    if not (0 <= x < x + width <= FILM_SIDE and 0 <= y < y + height <= FILM_SIDE):
        raise ValueError(f"x, y, width and height {x:g}, {y:g}, {width:g}, {height:g} leave {FILM_SIDE}x{FILM_SIDE}")
    return FindingBox(name, finding, x, y, width, height)
