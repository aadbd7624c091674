"""Chest films given to train, val and test by lists of names: the release's two, or a user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from radflow.data.dataset.shards import FilmTable
from radflow.data.dataset.splits import official_split
from radflow.data.readers.chestxray14 import TEST_LIST, TRAIN_VAL_LIST, ChestXray14, LabelFile, read_film_list
from radflow.errors import UserError
from radflow.storage import locate


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """Lists of one's own, each a text file with one film name a line, plain or gzipped."""

    train_list: str = ""
    """split=lists: file with the names of the training films, one a line"""
    val_list: str = ""
    """split=lists: the same for validation; without it val_fraction of the training patients are taken"""
    test_list: str = ""
    """split=lists: the same for the test part"""

    def paths(self) -> dict[str, Path]:
        """The lists that are given, by split."""
        given = {"train": self.train_list, "val": self.val_list, "test": self.test_list}
        return {split: locate(path) for split, path in given.items() if path}


@dataclass(frozen=True)
class AssignedFilms:
    """Every film that the label file or the lists name: those with a split, and the rest."""

    table: FilmTable
    unlisted: tuple[str, ...] = ()
    """in the label file, on no list"""
    unlabelled: tuple[str, ...] = ()
    """on a list, not in the label file"""
    unit: str = "films"
    """what a row of the table is called in messages"""


def official_lists(release: ChestXray14) -> dict[str, Path]:
    """Find the release's two lists, by split: of train, which val is carved from, and of test."""
    return {"train": release.list_path(TRAIN_VAL_LIST), "test": release.list_path(TEST_LIST)}


def assign_by_lists(labels: LabelFile, lists: Mapping[str, Path], val_fraction: float, seed: int) -> AssignedFilms:
    """Give films to the splits whose lists name them; without a list for val it is carved by patient out of train.

    Raises `UserError` for a film on two lists and for a list that names no film of the label file.
    """
    names = {split: read_film_list(path) for split, path in lists.items()}
    for one, other in combinations(lists, 2):
        both = sorted(set(names[one]) & set(names[other]))
        if both:
            where = f"{lists[one].name} and {lists[other].name}"
            raise UserError(f"{len(both)} films are in both {where}, {both[0]} is the first; mend the lists")
    split_of = {name: split for split, of_split in names.items() for name in of_split}
    splits = np.array([split_of.get(name, "") for name in labels.image_ids.tolist()])
    for split, path in lists.items():
        if split not in splits:
            mend = "give the lists of this release, or split=random"
            raise UserError(f"{path.name} names no film of {labels.path.name}; {mend}")
    listed = np.flatnonzero(splits != "")
    splits = splits[listed]
    if "val" not in lists:
        splits = official_split(labels.patient_ids[listed], splits == "test", val_fraction, seed)
    known = set(labels.image_ids.tolist())
    return AssignedFilms(
        table=table_of(labels, listed, splits),
        unlisted=tuple(name for name in labels.image_ids.tolist() if name not in split_of),
        unlabelled=tuple(name for name in split_of if name not in known),
    )


def table_of(labels: LabelFile, rows: NDArray[np.integer], splits: NDArray[np.str_]) -> FilmTable:
    """Make the rows of a dataset of these rows of the label file."""
    return FilmTable(labels.image_ids[rows], labels.patient_ids[rows], labels.views[rows], splits, labels.labels[rows])
