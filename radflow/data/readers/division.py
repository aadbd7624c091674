"""Films given to splits: at random, by lists, or as the release itself divides them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from radflow.data.dataset.shards import FilmTable
from radflow.data.dataset.splits import official_split
from radflow.data.readers.base import Request
from radflow.data.readers.film_lists import AssignedFilms, assign_by_lists
from radflow.errors import UserError
from radflow.storage import Location

Parts = NDArray[np.str_]
"""What a release says of each film: train, val or test, or '' of one that is in no part."""


def divide_films(
    films: FilmTable, label_path: Location, request: Request, official: Parts | Mapping[str, Location] | None = None
) -> AssignedFilms:
    """Give films to splits by the rule of a request, and leave out those of views that it does not take.

    `official` is how the release divides them, if it does: the part of each film, or its lists by split. Without val,
    it is carved out of train by patient. Raises `UserError` where a part is missing or no film has such a view.
    """
    divided = _divide(films, label_path, request, official)
    if not request.wanted_views:
        return divided
    views = divided.table.views
    taken = np.isin(views, request.wanted_views)
    if not taken.any():
        found = ", ".join(f"{view or 'not told'} ({count:,})" for view, count in Counter(views.tolist()).most_common(8))
        raise UserError(f"views={request.views}: no film has such a view; they have {found}")
    others = divided.table.take(~taken)
    names = zip(others.image_ids.tolist(), others.views.tolist(), strict=True)
    reasons = {name: f"view {view or 'not told'}" for name, view in names}
    return replace(divided, table=divided.table.take(taken), unlisted={**divided.unlisted, **reasons})


def _divide(
    films: FilmTable, label_path: Location, request: Request, official: Parts | Mapping[str, Location] | None
) -> AssignedFilms:
    lists = request.lists.paths() if request.split == "lists" else official
    if request.split == "random" or lists is None:
        nowhere = np.zeros(len(films), bool)
        return AssignedFilms(replace(films, splits=request.divide(films.patient_ids, nowhere)))
    if isinstance(lists, Mapping):
        return assign_by_lists(films, label_path, lists, request.val_fraction, request.seed)
    for part in ("train", "test"):
        if part not in lists:
            raise UserError(f"{label_path.name} gives no film to {part}; use split=random, or split=lists")
    listed, splits = films.take(lists != ""), lists[lists != ""]
    if "val" not in splits:
        splits = official_split(listed.patient_ids, splits == "test", request.val_fraction, request.seed)
    lone = films.image_ids[lists == ""].tolist()
    return AssignedFilms(
        replace(listed, splits=splits), unlisted=dict.fromkeys(lone, f"in no part by {label_path.name}")
    )
