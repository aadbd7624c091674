"""Films given to train, val and test by lists of names: a release's own, or a user's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from radflow.data.dataset.shards import FilmTable
from radflow.data.dataset.splits import official_split
from radflow.data.tables import MAX_CELL, read_text
from radflow.errors import UserError
from radflow.storage import Location, locate


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """Lists of one's own, each a text file with one film name a line, plain or gzipped."""

    train_list: str = ""
    """File with the names of the training films, one a line (split=lists)."""
    val_list: str = ""
    """The same for validation (split=lists); without it val_fraction of the training patients are taken."""
    test_list: str = ""
    """The same for the test part (split=lists)."""

    def paths(self) -> dict[str, Location]:
        """The lists that are given, by split."""
        given = {"train": self.train_list, "val": self.val_list, "test": self.test_list}
        return {split: locate(path) for split, path in given.items() if path}

    def sources(self) -> dict[str, Location]:
        """The lists that are given, by the names under which a manifest keeps their hashes."""
        return {f"{split}_list/{path.name}": path for split, path in self.paths().items()}


@dataclass(frozen=True)
class AssignedFilms:
    """Every film that the label file or the lists name: those with a split, and the rest."""

    table: FilmTable
    unlisted: Mapping[str, str] = field(default_factory=dict)
    """Reasons of films in the label file that are in no split."""
    unlabelled: Mapping[str, str] = field(default_factory=dict)
    """Reasons of films on a list that are not in the label file."""


def read_film_list(path: Location) -> list[str]:
    """Read a split list: one film name a line, blank lines ignored, repeats dropped. Raises `UserError` if empty."""
    names = list(dict.fromkeys(line.strip() for line in read_text(path).splitlines() if line.strip()))
    if not names or max(map(len, names)) > MAX_CELL:
        raise UserError(f"{path} names no film; give the release's list with one file name a line")
    return names


def assign_by_lists(
    films: FilmTable, label_file: Location, lists: Mapping[str, Location], val_fraction: float, seed: int
) -> AssignedFilms:
    """Give films to the splits whose lists name them; without a list for val it is carved by patient out of train.

    Raises `UserError` for a film on two lists and for a list that names no film of the label file.
    """
    names = {split: read_film_list(path) for split, path in lists.items()}
    for one, other in combinations(lists, 2):
        both = sorted(set(names[one]) & set(names[other]))
        if both:
            where = f"{lists[one].name} and {lists[other].name}"
            raise UserError(f"{len(both)} films are in both {where}, {both[0]} is the first; fix the lists")
    split_of = {name: split for split, of_split in names.items() for name in of_split}
    known = films.image_ids.tolist()
    splits = np.array([split_of.get(name, "") for name in known])
    for split, path in lists.items():
        if split not in splits:
            fix = "give the lists of this release, or split=random"
            raise UserError(f"{path.name} names no film of {label_file.name}; {fix}")
    is_listed = splits != ""
    listed, splits = films.take(is_listed), splits[is_listed]
    if "val" not in lists:
        splits = official_split(listed.patient_ids, splits == "test", val_fraction, seed)
    in_label_file = set(known)
    return AssignedFilms(
        table=replace(listed, splits=splits),
        unlisted={name: "on no list" for name in known if name not in split_of},
        unlabelled={name: f"no row in {label_file.name}" for name in split_of if name not in in_label_file},
    )
