"""Mammograms with located lesions, planned as crops: what the readers of such releases share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from radflow.data.crops.mammograms import Mammogram, crop_table, crops_of, cut_films, left_out_lesions, lesion_rows
from radflow.data.readers.base import Image, ReleasePlan, Request
from radflow.errors import UserError
from radflow.storage import Location


def plan_crops(
    listed: Sequence[Mammogram], folder: Location, label_paths: Sequence[Location], request: Request
) -> ReleasePlan:
    """ReleasePlan the crops of the films that a release lists, and account for every lesion."""
    films, splits = _divide(listed, folder, request)
    table = crop_table(films, splits, request.crops)
    left_out = left_out_lesions(listed, films)
    return ReleasePlan(
        table=table,
        sources={path.name: path for path in label_paths},
        images=partial(_cut, films, request),
        unlisted=left_out,
        crops=request.crops,
        lesions=lambda missing: lesion_rows(listed, left_out, table, missing),
    )


def _cut(films: Sequence[Mammogram], request: Request, is_awaited: Callable[[str], bool]) -> Iterator[Image]:
    waiting = [film for film in films if any(is_awaited(str(name)) for name in crops_of(film, request.crops))]
    return cut_films(waiting, request.crops, request.image_size, request.seed, request.workers)


def _divide(films: Sequence[Mammogram], folder: Location, request: Request) -> tuple[list[Mammogram], NDArray[np.str_]]:
    """Return the films that have a split, and their splits.

    CBIS-DDSM is divided for masses and for calcifications apart, so 31 patients are in a train CSV and in a test CSV.
    The official test part is kept whole, and the train films of its patients are left out.
    """
    patients = np.array([film.patient_id for film in films])
    in_test = np.array([film.in_test for film in films], dtype=bool)
    if request.split == "random":
        return list(films), request.divide(patients, in_test)
    if in_test.all() or not in_test.any():
        missing = "train" if in_test.all() else "test"
        raise UserError(f"{folder} has no CSV of the {missing} part; put it there, or use split=random")
    kept = in_test | ~np.isin(patients, patients[in_test])
    return list(compress(films, kept)), request.divide(patients[kept], in_test[kept])
