"""Mammograms with lesions, planned as crops or as whole breasts: what the readers of such releases share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from radflow.data.crops.mammograms import (
    BENIGN,
    BENIGN_WITHOUT_CALLBACK,
    MALIGNANT,
    NORMAL_TISSUE,
    TUMOUR_FINDINGS,
    Mammogram,
    crop_table,
    crops_of,
    cut_films,
    left_out_lesions,
    lesion_rows,
)
from radflow.data.dataset.shards import FilmTable
from radflow.data.decoding import Outcome, in_order
from radflow.data.images.film import BadFilm, resize_film
from radflow.data.readers.base import Image, ReleasePlan, Request
from radflow.errors import UserError
from radflow.storage import Location

MALIGNANCY = "Malignant"
"""Finding of a breast: whether one of its lesions is."""
_WORST_FIRST = (MALIGNANT, BENIGN, BENIGN_WITHOUT_CALLBACK)


def plan_crops(
    listed: Sequence[Mammogram], folder: Location, label_paths: Sequence[Location], request: Request
) -> ReleasePlan:
    """Plan the crops of the films that a release lists, and account for every lesion."""
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


def plan_breasts(
    listed: Sequence[Mammogram],
    findings: Sequence[str],
    folder: Location,
    label_paths: Sequence[Location],
    request: Request,
) -> ReleasePlan:
    """Plan a breast of each film that a release lists; a view that is listed twice is taken once.

    `findings` are some of tumour and malignancy.
    """
    views: dict[tuple[str, str, str], Mammogram] = {}
    again: dict[str, str] = {}
    for film in listed:
        first = views.setdefault((film.patient_id, film.side, film.view), film)
        if first is not film:
            again[film.name] = f"shows the same view as {first.name}"
    films, splits = _divide(list(views.values()), folder, request)
    kept = {film.name for film in films}
    in_both = {film.name: f"in the train part, but patient {film.patient_id} is in the test part too"
               for film in views.values() if film.name not in kept}  # fmt: skip
    return ReleasePlan(
        table=_breast_table(films, splits, findings),
        findings=tuple(findings),
        sources={path.name: path for path in label_paths},
        images=partial(_read_breasts, films, request),
        unlisted=again | in_both,
    )


def _breast_table(films: Sequence[Mammogram], splits: NDArray[np.str_], findings: Sequence[str]) -> FilmTable:
    pathologies = [[lesion.pathology for lesion in (*film.lesions, *film.other_lesions)] for film in films]
    shown = {TUMOUR_FINDINGS[0]: [bool(found) for found in pathologies],
             MALIGNANCY: [MALIGNANT in found for found in pathologies]}  # fmt: skip
    return FilmTable(
        image_ids=np.array([film.name for film in films]),
        patient_ids=np.array([film.patient_id for film in films]),
        sides=np.array([film.side for film in films]),
        views=np.array([film.view for film in films]),
        splits=splits,
        labels=np.column_stack([shown[finding] for finding in findings]),
        pathologies=np.array([next((each for each in _WORST_FIRST if each in found), NORMAL_TISSUE)
                              for found in pathologies]),
    )  # fmt: skip


def _read_breasts(
    films: Sequence[Mammogram], request: Request, is_awaited: Callable[[str], bool]
) -> Iterator[tuple[str, Outcome]]:
    waiting = [film for film in films if is_awaited(film.name)]
    return in_order(
        partial(_read_breast, size=request.image_size), waiting, request.workers, name_of=lambda film: film.name
    )


def _read_breast(film: Mammogram, size: int) -> tuple[str, Outcome]:
    try:
        return film.name, resize_film(film.file.read_pixels(), size, "breast")
    except BadFilm as error:
        return film.name, error


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
