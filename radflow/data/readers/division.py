"""Films given to splits: at random, by lists, or as the release itself divides them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from radflow.data.dataset.shards import FilmTable
from radflow.data.dataset.splits import official_split
from radflow.data.readers.base import Request
from radflow.data.readers.film_lists import AssignedFilms, assign_by_lists
from radflow.errors import UserError
from radflow.storage import Location


def divide_films(films: FilmTable, parts: NDArray[np.str_], label_path: Location, request: Request) -> AssignedFilms:
    """Give films to splits by the rule of a request.

    `parts` [films] is what the release says, train, val or test, or '' of films that are in no part; without val, it
    is carved out of train by patient. Raises `UserError` where a part is missing.
    """
    if request.split == "lists":
        return assign_by_lists(films, label_path, request.lists.paths(), request.val_fraction, request.seed)
    if request.split == "random":
        nowhere = np.zeros(len(films), bool)
        return AssignedFilms(replace(films, splits=request.divide(films.patient_ids, nowhere)))
    for part in ("train", "test"):
        if part not in parts:
            raise UserError(f"{label_path.name} gives no film to {part}; use split=random, or split=lists")
    listed, splits = films.take(parts != ""), parts[parts != ""]
    if "val" not in splits:
        splits = official_split(listed.patient_ids, splits == "test", request.val_fraction, request.seed)
    return AssignedFilms(replace(listed, splits=splits), unlisted=tuple(films.image_ids[parts == ""].tolist()))
